// Package lane orders work by key: the values of a key run one after the other in the order they came, those of different keys side by side, and
// never more at once than there are slots. Keys do not share lanes, as they would in hash buckets, so none waits for another while a slot is free.
//
// Nothing in it is safe for concurrent use; the caller locks. Nothing blocks.
package lane

import "fmt"

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
	ready   state = iota // waits in Lanes.ready for a slot
	running              // its first value runs and holds a slot
	parked               // its first value waits for Unpark
	dropped              // forgotten by Drop, but a value of it still holds a slot
)

func (s state) String() string { return [...]string{"is ready", "runs", "is parked", "was dropped"}[s] }

type lane[K comparable, V any] struct {
	key    K
	state  state
	values fifo[V] // a value leaves when it is done, so the first is the one that runs or is parked
}

// Lanes holds the lanes of many keys. A lane exists from its key's first Push to the end of its last value.
//
// Every method takes constant time, amortised, except Drop.
type Lanes[K comparable, V any] struct {
	slots *Slots
	lanes map[K]*lane[K, V]
	ready fifo[*lane[K, V]]
	// values, running and parked are counted by the way, for Len, Running and Parked.
	values, running, parked int
}

// New returns lanes without a value, whose values run in slots.
func New[K comparable, V any](slots *Slots) *Lanes[K, V] {
	return &Lanes[K, V]{slots: slots, lanes: map[K]*lane[K, V]{}}
}

// Push puts v at the end of k's lane. A lane that begins with it is ready at once. It panics where k was dropped and still runs.
func (l *Lanes[K, V]) Push(k K, v V) {
	ln, ok := l.lanes[k]
	if !ok {
		ln = &lane[K, V]{key: k}
		l.lanes[k] = ln
		l.ready.push(ln)
	}
	if ln.state == dropped {
		panic("lane: Push to a key that was dropped")
	}
	ln.values.push(v)
	l.values++
}

// Next starts the first value of the lane that has been ready longest, and takes a slot for it until Done or Park. It returns false where no lane
// is ready or no slot is free.
func (l *Lanes[K, V]) Next() (k K, v V, ok bool) {
	if l.ready.len() == 0 || !l.slots.Free() {
		return k, v, false
	}
	ln := l.ready.pop()
	ln.state = running
	l.running++
	l.slots.used++
	return ln.key, ln.values.first(), true
}

// Done ends the running or parked value of k, which leaves its lane and its slot. A lane with more values is ready again, behind the others; one
// without is forgotten. Where k was dropped meanwhile, the slot is given back and no more. It panics where no value of k runs or is parked.
func (l *Lanes[K, V]) Done(k K) {
	ln, ok := l.lanes[k]
	if ok && ln.state == parked {
		l.parked--
	} else if ln, ok = l.stop(k, "Done"); !ok {
		return
	}
	ln.values.pop()
	l.values--
	if ln.values.len() == 0 {
		delete(l.lanes, k)
		return
	}
	l.wait(ln)
}

// Park leaves the running value of k at the head of its lane, where it waits for Unpark, and gives its slot back. The values behind it wait too.
// Where k was dropped meanwhile, the slot is given back and no more. It panics where no value of k runs.
func (l *Lanes[K, V]) Park(k K) {
	ln, ok := l.stop(k, "Park")
	if !ok {
		return
	}
	ln.state = parked
	l.parked++
}

// Unpark has the parked value of k start again: its lane is ready, behind the others. It returns false where k is not parked.
func (l *Lanes[K, V]) Unpark(k K) bool {
	ln, ok := l.lanes[k]
	if !ok || ln.state != parked {
		return false
	}
	l.parked--
	l.wait(ln)
	return true
}

// stop takes the slot from the value of k that runs. It returns false where its lane has been dropped, and is forgotten now.
func (l *Lanes[K, V]) stop(k K, verb string) (*lane[K, V], bool) {
	ln, ok := l.lanes[k]
	if !ok {
		panic("lane: " + verb + " of a key without a lane")
	}
	if ln.state != running && ln.state != dropped {
		panic("lane: " + verb + " of a key that does not run: it " + ln.state.String())
	}
	l.running--
	l.slots.used--
	if ln.state == dropped {
		delete(l.lanes, k)
		return nil, false
	}
	return ln, true
}

func (l *Lanes[K, V]) wait(ln *lane[K, V]) {
	ln.state = ready
	l.ready.push(ln)
}

// Drop forgets the lanes of the keys that which names, with all they hold. A value that runs keeps its slot until Done or Park. It takes time by
// the number of lanes, and calls which once for each.
//
// A key that was dropped must never be pushed again: what of it still runs could not be told from the new. Keys have something in them that does
// not come back, such as the identity of an assignment.
func (l *Lanes[K, V]) Drop(which func(K) bool) {
	unready := false
	for k, ln := range l.lanes {
		if ln.state == dropped || !which(k) {
			continue
		}
		l.values -= ln.values.len()
		ln.values = fifo[V]{}
		if ln.state == running {
			ln.state = dropped
			continue
		}
		if ln.state == parked {
			l.parked--
		}
		unready = unready || ln.state == ready
		ln.state = dropped
		delete(l.lanes, k)
	}
	if unready {
		l.ready.keep(func(ln *lane[K, V]) bool { return ln.state == ready })
	}
}

// Len is how many values there are: those that wait, run and are parked. What Drop forgot is not among them, even while it runs.
func (l *Lanes[K, V]) Len() int { return l.values }

// Ready is how many lanes wait for a slot.
func (l *Lanes[K, V]) Ready() int { return l.ready.len() }

// Parked is how many lanes are parked.
func (l *Lanes[K, V]) Parked() int { return l.parked }

// Running is how many of the slots these lanes hold, those of dropped keys included.
func (l *Lanes[K, V]) Running() int { return l.running }

// Queued is how many values k has: those that wait, and the one that runs or is parked.
func (l *Lanes[K, V]) Queued(k K) int {
	ln, ok := l.lanes[k]
	if !ok {
		return 0
	}
	return ln.values.len()
}
