package console

import (
	"cmp"
	"strings"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

// watcher is who looks at the stream. Its fields are of hub.mu; it holds no more than the numbers of a batch, however long it does not come for it.
type watcher struct {
	filter  look.Filter
	numbers [maxRows]uint64 // of the newest events that pass, in a circle
	passed  uint64          // how many have passed; the last of them are in numbers
	taken   uint64          // of these, how many it has
	skipped int64           // of these, how many had no room
	newest  uint64
	flow    traffic
	shown   [partCount]uint64 // the versions of the parts that it has
	trouble string            // that it was told
}

func newWatcher(f look.Filter) *watcher { return &watcher{filter: f, flow: traffic{}} }

// take keeps an event's number for the next batch. Where that is full, the oldest of it goes.
func (w *watcher) take(number uint64) {
	w.numbers[w.passed%maxRows] = number
	w.newest = number
	w.passed++
	if w.passed-w.taken > maxRows {
		w.taken++
		w.skipped++
	}
}

// batch is what a watcher is sent at once.
type batch struct {
	Rows    []look.Event // the oldest first
	Skipped int64
	newest  uint64
	flow    traffic
	parts   []part
	trouble *string // nil: as it was
}

// next is what came since the last batch.
func (h *hub) next(w *watcher) batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := batch{newest: w.newest, flow: w.flow}
	for ; w.taken < w.passed; w.taken++ {
		if e := h.ring.at(w.numbers[w.taken%maxRows]); e != nil {
			b.Rows = append(b.Rows, *e)
		} else {
			w.skipped++
		}
	}
	b.Skipped, w.skipped, w.flow = w.skipped, 0, make(traffic, len(b.flow))
	if now := h.trouble(); w.trouble != now {
		w.trouble, b.trouble = now, &now
	}
	for i, p := range h.parts {
		if p.version > w.shown[i] {
			w.shown[i] = p.version
			b.parts = append(b.parts, p)
		}
	}
	return b
}

// trouble says why the cluster, or some of it, is not read. h.mu is held.
func (h *hub) trouble() string {
	if h.broken != "" {
		return h.broken
	}
	return h.partly
}

// edge is what events flow along.
type edge struct {
	Kind     flow
	From, To string
}

type flow string

const (
	flowPublish flow = "publish" // from a service to a topic
	flowConsume flow = "consume" // from a topic to a group
	flowLetter  flow = "letter"  // a dead letter, likewise: the group gave it up
	flowBack    flow = "back"    // what was sent back to a group, likewise
)

// traffic is how many events flowed along which edge.
type traffic map[edge]int64

const (
	maxEdges  = 500 // that are told apart; what a cluster has beyond is of elsewhere
	elsewhere = "(others)"
	unknown   = "(unknown)"
)

// flowOf says what an event flowed along.
func flowOf(e *look.Event) edge {
	if of, ok := strings.CutSuffix(e.Topic, eventbus.DeadLetterTopic("", e.Group)); ok {
		return edge{flowLetter, of, e.Group}
	}
	if of, ok := strings.CutSuffix(e.Topic, eventbus.RetryTopic("", e.Group)); ok {
		return edge{flowBack, of, e.Group}
	}
	if e.Letter != nil { // another family's, whose topic does not name a group
		return edge{flowLetter, e.Topic, ""}
	}
	return edge{flowPublish, cut(cmp.Or(e.Source, unknown), keptText), e.Topic}
}

// note counts an event and returns where it is counted.
func (t traffic) note(e edge) edge {
	if _, known := t[e]; !known && len(t) >= maxEdges {
		e.From = elsewhere
		if len(t) >= 2*maxEdges {
			e.To = elsewhere
		}
	}
	t[e]++
	return e
}
