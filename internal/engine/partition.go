package engine

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/dreamscape/eventbus/internal/progress"
)

// Partition is one assignment of a partition: the state of its events for as long as it is ours.
type Partition[T any] struct {
	route    int
	progress *progress.Progress
	owned    bool
	stopped  bool // takes nothing more, starts nothing more
	taken    bool // a record was
	passed   bool // something was done: before that there is nothing to commit

	items   map[int64]*Item[T] // not done, by offset
	running map[*Item[T]]struct{}
	waiting map[*Item[T]]struct{} // parked or settling
	bytes   int
	skipped int64

	committed int64  // the offset last acknowledged, -1 for none
	said      uint64 // progress.Changes as last acknowledged
}

// Assign returns a new assignment, owned, of a partition whose events the route handles.
func (e *Engine[T]) Assign(route int) *Partition[T] {
	return &Partition[T]{
		route: route, progress: progress.New(), owned: true, committed: -1,
		items: map[int64]*Item[T]{}, running: map[*Item[T]]struct{}{}, waiting: map[*Item[T]]struct{}{},
	}
}

// Begun says whether it is known where the partition begins.
func (p *Partition[T]) Begun() bool { return p.progress.Begun() }

// Resume has a partition that has not begun start at a committed offset and its leader epoch, with what the map says is done above it.
func (p *Partition[T]) Resume(committed int64, epoch int32, m progress.Map) {
	p.progress.Resume(committed, epoch, m)
}

// Forget voids what the map said: the topic is another one of the same name.
func (p *Partition[T]) Forget() { p.progress.Forget() }

// Rewound says whether the position was set back to offset, below what was taken already: that needs another assignment.
func (p *Partition[T]) Rewound(offset int64) bool { return p.taken && offset < p.progress.Head() }

// Stopped says whether Stop was called.
func (p *Partition[T]) Stopped() bool { return p.stopped }

// Position is the lowest offset not done; -1 before anything is known.
func (p *Partition[T]) Position() int64 { return p.progress.Watermark() }

// Epoch is the leader epoch that belongs to Position in a commit.
func (p *Partition[T]) Epoch() int32 { return p.progress.Epoch() }

// Head is one above the highest offset taken; before the first, where the partition resumes, or -1.
func (p *Partition[T]) Head() int64 { return p.progress.Head() }

// Span is the distance from Position to the highest offset taken.
func (p *Partition[T]) Span() int64 { return p.progress.Span() }

// Committed is the offset last acknowledged as committed, -1 for none.
func (p *Partition[T]) Committed() int64 { return p.committed }

// Queued is how many records were taken and are not done.
func (p *Partition[T]) Queued() int { return len(p.items) }

// Bytes is how many bytes they hold.
func (p *Partition[T]) Bytes() int { return p.bytes }

// Skipped is how many records were not handled because an earlier commit's map had them as done.
func (p *Partition[T]) Skipped() int64 { return p.skipped }

// First returns the item at Position, nil where there is none.
func (p *Partition[T]) First() *Item[T] { return p.items[p.progress.Watermark()] }

// Running yields the items that run, in no order.
func (p *Partition[T]) Running() iter.Seq[*Item[T]] { return maps.Keys(p.running) }

// Waiting returns the items that are parked or whose dead letter is on its way, by offset.
func (p *Partition[T]) Waiting() []*Item[T] {
	return slices.SortedFunc(maps.Keys(p.waiting), byOffset)
}

// byOffset orders items, so that what the engine says does not depend on the order of a map: a run can be replayed.
func byOffset[T any](a, b *Item[T]) int { return cmp.Compare(a.Offset, b.Offset) }

// Parked says whether the item waits to be tried again.
func (it *Item[T]) Parked() bool { return it.state == parked }

// Over says whether the item's part is over: done, abandoned, or its partition released.
func (it *Item[T]) Over() bool { return it.state == over }

// Stop forgets what waits in the partition, so that nothing more starts. What runs, and dead letters on their way, go on. The parked
// items that it returns, by offset, will not start again.
func (e *Engine[T]) Stop(p *Partition[T]) (forgotten []*Item[T]) {
	if p.stopped {
		return nil
	}
	p.stopped = true
	e.routes[p.route].lanes.Drop(func(k Key[T]) bool { return k.part == p })
	for _, it := range p.items {
		if it.state == parked {
			forgotten = append(forgotten, it)
		}
		if it.state == parked || it.state == queued {
			e.forget(it)
		}
	}
	slices.SortFunc(forgotten, byOffset)
	return forgotten
}

// Idle says whether nothing of a stopped partition is under way any longer.
func (p *Partition[T]) Idle() bool { return p.stopped && len(p.running)+len(p.waiting) == 0 }

// Release ends the ownership. What still runs is left behind: its slot is free, its result will be ignored. It returns those items,
// by offset.
func (e *Engine[T]) Release(p *Partition[T]) (left []*Item[T]) {
	e.Stop(p)
	p.owned = e.bug == NoOwnership
	left = slices.SortedFunc(maps.Keys(p.running), byOffset)
	for _, it := range left {
		e.routes[p.route].lanes.Done(it.key)
	}
	for _, it := range p.items {
		e.forget(it)
	}
	return left
}
