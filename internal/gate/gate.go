// Package gate bounds how much is under way at once, by count and by bytes.
package gate

import (
	"container/list"
	"context"
	"sync"
)

// Gate lets callers in while there is room, first come, first served. It is safe for concurrent use. Make it with [New].
type Gate struct {
	mu       sync.Mutex
	maxCount int
	maxBytes int
	count    int
	bytes    int
	waiting  list.List // of *waiter
}

type waiter struct {
	bytes int
	in    chan struct{}
}

// New returns a gate for so many entries of so many bytes together.
func New(maxCount, maxBytes int) *Gate { return &Gate{maxCount: maxCount, maxBytes: maxBytes} }

// TryEnter takes one entry of n bytes where there is room for it now, and nobody waits.
func (g *Gate) TryEnter(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.try(n)
}

// Enter takes one entry of n bytes, waiting for room until ctx ends; then it returns ctx's error and has taken nothing. n must not
// exceed the gate's bytes. Each Enter that returned nil is ended by one [Gate.Leave] with the same n.
func (g *Gate) Enter(ctx context.Context, n int) error {
	g.mu.Lock()
	if g.try(n) {
		g.mu.Unlock()
		return nil
	}
	w := &waiter{bytes: n, in: make(chan struct{})}
	e := g.waiting.PushBack(w)
	g.mu.Unlock()
	select {
	case <-w.in:
		return nil
	case <-ctx.Done():
		return g.giveUp(ctx, e, w)
	}
}

func (g *Gate) giveUp(ctx context.Context, e *list.Element, w *waiter) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.in: // let in at the same moment
		return nil
	default:
	}
	g.waiting.Remove(e)
	g.admit() // whoever stood behind may fit
	return context.Cause(ctx)
}

// Leave gives one entry of n bytes back.
func (g *Gate) Leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count--
	g.bytes -= n
	g.admit()
}

// Count returns how many are in.
func (g *Gate) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

func (g *Gate) try(n int) bool {
	if g.waiting.Len() > 0 || !g.fits(n) {
		return false
	}
	g.take(n)
	return true
}

func (g *Gate) fits(n int) bool { return g.count < g.maxCount && g.bytes+n <= g.maxBytes }

func (g *Gate) take(n int) {
	g.count++
	g.bytes += n
}

func (g *Gate) admit() {
	for e := g.waiting.Front(); e != nil; e = g.waiting.Front() {
		w := e.Value.(*waiter)
		if !g.fits(w.bytes) {
			return
		}
		g.waiting.Remove(e)
		g.take(w.bytes)
		close(w.in)
	}
}
