package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// A log that lost its end sets the position back to where it ends now. What lies below and is not done yet is still there: it must come again.
func TestAPositionSetBackLosesNothingBelow(t *testing.T) {
	for name, test := range map[string]struct {
		parked, back int64 // the event that fails until the position was set back, and to where
	}{
		"above a parked event":    {2, 5},
		"below a parked event":    {8, 5},
		"right at a parked event": {5, 5},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				fails := true
				var seen journal
				policy := &eventbus.RetryPolicy{Attempts: 5, Initial: time.Hour, Max: time.Hour, Jitter: -1}
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					if fails && e.Payload.Number == int(test.parked) {
						return errors.New("no")
					}
					seen.add("%d", e.Payload.Number)
					return nil
				}, &eventbus.HandleOptions{Retry: policy}, nil)
				for i := range 10 {
					require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
				}
				w.until("all others are handled and committed", func() bool { return len(seen.all()) == 9 && w.committed() == test.parked })
				fails = false
				bus.SetBackForTest("group", orders, test.back)
				w.until("all is committed", func() bool { return w.committed() == 10 })
				require.Contains(t, seen.all(), fmt.Sprint(test.parked))
				require.Zero(t, w.held(orders+".dlq.group"))
				for i := range 10 {
					require.Contains(t, seen.all(), fmt.Sprint(i))
				}
			})
		})
	}
}
