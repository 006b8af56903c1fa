package engine_test

import (
	"slices"

	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/progress"
)

// The rest of the model: how assignments end, and what is committed of them.

// commit asks for one, if none is under way: ownership must not end between.
func (m *model) commit() bool {
	l, ok := one(m, slices.Concat(m.lives, m.past))
	if !ok || m.asked != nil {
		return false
	}
	c, ok := m.engine.Commit(l.part, lineage)
	if !ok {
		stale := l.owned && l.passed && !slices.Equal(l.said, l.done())
		m.must(!stale, "%v is not committed, though %v is done and not %v", l, l.done(), l.said)
		return true
	}
	m.asked = m.ask(l, c)
	m.note("commit %v at %d, epoch %d, %q", l, c.Offset, c.Epoch, m.asked.to.text)
	return true
}

const lineage = 0xfeedbeef

// ask checks a commit, and makes of it what a broker keeps.
func (m *model) ask(l *life, c engine.Commit[*event]) *asked {
	m.must(c.Part == l.part, "the commit of %v is another one's", l)
	m.checkCommit(l, c)
	text, dropped := c.Map.Encode([]int{4096, 4096, 16, 0}[m.choose(4)])
	said, epoch := m.says(c.Offset, text, l)
	done := l.done()
	for o := range said {
		m.must(slices.Contains(done[1:], o), "the map of %v says %d is done", l, o)
	}
	m.must(c.Offset == done[0], "%v is committed at %d and not at %d", l, c.Offset, done[0])
	m.must(int64(len(said))+dropped == int64(len(done)-1), "the map of %v says %v and leaves out %d of %v", l, said, dropped, done[1:])
	return &asked{of: l, commit: c, head: l.head, done: done, to: committed{offset: c.Offset, epoch: c.Epoch, text: text, said: said, above: epoch}}
}

// says is what whoever takes over would skip.
func (m *model) says(offset int64, text string, l *life) (said map[int64]bool, epoch int32) {
	said = map[int64]bool{}
	decoded, err := progress.Decode(text)
	m.must(err == nil, "%q is no map: %v", text, err)
	p := progress.New()
	p.Resume(offset, -1, decoded)
	for o := offset; o < max(l.head, l.log.end, l.last())+1; o++ {
		if !p.Add(o, decoded.Epoch) {
			said[o] = true
		}
	}
	return said, decoded.Epoch
}

// last is the highest offset that a map speaks of.
func (l *life) last() int64 {
	last := int64(-1)
	for o := range l.skip {
		last = max(last, o)
	}
	return last
}

// answer is the broker's: done, refused, or lost on the way.
func (m *model) answer() bool {
	a := m.asked
	if a == nil {
		return false
	}
	m.asked = nil
	switch m.choose(5) {
	case 0: // refused
	case 1: // unknown: not done
	case 2: // unknown: done
		a.of.log.committed = a.to
	default:
		a.of.log.committed = a.to
		m.acknowledged(a)
	}
	return true
}

func (m *model) acknowledged(a *asked) {
	m.engine.Committed(a.commit)
	a.of.said = a.done
	_, more := m.engine.Commit(a.of.part, lineage)
	m.must(!more || a.head < a.of.head || !slices.Equal(a.done, a.of.done()), "%v is to be committed again, though nothing has changed", a.of)
	m.must(a.of.part.Committed() == a.to.offset, "%v has %d as committed and not %d", a.of, a.of.part.Committed(), a.to.offset)
}

// stop has nothing more of an assignment start.
func (m *model) stop() bool {
	l, ok := one(m, slices.DeleteFunc(slices.Clone(m.lives), func(l *life) bool { return l.stopped }))
	if !ok || m.choose(3) > 0 {
		return false
	}
	m.stopOf(l)
	return true
}

func (m *model) stopOf(l *life) {
	want := l.in(parked)
	forgotten := m.engine.Stop(l.part)
	m.note("stop %v: %v", l, values(forgotten))
	m.must(slices.Equal(values(forgotten), want), "%v forgot %v and not %v", l, values(forgotten), want)
	for _, ev := range l.in(parked, queued) {
		l.end(ev)
		m.must(!m.engine.Unpark(ev.item), "%v starts though its partition stops", ev)
	}
	m.plain.drop(l)
	l.stopped = true
	m.must(m.engine.Stop(l.part) == nil, "%v stops twice", l)
	m.must(!m.engine.Add(l.part, &engine.Item[*event]{Record: engine.Record{Offset: l.head + 9}}), "%v takes records though it stops", l)
	m.engine.Pass(l.part, l.head+9, 99)
}

func values(items []*engine.Item[*event]) (events []*event) {
	for _, it := range items {
		events = append(events, it.Value)
	}
	return events
}

// release ends an assignment, at once or when nothing of it is under way.
func (m *model) release() bool {
	l, ok := one(m, m.lives)
	if !ok || m.asked != nil && m.asked.of == l || !l.stopped && m.choose(3) > 0 {
		return false
	}
	m.releaseOf(l)
	return true
}

func (m *model) releaseOf(l *life) {
	if !l.stopped && m.choose(2) == 0 {
		m.stopOf(l)
	}
	want := l.in(running)
	left := m.engine.Release(l.part)
	m.note("release %v: %v", l, values(left))
	m.must(slices.Equal(values(left), want), "%v left %v and not %v", l, values(left), want)
	m.plain.drop(l)
	for _, ev := range slices.Clone(l.flight) {
		m.plain.rest(ev)
		l.end(ev)
	}
	l.stopped, l.owned = true, false
	m.lives = slices.DeleteFunc(m.lives, func(other *life) bool { return other == l })
	m.past = append(m.past, l)
	m.late = append(m.late, want...)
}

// lateResult is one of an assignment that was released.
func (m *model) lateResult() bool {
	ev, ok := one(m, m.late)
	if !ok {
		return false
	}
	m.must(ev.item.Over(), "%v is not over, though its partition was released", ev)
	m.must(!m.engine.Done(ev.item), "the late result of %v counts, though its partition was released", ev)
	m.must(!m.engine.Unpark(ev.item), "%v starts again, though its partition was released", ev)
	m.engine.Abandon(ev.item)
	m.late = slices.DeleteFunc(m.late, func(other *event) bool { return other == ev })
	return true
}

// crash loses all but the logs and what is committed, maybe with a commit under way.
func (m *model) crash() bool {
	if m.choose(4) > 0 {
		return false
	}
	if m.asked != nil && m.choose(2) == 0 {
		m.asked.of.log.committed = m.asked.to
	}
	m.note("crash")
	m.begin()
	return true
}
