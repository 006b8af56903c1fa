package eventbus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// A group that has handled events handles those of a time, or of a key, once more, in their order; another group sees nothing of it.
func TestAGroupHandlesWhatIsReplayed(t *testing.T) {
	inWorld(t, func(w *world) {
		bus, ctx := w.bus(nil), context.Background()
		var seen journal
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			seen.add("%s %d at %s/%d, redrives %d", e.Payload.ID, e.Payload.Number, d.Topic, d.Offset, d.Redrives)
			return nil
		}, nil, nil)
		var from, to time.Time
		for i := range 9 {
			switch i {
			case 3:
				from = time.Now()
			case 7:
				to = time.Now()
			}
			require.NoError(t, bus.Publish(ctx, w.order(fmt.Sprint("o-", i%2), i)))
			time.Sleep(time.Second) // virtual: each event has a second of its own
		}
		w.until("handled", func() bool { return bus.Metrics().MessagesConsumed == 9 })
		first := len(seen.all())

		span := eventbus.ReplayOptions{Since: from, Until: to}
		report, err := bus.Replay(ctx, w.orders, "group", span)
		require.NoError(t, err)
		require.Equal(t, eventbus.ReplayReport{
			DryRun: true, Finished: true, Matched: 4, Sent: 4, Partitions: []eventbus.ReplayPartition{{From: 3, Next: 7, End: 7}},
		}, report)
		require.Zero(t, w.held(retryTopic), "a dry run sends nothing")

		told := 0
		span.Send, span.Progress = true, func(r eventbus.ReplayReport) { told = r.Sent }
		report, err = bus.Replay(ctx, w.orders, "group", span)
		require.NoError(t, err)
		require.Equal(t, []any{false, true, 4, 4, 4}, []any{report.DryRun, report.Finished, report.Matched, report.Sent, told})
		w.until("handled again", func() bool { return bus.Metrics().MessagesConsumed == 13 })
		ordered := map[string][]string{}
		for _, line := range seen.all()[first:] {
			ordered[line[:3]] = append(ordered[line[:3]], line)
		}
		require.Equal(t, map[string][]string{
			"o-1": {"o-1 3 at acme.orders/3, redrives 1", "o-1 5 at acme.orders/5, redrives 1"},
			"o-0": {"o-0 4 at acme.orders/4, redrives 1", "o-0 6 at acme.orders/6, redrives 1"},
		}, ordered)

		report, err = bus.Replay(ctx, w.orders, "group", eventbus.ReplayOptions{Send: true, Key: "o-1", Partitions: []int32{0}, From: 4})
		require.NoError(t, err)
		require.Equal(t, 2, report.Sent, "5 and 7")
		w.until("handled again", func() bool { return bus.Metrics().MessagesConsumed == 15 })
		require.Equal(t, int64(9), w.held(orders), "nothing went to the topic itself")
	}, withRetryTopic())
}

// A replay that is interrupted says up to where it has sent, and goes on from there.
func TestAnInterruptedReplayGoesOn(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 50 {
			require.NoError(t, bus.Publish(context.Background(), w.order("o", i)))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2500*time.Millisecond)
		defer cancel()
		report, err := bus.Replay(ctx, w.orders, "group", eventbus.ReplayOptions{Send: true, Rate: 10})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, report.Finished)
		next := report.Partitions[0].Next
		require.Equal(t, int64(report.Sent), next)
		require.Greater(t, next, int64(20))
		require.Less(t, next, int64(30))
		report, err = bus.Replay(context.Background(), w.orders, "group", eventbus.ReplayOptions{Send: true, Partitions: []int32{0}, From: next})
		require.NoError(t, err)
		require.Equal(t, int64(50), w.held(retryTopic), "each once")
		require.Equal(t, 50-int(next), report.Sent)
	}, withRetryTopic())
}

func TestAReplayNamesWhatIsWrong(t *testing.T) {
	inWorld(t, func(w *world) {
		bus, now := w.bus(nil), time.Now()
		for want, opts := range map[string]eventbus.ReplayOptions{
			"field Until: is not after Since":                         {Since: now, Until: now},
			"field Partitions: none may be negative":                  {Partitions: []int32{-1}},
			"field From: -1 is negative":                              {From: -1, Partitions: []int32{0}},
			"field Partitions: From needs exactly one, not 0":         {From: 1},
			"field Rate: -5 is negative":                              {Rate: -5},
			"acme.orders.retry.group: UNKNOWN_TOPIC_OR_PARTITION":     {},
			"EnsureTopics makes it, with Subscription.Topics":         {},
			"eventbus: Replay of acme.orders to group: topic acme.or": {},
		} {
			_, err := bus.Replay(context.Background(), w.orders, "group", opts)
			require.ErrorContains(t, err, want)
		}
		_, err := bus.Replay(context.Background(), nil, "group", eventbus.ReplayOptions{})
		require.EqualError(t, err, "eventbus: Replay: topic is nil")
		_, err = bus.Replay(context.Background(), w.orders, "no group!", eventbus.ReplayOptions{})
		require.ErrorContains(t, err, `group: "no group!" is not a Kafka topic name`)
		require.NoError(t, w.cluster.CreateTopic(retryTopic, 1, nil))
		_, err = bus.Replay(context.Background(), w.orders, "group", eventbus.ReplayOptions{Partitions: []int32{7}})
		require.ErrorContains(t, err, "field Partitions: 7 is not there, the topic has 1")
	})
}
