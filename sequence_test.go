package eventbus_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

const sequencesTopic = orders + ".sequences.group"

// mending is a handler that fails for some orders until they are mended, and notes what it has handled.
type mending struct {
	mu      sync.Mutex
	bad     map[int]bool
	handled []int
}

func newMending(bad ...int) *mending {
	m := &mending{bad: map[int]bool{}}
	for _, n := range bad {
		m.bad[n] = true
	}
	return m
}

func (m *mending) handle(_ context.Context, e *eventbus.BaseEvent[order]) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad[e.Payload.Number] {
		return eventbus.Permanent(errors.New("number " + strconv.Itoa(e.Payload.Number) + " is bad"))
	}
	m.handled = append(m.handled, e.Payload.Number)
	return nil
}

func (m *mending) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.bad)
}

func (m *mending) numbers() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]int(nil), m.handled...)
}

// inSequences is a world whose orders can be parked.
func inSequences(t *testing.T, test func(w *world), opts ...kfake.Opt) {
	t.Helper()
	inTx(t, func(w *world) {
		w.makeSequences()
		test(w)
	}, opts...)
}

func (w *world) makeSequences() {
	require.NoError(w, w.cluster.CreateTopic(sequencesTopic, 1, map[string]string{"cleanup.policy": "compact"}))
}

// sequenced runs a subscription whose route parks keys.
func (w *world) sequenced(bus *eventbus.Bus, h eventbus.Handler[order], change func(*eventbus.Subscription)) *running {
	return w.run(bus, nil, nil, func(s *eventbus.Subscription) {
		s.Routes = []eventbus.Route{w.orders.Handle(h, &eventbus.HandleOptions{Order: eventbus.OrderSequenced})}
		if change != nil {
			change(s)
		}
	})
}

func (w *world) letterBox(bus *eventbus.Bus) *eventbus.DeadLetters {
	d, err := bus.DeadLetters(w.orders, "group")
	require.NoError(w, err)
	return d
}

func (w *world) publishOf(bus *eventbus.Bus, key string, numbers ...int) {
	for _, n := range numbers {
		require.NoError(w, bus.Publish(context.Background(), w.order(key, n)))
	}
}

func (w *world) sequencesOf(bus *eventbus.Bus) []eventbus.Sequence {
	found, err := w.letterBox(bus).Sequences(context.Background())
	require.NoError(w, err)
	return found
}

// parkedKeys are those of the partitions that the bus has.
func parkedKeys(bus *eventbus.Bus) (n int) {
	for _, p := range bus.Health(context.Background()).Groups[0].Partitions {
		n += p.Sequences
	}
	return n
}

// A key whose event is given up is parked with all that follows, others go on, and a release has it handled in order before what is new.
func TestAKeyIsParkedAndReleased(t *testing.T) {
	inSequences(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		m := newMending(2)
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 1, 2, 3, 4)
		w.publishOf(bus, "b", 11, 12)
		w.until("all are committed", func() bool { return w.committed() == 6 })
		require.ElementsMatch(t, []int{1, 11, 12}, m.numbers())
		letters := w.committedRecords(lettersTopic)
		require.Len(t, letters, 3)
		for i, want := range []eventbus.Class{eventbus.ClassPermanent, eventbus.ClassSequence, eventbus.ClassSequence} {
			d, err := eventbus.ParseDeadLetter(letters[i])
			require.NoError(t, err)
			require.Equal(t, []any{want, int64(i + 1), true}, []any{d.Class, d.Offset, d.Sequence})
		}
		found := w.sequencesOf(bus)
		require.Len(t, found, 1)
		require.Equal(t, []any{"a", int32(0), int64(0), false}, []any{found[0].Key, found[0].Partition, found[0].Next, found[0].Released})
		require.Contains(t, found[0].Error, "number 2 is bad")
		require.Equal(t, 1, bus.Health(context.Background()).Groups[0].Partitions[0].Sequences)
		require.EqualValues(t, 2, bus.Metrics().Followed)

		err := w.letterBox(bus).Release(context.Background(), "b", eventbus.ReleaseOptions{})
		require.ErrorIs(t, err, eventbus.ErrNotParked)
		require.ErrorContains(t, err, `"b", of group group of topic acme.orders`)

		m.mend()
		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		w.publishOf(bus, "a", 5, 6)
		w.until("all are handled", func() bool { return len(m.numbers()) == 8 && parkedKeys(bus) == 0 })
		time.Sleep(time.Second) // for its commit
		require.Empty(t, w.sequencesOf(bus))
		require.Equal(t, []int{1, 2, 3, 4, 5, 6}, keepBelow(m.numbers(), 10))
		w.publishOf(bus, "a", 7)
		w.until("it goes on", func() bool { return len(m.numbers()) == 9 })
		require.Zero(t, bus.Health(context.Background()).Groups[0].Partitions[0].Sequences)
		w.recovered(bus)
	})
}

