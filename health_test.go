package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

func TestLagIsKnownBeforeTheFirstFetch(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 10)
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
		time.Sleep(time.Minute)
		t.Logf("%+v", bus.Health(context.Background()))
		require.EqualValues(t, 10, bus.Metrics().ConsumerLag)
		require.False(t, bus.Health(context.Background()).Ready, "a permission is refused")
	})
}

func TestLagEndsAtATransactionsMarker(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { seen.add("x"); return nil }, nil, nil)
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.TransactionalID("tx"))...)
		require.NoError(t, err)
		defer cl.Close()
		require.NoError(t, cl.BeginTransaction())
		r, err := bus.Encode(context.Background(), w.order("o", 1))
		require.NoError(t, err)
		require.NoError(t, cl.ProduceSync(context.Background(), r).FirstErr())
		require.NoError(t, cl.EndTransaction(context.Background(), kgo.TryCommit))
		w.until("handled", func() bool { return len(seen.all()) == 1 })
		time.Sleep(time.Minute)
		require.Zero(t, bus.Metrics().ConsumerLag)
	})
}

func TestFetchTroublePasses(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 1)
		f := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: 3})
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
		w.until("refused", func() bool { return f.Hits() == 3 })
		time.Sleep(time.Minute)
		t.Logf("%+v", bus.Health(context.Background()))
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: 3})
		time.Sleep(5 * time.Minute)
		h := bus.Health(context.Background())
		require.Empty(t, h.Error, "fetching is fine since 5 minutes")
	})
}

func TestALongDrainIsAlive(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		began := make(chan struct{})
		r := w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			close(began)
			time.Sleep(80 * time.Second)
			return nil
		}, &eventbus.HandleOptions{Timeout: 100 * time.Second}, func(s *eventbus.Subscription) {
			s.DrainTimeout, s.RebalanceTimeout = 90*time.Second, 300*time.Second
		})
		publish(w, bus, 1)
		<-began
		r.stop()
		time.Sleep(70 * time.Second)
		require.True(t, bus.Health(context.Background()).Live, "it drains, as it was told to")
		require.NoError(t, <-r.ended)
	})
}

func TestAGroupTroublePasses(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.run(bus, ignore, nil, nil)
		publish(w, bus, 3)
		require.NoError(t, bus.WaitReady(context.Background()))
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup}, Err: kerr.UnknownServerError, Count: 2})
		time.Sleep(time.Minute)
		publish(w, bus, 3)
		time.Sleep(10 * time.Minute)
		h := bus.Health(context.Background())
		require.True(t, h.Ready)
		require.Zero(t, h.Groups[0].Lag)
		require.Empty(t, h.Groups[0].Problems)
		require.Empty(t, h.Error)
	})
}

func TestAHandlerThatHangsIsNotAlive(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		never := make(chan struct{})
		began := make(chan struct{})
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			close(began)
			<-never
			return nil
		}, nil, nil)
		publish(w, bus, 1)
		<-began
		time.Sleep(80 * time.Second)
		require.True(t, bus.Health(context.Background()).Live, "its 30 s and a minute are not over")
		time.Sleep(20 * time.Second)
		require.False(t, bus.Health(context.Background()).Live)
		close(never)
	})
}

func TestAFrozenBrokerIsNotReady(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 1)
		require.True(t, bus.Health(context.Background()).Ready)
		w.cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			return nil, nil, true // swallowed
		})
		time.Sleep(30 * time.Second)
		h := bus.Health(context.Background())
		require.Equal(t, "disconnected", h.Kafka)
		require.Equal(t, "unhealthy", h.Status)
		require.False(t, h.Ready)
		require.True(t, h.Live)
	})
}

func TestADeadLetterThatWaitsIsInHealth(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Topic: orders + ".dlq.group", Err: kerr.NotEnoughReplicas, Count: -1})
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return eventbus.Permanent(errors.New("no")) }, nil, nil)
		publish(w, bus, 1)
		time.Sleep(time.Minute)
		g := bus.Health(context.Background()).Groups[0]
		require.Equal(t, "dead letter", g.Partitions[0].Waiting)
		require.NotEmpty(t, g.Problems)
		fault.Remove()
		w.until("written", func() bool { return w.held(orders+".dlq.group") == 1 })
		require.Empty(t, bus.Health(context.Background()).Groups[0].Problems)
	})
}

func TestTroubleIsOverWhenItIs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: 3})
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Topic: orders + ".dlq.group", Err: kerr.TopicAuthorizationFailed, Count: 20})
		bus := w.bus(nil)
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 2 {
				return eventbus.Permanent(errors.New("no"))
			}
			return nil
		}, nil, nil)
		publish(w, bus, 4)
		problems := func(part string) bool {
			g := bus.Health(context.Background()).Groups
			return len(g) == 1 && strings.Contains(strings.Join(g[0].Problems, "\n"), part)
		}
		w.until("both named", func() bool { return problems("committing offsets") && problems("dead letter cannot be written") })
		w.until("committed", func() bool { return w.committed() == 4 })
		time.Sleep(time.Second)
		require.Empty(t, bus.Health(context.Background()).Groups[0].Problems)
		require.Empty(t, bus.Health(context.Background()).Error)
	})
}

// A dead letter that could not be written before its partition moved.
func TestADeadLetterTroubleGoesWithThePartition(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.two", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		one, two := w.bus(nil), w.bus(nil)
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Topic: "acme.two.dlq.group", Err: kerr.NotEnoughReplicas, Count: -1})
		for i := range 40 {
			require.NoError(t, one.Publish(context.Background(), topic.New(order{ID: fmt.Sprint(i)})))
		}
		sub := eventbus.Subscription{Group: "group", DrainTimeout: time.Second, Routes: []eventbus.Route{topic.Handle(
			func(context.Context, *eventbus.BaseEvent[order]) error { return eventbus.Permanent(errors.New("no")) }, nil)}}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 2)
		go func() { ended <- one.Run(ctx, sub) }()
		time.Sleep(40 * time.Second)
		go func() { ended <- two.Run(ctx, sub) }()
		time.Sleep(40 * time.Second)
		fault.Remove()
		time.Sleep(5 * time.Minute)
		for _, b := range []*eventbus.Bus{one, two} {
			h := b.Health(context.Background())
			t.Logf("%+v", h)
			require.Empty(t, h.Error)
		}
		t.Log("letters", w.held("acme.two.dlq.group"))
		cancel()
		<-ended
		<-ended
	}, kfake.SeedTopics(2, "acme.two", "acme.two.dlq.group"))
}

func TestCommitsAndRebalancesAreCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		goOn := make(chan struct{})
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 1 {
				<-goOn
			}
			return nil
		}, nil, nil)
		require.NoError(t, bus.WaitReady(context.Background()))
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RebalanceInProgress, Count: 1})
		publish(w, bus, 2)
		time.Sleep(10 * time.Second)
		p := bus.Health(context.Background()).Groups[0].Partitions[0]
		require.InDelta(t, 10, p.Oldest.Seconds(), 0.1)
		m := bus.Metrics()
		require.Equal(t, 1, fault.Hits())
		require.EqualValues(t, []int64{1, 1, 1}, []int64{m.Commits, m.CommitErrors, m.Rebalances})
		close(goOn)
		time.Sleep(10 * time.Second)
		require.Zero(t, bus.Health(context.Background()).Groups[0].Partitions[0].Oldest)
		require.EqualValues(t, 2, bus.Metrics().Commits)
	})
}
