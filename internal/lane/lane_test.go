package lane_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dreamscape/eventbus/internal/lane"
)

// one is a lane of the test's, beside what plain lists say of it.
type one struct {
	n       int
	lane    lane.Lane[value]
	values  []value
	running bool
	parked  bool
	dropped bool
}

// value knows its lane, as the callers' do.
type value struct {
	of *one
	n  int
}

// naive is the order of the ready lanes.
type naive []*one

func (n *naive) push(k *one, v value) {
	if len(k.values) == 0 {
		*n = append(*n, k)
	}
	k.values = append(k.values, v)
}

func (n *naive) done(k *one) {
	k.running, k.parked = false, false
	if k.dropped {
		return
	}
	if k.values = k.values[1:]; len(k.values) > 0 {
		*n = append(*n, k)
	}
}

// machine runs lanes that share slots beside naive ones, and compares after every step.
type machine struct {
	slots *lane.Slots
	lanes []*lane.Lanes[value]
	naive []*naive
	ones  [][]*one // of each
	last  int
}

const names = 6

func (m *machine) fresh(i, n int) *one {
	m.last++
	k := &one{n: m.last}
	if n == len(m.ones[i]) {
		m.ones[i] = append(m.ones[i], k)
	}
	m.ones[i][n] = k
	return k
}

func (m *machine) anyOf(t *rapid.T) (*lane.Lanes[value], *naive, int) {
	i := rapid.IntRange(0, len(m.lanes)-1).Draw(t, "lanes")
	return m.lanes[i], m.naive[i], i
}

// among draws a lane of which something is so.
func (m *machine) among(t *rapid.T, i int, so func(*one) bool) *one {
	var those []*one
	for _, k := range m.ones[i] {
		if so(k) {
			those = append(those, k)
		}
	}
	if len(those) == 0 {
		t.Skip("none")
	}
	return rapid.SampledFrom(those).Draw(t, "lane")
}

func (k *one) String() string { return fmt.Sprint(k.n) }

func isRunning(k *one) bool { return k.running }
func isParked(k *one) bool  { return k.parked }

func (m *machine) push(t *rapid.T) {
	l, n, i := m.anyOf(t)
	k := m.among(t, i, func(k *one) bool { return !k.dropped })
	for range rapid.IntRange(1, 3).Draw(t, "values") {
		m.last++
		v := value{k, m.last}
		l.Push(&k.lane, v)
		n.push(k, v)
	}
}

func (m *machine) next(t *rapid.T) {
	l, n, _ := m.anyOf(t)
	v, ok := l.Next()
	require.Equal(t, len(*n) > 0 && m.running() < m.slots.Total(), ok, "it waits only for a ready lane and a slot")
	if !ok {
		return
	}
	k := (*n)[0]
	require.Same(t, k, v.of, "the lane that was ready longest")
	require.Equal(t, k.values[0].n, v.n, "the first of its values")
	require.False(t, k.running, "one of a lane at once")
	*n, k.running = (*n)[1:], true
}

func (m *machine) done(t *rapid.T) {
	l, n, i := m.anyOf(t)
	k := m.among(t, i, isRunning)
	l.Done(&k.lane)
	n.done(k)
}

// doneParked ends a value that waits, as one whose dead letter was written.
func (m *machine) doneParked(t *rapid.T) {
	l, n, i := m.anyOf(t)
	k := m.among(t, i, isParked)
	l.Done(&k.lane)
	n.done(k)
}

func (m *machine) park(t *rapid.T) {
	l, _, i := m.anyOf(t)
	k := m.among(t, i, isRunning)
	l.Park(&k.lane)
	k.running, k.parked = false, !k.dropped
}

func (m *machine) giveBack(t *rapid.T) {
	l, n, i := m.anyOf(t)
	k := m.among(t, i, isRunning)
	l.Return(&k.lane)
	if k.running = false; !k.dropped {
		*n = slices.Insert(*n, 0, k)
	}
}

func (m *machine) unpark(t *rapid.T) {
	l, n, i := m.anyOf(t)
	k := m.among(t, i, isParked)
	require.True(t, l.Unpark(&k.lane))
	require.False(t, l.Unpark(&k.lane))
	k.parked = false
	*n = append(*n, k)
}

// drop drops some lanes, and has others in their places where nothing of them runs.
func (m *machine) drop(t *rapid.T) {
	l, n, i := m.anyOf(t)
	var those []*lane.Lane[value]
	for at, k := range m.ones[i] {
		if !rapid.Bool().Draw(t, "drop") {
			continue
		}
		those = append(those, &k.lane, &k.lane)
		k.values, k.parked, k.dropped = nil, false, true
		if !k.running {
			m.fresh(i, at)
		}
	}
	l.Drop(slices.Values(those))
	*n = slices.DeleteFunc(*n, func(k *one) bool { return k.dropped })
}

// renew has another lane in the place of one that was dropped, and of which nothing runs any longer.
func (m *machine) renew(t *rapid.T) {
	l, _, i := m.anyOf(t)
	k := m.among(t, i, func(k *one) bool { return k.dropped && !k.running })
	require.False(t, l.Unpark(&k.lane))
	m.fresh(i, slices.Index(m.ones[i], k))
}

func (m *machine) running() (sum int) {
	for _, ones := range m.ones {
		for _, k := range ones {
			if k.running {
				sum++
			}
		}
	}
	return sum
}

