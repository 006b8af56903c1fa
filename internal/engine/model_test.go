package engine_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/progress"
)

// choose returns one of n numbers from 0 on. All chance of a model comes from it, so the same answers are the same run.
type choose func(n int) int

// model is a member of a group: an engine, a caller as consumers are one, partitions and what is committed of them. Beside the engine it
// keeps what must be true, and compares after every step.
type model struct {
	t      require.TestingT
	choose choose
	bug    engine.Bug
	limits engine.Limits
	slots  int
	routes int
	logs   []*log

	// What follows ends with a crash.
	engine *engine.Engine[*event]
	budget *engine.Budget
	plain  *plain
	lives  []*life  // that are owned, or stopped and not released yet
	past   []*life  // released ones
	late   []*event // what still runs of them
	asked  *asked   // a commit without an answer yet

	born  int
	trace []string // of what was decided
}

// asked is a commit on its way.
type asked struct {
	of     *life
	commit engine.Commit[*event]
	to     committed
	head   int64
	done   []int64
}

func newModel(t require.TestingT, choose choose, bug engine.Bug) *model {
	m := &model{t: t, choose: choose, bug: bug, slots: 1 + choose(3), routes: 1 + choose(2)}
	m.limits = engine.Limits{Records: 1 + choose(8), Bytes: 1 + choose(24), Span: int64(1 + choose(12))}
	for n := range 1 + choose(3) {
		m.logs = append(m.logs, &log{n: n, committed: committed{offset: -1}})
	}
	m.begin()
	return m
}

// begin is the start of the process.
func (m *model) begin() {
	m.budget = engine.NewBudget(1000, 1000)
	m.engine = engine.New[*event](m.slots, m.routes, m.limits, m.budget)
	m.engine.Seed(m.bug)
	m.plain = &plain{slots: m.slots, lanes: map[lane][]*event{}, ready: make([][]lane, m.routes), held: make([]bool, m.routes)}
	m.lives, m.past, m.late, m.asked = nil, nil, nil, nil
}

