package lane_test

import (
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dreamscape/eventbus/internal/lane"
)

// key is a key as the callers' are: what an assignment had never comes back after it.
type key struct{ assignment, name int }

// naive says what lanes do, by plain lists.
type naive struct {
	values  map[key][]int
	order   []key // of the ready lanes
	running map[key]bool
	parked  map[key]bool
}

func (n *naive) push(k key, v int) {
	if len(n.values[k]) == 0 {
		n.order = append(n.order, k)
	}
	n.values[k] = append(n.values[k], v)
}

func (n *naive) done(k key) {
	delete(n.running, k)
	delete(n.parked, k)
	if len(n.values[k]) == 0 { // dropped
		return
	}
	if n.values[k] = n.values[k][1:]; len(n.values[k]) > 0 {
		n.order = append(n.order, k)
	}
}

func (n *naive) drop(assignment int) {
	of := func(k key) bool { return k.assignment == assignment }
	for k := range n.values {
		if of(k) {
			delete(n.values, k)
			delete(n.parked, k)
		}
	}
	n.order = slices.DeleteFunc(n.order, of)
}

// machine runs lanes that share slots beside a naive one each, and compares after every step.
type machine struct {
	slots      *lane.Slots
	lanes      []*lane.Lanes[key, int]
	naive      []*naive
	assignment int
	last       int
}

func (m *machine) anyOf(t *rapid.T) (*lane.Lanes[key, int], *naive) {
	i := rapid.IntRange(0, len(m.lanes)-1).Draw(t, "lanes")
	return m.lanes[i], m.naive[i]
}

// oneOf draws a key of a set, in an order that the seed alone decides.
func oneOf(t *rapid.T, set map[key]bool) key {
	keys := make([]key, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		t.Skip("none")
	}
	slices.SortFunc(keys, func(a, b key) int { return (a.assignment-b.assignment)*1000 + a.name - b.name })
	return rapid.SampledFrom(keys).Draw(t, "key")
}

func (m *machine) push(t *rapid.T) {
	l, n := m.anyOf(t)
	k := key{m.assignment - rapid.IntRange(0, 1).Draw(t, "assignment"), rapid.IntRange(0, 5).Draw(t, "name")}
	for range rapid.IntRange(1, 3).Draw(t, "values") {
		m.last++
		l.Push(k, m.last)
		n.push(k, m.last)
	}
}

func (m *machine) next(t *rapid.T) {
	l, n := m.anyOf(t)
	k, v, ok := l.Next()
	require.Equal(t, len(n.order) > 0 && m.running() < m.slots.Total(), ok, "it waits only for a ready lane and a slot")
	if !ok {
		return
	}
	require.Equal(t, n.order[0], k, "the lane that was ready longest")
	require.Equal(t, n.values[k][0], v, "the first of its values")
	require.False(t, n.running[k], "one of a key at once")
	n.order, n.running[k] = n.order[1:], true
}

func (m *machine) done(t *rapid.T) {
	l, n := m.anyOf(t)
	k := oneOf(t, n.running)
	l.Done(k)
	n.done(k)
}

// doneParked ends a value that waits, as one whose dead letter was written.
func (m *machine) doneParked(t *rapid.T) {
	l, n := m.anyOf(t)
	k := oneOf(t, n.parked)
	l.Done(k)
	n.done(k)
}

func (m *machine) park(t *rapid.T) {
	l, n := m.anyOf(t)
	k := oneOf(t, n.running)
	l.Park(k)
	delete(n.running, k)
	if len(n.values[k]) > 0 {
		n.parked[k] = true
	}
}

func (m *machine) unpark(t *rapid.T) {
	l, n := m.anyOf(t)
	k := oneOf(t, n.parked)
	require.True(t, l.Unpark(k))
	require.False(t, l.Unpark(k))
	delete(n.parked, k)
	n.order = append(n.order, k)
}

func (m *machine) drop(t *rapid.T) {
	old := m.assignment - 1
	for i, l := range m.lanes {
		l.Drop(func(k key) bool { return k.assignment == old })
		m.naive[i].drop(old)
	}
	m.assignment++
}

func (m *machine) running() int {
	sum := 0
	for _, n := range m.naive {
		sum += len(n.running)
	}
	return sum
}

