package eventbus_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// A member that drains at its shutdown still belongs to the group: a rebalance may take its partitions away meanwhile.
func TestRebalanceDuringADrainDoesNotRewindTheNewOwner(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.two", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		one, two := w.bus(nil), w.bus(nil)
		for i := range 40 { // of both partitions
			require.NoError(t, one.Publish(context.Background(), topic.New(order{ID: string(rune('a' + i%20)), Number: i})))
		}
		var running, overlaps journal
		release := make(chan struct{})
		subscription := func(h eventbus.Handler[order]) eventbus.Subscription {
			return eventbus.Subscription{
				Group: "group", DrainTimeout: 20 * time.Second, RebalanceTimeout: 60 * time.Second,
				Routes: []eventbus.Route{topic.Handle(h, &eventbus.HandleOptions{Timeout: 10 * time.Second})},
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- one.Run(ctx, subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
				running.add("%s/%d", e.Payload.ID, e.Payload.Number)
				<-release
				return nil
			}))
		}()
		w.until("the first member works on both", func() bool { return len(running.all()) == 20 }) // a first event of each key
		cancel()                                                                                   // SIGTERM: it drains
		time.Sleep(100 * time.Millisecond)
		ctx2, cancel2 := context.WithCancel(context.Background())
		ended2 := make(chan error, 1)
		go func() {
			ended2 <- two.Run(ctx2, subscription(func(_ context.Context, e *eventbus.BaseEvent[order]) error {
				overlaps.add("%s/%d", e.Payload.ID, e.Payload.Number)
				return nil
			}))
		}()
		time.Sleep(8 * time.Second)
		before := w.commits("acme.two")
		byTwo := overlaps.all()
		t.Logf("while one drains: commits %v; two handled %d, one still runs %v", before, len(byTwo), running.all())
		close(release)
		t.Logf("one: %v", <-ended)
		time.Sleep(100 * time.Millisecond)
		after := w.commits("acme.two")
		t.Logf("after: %v", after)
		for p, at := range before {
			require.GreaterOrEqual(t, after[p], at, "partition %d rewound", p)
		}
		for _, r := range running.all() {
			require.NotContains(t, byTwo, r, "two members handled one event at once")
		}
		cancel2()
		<-ended2
	}, kfake.SeedTopics(2, "acme.two", "acme.two.dlq.group"))
}

// In a rebalance Kafka refuses commits until all members have joined again. A member that leaves meanwhile has no later commit to say the same.
func TestALastCommitOutlastsARebalance(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.RebalanceInProgress, kerr.IllegalGeneration} {
		t.Run(refusal.Message, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var handled journal
				r := w.run(bus, handles(&handled), nil, nil)
				require.NoError(t, bus.WaitReady(context.Background()))
				w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: refusal, Count: 4})
				publish(w, bus, 20)
				w.until("all are handled", func() bool { return len(handled.all()) == 20 })
				require.NoError(t, r.end())
				require.EqualValues(t, 20, w.committed())
			})
		})
	}
}

func TestAPauseEndsWithItsAssignment(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		w.until("all published", func() bool { return w.held(orders) == 5000 })
		hold := make(chan struct{})
		var seen journal
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			select {
			case <-hold:
				return handles(&seen)(ctx, e)
			case <-ctx.Done():
				return ctx.Err()
			}
		}, nil, nil)
		w.until("paused", func() bool {
			g := bus.Health(context.Background()).Groups
			return len(g) == 1 && len(g[0].Partitions) == 1 && g[0].Partitions[0].Queued >= 999
		})
		time.Sleep(time.Second)
		loseSession(w)
		time.Sleep(20 * time.Second)
		close(hold)
		w.until("all handled", func() bool { return len(seen.all()) == 5000 })
	})
}

func TestALostPartitionCancelsItsHandlerAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var ends journal
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			began := time.Now()
			<-ctx.Done()
			ends.add("%v", time.Since(began))
			return ctx.Err()
		}, nil, nil)
		publish(w, bus, 1)
		time.Sleep(time.Second)
		loseSession(w)
		w.until("cancelled, well before its timeout of 30 s", func() bool { return len(ends.all()) == 1 })
		require.Less(t, w.took(), 10*time.Second)
		require.Zero(t, bus.Metrics().DeadLettered)
	})
}