// keepBelow are the numbers below a limit, in their order.
func keepBelow(numbers []int, limit int) (kept []int) {
	for _, n := range numbers {
		if n < limit {
			kept = append(kept, n)
		}
	}
	return kept
}

// Who takes over knows which keys are parked before the first event; and a release that nobody has seen is done by whoever comes.
func TestParkedKeysOutliveTheirMember(t *testing.T) {
	inSequences(t, func(w *world) {
		one := w.bus(w.instance("one"))
		m := newMending(1)
		run := w.sequenced(one, m.handle, nil)
		w.publishOf(one, "a", 1, 2)
		w.until("both are parked", func() bool { return w.committed() == 2 })
		require.NoError(t, run.end())

		two := w.bus(w.instance("two"))
		w.publishOf(two, "a", 3)
		run = w.sequenced(two, m.handle, nil)
		w.until("it follows", func() bool { return w.committed() == 3 })
		require.Empty(t, m.numbers())
		require.NoError(t, run.end())

		m.mend()
		require.NoError(t, w.letterBox(two).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		w.publishOf(two, "a", 4)
		three := w.bus(w.instance("three"))
		w.sequenced(three, m.handle, nil)
		w.until("all are handled", func() bool { return len(m.numbers()) == 4 })
		require.Equal(t, []int{1, 2, 3, 4}, m.numbers())
		w.until("nothing is parked", func() bool { return parkedKeys(three) == 0 })
		time.Sleep(time.Second) // for its commit
		require.Empty(t, w.sequencesOf(two))
	})
}

// What fails again stays parked from there on, and can be skipped.
func TestAReleasedKeyIsParkedAgain(t *testing.T) {
	inSequences(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		m := newMending(1, 3)
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 1, 2, 3, 4)
		w.until("all are parked", func() bool { return w.committed() == 4 })

		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{SkipFirst: true}))
		w.until("the second is handled", func() bool { return len(m.numbers()) == 1 })
		time.Sleep(5 * time.Second)
		require.Equal(t, []int{2}, m.numbers())
		found := w.sequencesOf(bus)
		require.Len(t, found, 1)
		require.Equal(t, []any{int64(2), 1, false}, []any{found[0].Next, found[0].Releases, found[0].Released})
		require.Contains(t, found[0].Error, "number 3 is bad")
		w.publishOf(bus, "a", 5)
		w.until("it follows", func() bool { return w.committed() == 5 })

		m.mend()
		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		w.until("all are handled", func() bool { return len(m.numbers()) == 4 })
		require.Equal(t, []int{2, 3, 4, 5}, m.numbers())
		require.Len(t, w.committedRecords(lettersTopic), 5, "and nothing was dead-lettered twice")
	})
}

// A redrive leaves what is parked: it would come out of its order.
func TestARedriveLeavesSequences(t *testing.T) {
	inSequences(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		w.sequenced(bus, newMending(1).handle, nil)
		w.publishOf(bus, "a", 1, 2)
		w.until("both are parked", func() bool { return w.committed() == 2 })
		require.NoError(t, w.cluster.CreateTopic(orders+".retry.group", 1, nil))
		report, err := w.letterBox(bus).Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.NoError(t, err)
		require.Equal(t, []int{0, 2}, []int{report.Sent, report.Skipped})
		require.Contains(t, report.Left[0].Why, "Release")
	})
}

