// Package engine decides what a consumer does next: which event starts, which waits, what may be committed and which partition is
// fetched. It knows no Kafka, starts no goroutine and reads no clock, so that a model can run it and replay what it did. Callers lock.
//
// Every item belongs to a partition, which is an assignment: when Kafka's partition comes back after a rebalance, that is another one.
// Nothing is looked up again by topic and number, so a late result of an old assignment cannot touch a new one.
package engine

import "github.com/dreamscape/eventbus/internal/lane"

// Engine runs the partitions of one consumer. T is what the caller knows of an event.
type Engine[T any] struct {
	slots  *lane.Slots
	routes []*route[T]
	turn   int // the route that is asked first
	limits Limits
	budget *Budget
	holds  amount // of the budget
	over   int64
	bug    Bug
}

// route is what the partitions of one handler share: it can be held without the others.
type route[T any] struct {
	lanes  *lane.Lanes[*Item[T]]
	held   bool
	moving int // see Partition
}

// Key names a lane: a key of a partition, or the one that all events without a key are in, or one event by itself.
type Key[T any] struct {
	part  *Partition[T]
	name  string
	keyed bool
	own   int64 // the offset of an event that needs no order, plus one; 0 otherwise
}

// Alike says whether two keys are the same but for the partitions that they are of: the caller knows whether those are one of Kafka's.
func (k Key[T]) Alike(other Key[T]) bool {
	return k.name == other.name && k.keyed == other.keyed && k.own == other.own
}

// New returns an engine with so many slots, shared by so many routes. budget is shared with other engines.
func New[T any](slots, routes int, limits Limits, budget *Budget) *Engine[T] {
	e := &Engine[T]{slots: lane.NewSlots(slots), limits: limits, budget: budget}
	for range routes {
		e.routes = append(e.routes, &route[T]{lanes: lane.New[*Item[T]](e.slots)})
	}
	return e
}

// Record is a fetched record, as far as the engine has to know it.
type Record struct {
	Offset int64
	Epoch  int32
	Size   int    // bytes that it holds
	Key    string // of its lane, where Keyed
	Keyed  bool
	Free   bool // it needs no order: a lane by itself
}

// Item is an event on its way through the engine. It is the caller's memory: one that was added belongs to the engine until it is over, and must not
// be copied.
type Item[T any] struct {
	Value T
	Record
	part         *Partition[T]
	lane         *lane.Lane[*Item[T]]
	before, next *Item[T] // of the partition's items
	state        state
	marked       bool
}

type state int

const (
	queued state = iota
	running
	parked   // waits to be tried again
	settling // its dead letter is on its way
	over
)

// Part returns the partition that the item belongs to.
func (it *Item[T]) Part() *Partition[T] { return it.part }

// Lane names the item's lane.
func (it *Item[T]) Lane() Key[T] {
	if it.Free {
		return Key[T]{part: it.part, own: it.Offset + 1}
	}
	return Key[T]{part: it.part, name: it.Key, keyed: it.Keyed}
}

// Add takes a fetched record. It returns false for one that was done already, as the map of an earlier commit says, and for one whose partition
// takes no more.
func (e *Engine[T]) Add(p *Partition[T], it *Item[T]) bool {
	if p.stopped {
		return false
	}
	p.taken = true
	if !p.progress.Add(it.Offset, it.Epoch) {
		p.skipped++
		p.passed = true
		return false
	}
	p.append(it)
	e.hold(1, it.Size)
	e.routes[p.route].lanes.Push(it.lane, it)
	if !it.lane.Parked() {
		e.move(p, 1)
	}
	return true
}

// move counts what is moving; nothing is in a stopped partition.
func (e *Engine[T]) move(p *Partition[T], n int) {
	if n != 0 && !p.stopped {
		p.moving += n
		e.routes[p.route].moving += n
	}
}

// Pass takes a record that nobody has to handle, such as a transaction's marker.
func (e *Engine[T]) Pass(p *Partition[T], offset int64, epoch int32) {
	if p.stopped {
		return
	}
	p.taken, p.passed = true, true
	if p.progress.Add(offset, epoch) {
		p.progress.Done(offset)
	}
}