func TestALostPositionResumesAtTheEarliestKept(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		publish(w, bus, 2)
		r := w.run(bus, handles(&seen), nil, nil)
		w.until("committed", func() bool { return w.committed() == 2 })
		require.NoError(t, r.end())
		for i := 2; i < 10; i++ {
			require.NoError(t, bus.Publish(context.Background(), w.order("o", i)))
		}
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...))...)
		require.NoError(t, err)
		defer cl.Close()
		kept := kadm.Offsets{}
		kept.AddOffset(orders, 0, 5, -1)
		_, err = kadm.NewClient(cl).DeleteRecords(context.Background(), kept)
		require.NoError(t, err)
		w.run(bus, handles(&seen), nil, nil)
		w.until("the rest", func() bool { return len(seen.all()) == 7 })
		require.Equal(t, []string{"0", "1", "5", "6", "7", "8", "9"}, seen.all())
	})
}

func TestARevokedPartitionIsHandedOverWhenItsHandlerHasEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.two", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		one, two := w.bus(nil), w.bus(nil)
		for i := range 20 { // of both partitions
			require.NoError(t, one.Publish(context.Background(), topic.New(order{ID: string(rune('a' + i)), Number: i})))
		}
		var seen, cancelled journal
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{topic.Handle(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			select {
			case <-time.After(3 * time.Second):
				return handles(&seen)(ctx, e)
			case <-ctx.Done():
				cancelled.add("%d", e.Payload.Number)
				return ctx.Err()
			}
		}, nil)}}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 2)
		go func() { ended <- one.Run(ctx, sub) }()
		w.until("the first member works", func() bool { return len(seen.all()) >= 2 })
		go func() { ended <- two.Run(ctx, sub) }()
		w.until("all handled", func() bool { return len(seen.all()) >= 20 })
		time.Sleep(10 * time.Second)
		require.Empty(t, cancelled.all())
		require.Len(t, seen.all(), 20, "each once: its handler got the time to end, and its offset was handed over")
		require.Len(t, two.Health(context.Background()).Groups[0].Partitions, 1)
		cancel()
		require.NoError(t, errors.Join(<-ended, <-ended))
	}, kfake.SeedTopics(2, "acme.two", "acme.two.dlq.group"))
}

// A member loses its session while it drains, joins again, and its handler ends late: the commit would be a valid one.
func TestALateResultOfALostPartitionIsNotCommitted(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.two", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		one, two := w.bus(nil), w.bus(nil)
		for i := range 40 { // of both partitions
			require.NoError(t, one.Publish(context.Background(), topic.New(order{ID: string(rune('a' + i%20)), Number: i})))
		}
		release := make(chan struct{})
		start := func(bus *eventbus.Bus, h eventbus.Handler[order]) *running {
			ctx, cancel := context.WithCancel(context.Background())
			r := &running{stop: cancel, ended: make(chan error, 1)}
			go func() {
				r.ended <- bus.Run(ctx, eventbus.Subscription{
					Group: "group", DrainTimeout: 50 * time.Second, RebalanceTimeout: 120 * time.Second,
					Routes: []eventbus.Route{topic.Handle(h, nil)},
				})
			}()
			return r
		}
		var began, byTwo journal
		first := start(one, func(context.Context, *eventbus.BaseEvent[order]) error {
			began.add("stuck")
			<-release // ignores its ctx
			return nil
		})
		w.until("the first member is stuck on both", func() bool { return len(began.all()) == 20 }) // with a first event of each key
		first.stop()
		loseSession(w)
		second := start(two, handles(&byTwo))
		w.until("the second member is through with one", func() bool { return len(byTwo.all()) >= 20 })
		time.Sleep(3 * time.Second)
		before := w.commits("acme.two")
		close(release)
		<-first.ended
		time.Sleep(time.Second)
		for p, at := range w.commits("acme.two") {
			require.GreaterOrEqual(t, at, before[p], "partition %d", p)
		}
		require.NoError(t, second.end())
	}, kfake.SeedTopics(2, "acme.two", "acme.two.dlq.group"))
}

