package console

import (
	"encoding/json"

	"github.com/dreamscape/eventbus/internal/look"
)

// ring keeps the last events that were read, so that who comes later, or comes again, has them.
type ring struct {
	events [ringSize]look.Event
	next   uint64 // the number of the next event; the first is 1
	first  uint64 // the number of the oldest that counts
}

const (
	ringSize     = 512
	keptPayload  = 4 << 10 // of an event in the ring, in bytes; what is cut is seen in its trail
	keptText     = 512     // of its key, ids and names
	shownPayload = 64 << 10
	shownGlance  = 240
	maxRows      = 50 // that a page begins with, and that one batch has
)

func (r *ring) clear() { r.next = max(r.next, 1); r.first = r.next }

// add keeps an event, which is trimmed for it, and returns its number.
func (r *ring) add(e *look.Event) uint64 {
	trim(e)
	n := r.next
	r.events[n%ringSize] = *e
	r.next++
	r.first = max(r.first, r.next-min(r.next, ringSize))
	return n
}

// at returns the event of a number, or nil where newer ones have taken its place.
func (r *ring) at(number uint64) *look.Event {
	if number < r.first {
		return nil
	}
	return &r.events[number%ringSize]
}

// after gives each the number of every event behind one that passes, the oldest first.
func (r *ring) after(number uint64, f look.Filter, each func(uint64)) {
	for n := max(r.first, number+1); n < r.next; n++ {
		if f.Passes(&r.events[n%ringSize]) {
			each(n)
		}
	}
}

// trim bounds what is kept of an event: the row of a stream has no room for more.
func trim(e *look.Event) {
	e.Headers = nil
	for _, s := range []*string{&e.Key, &e.EventID, &e.EventType, &e.Version, &e.Source, &e.CorrelationID, &e.CausationID, &e.Problem} {
		*s = cut(*s, keptText)
	}
	if len(e.Payload) > keptPayload {
		e.Payload = json.RawMessage(cut(string(e.Payload), keptPayload))
	}
}

// cut shortens a text without cutting a character in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
