package engine_test

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/engine"
)

// Keys come and go for as long as an assignment lasts: nothing of one is left when its events are done.
func TestNothingIsLeftOfAKey(t *testing.T) {
	e := engine.New[int](1, 1, engine.Limits{Records: 10, Bytes: 1 << 20, Span: 100}, engine.NewBudget(10, 1<<20))
	p := e.Assign(0)
	run := func(from, n int) {
		for i := range n {
			e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(from + i), Key: strconv.Itoa(from + i), Keyed: true, Free: i%3 == 0}})
			it := e.Next()
			if i%2 == 0 {
				e.Park(it)
				e.Unpark(it)
				it = e.Next()
			}
			e.Done(it)
		}
	}
	run(0, 1000)
	before := inUse()
	run(1000, 100_000)
	require.Less(t, inUse()-before, int64(100_000))
	runtime.KeepAlive(e)
	runtime.KeepAlive(p)
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