func TestCommitsKeepTheLeaderEpochAndStopWhenThereIsNothingNew(t *testing.T) {
	inWorld(t, func(w *world) {
		var commits atomic.Int32
		w.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			commits.Add(1)
			return nil, nil, false
		})
		bus := w.bus(nil)
		w.run(bus, ignore, nil, nil)
		publish(w, bus, 3)
		w.until("committed", func() bool { return w.committed() == 3 })
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...))...)
		require.NoError(t, err)
		defer cl.Close()
		offsets, err := kadm.NewClient(cl).FetchOffsets(context.Background(), "group")
		require.NoError(t, err)
		at, ok := offsets.Lookup(orders, 0)
		require.True(t, ok)
		require.EqualValues(t, w.cluster.PartitionInfo(orders, 0).Epoch, at.LeaderEpoch)
		before := commits.Load()
		time.Sleep(time.Minute)
		require.Equal(t, before, commits.Load())
	})
}

// The client asks for commits by the topic's id or, at moments when it does not know it, by its name. What was committed may so be fetched twice
// before the first record comes, and differently.
func TestCommitsFetchedByNameAndByIDAreOnePartitions(t *testing.T) {
	inWorld(t, func(w *world) {
		var asked journal // by which version: from 10 on by the id
		w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			asked.add("%t", r.GetVersion() >= 10)
			return nil, nil, false
		})
		bus := w.bus(nil)
		require.NoError(t, bus.Publish(context.Background(), w.order("a", 1)))
		first := w.run(bus, ignore, nil, nil)
		w.until("it is committed", func() bool { return w.committed() == 1 })
		require.NoError(t, first.end())

		var handled journal
		w.run(bus, handles(&handled), nil, nil)
		require.NoError(t, bus.WaitReady(context.Background()))
		unknown := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: orders, Err: kerr.LeaderNotAvailable, Count: -1})
		loseSession(w)
		w.until("it is asked by name", func() bool { return slices.Contains(asked.all(), "false") })
		unknown.Remove()
		require.Contains(t, asked.all(), "true")
		require.NoError(t, bus.Publish(context.Background(), w.order("a", 2)))
		w.until("it is handled", func() bool { return len(handled.all()) == 1 })
		require.Equal(t, []string{"2"}, handled.all())
	})
}

// While a group waits for a member that has crashed, the client holds commits back; what is done is committed all the same.
func TestShutdownDuringALongRebalanceCommits(t *testing.T) {
	inWorld(t, func(w *world) {
		link := newLink(&w.net)
		one, two, three := w.bus(nil), w.bus(func(cfg *eventbus.Config) { cfg.Client = link.options() }), w.bus(nil)
		var handled journal
		first := w.run(one, handles(&handled), nil, nil)
		require.NoError(t, one.WaitReady(context.Background()))
		w.run(two, ignore, nil, nil)
		require.NoError(t, two.WaitReady(context.Background()))
		w.until("the group is at rest", func() bool {
			info := w.cluster.GroupInfo("group")
			return info.State == "Stable" && len(info.Members) == 2
		})
		require.NoError(t, one.Publish(context.Background(), w.order("a", 1)))
		w.until("it is committed", func() bool { return w.committed() == 1 })
		link.cut()
		w.run(three, ignore, nil, nil)
		w.until("the group waits", func() bool { return w.cluster.GroupInfo("group").State == "PreparingRebalance" })
		time.Sleep(4 * time.Second) // the heartbeat has told the first member, too
		require.NoError(t, one.Publish(context.Background(), w.order("a", 2)))
		w.until("it is handled", func() bool { return len(handled.all()) == 2 })
		require.NoError(t, first.end())
		committed := w.committed()
		link.mend()
		require.NoError(t, three.WaitReady(context.Background()))
		require.NoError(t, two.WaitReady(context.Background()))
		time.Sleep(time.Minute) // all are at rest, and can end
		require.Equal(t, int64(2), committed)
	})
}
