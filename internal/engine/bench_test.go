package engine_test

import (
	"strconv"
	"testing"

	"github.com/dreamscape/eventbus/internal/engine"
)

// BenchmarkEvent is what an event costs from its arrival to the commit that passes it, among a thousand others: with a commit for each, and with one
// for a thousand, as it is where many events a second come.
func BenchmarkEvent(b *testing.B) {
	for name, test := range map[string]struct {
		keys, each int
		keyed      bool
	}{
		"1000 keys": {1000, 1000, true}, "one key": {1, 1000, true}, "no key": {1, 1000, false}, "1000 keys, a commit each": {1000, 1, true},
	} {
		b.Run(name, func(b *testing.B) {
			e := engine.New[int](64, 1, engine.Limits{Records: 10_000, Bytes: 1 << 20, Span: 100_000}, engine.NewBudget(100_000, 1<<26))
			p := e.Assign(0)
			keys := make([]string, test.keys)
			for i := range keys {
				keys[i] = strconv.Itoa(i)
			}
			add := func(n int) {
				e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(n), Size: 100, Key: keys[n%len(keys)], Keyed: test.keyed}})
			}
			for n := range 1000 {
				add(n)
			}
			b.ReportAllocs()
			n := 1000
			for b.Loop() {
				add(n)
				n++
				e.Done(e.Next())
				if n%test.each == 0 {
					c, _ := e.Commit(p, lineage)
					e.Committed(c)
				}
			}
		})
	}
}

// BenchmarkBehindAParkedKey is the same with a parked event at the watermark, whose followers are all done but for some thousand.
func BenchmarkBehindAParkedKey(b *testing.B) {
	e := engine.New[int](64, 1, engine.Limits{Records: 10_000, Bytes: 1 << 20, Span: 100_000}, engine.NewBudget(100_000, 1<<26))
	p := e.Assign(0)
	add := func(n int) {
		e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(n), Size: 100, Key: strconv.Itoa(n % 1000), Keyed: true}})
	}
	add(0)
	e.Park(e.Next())
	n := 1
	b.ReportAllocs()
	for b.Loop() {
		if add(n); n%1000 != 0 { // else it waits behind the parked one
			e.Done(e.Next())
		}
		if n++; n%1000 == 0 {
			c, _ := e.Commit(p, lineage)
			c.Map.Encode(4096)
			e.Committed(c)
		}
	}
}
