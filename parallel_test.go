package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/progress"
)

// gauge is how many handlers run, over all and for each key.
type gauge struct {
	mu       sync.Mutex
	now, max int
	keys     map[string]int
	overlaps int
}

func (g *gauge) enter(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.keys == nil {
		g.keys = map[string]int{}
	}
	g.now++
	g.max = max(g.max, g.now)
	if g.keys[key]++; g.keys[key] > 1 {
		g.overlaps++
	}
}

func (g *gauge) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now--
	g.keys[key]--
}

func TestKeysRunAtOnceAndEachInOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var g gauge
		var seen sync.Map // key → *journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			g.enter(e.Payload.ID)
			defer g.leave(e.Payload.ID)
			time.Sleep(time.Second)
			j, _ := seen.LoadOrStore(e.Payload.ID, new(journal))
			j.(*journal).add("%d", e.Payload.Number)
			return nil
		}, nil, func(s *eventbus.Subscription) { s.Concurrency = 10 })
		for i := range 300 {
			bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i%30), i/30), nil)
		}
		began := time.Now()
		w.until("all handled", func() bool { return w.committed() == 300 })
		require.Less(t, time.Since(began), 33*time.Second, "300 seconds of work, 10 at once")
		require.Equal(t, 10, g.max)
		require.Zero(t, g.overlaps)
		want := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
		seen.Range(func(key, j any) bool {
			require.Equal(t, want, j.(*journal).all(), key)
			return true
		})
	})
}

// raws writes records past the bus: the value of an order, with another key, or none.
func raws(w *world, bus *eventbus.Bus, key func(i int) []byte, n int) {
	cl := w.raw()
	for i := range n {
		r, err := bus.Encode(context.Background(), w.order(fmt.Sprint("o", i%5), i))
		require.NoError(w, err)
		require.NoError(w, cl.ProduceSync(context.Background(), &kgo.Record{Topic: orders, Key: key(i), Value: r.Value}).FirstErr())
	}
}

// A record without a key has that of its payload; where a topic has no keys, such events are in one lane.
func TestRecordsWithoutAKey(t *testing.T) {
	for name, test := range map[string]struct {
		keyed bool
		most  int
	}{"in the payload's lane": {true, 5}, "in one lane": {false, 1}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				topic := w.orders
				if !test.keyed {
					topic = eventbus.NewTopic[order](orders, nil)
				}
				raws(w, bus, func(int) []byte { return nil }, 50)
				var g gauge
				var seen journal
				w.run(bus, nil, nil, func(s *eventbus.Subscription) {
					s.Routes = []eventbus.Route{topic.Handle(func(_ context.Context, e *eventbus.BaseEvent[order]) error {
						g.enter(e.Payload.ID)
						defer g.leave(e.Payload.ID)
						time.Sleep(time.Second)
						seen.add("%d", e.Payload.Number)
						return nil
					}, nil)}
				})
				w.until("all handled", func() bool { return w.committed() == 50 })
				require.Equal(t, test.most, g.max)
				require.Zero(t, g.overlaps)
				if !test.keyed {
					require.Equal(t, "49", seen.all()[49])
					require.Equal(t, "7", seen.all()[7])
				}
			})
		})
	}
}

func TestAFailingKeyHoldsUpNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		var parks []eventbus.ParkedKey
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{{Parked: func(k eventbus.ParkedKey) { parks = append(parks, k) }}}
		})
		var good, bad journal
		policy := &eventbus.RetryPolicy{Attempts: 3, Initial: 10 * time.Second, Jitter: -1}
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			time.Sleep(time.Millisecond)
			if e.Payload.ID != "bad" {
				good.add("%d", e.Payload.Number)
				return nil
			}
			bad.add("%d", e.Payload.Number)
			if e.Payload.Number == 0 {
				return errors.New("no")
			}
			return nil
		}, &eventbus.HandleOptions{Retry: policy}, nil)
		for i := range 200 {
			bus.PublishAsync(context.Background(), w.order("bad", i), nil)
			bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i%20), i), nil)
		}
		w.until("the others are handled", func() bool { return len(good.all()) == 200 })
		require.Less(t, w.took(), 5*time.Second)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"0"}, bad.all(), "its key waits")

		h := bus.Health(context.Background()).Groups[0].Partitions[0]
		require.Equal(t, 1, h.ParkedKeys)
		k := h.Parked[0]
		require.Equal(t, eventbus.KeyHash([]byte("bad")), k.KeyHash)
		require.Equal(t, 1, k.Attempts)
		require.Equal(t, 199, k.Behind)
		require.Equal(t, eventbus.ClassTransient, k.Class)
		require.Equal(t, 10*time.Second, k.NextTry.Sub(k.FirstFailedAt))
		require.Equal(t, h.Parked, bus.Metrics().Parked)
		require.EqualValues(t, 1, bus.Metrics().ParkedKeys)
		require.Len(t, parks, 1)
		require.Equal(t, k.Offset, parks[0].Offset)
		require.Equal(t, 200, h.Queued)

		require.NoError(t, bus.Publish(context.Background(), w.order("o1", 1)))
		time.Sleep(15 * time.Second)
		require.NoError(t, bus.Publish(context.Background(), w.order("o1", 1)))
		w.until("given up, and its key goes on", func() bool { return len(bad.all()) == 3+199 })
		require.EqualValues(t, 1, w.held(orders+".dlq.group"))
		require.Zero(t, bus.Metrics().ParkedKeys)
	})
}

// What was done beyond a parked event is in the commit's metadata: a member that starts again skips it.
func TestAMemberThatTakesOverSkipsWhatIsDone(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.bus(nil), w.bus(nil)
		var byOne, byTwo journal
		policy := &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Initial: time.Hour, Max: time.Hour}}
		first := w.run(one, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			byOne.add("%d", e.Payload.Number)
			if e.Payload.ID == "bad" {
				return errors.New("no")
			}
			return nil
		}, policy, nil)
		for i := range 100 {
			id := fmt.Sprint("o", i%20)
			if i == 3 || i == 50 {
				id = "bad"
			}
			require.NoError(t, one.Publish(context.Background(), w.order(id, i)))
		}
		w.until("all but the bad ones", func() bool { return len(byOne.all()) == 99 })
		w.until("committed", func() bool { return w.committed() == 3 })
		time.Sleep(2 * time.Second)
		m, err := progress.Decode(w.metadata())
		require.NoError(t, err)
		require.EqualValues(t, 95, m.Done(), "above 3, all but 50")
		require.NoError(t, first.end())

		require.NoError(t, two.Publish(context.Background(), w.order("o1", 100)))
		w.run(two, handles(&byTwo), nil, nil)
		w.until("the rest", func() bool { return w.committed() == 101 })
		require.ElementsMatch(t, []string{"3", "50", "100"}, byTwo.all())
		require.EqualValues(t, 95, two.Metrics().Skipped)
		m, err = progress.Decode(w.metadata())
		require.NoError(t, err)
		require.Zero(t, m.Done(), "nothing is done above any longer")
	})
}

// metadata is that of the group's commit of acme.orders.
func (w *world) metadata() string {
	return w.cluster.GroupInfo("group").Commits[orders][0].Metadata
}

// A topic that was made anew has other events under the same offsets, and anybody may have written metadata.
func TestMetadataOfOthersIsNoMap(t *testing.T) {
	for name, metadata := range map[string]string{
		"another program's": "eb", "a member's id": "acme-service-1f3c", "broken": "eb1:AAA", "of no topic": mapOf(0, 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				publish(w, bus, 5)
				w.commit(1, metadata)
				var seen journal
				w.run(bus, handles(&seen), nil, nil)
				w.until("handled", func() bool { return w.committed() == 5 })
				require.Equal(t, []string{"1", "2", "3", "4"}, seen.all())
			})
		})
	}
}

// mapOf is a map that says so of offsets relative to the committed one.
func mapOf(lineage uint32, done ...int64) string {
	p := progress.New()
	p.Resume(0, -1, progress.Map{})
	for i := range slices.Max(done) + 1 {
		p.Add(i, 0)
		if slices.Contains(done, i) {
			p.Done(i)
		}
	}
	text, _ := p.Map(lineage).Encode(4096)
	return text
}

// commit commits an offset of acme.orders for the group, as a tool does.
func (w *world) commit(offset int64, metadata string) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = "group"
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = offset, &metadata
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = orders, w.cluster.TopicInfo(orders).TopicID
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(context.Background(), w.raw())
	require.NoError(w, err)
	require.NoError(w, kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
}

