package engine

import "sync/atomic"

// Limits bound what a partition holds. Fetching pauses at any of them, and goes on when there is room for as much again as is moving: with records and bytes, at
// half, where nothing waits for another try.
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

// Free is how many more records there is room for, if they are as large as those that are held.
func (b *Budget) Free() int {
	records, bytes := b.records.Load(), b.bytes.Load()
	free := b.maxRecords - records
	if records > 0 && bytes > 0 {
		free = min(free, (b.maxBytes-bytes)*records/bytes)
	}
	return int(max(free, 0))
}

// Share and ShareBytes are what a partition may have whatever the others hold: so many that move, so that what is parked does not starve its healthy keys,
// and so many bytes in all.
const (
	Share      = 100
	ShareBytes = 1 << 20
)

// FullBus is why a partition is full where it is others that may have made room.
const FullBus = "in flight on the bus"

// Full is why a partition must not be fetched now, "" if it may be. paused says whether it is paused already: then it is full until there is room for as
// much again as is moving. What waits for another try, or behind it, is left out of that: nothing may come of it for an hour, and the others would wait.
func (e *Engine[T]) Full(p *Partition[T], paused bool) string {
	held := e.routes[p.route].held
	has := p.holds()
	var own, all amount
	if paused && !held { // without anything to probe with, there is no time to wait until there is much room
		own, all = p.movingNow(), e.movingNow()
	}
	switch {
	case held && e.routes[p.route].lanes.Ready() > 0: // one that may start is enough
		return "held"
	case full(has.records, own.records, e.limits.Records):
		return "records in flight"
	case full(has.bytes, own.bytes, e.limits.Bytes):
		return "bytes in flight"
	case full(p.progress.Span(), int64(own.records), e.limits.Span):
		return "span"
	case p.hasShare() && (full(e.budget.records.Load(), int64(all.records), e.budget.maxRecords) ||
		full(e.budget.bytes.Load(), int64(all.bytes), e.budget.maxBytes)):
		return FullBus
	}
	return ""
}

// full says whether there is no room for as much as is needed, or for another.
func full[N int | int64](n, needed, limit N) bool { return n+max(needed, 1) > limit }

// Room is how much of a partition may move at all: what is left of its limits beside what waits for another try, or behind it. 0 where nothing is worked on.
func (e *Engine[T]) Room(p *Partition[T]) int {
	if p.moving == 0 || e.routes[p.route].held {
		return 0
	}
	return room(p.holds(), p.moving, amount{e.limits.Records, e.limits.Bytes})
}

// RoomOnBus is how much of this engine may move, as if it had the bus to itself, for a partition that would be full with the bus; else 0.
func (e *Engine[T]) RoomOnBus(p *Partition[T]) int {
	if p.moving == 0 || e.routes[p.route].held || !p.hasShare() {
		return 0
	}
	return room(e.holds, e.Moving(), amount{int(e.budget.maxRecords), int(e.budget.maxBytes)})
}

// room is at least 1.
func room(holds amount, moving int, limit amount) int {
	stuck := holds.of(holds.records - moving)
	size := max(holds.bytes/holds.records, 1)
	return max(min(limit.records-stuck.records, (limit.bytes-stuck.bytes)/size), 1)
}

// Moving is how many items wait for nothing but their turn, or run, but for those of routes that are held.
func (e *Engine[T]) Moving() (n int) {
	for _, r := range e.routes {
		if !r.held {
			n += r.moving
		}
	}
	return n
}

// amount is of records, and of their bytes.
type amount struct{ records, bytes int }

func (a *amount) add(records, bytes int) {
	a.records += records
	a.bytes += bytes
}

// of is so many of the records, as if all were of one size.
func (a amount) of(records int) amount {
	if a.records == 0 {
		return a
	}
	return amount{records, int(int64(a.bytes) * int64(records) / int64(a.records))}
}

func (p *Partition[T]) holds() amount { return amount{p.Queued(), p.bytes} }

func (p *Partition[T]) movingNow() amount { return p.holds().of(p.moving) }

func (e *Engine[T]) movingNow() amount { return e.holds.of(e.Moving()) }

// hasShare says whether a partition has what it may have whatever the others hold.
func (p *Partition[T]) hasShare() bool { return p.moving >= Share || p.bytes >= ShareBytes }
