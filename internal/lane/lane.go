// Package lane orders work by key: the values of a key run one after the other in the order they came, those of different keys side by side, and
// never more at once than there are slots. Keys do not share lanes, as they would in hash buckets, so none waits for another while a slot is free.
//
// Which lane a value belongs to is for the caller to know, and so is which lanes there are. Nothing in it is safe for concurrent use; the caller
// locks. Nothing blocks.
package lane

import (
	"fmt"
	"iter"
)

// Slots bounds how many values run at once. Several [Lanes] may share it, under one lock of the caller's.
type Slots struct{ used, total int }

// NewSlots returns n free slots. It panics where n is below one, since nothing would ever run.
func NewSlots(n int) *Slots {
	if n < 1 {
		panic(fmt.Sprintf("lane: %d slots, need at least 1", n))
	}
	return &Slots{total: n}
}

// Free says whether a slot is free.
func (s *Slots) Free() bool { return s.used < s.total }

// Used is how many values run.
func (s *Slots) Used() int { return s.used }

// Total is how many values may run at once.
func (s *Slots) Total() int { return s.total }

type state int

const (
	empty   state = iota
	ready         // waits in Lanes.ready for a slot
	running       // its first value runs and holds a slot
	parked        // its first value waits for Unpark
	dropped       // by Drop
	over          // dropped, and none of its values holds a slot
)

func (s state) String() string {
	return [...]string{"is empty", "is ready", "runs", "is parked", "was dropped", "was dropped"}[s]
}

// Lane is the queue of a key. The zero Lane is empty, and one that has become empty again may be used again. It belongs to the [Lanes] that it was
// first given to, and must not be copied.
type Lane[V any] struct {
	state  state
	values fifo[V] // a value leaves when it is done, so the first is the one that runs or is parked
}

// Len is how many values it has: those that wait, and the one that runs or is parked. None where it was dropped.
func (ln *Lane[V]) Len() int { return ln.values.len() }

// Parked says whether its first value waits for Unpark, and all others behind it.
func (ln *Lane[V]) Parked() bool { return ln.state == parked }

// Lanes has those that are ready wait for slots, in the order in which they became so.
//
// Every method takes constant time, amortised, except Drop, and some Returns, which take time by the number of all lanes that are ready.
type Lanes[V any] struct {
	slots *Slots
	ready fifo[*Lane[V]]
}

// New returns lanes without a value, whose values run in slots.
func New[V any](slots *Slots) *Lanes[V] { return &Lanes[V]{slots: slots} }

// Push puts v at the end of a lane. One that was empty is ready at once. It panics where the lane was dropped.
func (l *Lanes[V]) Push(ln *Lane[V], v V) {
	switch ln.state {
	case dropped, over:
		panic("lane: Push to a lane that was dropped")
	case empty:
		l.wait(ln)
	}
	ln.values.push(v)
}

// Next starts the first value of the lane that has been ready longest, and takes a slot for it until Done or Park. It returns false where no lane
// is ready or no slot is free.
func (l *Lanes[V]) Next() (v V, ok bool) {
	if l.ready.len() == 0 || !l.slots.Free() {
		return v, false
	}
	ln := l.ready.pop()
	ln.state = running
	l.slots.used++
	return ln.values.first(), true
}

// Done ends the running or parked value of a lane, which leaves it and its slot. A lane with more values is ready again, behind the others. Where it
// was dropped meanwhile, the slot is given back and no more. It panics where no value of it runs or is parked.
func (l *Lanes[V]) Done(ln *Lane[V]) {
	if ln.state != parked && !l.stop(ln, "Done") {
		return
	}
	ln.values.pop()
	if ln.state = empty; ln.values.len() > 0 {
		l.wait(ln)
	}
}

// Park leaves the running value of a lane at its head, where it waits for Unpark, and gives its slot back. The values behind it wait too. Where the
// lane was dropped meanwhile, the slot is given back and no more. It panics where no value of it runs.
func (l *Lanes[V]) Park(ln *Lane[V]) {
	if l.stop(ln, "Park") {
		ln.state = parked
	}
}

// Unpark has the parked value of a lane start again: the lane is ready, behind the others. It returns false where it is not parked.
func (l *Lanes[V]) Unpark(ln *Lane[V]) bool {
	if ln.state != parked {
		return false
	}
	l.wait(ln)
	return true
}

// Return undoes a Next: the value of a lane that was to run waits again, and its lane is ready before all others. Where it was dropped meanwhile, the
// slot is given back and no more. It panics where no value of it runs.
func (l *Lanes[V]) Return(ln *Lane[V]) {
	if l.stop(ln, "Return") {
		ln.state = ready
		l.ready.unpop(ln)
	}
}

// stop takes the slot from the value that runs. It returns false where the lane has been dropped.
func (l *Lanes[V]) stop(ln *Lane[V], verb string) bool {
	if ln.state != running && ln.state != dropped {
		panic("lane: " + verb + " of a lane that does not run: it " + ln.state.String())
	}
	l.slots.used--
	if ln.state == dropped {
		ln.state = over
		return false
	}
	return true
}

func (l *Lanes[V]) wait(ln *Lane[V]) {
	ln.state = ready
	l.ready.push(ln)
}

// Drop forgets lanes with all they hold, for good; some may be named twice. A value that runs keeps its slot until Done or Park. It takes time by
// the number of all lanes that are ready.
func (l *Lanes[V]) Drop(lanes iter.Seq[*Lane[V]]) {
	unready := false
	for ln := range lanes {
		unready = unready || ln.state == ready
		if ln.state == running || ln.state == dropped {
			ln.state = dropped
		} else {
			ln.state = over
		}
		ln.values = fifo[V]{}
	}
	if unready {
		l.ready.keep(func(ln *Lane[V]) bool { return ln.state == ready })
	}
}

// Ready is how many lanes wait for a slot.
func (l *Lanes[V]) Ready() int { return l.ready.len() }
