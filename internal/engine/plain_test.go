package engine_test

import "slices"

// plain says what the engine starts next, by a list a lane and a list of the lanes that are ready.
type plain struct {
	slots   int
	lanes   map[lane][]*event // what waits, runs or is parked
	ready   [][]lane          // by route; the lane that has been ready longest is the first
	held    []bool
	turn    int // the route that is asked first
	running []*event
}

func (p *plain) push(ev *event) {
	if p.lanes[ev.lane] = append(p.lanes[ev.lane], ev); len(p.lanes[ev.lane]) == 1 {
		p.wake(ev)
	}
}

// wake has ev's lane ready, behind the others.
func (p *plain) wake(ev *event) { p.ready[ev.of.route] = append(p.ready[ev.of.route], ev.lane) }

func (p *plain) next() *event {
	for i := range p.ready {
		route := (p.turn + i) % len(p.ready)
		if p.held[route] || len(p.ready[route]) == 0 || len(p.running) == p.slots {
			continue
		}
		p.turn = (route + 1) % len(p.ready)
		return p.nextOf(route)
	}
	return nil
}

func (p *plain) nextOf(route int) *event {
	if len(p.ready[route]) == 0 || len(p.running) == p.slots {
		return nil
	}
	ev := p.lanes[p.ready[route][0]][0]
	p.ready[route] = p.ready[route][1:]
	p.running = append(p.running, ev)
	return ev
}

// rest frees ev's slot.
func (p *plain) rest(ev *event) {
	p.running = slices.DeleteFunc(p.running, func(other *event) bool { return other == ev })
}

// unstart frees ev's slot, and has its lane be the next.
func (p *plain) unstart(ev *event) {
	p.rest(ev)
	p.ready[ev.of.route] = slices.Insert(p.ready[ev.of.route], 0, ev.lane)
}

// end frees ev's slot and lane.
func (p *plain) end(ev *event) {
	p.rest(ev)
	if left := p.lanes[ev.lane]; len(left) > 0 { // else it was dropped
		if p.lanes[ev.lane] = left[1:]; len(left) > 1 {
			p.wake(ev)
		}
	}
}

// drop forgets the lanes of an assignment.
func (p *plain) drop(l *life) {
	for k := range p.lanes {
		if k.of == l {
			delete(p.lanes, k)
		}
	}
	p.ready[l.route] = slices.DeleteFunc(p.ready[l.route], func(k lane) bool { return k.of == l })
}
