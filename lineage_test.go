package eventbus_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/progress"
)

const others = "acme.others"

// countFetches counts fetches, and has each take 10 ms: of a topic that is gone, kfake answers at once and for ever, and no virtual time would pass.
func (w *world) countFetches() *atomic.Int64 {
	var n atomic.Int64
	w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		n.Add(1)
		time.Sleep(10 * time.Millisecond)
		return nil, nil, false
	})
	return &n
}

// remake deletes acme.orders and makes it again, with so many partitions, after a while.
func (w *world) remake(partitions int, after time.Duration) {
	require.NoError(w, w.cluster.DeleteTopic(orders))
	time.Sleep(after)
	require.NoError(w, w.cluster.CreateTopic(orders, int32(partitions), nil))
}

func problems(bus *eventbus.Bus) string {
	var all []string
	for _, g := range bus.Health(context.Background()).Groups {
		all = append(all, g.Problems...)
	}
	return strings.Join(all, "\n")
}

// A topic that is deleted and made again under a consumer is named, and consumed from its beginning by itself: nothing of the new one is lost or
// skipped, the keys keep their order, and the other topics of the group go on meanwhile.
func TestATopicMadeAgainIsConsumedFromItsBeginning(t *testing.T) {
	other := eventbus.NewTopic(others, &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
	for _, protocol := range []eventbus.GroupProtocol{eventbus.ProtocolClassic, eventbus.ProtocolConsumer} {
		for _, instance := range []string{"", "one"} {
			for name, test := range map[string]struct {
				before, after int // partitions
				gone          time.Duration
			}{
				"at once":              {1, 1, 0},
				"after a while":        {1, 1, 20 * time.Second},
				"with more partitions": {1, 3, 0},
				"with less partitions": {3, 1, 0},
				"with less, later":     {3, 1, 7 * time.Second},
			} {
				if instance != "" && test.before == test.after {
					continue
				}
				t.Run(fmt.Sprintf("%s, protocol %d, static %v", name, protocol, instance != ""), func(t *testing.T) {
					inWorld(t, func(w *world) {
						w.remake(test.before, 0)
						fetches := w.countFetches()
						bus, publisher := w.bus(nil), w.bus(nil)
						var seen, seenOthers journal
						w.run(bus, nil, nil, func(s *eventbus.Subscription) {
							s.Protocol, s.InstanceID = protocol, instance
							s.Routes = []eventbus.Route{
								w.orders.Handle(func(_ context.Context, e *eventbus.BaseEvent[order]) error {
									seen.add("%s/%d", e.Payload.ID, e.Payload.Number)
									return nil
								}, nil),
								other.Handle(handles(&seenOthers), nil),
							}
						})
						send := func(from, to int) (sent []string) {
							for i := from; i < to; i++ {
								for k := range 5 {
									require.NoError(w, publisher.Publish(context.Background(), w.order(fmt.Sprint("k", k), i)))
									sent = append(sent, fmt.Sprintf("k%d/%d", k, i))
								}
							}
							return sent
						}
						send(0, 10)
						w.until("handled and committed", func() bool { return len(seen.all()) == 50 && w.sumCommitted() == 50 })
						go w.remake(test.after, test.gone)
						deleted := time.Now()
						w.until("named", func() bool { return strings.Contains(problems(bus), orders) })
						require.LessOrEqual(t, time.Since(deleted), 5*time.Second)
						require.False(t, bus.Health(context.Background()).Ready)
						require.NoError(t, publisher.Publish(context.Background(), other.New(order{ID: "o", Number: 1})))
						w.until("the others go on", func() bool { return len(seenOthers.all()) == 1 })
						if test.gone > 10*time.Second {
							time.Sleep(10*time.Second - time.Since(deleted))
							count := fetches.Load()
							time.Sleep(5 * time.Second)
							require.Less(t, fetches.Load()-count, int64(20), "fetches of the other topic only")
						}
						w.until("made again", func() bool { return w.cluster.TopicInfo(orders) != nil })
						again := time.Now()
						want := send(100, 104)
						w.until("consumed", func() bool { return len(seen.all()) >= 50+len(want) && w.sumCommitted() == 20 })
						require.LessOrEqual(t, time.Since(again), 15*time.Second)
						got := seen.all()[50:]
						require.ElementsMatch(t, want, got, "each of the new topic's once")
						for k := range 5 {
							require.Equal(t, of(want, fmt.Sprintf("k%d/", k)), of(got, fmt.Sprintf("k%d/", k)), "in their order")
						}
						w.until("ready", func() bool { return bus.Health(context.Background()).Ready })
						require.LessOrEqual(t, time.Since(again), 15*time.Second)
						require.EqualValues(t, 1, bus.Metrics().Recreated)
						require.Empty(t, problems(bus))
						time.Sleep(20 * time.Second)
						require.Empty(t, problems(bus))
						require.Len(t, seen.all(), 50+len(want))
						require.EqualValues(t, 1, bus.Metrics().Recreated, "and not again")
					}, kfake.SeedTopics(1, others, others+".dlq.group"))
				})
			}
		}
	}
}

// of are the entries that begin so.
func of(entries []string, prefix string) (found []string) {
	for _, e := range entries {
		if strings.HasPrefix(e, prefix) {
			found = append(found, e)
		}
	}
	return found
}

// sumCommitted is how much of acme.orders is committed, over its partitions.
func (w *world) sumCommitted() (sum int64) {
	for _, at := range w.commits(orders) {
		sum += at
	}
	return sum
}

// A handler that runs when its topic is deleted is brought to its end, and nothing of it reaches the topic that is made after it.
func TestLateResultsOfADeletedTopicReachNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		hold := make(chan struct{})
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 3 {
				<-hold
			}
			seen.add("%d %v", e.Payload.Number, ctx.Err())
			return nil
		}, nil, func(s *eventbus.Subscription) { s.DrainTimeout = 5 * time.Second })
		publish(w, bus, 5)
		w.until("one runs", func() bool { return w.committed() == 3 })
		w.remake(1, 0)
		require.NoError(t, w.bus(nil).Publish(context.Background(), w.order("o", 10), w.order("p", 11)))
		w.until("the other key", func() bool { return len(seen.all()) == 4 })
		require.Equal(t, "11 <nil>", seen.all()[3], "the key of the one that runs waits for it")
		time.Sleep(10 * time.Second)
		require.Len(t, seen.all(), 4)
		require.Less(t, w.committed(), int64(2), "10 is not done")
		close(hold)
		w.until("the rest", func() bool { return w.committed() == 2 })
		require.Equal(t, []string{"3 context canceled", "10 <nil>"}, seen.all()[4:], "4 was the old topic's, and never ran")
		require.EqualValues(t, 2, w.held(orders))
	})
}