// Next starts the item that has been ready longest, of the routes in turn. nil: nothing may start.
func (e *Engine[T]) Next() *Item[T] {
	for i := range e.routes {
		n := (e.turn + i) % len(e.routes)
		if e.routes[n].held {
			continue
		}
		if it := e.NextOf(n); it != nil {
			e.turn = (n + 1) % len(e.routes)
			return it
		}
	}
	return nil
}

// NextOf starts an item of one route, whether it is held or not.
func (e *Engine[T]) NextOf(route int) *Item[T] {
	it, ok := e.routes[route].lanes.Next()
	if !ok {
		return nil
	}
	it.is(running)
	if e.bug == MarkBeforeHandle {
		it.mark()
	}
	return it
}

// Return undoes a Next: the item has not been begun, waits again, and is the next of its route. Its partition must not have been stopped.
func (e *Engine[T]) Return(it *Item[T]) {
	it.is(queued)
	e.routes[it.part.route].lanes.Return(it.lane)
}

// Waiting is how many items could start, if there were slots for all: at most one of a lane.
func (e *Engine[T]) Waiting() (n int) {
	for _, r := range e.routes {
		if !r.held {
			n += r.lanes.Ready()
		}
	}
	return n
}

// Ready says whether Next would start something.
func (e *Engine[T]) Ready() bool {
	return e.slots.Free() && e.Waiting() > 0
}

// Hold keeps a route's items from starting by Next, or ends that.
func (e *Engine[T]) Hold(route int, held bool) { e.routes[route].held = held }

// Done notes that a running, parked or settling item is handled or dead-lettered for good. false: its partition is not owned any
// longer, so nothing was noted.
func (e *Engine[T]) Done(it *Item[T]) bool {
	if !e.leave(it) && e.bug != NoOwnership {
		return false
	}
	it.mark()
	return true
}

// mark counts the item as done, once.
func (it *Item[T]) mark() {
	if it.marked {
		return
	}
	it.marked = true
	it.part.progress.Done(it.Offset)
	it.part.passed = true
}

// Abandon notes that a running item ended without a result, because its partition stops. It stays incomplete, and comes again.
func (e *Engine[T]) Abandon(it *Item[T]) { e.leave(it) }

// leave takes an item out of its lane and its partition; false where the partition was released before.
func (e *Engine[T]) leave(it *Item[T]) bool {
	p := it.part
	if it.state == over {
		return false
	}
	if it.state == running || !p.stopped { // the lanes of what else belonged to a stopped partition are gone
		wasParked := it.lane.Parked()
		e.routes[p.route].lanes.Done(it.lane)
		if wasParked {
			e.move(p, it.lane.Len())
		} else {
			e.move(p, -1)
		}
	}
	e.forget(it)
	return p.owned
}

// forget ends an item's part in what is counted.
func (e *Engine[T]) forget(it *Item[T]) {
	it.part.remove(it)
	it.is(over)
	e.over++
	e.hold(-1, -it.Size)
}

// hold counts what the partitions hold.
func (e *Engine[T]) hold(records, bytes int) {
	e.holds.add(records, bytes)
	e.budget.add(records, bytes)
}

// Park has a running item wait, at the head of its lane and without a slot.
func (e *Engine[T]) Park(it *Item[T]) { e.rest(it, parked) }

// Settle has a running item wait for its dead letter likewise. A partition that stops waits for it too.
func (e *Engine[T]) Settle(it *Item[T]) { e.rest(it, settling) }

func (e *Engine[T]) rest(it *Item[T], s state) {
	if it.state == running {
		e.routes[it.part.route].lanes.Park(it.lane)
		e.move(it.part, -it.lane.Len())
	}
	it.is(s)
}

// Unpark lets a parked item start again. false: it does not wait any longer.
func (e *Engine[T]) Unpark(it *Item[T]) bool {
	if it.state != parked || it.part.stopped {
		return false
	}
	it.is(queued)
	e.move(it.part, it.lane.Len())
	return e.routes[it.part.route].lanes.Unpark(it.lane)
}

// Behind is how many items wait behind this one in its lane.
func (e *Engine[T]) Behind(it *Item[T]) int {
	if it.part.stopped {
		return 0
	}
	return it.lane.Len() - 1
}

// Over is how many items were done or abandoned so far.
func (e *Engine[T]) Over() int64 { return e.over }

// Running is how many items run, over all partitions.
func (e *Engine[T]) Running() int { return e.slots.Used() }
