package console

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/dreamscape/eventbus/internal/look"
)

// hub reads the cluster once for all who watch, and only while somebody does. It never waits for a watcher: what one does not take in time is counted, not kept.
type hub struct {
	look    *look.Cluster
	observe func(ctx context.Context) // shows the parts of the page that are not events, until ctx ends

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	ring     ring
	seen     traffic // which service publishes to which topic
	broken   string  // why the cluster is not read
	partly   string  // why some of it is not
	parts    [partCount]part
	stop     context.CancelFunc
	idle     *time.Timer
	passing  []*watcher // room for hear
	closed   bool
	running  sync.WaitGroup
}

const (
	maxWatchers = 64
	linger      = 5 * time.Second  // that reading goes on when the last watcher has left: a page that is loaded again
	overlap     = 10 * time.Second // that reading begins before: no event falls between a page and its stream
)

func newHub(l *look.Cluster, observe func(context.Context)) *hub {
	h := &hub{look: l, observe: observe, watchers: map[*watcher]struct{}{}, seen: traffic{}}
	h.ring.clear()
	return h
}

// watch begins a watcher with the newest events that pass, or with those behind number where the ring still has them. false: there are too many watchers.
func (h *hub) watch(f look.Filter, number uint64) (*watcher, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.watchers) >= maxWatchers {
		return nil, false
	}
	w := newWatcher(f)
	h.ring.after(number, f, w.take)
	if number == 0 {
		w.skipped = 0 // they are older than what the page has
	}
	h.watchers[w] = struct{}{}
	if h.idle != nil {
		h.idle.Stop()
	}
	if h.stop == nil {
		h.start()
	}
	return w, true
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
	if len(h.watchers) == 0 && !h.closed {
		h.idle = time.AfterFunc(linger, h.rest)
	}
}

// rest ends the reading where nobody has come.
func (h *hub) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) == 0 && h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
	if h.idle != nil {
		h.idle.Stop()
	}
	h.mu.Unlock()
	h.running.Wait()
}

// start begins to read. h.mu is held.
func (h *hub) start() {
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.ring.clear()
	h.partly, h.parts = "", [partCount]part{} // what they said when somebody watched last is old
	h.running.Go(func() { h.read(ctx) })
	h.running.Go(func() { h.observe(ctx) })
}

// read reads until ctx ends, again where that fails.
func (h *hub) read(ctx context.Context) {
	for ctx.Err() == nil {
		opts := look.TailOptions{Since: time.Now().Add(-overlap), Follow: true, Gather: batchEvery, Began: h.goesOn, Trouble: h.complain}
		err := h.look.Tail(ctx, opts, func(e look.Event) bool {
			h.hear(ctx, e)
			return ctx.Err() == nil
		})
		if err != nil && ctx.Err() == nil {
			h.mu.Lock()
			h.broken = err.Error()
			h.mu.Unlock()
		}
		pause(ctx, time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (h *hub) goesOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken, h.partly = "", ""
}

// complain notes what is not read; nil: it is read again.
func (h *hub) complain(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.partly = ""; err != nil {
		h.partly = err.Error()
	}
}

// hear hands an event to the watchers. One that was read by a reading that has ended is nobody's.
func (h *hub) hear(ctx context.Context, e look.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	h.broken = ""
	flow := h.seen.note(flowOf(&e))
	h.passing = h.passing[:0]
	for w := range h.watchers {
		w.flow[flow]++
		if w.filter.Passes(&e) { // the whole event: the ring trims it
			h.passing = append(h.passing, w)
		}
	}
	n := h.ring.add(&e)
	for _, w := range h.passing {
		w.take(n)
	}
}

// flows tells the watchers what flowed besides events.
func (h *hub) flows(counts traffic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		for e, n := range counts {
			w.flow[e] += n
		}
	}
}

// learn notes what flowed before anybody watched.
func (h *hub) learn(events []look.Event) traffic {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range events {
		if flow := flowOf(&events[i]); h.seen[flow] == 0 {
			h.seen.note(flow)
		}
	}
	return maps.Clone(h.seen)
}
