package eventbus_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

type asked struct{}

// A handler's ctx does what one by context.WithTimeout does, whoever asks it what, and in which order.
func TestAHandlersCtxIsAContext(t *testing.T) {
	parent := context.WithValue(context.Background(), asked{}, "value")
	for name, test := range map[string]func(t *testing.T, ctx context.Context, cancel, end func()){
		"its time is over, and nobody waited": func(t *testing.T, ctx context.Context, _, end func()) {
			require.NoError(t, ctx.Err())
			time.Sleep(time.Second)
			require.Equal(t, context.DeadlineExceeded, ctx.Err())
			require.Equal(t, context.DeadlineExceeded, context.Cause(ctx))
			end()
			require.Equal(t, context.DeadlineExceeded, ctx.Err())
		},
		"its time is over, and somebody waits": func(t *testing.T, ctx context.Context, _, _ func()) {
			began := time.Now()
			<-ctx.Done()
			require.Equal(t, time.Second, time.Since(began))
			require.Equal(t, context.DeadlineExceeded, ctx.Err())
		},
		"it has ended": func(t *testing.T, ctx context.Context, _, end func()) {
			end()
			require.Equal(t, context.Canceled, ctx.Err())
			<-ctx.Done()
			time.Sleep(time.Minute)
			require.Equal(t, context.Canceled, ctx.Err())
		},
		"it ends under somebody who waits": func(t *testing.T, ctx context.Context, _, end func()) {
			done := ctx.Done()
			end()
			<-done
			require.Equal(t, context.Canceled, ctx.Err())
		},
		"its parent ends": func(t *testing.T, ctx context.Context, cancel, _ func()) {
			cancel()
			require.Equal(t, context.Canceled, ctx.Err())
			<-ctx.Done()
		},
		"a context of it": func(t *testing.T, ctx context.Context, _, end func()) {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			grand := context.WithValue(child, asked{}, "other")
			end()
			<-grand.Done()
			require.Equal(t, context.Canceled, grand.Err())
			require.Equal(t, "value", child.Value(asked{}))
		},
		"a function after it": func(t *testing.T, ctx context.Context, _, _ func()) {
			called := make(chan time.Time, 1)
			began := time.Now()
			context.AfterFunc(ctx, func() { called <- time.Now() })
			require.Equal(t, time.Second, (<-called).Sub(began))
		},
		"its values": func(t *testing.T, ctx context.Context, _, _ func()) {
			for range 2 {
				require.Equal(t, "value", ctx.Value(asked{}))
				require.Nil(t, ctx.Value("other"))
				require.Equal(t, "correlation", eventbus.CorrelationIDFrom(ctx))
				d, ok := eventbus.DeliveryFrom(ctx)
				require.True(t, ok)
				require.Equal(t, 7, d.Attempt)
				ctx.Done()
			}
			at, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, time.Second, time.Until(at))
			require.NotContains(t, fmt.Sprint(ctx, context.WithoutCancel(ctx)), "canary")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancel(parent)
				defer cancel()
				e := &eventbus.RawEvent{EventID: "id", CorrelationID: "correlation"}
				ctx, end := eventbus.HandlerContextsForTest(parent, time.Second, e, 7, []byte("canary"))()
				defer end()
				test(t, ctx, cancel, end)
			})
		})
	}
}

func TestAHandlersCtxIsOneAllocation(t *testing.T) {
	begin := eventbus.HandlerContextsForTest(context.Background(), time.Minute, &eventbus.RawEvent{EventID: "id"}, 1, nil)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		ctx, _ := begin()
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
	}), 2.0, "and one for the test's end function")
}
