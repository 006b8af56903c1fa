package eventbus_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// The smallest limits are slow, and no deadlock.
func TestLimitsOfOneGoOn(t *testing.T) {
	for name, change := range map[string]func(*eventbus.Subscription){
		"records": func(s *eventbus.Subscription) { s.MaxInFlight = 1 },
		"bytes":   func(s *eventbus.Subscription) { s.MaxInFlightBytes = 1 },
		"span":    func(s *eventbus.Subscription) { s.MaxSpan = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var seen journal
				w.run(bus, handles(&seen), nil, change)
				for i := range 5 {
					publish(w, bus, 2)
					w.until("handled", func() bool { return len(seen.all()) == 2*(i+1) })
				}
			})
		})
	}
}

// A handler that was left behind returns when the partition is ours again, and full: fetching must stay paused.
func TestALateResultDoesNotResumeFetching(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		w.until("all published", func() bool { return w.held(orders) == 5000 })
		late, hold := make(chan struct{}), make(chan struct{})
		var tries atomic.Int32
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			if tries.Add(1) == 1 {
				<-late // ignores its ctx
				return nil
			}
			<-hold
			return nil
		}, nil, func(s *eventbus.Subscription) { s.MaxInFlight = 1000 })
		queued := func() int {
			g := bus.Health(context.Background()).Groups
			if len(g) == 0 || len(g[0].Partitions) == 0 {
				return 0
			}
			return g[0].Partitions[0].Queued
		}
		w.until("full", func() bool { return queued() >= 999 })
		time.Sleep(time.Second)
		loseSession(w)
		w.until("lost", func() bool { return queued() == 0 })
		w.until("full again", func() bool { return queued() >= 999 })
		time.Sleep(time.Second)
		close(late)
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, queued(), 2000, "one poll above the bound at most")
		close(hold)
	})
}
