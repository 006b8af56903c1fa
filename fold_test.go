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

func TestFoldReadsNothingTwice(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var want []int
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("ada", i), nil)
			want = append(want, i)
		}
		w.until("published", func() bool { return w.held(orders) == 5000 })
		fetches := 0
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			if fetches++; fetches == 2 { // the first has read a part of the records
				w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange})
			}
			return nil, nil, false
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		got, err := eventbus.Fold(ctx, bus, "ada", nil, numbers(w))
		require.NoError(t, err)
		require.Greater(t, fetches, 2, "the client had to begin again")
		require.Equal(t, want, got)
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
