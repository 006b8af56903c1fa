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

// Share is how many records a partition may have whatever the others hold: none can starve it.
const Share = 100

// Full is why a partition must not be fetched now, "" if it may be. paused says whether it is paused already.
func (e *Engine[T]) Full(p *Partition[T], paused bool) string {
	part := int64(1)
	if paused {
		part = 2
	}
	switch held := e.routes[p.route].held; {
	case held && p.untried > 0: // one that nobody has tried is enough to probe with
		return "held"
	case reached(int64(len(p.items)), int64(e.limits.Records), part):
		return "records in flight"
	case reached(int64(p.bytes), int64(e.limits.Bytes), part):
		return "bytes in flight"
	case reached(p.progress.Span(), e.limits.Span, part):
		return "span"
	case len(p.items) >= Share && e.budget.full(part):
		return "in flight on the bus"
	}
	return ""
}

func (b *Budget) full(part int64) bool {
	return reached(b.records.Load(), b.maxRecords, part) || reached(b.bytes.Load(), b.maxBytes, part)
}

// reached says whether there is as much as a part of a limit. Half of one is one: what holds nothing is never full.
func reached(n, limit, part int64) bool { return n >= max(limit/part, 1) }