// What was committed of an older topic, and a broker has kept, is nowhere to begin in one that was made anew while no member ran.
func TestACommitOfAnOlderTopicIsNoPlaceToBegin(t *testing.T) {
	for _, protocol := range []eventbus.GroupProtocol{eventbus.ProtocolClassic, eventbus.ProtocolConsumer} {
		for name, test := range map[string]struct{ before, after int }{
			"above the new topic's end": {100, 10}, "right at it": {10, 10}, "within it": {5, 10}, "of all but one": {9, 10},
		} {
			t.Run(fmt.Sprintf("%s, protocol %d", name, protocol), func(t *testing.T) {
				inWorld(t, func(w *world) {
					bus := w.bus(nil)
					var old, seen journal
					change := func(s *eventbus.Subscription) { s.Protocol = protocol }
					r := w.run(bus, handles(&old), nil, change)
					publish(w, bus, test.before)
					w.until("committed", func() bool { return w.committed() == int64(test.before) })
					require.NoError(t, r.end())
					metadata := w.metadata()
					w.remake(1, 0)
					publish(w, w.bus(nil), test.after)
					w.commit(int64(test.before), metadata)
					w.run(bus, handles(&seen), nil, change)
					w.until("all of the new topic", func() bool { return w.committed() == int64(test.after) && w.metadata() != metadata })
					require.Equal(t, counted(test.after), seen.all())
				})
			})
		}
	}
}

func counted(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// A commit names its topic, also where nothing is done above it.
func TestACommitNamesItsTopic(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.run(bus, ignore, nil, nil)
		publish(w, bus, 3)
		w.until("committed", func() bool { return w.committed() == 3 })
		m, err := progress.Decode(w.metadata())
		require.NoError(t, err)
		require.Zero(t, m.Done())
		require.NotZero(t, m.Lineage)
		require.Less(t, len(w.metadata()), 16)
	})
}

// Where the id of a topic is not known by inspection yet, it is asked for before a commit is believed.
func TestATopicIsAskedForBeforeACommitIsBelieved(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 10)
		w.commit(5, mapOf(7, 1))
		var asked atomic.Int64
		w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			if req.(*kmsg.MetadataRequest).IncludeTopicAuthorizedOperations && asked.Add(1) <= 2 {
				return nil, fmt.Errorf("not now"), true // those of Run and of the inspection
			}
			return nil, nil, false
		})
		var seen journal
		w.run(bus, handles(&seen), nil, nil)
		w.until("all", func() bool { return w.committed() == 10 })
		require.Equal(t, counted(10), seen.all())
	})
}

// The retry topic may be deleted and made again too: it is consumed again, and being without one is no trouble.
func TestARetryTopicMadeAgainIsConsumed(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		w.run(bus, handles(&seen), nil, nil)
		redriven := func(n int) {
			e, err := bus.Encode(context.Background(), w.order("o", n))
			require.NoError(t, err)
			e.Topic = retries
			require.NoError(t, w.raw().ProduceSync(context.Background(), e).FirstErr())
		}
		redriven(1)
		w.until("handled", func() bool { return len(seen.all()) == 1 })
		w.countFetches()
		require.NoError(t, w.cluster.DeleteTopic(retries))
		time.Sleep(20 * time.Second)
		require.True(t, bus.Health(context.Background()).Ready)
		require.NoError(t, w.cluster.CreateTopic(retries, 2, nil))
		redriven(2)
		again := time.Now()
		w.until("handled", func() bool { return len(seen.all()) == 2 })
		require.LessOrEqual(t, time.Since(again), 15*time.Second)
		require.NoError(t, w.cluster.DeleteTopic(retries))
		require.NoError(t, w.cluster.CreateTopic(retries, 1, nil))
		redriven(3)
		w.until("handled", func() bool { return len(seen.all()) == 3 })
		require.Equal(t, []string{"1", "2", "3"}, seen.all())
		require.EqualValues(t, 2, bus.Metrics().Recreated)
	}, kfake.SeedTopics(1, retries))
}

