package eventbus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

func numbers(w *world) eventbus.FoldStep[[]int] {
	return eventbus.On(w.orders, func(s []int, e *eventbus.BaseEvent[order]) []int { return append(s, e.Payload.Number) })
}

func TestFoldOfACompactedTopicThatEndsInNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) {})
		cl := w.raw()
		ctx := context.Background()
		v := "compact"
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		rs := kmsg.NewIncrementalAlterConfigsRequestResource()
		rs.ResourceType, rs.ResourceName = kmsg.ConfigResourceTypeTopic, orders
		for k, val := range map[string]string{"cleanup.policy": v, "delete.retention.ms": "0", "segment.ms": "1", "min.cleanable.dirty.ratio": "0"} {
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Value = k, &val
			rs.Configs = append(rs.Configs, c)
		}
		req.Resources = append(req.Resources, rs)
		_, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		require.NoError(t, bus.Publish(ctx, w.order("ada", 1)))
		require.NoError(t, bus.Publish(ctx, w.order("bob", 1)))
		require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: orders, Key: []byte("bob")}).FirstErr()) // a tombstone
		time.Sleep(10 * time.Second)
		w.cluster.Compact()
		time.Sleep(10 * time.Second)
		w.cluster.Compact()
		t.Logf("%+v", *w.cluster.PartitionInfo(orders, 0))
		fctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		got, err := eventbus.Fold(fctx, bus, "ada", nil, numbers(w))
		require.NoError(t, err)
		require.Equal(t, []int{1}, got)
	})
}

func TestFoldReadsNothingTwice(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var want []int
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("ada", i), nil)
			want = append(want, i)
		}
		w.until("published", func() bool { return w.held(orders) == 5000 })
		n := 0
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			n++
			if n == 2 {
				w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 1})
			}
			return nil, nil, false
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		got, err := eventbus.Fold(ctx, bus, "ada", nil, numbers(w))
		require.NoError(t, err)
		t.Log(n, len(got))
		require.Len(t, got, 5000)
	})
}

func TestFoldAfterTransactions(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		cl := w.raw(kgo.TransactionalID("tx"))
		ctx := context.Background()
		for i, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
			require.NoError(t, cl.BeginTransaction())
			r, err := bus.Encode(ctx, w.order("ada", i))
			require.NoError(t, err)
			require.NoError(t, cl.ProduceSync(ctx, r).FirstErr())
			require.NoError(t, cl.EndTransaction(ctx, how))
		}
		fctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		got, err := eventbus.Fold(fctx, bus, "ada", nil, numbers(w))
		require.NoError(t, err)
		require.Equal(t, []int{0, 2}, got)
	})
}

func TestFoldObeysItsCtxWhileTheBrokerIsFrozen(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 1)
		for _, key := range []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch} {
			w.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				return nil, nil, true
			})
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			started := time.Now()
			_, err := eventbus.Fold(ctx, bus, "o", nil, numbers(w))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(started), 5*time.Second, fmt.Sprint(key))
		}
	})
}
