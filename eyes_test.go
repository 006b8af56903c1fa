package eventbus_test

import (
	"testing"

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