// must ends the run unless ok.
func (m *model) must(ok bool, format string, args ...any) {
	if ok {
		return
	}
	m.t.Errorf("%s, after\n%s", fmt.Sprintf(format, args...), strings.Join(m.trace[max(0, len(m.trace)-60):], "\n"))
	m.t.FailNow()
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (ev *event) String() string { return fmt.Sprintf("%v@%d", ev.of, ev.offset) }

func (l *life) String() string { return fmt.Sprintf("p%d.%d", l.log.n, l.n) }

// action does something, and says whether it could.
type action struct {
	name string
	do   func(*model) bool
}

// actions are what a script chooses from; what is there twice is chosen twice as often.
func actions() []action {
	return []action{
		{"write", (*model).write}, {"assign", (*model).assign}, {"assign more", (*model).assign},
		{"fetch", (*model).fetch}, {"fetch more", (*model).fetch}, {"fetch most", (*model).fetch},
		{"start", (*model).start}, {"start more", (*model).start}, {"start most", (*model).start}, {"probe", (*model).probe},
		{"handle", (*model).handle}, {"handle more", (*model).handle}, {"give back", (*model).giveBack}, {"fail", (*model).fail}, {"settle", (*model).settle},
		{"wake", (*model).wake}, {"wake more", (*model).wake}, {"stray", (*model).stray}, {"letter", (*model).letter},
		{"commit", (*model).commit}, {"commit more", (*model).commit}, {"answer", (*model).answer}, {"answer more", (*model).answer},
		{"late result", (*model).lateResult}, {"hold", (*model).hold}, {"stop", (*model).stop}, {"release", (*model).release},
		{"truncate", (*model).truncate}, {"crash", (*model).crash},
	}
}

// one chooses of a list; false where it is empty.
func one[T any](m *model, list []T) (T, bool) {
	if len(list) == 0 {
		var none T
		return none, false
	}
	return list[m.choose(len(list))], true
}

// in are the events of all assignments in one of some phases.
func (m *model) in(phases ...phase) (events []*event) {
	for _, l := range m.lives {
		events = append(events, l.in(phases...)...)
	}
	return events
}

func (m *model) write() bool {
	g := m.logs[m.choose(len(m.logs))]
	for range 1 + m.choose(4) {
		g.write(m.choose)
	}
	return true
}

func (m *model) truncate() bool {
	g := m.logs[m.choose(len(m.logs))]
	if len(g.records) == 0 || m.choose(3) > 0 {
		return false
	}
	g.truncate(m.choose(len(g.records)))
	m.note("truncate p%d to %d", g.n, g.end)
	return true
}

// assign gives the member a partition that it does not have.
func (m *model) assign() bool {
	free := slices.DeleteFunc(slices.Clone(m.logs), func(g *log) bool {
		return slices.ContainsFunc(m.lives, func(l *life) bool { return l.log == g })
	})
	g, ok := one(m, free)
	if !ok {
		return false
	}
	l := m.assignAt(g, max(g.committed.offset, 0), g.committed.epoch)
	if m.choose(2) == 0 { // or with the first records
		m.resume(l)
	}
	return true
}

func (m *model) assignAt(g *log, offset int64, epoch int32) *life {
	m.born++
	l := &life{n: m.born, log: g, route: g.n % m.routes, owned: true, head: -1, next: offset, epoch: epoch, open: map[int64]*record{}}
	l.part = m.engine.Assign(l.route)
	m.lives = append(m.lives, l)
	m.note("assign %v", l)
	return l
}

// fetch takes some records of a partition that is not paused.
func (m *model) fetch() bool {
	l, ok := one(m, slices.DeleteFunc(slices.Clone(m.lives), func(l *life) bool { return l.paused || l.stopped }))
	if ok {
		m.fetchOf(l, 1+m.choose(batch))
	}
	return ok
}

// batch is how many records come at once at most.
const batch = 3

func (m *model) fetchOf(l *life, n int) {
	l.next = l.log.position(l.next, l.epoch)
	records := l.log.from(l.next, n)
	if len(records) == 0 {
		return
	}
	if l.part.Rewound(records[0].offset) {
		m.must(l.fetched && records[0].offset < l.head, "%v is taken for rewound", l)
		m.replace(l)
		return
	}
	if !l.part.Begun() {
		m.resume(l)
	}
	unhandled := l.log.lost(records[0].offset)
	m.must(l.fetched || unhandled == nil, "%v begins at %d: lost %v", l, records[0].offset, unhandled)
	for _, r := range records {
		m.add(l, r)
	}
	l.next = l.head
	m.note("fetch %v to %d", l, l.head)
}

// replace has a partition begin anew, whose log was truncated below what was taken: where it is not done, or where the log ended. It does not wait
// for a commit that is under way.
func (m *model) replace(l *life) {
	from, epoch, paused := min(l.next, l.part.Position()), l.part.Epoch(), l.paused
	m.releaseOf(l)
	again := m.assignAt(l.log, from, epoch)
	again.paused = paused
	again.part.Resume(from, epoch, progress.Map{})
	again.head = from
}

func (m *model) resume(l *life) {
	c := l.log.committed
	if c.offset < 0 {
		return
	}
	text, err := progress.Decode(c.text)
	m.must(err == nil, "%q is no map: %v", c.text, err)
	l.part.Resume(c.offset, c.epoch, text)
	l.resume(c)
	if m.choose(8) == 0 {
		l.part.Forget()
		l.skip = nil
	}
}

func (m *model) add(l *life, r *record) {
	due := l.add(r)
	if r.marker {
		m.engine.Pass(l.part, r.offset, r.epoch)
		return
	}
	ev := &event{record: r, of: l, lane: l.lane(r), is: queued}
	ev.item = &engine.Item[*event]{Value: ev, Record: engine.Record{
		Offset: r.offset, Epoch: r.epoch, Size: r.size, Key: r.key, Keyed: r.keyed, Free: r.free,
	}}
	if !m.engine.Add(l.part, ev.item) {
		m.note("skip %v", ev)
		m.must(r.handled, "%v was left out, and nobody has handled it", ev)
		m.must(!due, "%v was left out, which the map does not say", ev)
		l.skipped++
		return
	}
	m.must(due, "%v comes again, which the map says is done", ev)
	l.flight = append(l.flight, ev)
	m.plain.push(ev)
}

// start starts what is next.
func (m *model) start() bool {
	ready := m.engine.Ready()
	it := m.engine.Next()
	m.must(ready == (it != nil), "it says that one may start: %v", ready)
	m.started(it, m.plain.next())
	return it != nil
}

// probe starts an event of a route that may be held.
func (m *model) probe() bool {
	route := m.choose(m.routes)
	it := m.engine.NextOf(route)
	m.started(it, m.plain.nextOf(route))
	return it != nil
}

func (m *model) started(it *engine.Item[*event], want *event) {
	if it == nil {
		m.must(want == nil, "%v does not start, though a slot is free", want)
		return
	}
	ev := it.Value
	m.note("start %v", ev)
	m.must(ev.is == queued, "%v is started while it is %s", ev, ev.is)
	for _, other := range ev.of.flight {
		m.must(other.lane != ev.lane || other.offset >= ev.offset, "%v is started before %v of its lane is done", ev, other)
		m.must(other.lane != ev.lane || other.is != running, "%v is started beside %v of its lane", ev, other)
	}
	m.must(ev == want, "%v is started, and %v was ready for longer", ev, want)
	ev.is = running
}

// handle ends a running event well. What a partition that stops still runs counts as well.
func (m *model) handle() bool {
	ev, ok := one(m, m.in(running))
	if ok {
		m.done(ev)
	}
	return ok
}

// done ends an event for good.
func (m *model) done(ev *event) {
	m.must(m.engine.Done(ev.item), "the result of %v does not count", ev)
	m.note("done %v", ev)
	ev.handled, ev.of.passed = true, true
	delete(ev.of.open, ev.offset)
	m.ended(ev)
}

func (m *model) ended(ev *event) {
	ev.of.end(ev)
	m.plain.end(ev)
}

// fail ends a try badly: the event parks, or comes again where its partition stops.
func (m *model) fail() bool {
	ev, ok := one(m, m.in(running))
	if !ok {
		return false
	}
	if ev.of.stopped {
		m.engine.Abandon(ev.item)
		m.ended(ev)
		return true
	}
	m.park(ev)
	return true
}

// giveBack has an event that was started, and not begun, be the next again.
func (m *model) giveBack() bool {
	ev, ok := one(m, slices.DeleteFunc(m.in(running), func(ev *event) bool { return ev.of.stopped }))
	if ok {
		m.engine.Return(ev.item)
		m.plain.unstart(ev)
		ev.is = queued
		m.note("give back %v", ev)
	}
	return ok
}

func (m *model) park(ev *event) {
	m.engine.Park(ev.item)
	m.plain.rest(ev)
	ev.is = parked
	m.note("park %v, %d behind", ev, m.engine.Behind(ev.item))
}

// settle gives an event up: its dead letter is on its way.
func (m *model) settle() bool {
	ev, ok := one(m, m.in(running))
	if !ok {
		return false
	}
	m.engine.Settle(ev.item)
	m.plain.rest(ev)
	ev.is = settling
	m.note("settle %v", ev)
	if m.bug == engine.ForgetLetter {
		m.engine.Done(ev.item)
	}
	return true
}

// letter tells what became of a dead letter.
func (m *model) letter() bool {
	ev, ok := one(m, m.in(settling))
	switch {
	case !ok:
		return false
	case m.choose(3) > 0:
		m.done(ev)
	case ev.of.stopped:
		m.engine.Abandon(ev.item)
		m.ended(ev)
	default:
		m.park(ev)
	}
	return true
}

// wake lets a parked event start again.
func (m *model) wake() bool {
	ev, ok := one(m, m.in(parked))
	if !ok {
		return false
	}
	m.must(m.engine.Unpark(ev.item), "%v stays parked", ev)
	m.note("wake %v", ev)
	ev.is = queued
	m.plain.wake(ev)
	return true
}

// stray is a timer that fires too late: its event was started, or given up, meanwhile.
func (m *model) stray() bool {
	ev, ok := one(m, m.in(queued, running, settling))
	if ok {
		m.must(!m.engine.Unpark(ev.item), "%v is %s and was not parked", ev, ev.is)
	}
	return ok
}

func (m *model) hold() bool {
	route := m.choose(m.routes)
	m.plain.held[route] = !m.plain.held[route]
	m.engine.Hold(route, m.plain.held[route])
	return true
}