func TestBadSequences(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		run := func(bus *eventbus.Bus, r eventbus.Route) error {
			return bus.Run(context.Background(), eventbus.Subscription{Group: "group", Routes: []eventbus.Route{r}})
		}
		sequenced := &eventbus.HandleOptions{Order: eventbus.OrderSequenced}
		keyless := eventbus.NewTopic[order]("acme.keyless", nil)
		require.ErrorContains(t, run(bus, keyless.Handle(ignore, sequenced)), "Routes[0] (acme.keyless): Order: OrderSequenced parks keys")
		require.ErrorContains(t, run(w.bus(nil), w.orders.Handle(ignore, sequenced)), "Config.Instance: is empty")
		require.ErrorContains(t, run(bus, four.Handle(ignore, sequenced)),
			"Routes[0] (acme.four): Order: topic acme.four.dlq.group has 1 partitions, acme.four has 4: OrderSequenced needs as many")
		require.ErrorContains(t, run(bus, w.orders.Handle(ignore, &eventbus.HandleOptions{Order: 7})), "OrderSequenced")

		none, err := bus.DeadLettersIn("acme.somewhere", nil, "")
		require.NoError(t, err)
		require.ErrorContains(t, none.Release(context.Background(), "a", eventbus.ReleaseOptions{}), "no topic and group")
		err = w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{})
		require.ErrorContains(t, err, "acme.orders.sequences.group")
		require.ErrorContains(t, err, "EnsureTopics")
	}, kfake.SeedTopics(4, "acme.four"), kfake.SeedTopics(1, "acme.four.dlq.group", "acme.four.sequences.group", "acme.keyless"))
}

// Without its topic a sequenced route handles nothing: it could not know which keys are parked. Health says so, and it goes on by itself.
func TestASequencedRouteWaitsForItsTopic(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		m := newMending()
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 1)
		w.until("it is named", func() bool { return strings.Contains(bus.Health(context.Background()).Error, sequencesTopic) })
		require.False(t, bus.Health(context.Background()).Ready)
		require.Empty(t, m.numbers())
		require.NoError(t, bus.EnsureTopics(context.Background(), eventbus.Subscription{
			Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, &eventbus.HandleOptions{Order: eventbus.OrderSequenced})},
		}.Topics()...))
		w.until("it goes on", func() bool { return len(m.numbers()) == 1 })
		w.recovered(bus)
		config := w.cluster.TopicInfo(sequencesTopic)
		require.Equal(t, "compact", *config.Configs["cleanup.policy"])
	})
}

// A key that cannot be written down as parked parks nothing, and its dead letter is not seen before it can.
func TestAKeyThatCannotBeParked(t *testing.T) {
	inSequences(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		away := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: sequencesTopic, Err: kerr.InvalidRecord, Count: -1})
		m := newMending(1)
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 1, 2)
		for n := range 60 {
			w.publishOf(bus, "b", 100+n)
		}
		time.Sleep(20 * time.Second)
		require.Contains(t, bus.Health(context.Background()).Error, sequencesTopic)
		require.Empty(t, w.committedRecords(lettersTopic))
		require.NotContains(t, m.numbers(), 2)
		require.Less(t, len(m.numbers()), 60*5, "others are not begun anew all the time")
		require.Contains(t, w.cluster.GroupInfo("group").Commits[orders][0].Metadata, "eb1:", "and are committed")
		away.Remove()
		w.until("all are committed", func() bool { return w.committed() == 62 })
		require.Len(t, w.committedRecords(lettersTopic), 2)
		require.NotContains(t, m.numbers(), 2)
		w.recovered(bus)
	})
}

