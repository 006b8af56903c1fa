package engine

import "sync/atomic"

// Limits bound what a partition holds. Fetching pauses at any of them, and goes on when all have fallen by half.
type Limits struct {
	Records int   // taken and not done
	Bytes   int   // of them
	Span    int64 // from the position to the highest offset taken
}

// Budget bounds what all partitions of several engines hold together. It is safe for concurrent use.
type Budget struct {
	maxRecords, maxBytes int64
	records, bytes       atomic.Int64
}

// NewBudget returns a budget of so many records and bytes.
func NewBudget(records, bytes int) *Budget {
	return &Budget{maxRecords: int64(records), maxBytes: int64(bytes)}
}

func (b *Budget) add(records, bytes int) {
	b.records.Add(int64(records))
	b.bytes.Add(int64(bytes))
}

// Records and Bytes are what is held now.
func (b *Budget) Records() int64 { return b.records.Load() }

// Bytes is how many bytes are held now.
func (b *Budget) Bytes() int64 { return b.bytes.Load() }

// Share and ShareBytes are what a partition may have whatever the others hold: none can starve it.
const (
	Share      = 100
	ShareBytes = 1 << 20
)

// Full is why a partition must not be fetched now, "" if it may be. paused says whether it is paused already.
func (e *Engine[T]) Full(p *Partition[T], paused bool) string {
	held := e.routes[p.route].held
	paused = paused && !held // without anything to probe with, there is no time to wait until there is much room
	switch {
	case held && e.routes[p.route].lanes.Ready() > 0: // one that may start is enough
		return "held"
	case full(int64(p.Queued()), int64(e.limits.Records), paused):
		return "records in flight"
	case full(int64(p.bytes), int64(e.limits.Bytes), paused):
		return "bytes in flight"
	case full(p.progress.Span(), e.limits.Span, paused):
		return "span"
	case (p.Queued() >= Share || p.bytes >= ShareBytes) && e.budget.full(paused):
		return "in flight on the bus"
	}
	return ""
}

// Plenty says whether a partition holds so much that is moving that more would soon have it full, more than half of a limit, while its route has more to
// start. What is parked, or behind it, is no reason to wait: that may take long.
func (e *Engine[T]) Plenty(p *Partition[T]) bool {
	r := e.routes[p.route]
	if p.moving == 0 || r.held || r.lanes.Ready() == 0 {
		return false
	}
	bytes := int64(p.bytes) * int64(p.moving) / int64(p.Queued()) // about
	return plenty(int64(p.moving), int64(e.limits.Records)) || plenty(bytes, int64(e.limits.Bytes)) ||
		(p.Queued() >= Share || p.bytes >= ShareBytes) && e.plenty()
}

// plenty says whether what moves in this engine would soon have the budget full.
func (e *Engine[T]) plenty() bool {
	moving, bytes := int64(0), int64(0)
	for _, r := range e.routes {
		if !r.held {
			moving += int64(r.moving)
		}
	}
	if records := e.budget.records.Load(); records > 0 {
		bytes = e.budget.bytes.Load() * min(moving, records) / records // about
	}
	return plenty(moving, e.budget.maxRecords) || plenty(bytes, e.budget.maxBytes)
}

func plenty(n, limit int64) bool { return n > limit/2 }

func (b *Budget) full(paused bool) bool {
	return full(b.records.Load(), b.maxRecords, paused) || full(b.bytes.Load(), b.maxBytes, paused)
}

// full is at the limit, and once paused until no more than half of it is left: with a limit of 1, none.
func full(n, limit int64, paused bool) bool {
	if paused {
		return n > limit/2
	}
	return n >= limit
}
