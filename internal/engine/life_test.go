package engine_test

import (
	"maps"
	"slices"

	"github.com/dreamscape/eventbus/internal/engine"
)

// life is an assignment: the engine's partition, and what is known of it without the engine.
type life struct {
	n       int
	log     *log
	route   int
	part    *engine.Partition[*event]
	paused  bool
	stopped bool
	owned   bool

	next    int64 // the offset to fetch
	epoch   int32 // of the last record fetched, or committed
	head    int64 // -1: nothing is known yet
	fetched bool
	passed  bool              // something of it is done
	open    map[int64]*record // fetched and not done
	skip    map[int64]bool    // what a map says of the offsets from head on
	above   int32             // that map's epoch
	flight  []*event          // what the engine holds, by offset
	skipped int64
	said    []int64 // what was committed last and acknowledged: the position, what is done above; nil: nothing
}

// lane is what is handled one after the other.
type lane struct {
	of    *life
	keyed bool
	key   string
	alone int64 // the offset of a record that needs no order, plus one
}

// event is a record in the engine.
type event struct {
	*record
	of   *life
	lane lane
	item *engine.Item[*event]
	is   phase
}

type phase string

const (
	queued   phase = "queued"
	running  phase = "running"
	parked   phase = "parked"
	settling phase = "settling"
	over     phase = "over"
)

// lane returns the lane of a record.
func (l *life) lane(r *record) lane {
	if r.free {
		return lane{of: l, alone: r.offset + 1}
	}
	return lane{of: l, keyed: r.keyed, key: r.key}
}

// resume begins at what is committed, if anything is.
func (l *life) resume(c committed) {
	if c.offset < 0 {
		return
	}
	l.head, l.skip, l.above = c.offset, maps.Clone(c.said), c.above
	l.said = append([]int64{c.offset}, slices.Sorted(maps.Keys(c.said))...)
}

// add takes a fetched record, and says whether it is to be handled.
func (l *life) add(r *record) bool {
	if r.offset < l.head && !l.fetched || r.epoch > l.above {
		l.skip = nil
	}
	done := l.skip[r.offset]
	maps.DeleteFunc(l.skip, func(o int64, _ bool) bool { return o <= r.offset })
	l.head, l.fetched, l.epoch = r.offset+1, true, r.epoch
	if done || r.marker {
		l.passed = true
		return false
	}
	l.open[r.offset] = r
	return true
}

// position is the lowest offset not done.
func (l *life) position() int64 {
	at := l.head
	for o := range l.open {
		at = min(at, o)
	}
	return at
}

// done are the position and the offsets that are done above it.
func (l *life) done() []int64 {
	at := l.position()
	list := []int64{at}
	for o := at; o < l.head; o++ {
		if l.open[o] == nil {
			list = append(list, o)
		}
	}
	return append(list, slices.Sorted(maps.Keys(l.skip))...)
}

// in are the events of it in one of some phases, by offset.
func (l *life) in(phases ...phase) []*event {
	return slices.Collect(func(yield func(*event) bool) {
		for _, ev := range l.flight {
			if slices.Contains(phases, ev.is) && !yield(ev) {
				return
			}
		}
	})
}

// end takes an event out of the engine.
func (l *life) end(ev *event) {
	ev.is = over
	l.flight = slices.DeleteFunc(l.flight, func(other *event) bool { return other == ev })
}

// full says whether fetching has to pause, or to stay paused; held, that its route is; ready, that something may start.
func (l *life) full(limits engine.Limits, held, ready bool) bool {
	bytes := 0
	for _, ev := range l.flight {
		bytes += ev.size
	}
	moving, movingBytes := 0, 0
	if n := len(l.flight); l.paused && !held && n > 0 {
		moving = l.moving()
		movingBytes = bytes * moving / n
	}
	reached := func(n, moving, limit int) bool { return n >= limit || moving > limit-n }
	return held && ready || reached(len(l.flight), moving, limits.Records) || reached(bytes, movingBytes, limits.Bytes) ||
		reached(int(l.head-l.position()), moving, int(limits.Span))
}

// moving is how many events wait for nothing but their turn, or run.
func (l *life) moving() (n int) {
	if l.stopped {
		return 0
	}
	waiting := map[lane]bool{}
	for _, ev := range l.in(parked, settling) {
		waiting[ev.lane] = true
	}
	for _, ev := range l.flight {
		if !waiting[ev.lane] {
			n++
		}
	}
	return n
}