// The permissions for parked keys are those that [eventbus.Access] lists, and none too many.
func TestSequencesByTheirPermissions(t *testing.T) {
	ordersTopic := eventbus.NewTopic(orders, &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
	sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{ordersTopic.Handle(ignore, &eventbus.HandleOptions{Order: eventbus.OrderSequenced})}}
	list := eventbus.Access{
		Service: "acme-service", Publishes: []eventbus.AnyTopic{ordersTopic}, Handles: []eventbus.Subscription{sub}, Releases: []eventbus.Subscription{sub},
	}.Permissions("")
	require.Contains(t, list, eventbus.Permission{Resource: "topic", Name: sequencesTopic, Operation: "DESCRIBE_CONFIGS"})
	for i := -1; i < len(list); i++ {
		name, allowed := "all of them", list
		if i >= 0 {
			name, allowed = "without "+list[i].String(), slices.Delete(slices.Clone(list), i, i+1)
		}
		if strings.HasSuffix(name, ".retry.group") {
			continue // redriven events are another matter
		}
		t.Run(name, func(t *testing.T) {
			inSequences(t, func(w *world) {
				login := func(c *eventbus.Config) {
					w.instance("one")(c)
					c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism()
				}
				require.Equal(t, i < 0, w.goesRoundParked(w.bus(login)))
			}, userOf(allowed)...)
		})
	}
}

// goesRoundParked says whether an event can be parked and released by a bus.
func (w *world) goesRoundParked(bus *eventbus.Bus) bool {
	m := newMending(1)
	w.sequenced(bus, m.handle, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if bus.Publish(ctx, w.order("a", 1)) != nil || !within(20*time.Second, func() bool { return w.committed() == 1 }) {
		return false
	}
	m.mend()
	return w.letterBox(bus).Release(ctx, "a", eventbus.ReleaseOptions{}) == nil &&
		within(20*time.Second, func() bool { return len(m.numbers()) == 1 && parkedKeys(bus) == 0 })
}

func within(d time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return false
}

// userOf has the cluster know bob by a list of permissions.
func userOf(list []eventbus.Permission) []kfake.Opt {
	var acls []kfake.ACL
	for _, p := range list {
		op, err := kmsg.ParseACLOperation(p.Operation)
		if err != nil {
			panic(err)
		}
		acl := kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: p.Name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
		switch p.Resource {
		case "group":
			acl.Resource = kmsg.ACLResourceTypeGroup
		case "transactional-id":
			acl.Resource = kmsg.ACLResourceTypeTransactionalId
		}
		if p.Prefixed {
			acl.Pattern = kmsg.ACLResourcePatternTypePrefixed
		}
		acls = append(acls, acl)
	}
	return []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "bob", "bob", acls...)}
}

// A key with steady traffic is through with its release all the same.
func TestAReleaseUnderTraffic(t *testing.T) {
	inSequences(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		m := newMending(0)
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 0)
		w.until("it is parked", func() bool { return parkedKeys(bus) == 1 })
		m.mend()
		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		for n := 1; n < 300; n++ {
			w.publishOf(bus, "a", n)
			time.Sleep(50 * time.Millisecond)
		}
		require.Zero(t, parkedKeys(bus))
		w.until("all are handled", func() bool { return len(m.numbers()) == 300 })
		require.Equal(t, upTo(300), m.numbers())
	})
}

// Parked keys of a dead-letter topic that is deleted and made again go on with what has followed since.
func TestParkedKeysOfADeadLetterTopicMadeAgain(t *testing.T) {
	inSequences(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		m := newMending(1, 11)
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "b", 11, 12)
		w.publishOf(bus, "a", 1, 2, 3)
		w.until("all are committed", func() bool { return w.committed() == 5 })
		require.NoError(t, w.cluster.DeleteTopic(lettersTopic))
		time.Sleep(time.Second)
		require.NoError(t, w.cluster.CreateTopic(lettersTopic, 1, nil))
		w.publishOf(bus, "a", 4, 5, 6, 7, 8) // the new topic is longer than where the old one was parked at
		w.until("they follow", func() bool { return w.committed() == 10 })
		m.mend()
		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		w.publishOf(bus, "a", 9)
		w.until("what is left is handled", func() bool { return parkedKeys(bus) == 1 && len(m.numbers()) == 6 })
		require.Equal(t, []int{4, 5, 6, 7, 8, 9}, m.numbers())
	})
}

