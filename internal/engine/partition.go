package engine

import (
	"slices"

	"github.com/dreamscape/eventbus/internal/lane"
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

	first, last *Item[T]  // of those that are not over, which are in the order of their offsets
	in          [over]int // how many of them are in each state
	bytes       int
	moving      int // how many of them wait for nothing but their turn, or run
	skipped     int64
	keyed       map[string]*lane.Lane[*Item[T]] // the lanes of keys; a lane is here while it has items
	keyless     lane.Lane[*Item[T]]             // that of all without a key

	committed int64  // the offset last acknowledged, -1 for none
	said      uint64 // progress.Changes as last acknowledged
}

// Assign returns a new assignment, owned, of a partition whose events the route handles.
func (e *Engine[T]) Assign(route int) *Partition[T] {
	return &Partition[T]{
		route: route, progress: progress.New(), owned: true, committed: -1, keyed: map[string]*lane.Lane[*Item[T]]{},
	}
}

// append takes an item at the end, and finds its lane.
func (p *Partition[T]) append(it *Item[T]) {
	it.part, it.before = p, p.last
	if p.last == nil {
		p.first = it
	} else {
		p.last.next = it
	}
	p.last = it
	p.in[it.state]++
	p.bytes += it.Size
	it.lane = p.laneOf(it)
}

func (p *Partition[T]) laneOf(it *Item[T]) *lane.Lane[*Item[T]] {
	switch {
	case it.Free:
		return new(lane.Lane[*Item[T]])
	case !it.Keyed:
		return &p.keyless
	}
	ln := p.keyed[it.Key]
	if ln == nil {
		ln = new(lane.Lane[*Item[T]])
		p.keyed[it.Key] = ln
	}
	return ln
}

// remove takes an item out, and its lane where that is empty.
func (p *Partition[T]) remove(it *Item[T]) {
	if it.before == nil {
		p.first = it.next
	} else {
		it.before.next = it.next
	}
	if it.next == nil {
		p.last = it.before
	} else {
		it.next.before = it.before
	}
	it.before, it.next = nil, nil
	p.bytes -= it.Size
	if it.Keyed && !it.Free && it.lane.Len() == 0 {
		delete(p.keyed, it.Key)
	}
}

// is changes an item's state.
func (it *Item[T]) is(s state) {
	it.part.in[it.state]--
	if it.state = s; s != over {
		it.part.in[s]++
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

// Owned says whether the ownership has not ended.
func (p *Partition[T]) Owned() bool { return p.owned }

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
func (p *Partition[T]) Queued() int {
	n := 0
	for _, in := range p.in {
		n += in
	}
	return n
}

// Bytes is how many bytes they hold.
func (p *Partition[T]) Bytes() int { return p.bytes }

// Moving is how many of them wait for nothing but their turn, or run: none of them is parked, or behind one that is.
func (p *Partition[T]) Moving() int { return p.moving }

// Skipped is how many records were not handled because an earlier commit's map had them as done.
func (p *Partition[T]) Skipped() int64 { return p.skipped }

// First returns the item at Position, nil where there is none.
func (p *Partition[T]) First() *Item[T] {
	if p.first == nil || p.first.Offset != p.progress.Watermark() {
		return nil
	}
	return p.first
}

// Running returns the items that run, by offset.
func (p *Partition[T]) Running() []*Item[T] { return p.all(running) }

// Waiting returns the items that are parked or whose dead letter is on its way, by offset.
func (p *Partition[T]) Waiting() []*Item[T] { return p.all(parked, settling) }

// Items yields all items that are not over, by offset.
func (p *Partition[T]) Items(yield func(*Item[T]) bool) {
	for it := p.first; it != nil && yield(it); it = it.next {
	}
}

// all returns the items in some states, by offset.
func (p *Partition[T]) all(states ...state) []*Item[T] {
	n := 0
	for _, s := range states {
		n += p.in[s]
	}
	var items []*Item[T]
	for it := p.first; len(items) < n; it = it.next {
		if slices.Contains(states, it.state) {
			items = append(items, it)
		}
	}
	return items
}

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
	e.move(p, -p.moving)
	p.stopped = true
	e.routes[p.route].lanes.Drop(p.lanes)
	forgotten = p.all(parked)
	for _, it := range p.all(parked, queued) {
		e.forget(it)
	}
	return forgotten
}

// lanes yields the lanes of all items, some of them more than once.
func (p *Partition[T]) lanes(yield func(*lane.Lane[*Item[T]]) bool) {
	for it := p.first; it != nil && yield(it.lane); it = it.next {
	}
}

// Idle says whether nothing of a stopped partition is under way any longer.
func (p *Partition[T]) Idle() bool {
	return p.stopped && p.in[running]+p.in[parked]+p.in[settling] == 0
}

// Release ends the ownership. What still runs is left behind: its slot is free, its result will be ignored. It returns those items,
// by offset.
func (e *Engine[T]) Release(p *Partition[T]) (left []*Item[T]) {
	e.Stop(p)
	p.owned = e.bug == NoOwnership
	left = p.Running()
	for _, it := range left {
		e.routes[p.route].lanes.Done(it.lane)
	}
	for p.first != nil {
		e.forget(p.first)
	}
	return left
}
