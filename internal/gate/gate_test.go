package gate_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/gate"
)

var errGone = errors.New("gone")

func TestWaitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(10, 100)
		require.NoError(t, g.Enter(t.Context(), 60))
		var mu sync.Mutex
		var order []int
		for i, bytes := range []int{50, 10, 40} { // the second would fit, and waits behind the first
			go func() {
				require.NoError(t, g.Enter(context.Background(), bytes))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}()
			synctest.Wait()
		}
		require.Empty(t, order)
		g.Leave(60)
		synctest.Wait()
		require.ElementsMatch(t, []int{0, 1, 2}, order)
		require.Equal(t, 3, g.Count())
	})
}

func TestGivingUpLetsTheNextIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(10, 100)
		require.NoError(t, g.Enter(t.Context(), 60))
		ctx, cancel := context.WithCancelCause(t.Context())
		first, next := make(chan error, 1), make(chan error, 1)
		go func() { first <- g.Enter(ctx, 50) }()
		synctest.Wait()
		go func() { next <- g.Enter(context.Background(), 30) }()
		synctest.Wait()
		cancel(errGone)
		require.ErrorIs(t, <-first, errGone)
		require.NoError(t, <-next)
		g.Leave(60)
		g.Leave(30)
		require.Zero(t, g.Count())
		require.NoError(t, g.Enter(t.Context(), 100), "everything was given back")
	})
}

func TestNeverMoreThanItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(3, 100)
		var in, bytes, most atomic.Int64
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				n := i%50 + 1
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
				defer cancel()
				if g.Enter(ctx, n) != nil {
					return
				}
				most.Store(max(most.Load(), in.Add(1)))
				if bytes.Add(int64(n)) > 100 {
					t.Error("too many bytes")
				}
				time.Sleep(3 * time.Millisecond)
				bytes.Add(-int64(n))
				in.Add(-1)
				g.Leave(n)
			})
		}
		wg.Wait()
		require.LessOrEqual(t, most.Load(), int64(3))
		require.Positive(t, most.Load())
		require.Zero(t, g.Count())
	})
}
