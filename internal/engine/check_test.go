package engine_test

import (
	"slices"

	"github.com/dreamscape/eventbus/internal/engine"
)

// check compares the engine with what must be true: first what is promised to everybody, then what only the engine's caller sees.
func (m *model) check() {
	for _, l := range slices.Concat(m.lives, m.past) {
		if c, ok := m.engine.Commit(l.part, lineage); ok {
			m.checkCommit(l, c)
		}
	}
	held, bytes, moving := 0, 0, make([]int, m.routes)
	for _, l := range m.lives {
		m.checkLife(l)
		held += len(l.flight)
		moving[l.route] += l.moving()
		bytes += l.part.Bytes()
	}
	m.must(m.engine.Running() == len(m.plain.running), "%d slots are taken by %v", m.engine.Running(), m.plain.running)
	m.must(m.engine.Running() <= m.slots, "%d run in %d slots", m.engine.Running(), m.slots)
	m.must(m.budget.Records() == int64(held) && m.budget.Bytes() == int64(bytes), "the budget has %d records of %d bytes, and there are %d of %d",
		m.budget.Records(), m.budget.Bytes(), held, bytes)
	for _, l := range m.past {
		m.must(l.part.Queued() == 0 && l.part.Bytes() == 0 && l.part.Idle(), "%v holds something, though it was released", l)
	}
}

// checkCommit is for a commit that could be made now.
func (m *model) checkCommit(l *life, c engine.Commit[*event]) {
	m.must(l.owned, "a commit of %v is offered, which is not ours any longer", l)
	for o := range l.open {
		m.must(o >= c.Offset, "a commit of %v at %d passes %d, which is not handled", l, c.Offset, o)
	}
	m.must(l.passed, "a commit of %v is offered, of which nothing is done", l)
}

func (m *model) checkLife(l *life) {
	bytes := 0
	for _, ev := range l.flight {
		bytes += ev.size
		m.checkEvent(ev)
	}
	p := l.part
	m.must(p.Begun() == (l.head >= 0), "%v has begun: %v", l, p.Begun())
	m.must(p.Position() == l.position(), "%v is at %d and not at %d", l, p.Position(), l.position())
	m.must(p.Span() == l.head-l.position(), "%v spans %d", l, p.Span())
	m.must(p.Queued() == len(l.flight) && p.Bytes() == bytes, "%v has %d records of %d bytes and not %d of %d", l, p.Queued(), p.Bytes(),
		len(l.flight), bytes)
	m.must(p.Moving() == l.moving(), "%v has %d moving and not %d", l, p.Moving(), l.moving())
	m.must(p.Skipped() == l.skipped, "%v skipped %d and not %d", l, p.Skipped(), l.skipped)
	m.must(p.Stopped() == l.stopped, "%v is stopped: %v", l, p.Stopped())
	m.must(slices.Equal(values(p.Waiting()), l.in(parked, settling)), "%v has waiting %v", l, values(p.Waiting()))
	m.must(p.Idle() == (l.stopped && len(l.in(running, parked, settling)) == 0), "%v is idle: %v", l, p.Idle())
	m.checkRunning(l)
	m.checkFirst(l)
	m.checkFull(l, bytes)
}

func (m *model) checkEvent(ev *event) {
	it := ev.item
	m.must(it.Part() == ev.of.part && it.Offset == ev.offset, "%v has another's item", ev)
	m.must(it.Parked() == (ev.is == parked) && !it.Over(), "%v is %s", ev, ev.is)
	behind := 0
	if !ev.of.stopped {
		behind = len(m.plain.lanes[ev.lane]) - 1
	}
	m.must(m.engine.Behind(it) == behind, "%d wait in the lane of %v and not %d", m.engine.Behind(it), ev, behind)
}

func (m *model) checkRunning(l *life) {
	m.must(slices.Equal(values(l.part.Running()), l.in(running)), "%v runs %v", l, values(l.part.Running()))
}

func (m *model) checkFirst(l *life) {
	var want *engine.Item[*event]
	for _, ev := range l.flight {
		if ev.offset == l.position() {
			want = ev.item
		}
	}
	m.must(l.part.First() == want, "%v has as its first %v", l, l.part.First())
}

// checkFull has the partition pause and go on as a consumer has it.
func (m *model) checkFull(l *life, bytes int) {
	if l.stopped {
		return
	}
	why := m.engine.Full(l.part, l.paused)
	want := l.full(m.limits, m.plain.held[l.route], len(m.plain.ready[l.route]) > 0)
	m.must((why != "") == want, "%v with %d records of %d bytes from %d to %d, paused: %v: it is full: %q", l, len(l.flight), bytes,
		l.position(), l.head, l.paused, why)
	m.must(len(l.flight) < m.limits.Records+batch, "%v holds %d records", l, len(l.flight))
	m.must(bytes < m.limits.Bytes+batch*4, "%v holds %d bytes", l, bytes)
	m.must(l.head-l.position() < m.limits.Span+batch*4, "%v spans %d", l, l.head-l.position())
	if l.paused != want {
		m.note("%v is paused: %q", l, why)
	}
	l.paused = want
}

// settleAll lets all come to its end: nothing fails any longer. Then all must be handled, and committed.
func (m *model) settleAll() {
	m.asked = nil
	for _, l := range slices.Clone(m.lives) {
		if l.stopped {
			m.releaseOf(l)
		}
	}
	for route := range m.routes {
		m.plain.held[route] = false
		m.engine.Hold(route, false)
	}
	m.choose = func(n int) int { return min(1, n-1) }
	for m.assign() {
		m.check()
	}
	rounds := 0
	for m.goOn() {
		rounds++
		m.must(rounds < 2000, "it does not come to an end")
	}
	for _, l := range m.lives {
		unhandled := l.log.lost(l.log.end)
		m.must(unhandled == nil, "%v: %v is never handled", l, unhandled)
		m.commitAtEnd(l)
	}
}

// goOn has everything go a step further, and says whether there was anything.
func (m *model) goOn() bool {
	moved := false
	for _, l := range slices.Clone(m.lives) {
		if !l.paused {
			before := l.head
			m.fetchOf(l, batch)
			moved = moved || l.head != before || !l.owned
		}
		m.check()
	}
	for _, ev := range m.in(settling) {
		m.done(ev)
		moved = true
	}
	for m.wake() {
		moved = true
	}
	for m.start() {
		moved = true
	}
	for m.handle() {
		moved = true
	}
	m.check()
	return moved
}

func (m *model) commitAtEnd(l *life) {
	if c, ok := m.engine.Commit(l.part, lineage); ok {
		a := m.ask(l, c)
		l.log.committed = a.to
		m.acknowledged(a)
	}
	if n := len(l.log.records); n > 0 && l.passed {
		last := l.log.records[n-1].offset
		m.must(l.log.committed.offset > last, "%v ends with %d, and %d is committed", l, last, l.log.committed.offset)
	}
}