func (m *machine) check(t *rapid.T) {
	require.Equal(t, m.running(), m.slots.Used())
	require.LessOrEqual(t, m.slots.Used(), m.slots.Total())
	require.Equal(t, m.slots.Used() < m.slots.Total(), m.slots.Free())
	for i, l := range m.lanes {
		require.Equal(t, len(*m.naive[i]), l.Ready())
		for _, k := range m.ones[i] {
			require.Equal(t, len(k.values), k.lane.Len())
		}
	}
}

func TestLanesDoWhatPlainListsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{slots: lane.NewSlots(rapid.IntRange(1, 4).Draw(t, "slots"))}
		for i := range rapid.IntRange(1, 3).Draw(t, "sharing") {
			m.lanes, m.naive, m.ones = append(m.lanes, lane.New[value](m.slots)), append(m.naive, &naive{}), append(m.ones, nil)
			for n := range names {
				m.fresh(i, n)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": m.push, "push more": m.push, "next": m.next, "next more": m.next, "done": m.done, "done more": m.done,
			"done parked": m.doneParked, "park": m.park, "unpark": m.unpark, "give back": m.giveBack, "drop": m.drop, "renew": m.renew, "": m.check,
		})
	})
}

func TestMisusePanics(t *testing.T) {
	l := lane.New[int](lane.NewSlots(3))
	var empty, ready, parked, dropped, over lane.Lane[int]
	l.Push(&parked, 1)
	l.Push(&dropped, 1)
	l.Push(&over, 1)
	for range 3 {
		l.Next()
	}
	l.Park(&parked)
	l.Push(&ready, 1)
	l.Drop(slices.Values([]*lane.Lane[int]{&dropped, &over}))
	l.Done(&over)
	for name, test := range map[string]struct {
		text string
		call func()
	}{
		"no slots":             {"lane: 0 slots, need at least 1", func() { lane.NewSlots(0) }},
		"done of nothing":      {"lane: Done of a lane that does not run: it is empty", func() { l.Done(&empty) }},
		"park of nothing":      {"lane: Park of a lane that does not run: it is empty", func() { l.Park(&empty) }},
		"done of a ready":      {"lane: Done of a lane that does not run: it is ready", func() { l.Done(&ready) }},
		"park of a parked":     {"lane: Park of a lane that does not run: it is parked", func() { l.Park(&parked) }},
		"push to a dropped":    {"lane: Push to a lane that was dropped", func() { l.Push(&dropped, 2) }},
		"push to what is over": {"lane: Push to a lane that was dropped", func() { l.Push(&over, 2) }},
		"done twice":           {"lane: Done of a lane that does not run: it was dropped", func() { l.Done(&over) }},
	} {
		t.Run(name, func(t *testing.T) { require.PanicsWithValue(t, test.text, test.call) })
	}
	require.False(t, l.Unpark(&empty))
	require.False(t, l.Unpark(&ready))
}

type large struct{ _ [1 << 16]byte }

// gone fails where something still keeps what the pointers pointed to.
func gone(t *testing.T, pointers ...weak.Pointer[large]) {
	t.Helper()
	runtime.GC()
	for i, p := range pointers {
		require.Nil(t, p.Value(), "value %d is kept alive", i)
	}
}

func TestNothingKeepsWhatIsOver(t *testing.T) {
	l := lane.New[*large](lane.NewSlots(1))
	var a, b lane.Lane[*large]
	push := func(ln *lane.Lane[*large]) weak.Pointer[large] {
		v := new(large)
		l.Push(ln, v)
		return weak.Make(v)
	}
	first, second, other := push(&a), push(&a), push(&b)
	l.Next()
	l.Done(&a)
	gone(t, first)
	l.Next() // of b
	require.NotNil(t, second.Value())
	require.NotNil(t, other.Value())
	l.Drop(slices.Values([]*lane.Lane[*large]{&a, &b}))
	gone(t, second, other)
	runtime.KeepAlive(l)
	runtime.KeepAlive(&a)
	runtime.KeepAlive(&b)
}

func TestLanesThatAreNeverEmptyDoNotGrow(t *testing.T) {
	type wide struct {
		of *lane.Lane[wide]
		_  [16]int
	}
	l := lane.New[wide](lane.NewSlots(1))
	for range 3 {
		ln := new(lane.Lane[wide])
		l.Push(ln, wide{of: ln})
		l.Push(ln, wide{of: ln})
	}
	before := allocated()
	for range 100_000 {
		v, ok := l.Next()
		require.True(t, ok)
		l.Push(v.of, v)
		l.Done(v.of)
	}
	require.Less(t, allocated()-before, uint64(1<<20), "of 13.6 MB that went through")
}

func TestMemoryOfABurstIsFreed(t *testing.T) {
	l := lane.New[[16]int](lane.NewSlots(1))
	var ln lane.Lane[[16]int]
	before := inUse()
	for range 100_000 {
		l.Push(&ln, [16]int{})
	}
	require.Greater(t, inUse()-before, int64(12_000_000))
	for range 99_990 {
		l.Next()
		l.Done(&ln)
	}
	require.Less(t, inUse()-before, int64(100_000), "ten are left")
	require.Equal(t, 10, ln.Len())
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkLanes is what a value costs that finds its lane with or without company.
func BenchmarkLanes(b *testing.B) {
	for name, n := range map[string]int{"one lane": 1, "1000 lanes": 1000} {
		b.Run(name, func(b *testing.B) {
			l := lane.New[int](lane.NewSlots(1))
			lanes := make([]lane.Lane[int], n)
			for i := range 1000 {
				l.Push(&lanes[i%n], i%n)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				l.Push(&lanes[i%n], i%n)
				of, _ := l.Next()
				l.Done(&lanes[of])
			}
		})
	}
}