// A broker that allows less metadata than is usual has the map cut, and no more than it has to be; no commit fails over it.
func TestCommitsAreNotRefusedForTheirMap(t *testing.T) {
	const allowed, parts = 300, 4
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var refused atomic.Int32
		w.cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			commit := req.(*kmsg.OffsetCommitRequest)
			resp, refuses := commit.ResponseKind().(*kmsg.OffsetCommitResponse), false
			for _, t := range commit.Topics {
				topic := kmsg.NewOffsetCommitResponseTopic()
				topic.Topic, topic.TopicID = t.Topic, t.TopicID
				for _, p := range t.Partitions {
					answer := kmsg.NewOffsetCommitResponseTopicPartition()
					answer.Partition = p.Partition
					if p.Metadata != nil && len(*p.Metadata) > allowed {
						answer.ErrorCode, refuses = kerr.OffsetMetadataTooLarge.Code, true
					}
					topic.Partitions = append(topic.Partitions, answer)
				}
				resp.Topics = append(resp.Topics, topic)
			}
			if refuses {
				refused.Add(1)
			}
			return resp, nil, refuses
		})
		topic := eventbus.NewTopic("acme.many", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		for i := range 12_000 {
			bus.PublishAsync(context.Background(), topic.New(order{ID: fmt.Sprint("o", i), Number: i}), nil)
		}
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{topic.Handle(func(_ context.Context, e *eventbus.BaseEvent[order]) error {
				if e.Payload.Number%3 == 2 {
					return eventbus.RetryAfter(errors.New("no"), time.Hour)
				}
				return nil
			}, nil)}
		})
		w.until("all are committed", func() bool {
			commits := w.cluster.GroupInfo("group").Commits["acme.many"]
			for _, c := range commits {
				if c.Metadata == "" {
					return false
				}
			}
			return len(commits) == parts
		})
		require.NotZero(t, refused.Load())
		for p, c := range w.cluster.GroupInfo("group").Commits["acme.many"] {
			require.LessOrEqual(t, len(c.Metadata), allowed, "partition %d", p)
			require.Greater(t, len(c.Metadata), allowed/3, "partition %d", p)
		}
		require.NotZero(t, bus.Metrics().MapsCut)
		require.Empty(t, bus.Health(context.Background()).Groups[0].Problems)
	}, kfake.SeedTopics(parts, "acme.many", "acme.many.dlq.group"))
}

func TestOrderNoneWaitsForNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		var g gauge
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			g.enter(fmt.Sprint(e.Payload.Number))
			defer g.leave(fmt.Sprint(e.Payload.Number))
			time.Sleep(time.Second)
			if e.Payload.Number == 0 {
				return eventbus.RetryAfter(errors.New("no"), time.Hour)
			}
			seen.add("%d", e.Payload.Number)
			return nil
		}, &eventbus.HandleOptions{Order: eventbus.OrderNone}, nil)
		publish(w, bus, 50)
		w.until("all others", func() bool { return len(seen.all()) == 49 })
		require.Greater(t, g.max, 10, "of one key")
	})
}

func TestClassifyAndBudget(t *testing.T) {
	unavailable, refused := errors.New("unavailable"), errors.New("refused")
	for name, test := range map[string]struct {
		policy eventbus.RetryPolicy
		err    error
		gaps   []time.Duration
		class  eventbus.Class
	}{
		"classified as permanent": {eventbus.RetryPolicy{Classify: func(err error) eventbus.Class {
			if errors.Is(err, refused) {
				return eventbus.ClassPermanent
			}
			return ""
		}}, fmt.Errorf("charging: %w", refused), nil, eventbus.ClassPermanent},
		"left to the package": {eventbus.RetryPolicy{Attempts: 2, Jitter: -1, Classify: func(error) eventbus.Class { return "" }}, unavailable,
			[]time.Duration{100 * time.Millisecond}, eventbus.ClassTransient},
		"what the handler marked comes first": {eventbus.RetryPolicy{Classify: func(error) eventbus.Class { return eventbus.ClassTransient }},
			eventbus.Permanent(unavailable), nil, eventbus.ClassPermanent},
		"a classifier that panics": {eventbus.RetryPolicy{Attempts: 1, Classify: func(error) eventbus.Class { panic("no") }}, unavailable, nil, eventbus.ClassPanic},
		"a budget of time": {eventbus.RetryPolicy{Attempts: 100, Initial: time.Second, Max: time.Second, Jitter: -1, Budget: 3500 * time.Millisecond}, unavailable,
			[]time.Duration{time.Second, time.Second, time.Second}, eventbus.ClassTransient},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				test.policy.OutageHold = -1
				var tries journal
				w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
					tries.add("try")
					return test.err
				}, &eventbus.HandleOptions{Retry: &test.policy}, nil)
				publish(w, bus, 1)
				w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
				require.Equal(t, test.gaps, tries.gaps())
				d, err := eventbus.ParseDeadLetter(w.read(orders+".dlq.group", 1)[0])
				require.NoError(t, err)
				require.Equal(t, test.class, d.Class)
			})
		})
	}
}