const retries = orders + ".retry.group"

// A retry topic that was made again is redriven to.
func TestARetryTopicMadeAgainIsRedrivenTo(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		d, err := bus.DeadLetters(w.orders, "group")
		require.NoError(t, err)
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return eventbus.Permanent(fmt.Errorf("no")) }, nil, nil)
		publish(w, bus, 2)
		w.until("given up", func() bool { return bus.Metrics().DeadLettered == 2 })
		for range 2 {
			report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
			require.NoError(t, err)
			require.Equal(t, 2, report.Sent)
			w.until("given up again", func() bool { return bus.Metrics().DeadLettered >= 4 })
			require.NoError(t, w.cluster.DeleteTopic(retries))
			require.NoError(t, w.cluster.CreateTopic(retries, 1, nil))
		}
	}, kfake.SeedTopics(1, retries))
}

// Two members of a group follow their topic alike: what it has is handled once.
func TestMembersFollowATopicMadeAgain(t *testing.T) {
	for _, protocol := range []eventbus.GroupProtocol{eventbus.ProtocolClassic, eventbus.ProtocolConsumer} {
		for _, partitions := range []int{4, 1} {
			t.Run(fmt.Sprintf("protocol %d, %d partitions", protocol, partitions), func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.remake(4, 0)
					w.countFetches()
					one, two := w.bus(nil), w.bus(nil)
					var seen journal
					for _, bus := range []*eventbus.Bus{one, two} {
						w.run(bus, handles(&seen), nil, func(s *eventbus.Subscription) { s.Protocol = protocol })
					}
					shares := func() (n int) {
						for _, bus := range []*eventbus.Bus{one, two} {
							if g := bus.Health(context.Background()).Groups; len(g) == 1 && len(g[0].Partitions) > 0 {
								n++
							}
						}
						return n
					}
					w.until("both have some", func() bool { return shares() == 2 })
					for i := range 40 {
						require.NoError(t, one.Publish(context.Background(), w.order(fmt.Sprint("o", i%8), i)))
					}
					w.until("committed", func() bool { return w.sumCommitted() == 40 })
					w.remake(partitions, 0)
					for i := range 40 {
						require.NoError(t, one.Publish(context.Background(), w.order(fmt.Sprint("o", i%8), 100+i)))
					}
					again := time.Now()
					w.until("committed", func() bool { return w.sumCommitted() == 40 && len(seen.all()) >= 80 })
					require.LessOrEqual(t, time.Since(again), 20*time.Second)
					time.Sleep(time.Minute)
					if protocol == eventbus.ProtocolClassic {
						require.Len(t, seen.all(), 80)
					}
					all := seen.all() // by the other protocol the client may begin a partition twice, as its topics change
					slices.Sort(all)
					require.Len(t, slices.Compact(all), 80)
					require.True(t, one.Health(context.Background()).Ready)
					require.True(t, two.Health(context.Background()).Ready)
				})
			})
		}
	}
}

// One broker that knows less than the others for a moment makes nobody give up anything.
func TestATopicThatIsMissedOnceIsKept(t *testing.T) {
	inWorld(t, func(w *world) {
		var log journal
		bus := w.bus(func(c *eventbus.Config) {
			c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) { log.add("%s", p) }), nil))
		})
		var seen journal
		w.run(bus, handles(&seen), nil, nil)
		publish(w, bus, 3)
		w.until("committed", func() bool { return w.committed() == 3 })
		var missed atomic.Int64
		w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			asked := req.(*kmsg.MetadataRequest)
			if !asked.IncludeTopicAuthorizedOperations {
				w.cluster.KeepControl()
				return nil, nil, false
			}
			missed.Add(1)
			resp := asked.ResponseKind().(*kmsg.MetadataResponse)
			for _, t := range asked.Topics {
				unknown := kmsg.NewMetadataResponseTopic()
				unknown.Topic, unknown.ErrorCode = t.Topic, 3
				resp.Topics = append(resp.Topics, unknown)
			}
			return resp, nil, true
		})
		w.until("missed", func() bool { return missed.Load() == 1 && strings.Contains(problems(bus), orders) })
		w.until("found", func() bool { return problems(bus) == "" })
		time.Sleep(20 * time.Second)
		require.Zero(t, bus.Metrics().Recreated)
		require.NotContains(t, strings.Join(log.all(), ""), "deleted")
		publish(w, bus, 1)
		w.until("committed", func() bool { return w.committed() == 4 })
	})
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