func (m *machine) check(t *rapid.T) {
	require.Equal(t, m.running(), m.slots.Used())
	require.LessOrEqual(t, m.slots.Used(), m.slots.Total())
	require.Equal(t, m.slots.Used() < m.slots.Total(), m.slots.Free())
	for i, l := range m.lanes {
		n := m.naive[i]
		values := 0
		for k, vs := range n.values {
			values += len(vs)
			require.Equal(t, len(vs), l.Queued(k))
		}
		require.Equal(t, []int{values, len(n.order), len(n.parked), len(n.running)}, []int{l.Len(), l.Ready(), l.Parked(), l.Running()})
	}
}

func TestLanesDoWhatPlainListsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{slots: lane.NewSlots(rapid.IntRange(1, 4).Draw(t, "slots")), assignment: 1}
		for range rapid.IntRange(1, 3).Draw(t, "sharing") {
			m.lanes = append(m.lanes, lane.New[key, int](m.slots))
			m.naive = append(m.naive, &naive{values: map[key][]int{}, running: map[key]bool{}, parked: map[key]bool{}})
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": m.push, "push more": m.push, "next": m.next, "next more": m.next, "done": m.done, "done more": m.done,
			"done parked": m.doneParked, "park": m.park, "unpark": m.unpark, "drop": m.drop, "": m.check,
		})
	})
}

func TestMisusePanics(t *testing.T) {
	l := lane.New[string, int](lane.NewSlots(2))
	l.Push("ready", 1)
	l.Push("parked", 1)
	l.Push("dropped", 1)
	for range 2 {
		l.Next()
	}
	l.Park("parked")
	l.Done("ready")
	l.Push("ready", 2)
	l.Next()
	l.Drop(func(k string) bool { return k == "dropped" })
	for name, test := range map[string]struct {
		text string
		call func()
	}{
		"no slots":          {"lane: 0 slots, need at least 1", func() { lane.NewSlots(0) }},
		"done of nothing":   {"lane: Done of a key without a lane", func() { l.Done("none") }},
		"park of nothing":   {"lane: Park of a key without a lane", func() { l.Park("none") }},
		"done of a ready":   {"lane: Done of a key that does not run: it is ready", func() { l.Done("ready") }},
		"park of a parked":  {"lane: Park of a key that does not run: it is parked", func() { l.Park("parked") }},
		"push to a dropped": {"lane: Push to a key that was dropped", func() { l.Push("dropped", 2) }},
	} {
		t.Run(name, func(t *testing.T) { require.PanicsWithValue(t, test.text, test.call) })
	}
	require.False(t, l.Unpark("none"))
	require.False(t, l.Unpark("ready"))
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
	l := lane.New[string, *large](lane.NewSlots(1))
	push := func(k string) weak.Pointer[large] {
		v := new(large)
		l.Push(k, v)
		return weak.Make(v)
	}
	first, second, other := push("a"), push("a"), push("b")
	l.Next()
	l.Done("a")
	gone(t, first)
	l.Next() // of b
	require.NotNil(t, second.Value())
	require.NotNil(t, other.Value())
	l.Drop(func(string) bool { return true })
	gone(t, second, other)
	require.Equal(t, 1, l.Running())
	l.Done("b")
	require.Zero(t, l.Running())
	runtime.KeepAlive(l)
}

func TestLanesThatAreNeverEmptyDoNotGrow(t *testing.T) {
	l := lane.New[int, [16]int](lane.NewSlots(1))
	for k := range 3 {
		l.Push(k, [16]int{})
		l.Push(k, [16]int{})
	}
	before := allocated()
	for range 100_000 {
		k, v, ok := l.Next()
		require.True(t, ok)
		l.Push(k, v)
		l.Done(k)
	}
	require.Less(t, allocated()-before, uint64(1<<20), "of 12.8 MB that went through")
}

func TestMemoryOfABurstIsFreed(t *testing.T) {
	l := lane.New[int, [16]int](lane.NewSlots(1))
	before := inUse()
	for range 100_000 {
		l.Push(1, [16]int{})
	}
	require.Greater(t, inUse()-before, int64(12_000_000))
	for range 99_990 {
		l.Next()
		l.Done(1)
	}
	require.Less(t, inUse()-before, int64(100_000), "ten are left")
	require.Equal(t, 10, l.Queued(1))
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

// BenchmarkLanes is what an event costs that finds its key with or without company.
func BenchmarkLanes(b *testing.B) {
	for name, keys := range map[string]int{"one key": 1, "1000 keys": 1000} {
		b.Run(name, func(b *testing.B) {
			l := lane.New[int, int](lane.NewSlots(1))
			for i := range 1000 {
				l.Push(i%keys, i)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				l.Push(i%keys, i)
				k, _, _ := l.Next()
				l.Done(k)
			}
		})
	}
}