// With the dead-letter topic away, keys that failed wait, and nobody else.
func TestADeadLetterTopicThatIsAwayHoldsUpNoOtherKey(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: orders + ".dlq.group", Err: kerr.NotEnoughReplicas, Count: -1})
		var seen journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number%2 == 0 {
				return eventbus.Permanent(errors.New("no"))
			}
			seen.add("%d", e.Payload.Number)
			return nil
		}, nil, func(s *eventbus.Subscription) { s.Concurrency = 4 })
		for i := range 200 {
			bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i), i), nil)
		}
		w.until("the good ones", func() bool { return len(seen.all()) == 100 })
		require.EqualValues(t, 0, max(w.committed(), 0))
		fault.Remove()
		w.until("all", func() bool { return w.committed() == 200 })
		require.EqualValues(t, 100, w.held(orders+".dlq.group"))
	})
}

func TestPauseAndResume(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		require.ErrorContains(t, bus.Pause("group"), `group "group" does not run`)
		var seen journal
		began, release := make(chan struct{}), make(chan struct{})
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 0 {
				close(began)
				<-release
			}
			seen.add("%d", e.Payload.Number)
			return nil
		}, nil, nil)
		publish(w, bus, 1)
		<-began
		require.NoError(t, bus.Pause("group"))
		for i := 1; i < 20; i++ {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		close(release)
		time.Sleep(5 * time.Minute)
		require.Equal(t, []string{"0"}, seen.all(), "what runs goes on, nothing more begins")
		h := bus.Health(context.Background())
		require.True(t, h.Live)
		require.Equal(t, "by Pause", h.Groups[0].Paused)
		require.Equal(t, "by Pause", h.Groups[0].Partitions[0].Paused)
		require.EqualValues(t, 1, w.committed())
		loseSession(w)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"0"}, seen.all(), "a rebalance does not end it")
		require.NoError(t, bus.Resume("group"))
		w.until("the rest", func() bool { return w.committed() == 20 })
	})
}

func TestLagInTime(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		hold := make(chan struct{})
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 1 {
				<-hold
			}
			return nil
		}, &eventbus.HandleOptions{Timeout: 40 * time.Second}, func(s *eventbus.Subscription) { s.MaxInFlight = 1 })
		for i := range 10 {
			require.NoError(t, bus.Publish(context.Background(), w.order("o", i)))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(11 * time.Second) // the next look at the ends
		h := bus.Health(context.Background()).Groups[0]
		require.EqualValues(t, 9, h.Lag)
		require.Equal(t, 16*time.Second, h.LagTime, "the newest is 8 times 2 s younger than the first that is not done")
		require.Equal(t, 16*time.Second, bus.Metrics().ConsumerLagTime)
		close(hold)
		w.until("all handled", func() bool { return w.committed() == 10 })
		require.Zero(t, bus.Health(context.Background()).Groups[0].LagTime)
	})
}