// What has followed already and comes again, because the commit could not say so, does not follow twice.
func TestAParkedEventThatComesAgain(t *testing.T) {
	inSequences(t, func(w *world) {
		one := w.bus(w.instance("one"))
		m := newMending(1)
		block := func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.ID == "slow" {
				<-ctx.Done()
				return ctx.Err()
			}
			return m.handle(ctx, e)
		}
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: 12})
		run := w.sequenced(one, block, func(s *eventbus.Subscription) { s.DrainTimeout = time.Second })
		w.publishOf(one, "slow", 100)
		w.publishOf(one, "a", 1, 2, 3)
		w.until("they are parked", func() bool {
			return len(w.cluster.GroupInfo("group").Commits[orders]) > 0 && one.Metrics().Followed == 2
		})
		_ = run.end()

		two := w.bus(w.instance("two"))
		w.sequenced(two, m.handle, nil)
		w.until("all are committed", func() bool { return w.committed() == 4 })
		require.Len(t, w.committedRecords(lettersTopic), 3)
		m.mend()
		require.NoError(t, w.letterBox(two).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		w.until("all are handled", func() bool { return parkedKeys(two) == 0 && len(m.numbers()) == 4 })
		require.Equal(t, []int{1, 2, 3}, keepBelow(m.numbers(), 10))
	})
}

// A sequence topic that forgets is refused.
func TestASequenceTopicHasToBeCompacted(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		m := newMending()
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 1)
		w.until("it is named", func() bool {
			return strings.Contains(bus.Health(context.Background()).Error, `cleanup.policy is "delete", and must be compact`)
		})
		require.Empty(t, m.numbers())
	}, kfake.SeedTopics(1, sequencesTopic))
}

// A member that has lost a partition is not unready for what it could not learn of it.
func TestALostPartitionLeavesNoTrouble(t *testing.T) {
	inSequences(t, func(w *world) {
		away := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: sequencesTopic, Err: kerr.UnknownServerError, Count: -1})
		one := w.bus(w.instance("one"))
		run := w.sequenced(one, ignore, nil)
		w.until("it is named", func() bool {
			return strings.Contains(one.Health(context.Background()).Error, "which keys are parked is not known")
		})
		two := w.bus(w.instance("two"))
		w.sequenced(two, ignore, nil)
		time.Sleep(10 * time.Second)
		away.Remove()
		w.recovered(one)
		w.recovered(two)
		require.NoError(t, run.end())
		w.recovered(two)
	})
}

// A broker that does not know the dead-letter topic for a moment does not have what was handled of it be handled again.
func TestAReleaseWhileTheDeadLetterTopicIsUnknown(t *testing.T) {
	inSequences(t, func(w *world) {
		m, bus := newMending(0, 2), w.bus(w.instance("one"))
		w.sequenced(bus, m.handle, nil)
		w.publishOf(bus, "a", 0, 1)
		w.until("parked", func() bool { return w.held(lettersTopic) >= 2 && len(w.sequencesOf(bus)) == 1 })
		m.mu.Lock()
		delete(m.bad, 0)
		m.mu.Unlock()
		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		w.until("released", func() bool { return len(m.numbers()) == 2 && len(w.sequencesOf(bus)) == 0 })
		w.publishOf(bus, "a", 2, 3)
		w.until("parked again", func() bool { return len(w.sequencesOf(bus)) == 1 && bus.Metrics().DeadLettered == 4 })
		m.mend()
		require.NoError(t, w.letterBox(bus).Release(context.Background(), "a", eventbus.ReleaseOptions{}))
		unknown := w.cluster.Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Metadata}, Topic: lettersTopic, Err: kerr.LeaderNotAvailable, Count: -1,
		})
		time.Sleep(10 * time.Second)
		require.Positive(t, unknown.Hits())
		unknown.Remove()
		w.until("handled", func() bool { return len(m.numbers()) == 4 && len(w.sequencesOf(bus)) == 0 })
		require.Equal(t, []int{0, 1, 2, 3}, m.numbers())
	})
}