// One million events behind one parked key: the partition pauses, memory does not grow.
func TestAMillionEventsBehindAParkedKeyAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		cl := w.raw(kgo.MaxBufferedRecords(1_000_000), kgo.ProducerBatchMaxBytes(900_000))
		value := mustEncode(w, bus, w.order("parked", 1))
		const n = 1_000_000
		var failed atomic.Int32
		for range n {
			cl.Produce(context.Background(), &kgo.Record{Topic: orders, Key: []byte("parked"), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Add(1)
				}
			})
		}
		require.NoError(t, cl.Flush(context.Background()))
		require.Zero(t, failed.Load())
		cl.Close()
		before := heap()
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			return eventbus.RetryAfter(errors.New("no"), time.Hour)
		}, nil, nil)
		var most uint64
		for range 30 {
			time.Sleep(10 * time.Second)
			most = max(most, heap())
		}
		p := bus.Health(context.Background()).Groups[0].Partitions[0]
		require.EqualValues(t, n, p.Lag)
		require.NotEmpty(t, p.Paused)
		require.LessOrEqual(t, p.Queued, 11_000)
		require.Equal(t, p.Queued-1, p.Parked[0].Behind, "health says which key it waits for")
		require.Less(t, int64(most)-int64(before), int64(256<<20))
		t.Logf("%d events taken, %d MiB more than before", p.Queued, (int64(most)-int64(before))>>20)
	})
}

func mustEncode(w *world, bus *eventbus.Bus, e eventbus.AnyEvent) []byte {
	r, err := bus.Encode(context.Background(), e)
	require.NoError(w, err)
	return r.Value
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What waits behind a failing event may take most of what a partition or the bus may have in flight: the other keys have the rest, and do not wait for it.
func TestOtherKeysHaveTheRoomThatAParkedOneLeaves(t *testing.T) {
	for name, limit := range map[string]func(*eventbus.Config, *eventbus.Subscription){
		"of the partition": func(_ *eventbus.Config, s *eventbus.Subscription) { s.MaxInFlight = 200 },
		"of the bus":       func(c *eventbus.Config, _ *eventbus.Subscription) { c.MaxInFlight = 200 },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var sub eventbus.Subscription
				bus := w.bus(func(c *eventbus.Config) { limit(c, &sub) })
				var others atomic.Int32
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					if e.Payload.ID == "parked" {
						return eventbus.RetryAfter(errors.New("no"), time.Hour)
					}
					time.Sleep(time.Second)
					others.Add(1)
					return nil
				}, nil, func(s *eventbus.Subscription) { s.MaxInFlight = sub.MaxInFlight })
				const parked, healthy = 160, 500
				for i := range parked {
					require.NoError(t, bus.Publish(context.Background(), w.order("parked", i)))
				}
				for i := range healthy {
					require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
				}
				w.until("the others are handled", func() bool { return others.Load() == healthy })
				require.Less(t, w.took(), time.Minute)
				require.Equal(t, parked, bus.Health(context.Background()).Groups[0].Partitions[0].Queued)
			})
		})
	}
}

// Where another partition has the bus full, healthy keys beside a parked one have their share, however much waits behind that; and where this is more
// than a share in bytes, their turn when there is room again.
func TestHealthyKeysBesideAParkedOneGoOnWhileTheBusIsFull(t *testing.T) {
	for name, test := range map[string]struct {
		parked int
		most   time.Duration
	}{
		"a hundred are parked":       {101, 2 * time.Second},
		"a share's bytes are parked": {1500, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				const busy, healthy, n = 0, 1, 30_000
				bus := w.bus(func(c *eventbus.Config) { c.MaxInFlight = 4500 })
				put, flush := w.placing(bus, 2*n)
				for i := range test.parked {
					put(healthy, "parked", i)
				}
				flush()
				var late delays
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					switch {
					case e.Payload.ID == "parked":
						return eventbus.RetryAfter(errors.New("no"), time.Hour)
					case strings.HasPrefix(e.Payload.ID, "healthy"):
						late.handles(e.Payload.Number)
					}
					time.Sleep(100 * time.Millisecond)
					return nil
				}, nil, nil)
				w.until("it is parked", func() bool { return bus.Metrics().ParkedKeys == 1 })
				for i := range n {
					put(busy, fmt.Sprint("busy", i%500), i)
				}
				flush()
				for i := range 300 {
					late.sends(i)
					put(healthy, fmt.Sprint("healthy", i), i)
					time.Sleep(100 * time.Millisecond)
				}
				w.until("the healthy ones are handled", late.over)
				t.Logf("at most %v later", late.worst)
				require.Less(t, late.worst, test.most)
				require.Less(t, bus.Metrics().MessagesConsumed, int64(n), "the busy one goes on")
			}, kfake.SeedTopics(2, orders), kfake.SeedTopics(1, eventbus.RetryTopic(orders, "group")))
		})
	}
}

// Events of other keys go on behind a parked one up to the span, and go on when it is through.
func TestTheSpanIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen atomic.Int32
		hold := make(chan struct{})
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 0 {
				<-hold
			}
			seen.Add(1)
			return nil
		}, nil, func(s *eventbus.Subscription) { s.MaxSpan = 2000 })
		for i := range 10_000 {
			bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i), i), nil)
		}
		time.Sleep(20 * time.Second)
		require.InDelta(t, 2500, seen.Load(), 501)
		p := bus.Health(context.Background()).Groups[0].Partitions[0]
		require.Equal(t, "span", p.Paused)
		require.LessOrEqual(t, p.Span, int64(3000), "and what a poll brings")
		close(hold)
		w.until("all handled", func() bool { return w.committed() == 10_000 })
	})
}

// Quick events are taken several at once. One that is not holds up none of those that were taken with it, and what came before it counts.
func TestASlowEventAmongQuickOnesHoldsUpNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		const n = 5000
		w.ordered(bus, n, n)
		hold := make(chan struct{})
		release := sync.OnceFunc(func() { close(hold) })
		w.Cleanup(release)
		var seen atomic.Int32
		var first time.Time
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			if seen.Add(1) == 1 {
				first = time.Now()
			}
			if e.Payload.Number%100 == 99 { // 50 of them, of 64 that may run
				<-hold
			}
			return nil
		}, nil, nil)
		w.until("all others handled", func() bool { return bus.Metrics().MessagesConsumed == n-n/100 })
		require.Less(t, time.Since(first), 200*time.Millisecond)
		require.EqualValues(t, n, seen.Load())
		release()
		w.until("all handled", func() bool { return w.committed() == n })
		require.EqualValues(t, n, seen.Load(), "none of them twice")
	})
}

// Who settles for others may find nothing to do next until he has: their keys have more.
func TestWhatOthersKeysHaveIsNotForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		require.NoError(w, bus.Publish(w.Context(), w.order("ends", 0), w.order("goes-on", 0), w.order("goes-on", 1)))
		gates := map[string]chan struct{}{"ends": make(chan struct{}), "goes-on": make(chan struct{})}
		begun := make(chan struct{}, 2)
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 0 {
				begun <- struct{}{}
				<-gates[e.Payload.ID]
			}
			return nil
		}, nil, nil)
		<-begun
		<-begun
		waiting, settle := bus.HoldForTest("group")
		for i, id := range []string{"ends", "goes-on"} { // no time passes: these are quick
			close(gates[id])
			for waiting() <= i {
				runtime.Gosched()
			}
		}
		settle()
		w.until("all are handled", func() bool { return w.committed() == 3 })
	})
}

// What was taken along with another event, and has not begun, does not begin while the subscription is paused.
func TestPauseIsForWhatWasTakenToo(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		const n = 5000
		w.ordered(bus, n, n)
		var seen atomic.Int32
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			seen.Add(1)
			time.Sleep(10 * time.Microsecond)
			return nil
		}, nil, nil)
		for seen.Load() < n/4 {
			time.Sleep(time.Microsecond)
		}
		synctest.Wait()
		require.NoError(t, bus.Pause("group"))
		begun := seen.Load()
		require.Less(t, begun, int32(n/2))
		time.Sleep(time.Second)
		require.Equal(t, begun, seen.Load())
		require.NoError(t, bus.Resume("group"))
		w.until("all handled", func() bool { return w.committed() == n })
		require.EqualValues(t, n, seen.Load(), "none of them twice")
	})
}

// Where quick handlers become slow, as many run as may at once, although several events were taken together.
func TestHandlersThatBecomeSlowAllRun(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		const n = 5000
		w.ordered(bus, n, n)
		var slow atomic.Int32
		var first, all time.Time
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number < 3000 {
				return nil
			}
			switch slow.Add(1) {
			case 1:
				first = time.Now()
			case 64:
				all = time.Now()
			}
			time.Sleep(time.Second)
			return nil
		}, nil, nil)
		w.until("as many run as may", func() bool { return slow.Load() >= 64 })
		require.LessOrEqual(t, all.Sub(first), 5*time.Millisecond)
	})
}
