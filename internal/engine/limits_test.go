package engine_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/engine"
)

// filled is a partition that holds n records of two bytes, from an offset on.
func filled(e *engine.Engine[int], n int) *engine.Partition[int] {
	p := e.Assign(0)
	for i := range n {
		e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(i), Size: 2, Key: fmt.Sprint(i), Keyed: true}})
	}
	return p
}

func TestFull(t *testing.T) {
	wide := engine.Limits{Records: 1000, Bytes: 1000, Span: 1000}
	limits := func(records, bytes int, span int64) engine.Limits {
		return engine.Limits{Records: records, Bytes: bytes, Span: span}
	}
	roomy := engine.NewBudget(1000, 1000)
	for name, test := range map[string]struct {
		limits  engine.Limits
		budget  *engine.Budget
		records int
		full    string
		paused  string // once it is paused
	}{
		"nothing":                           {limits(1, 1, 1), engine.NewBudget(1, 1), 0, "", ""},
		"one of one":                        {limits(1, 9, 9), roomy, 1, "records in flight", "records in flight"},
		"below the records":                 {limits(10, 1000, 1000), roomy, 9, "", "records in flight"},
		"half of the records":               {limits(10, 1000, 1000), roomy, 5, "", ""},
		"at the bytes":                      {limits(1000, 20, 1000), roomy, 10, "bytes in flight", "bytes in flight"},
		"half of the bytes":                 {limits(1000, 20, 1000), roomy, 5, "", ""},
		"at the span":                       {limits(1000, 1000, 10), roomy, 10, "span", "span"},
		"half of the span":                  {limits(1000, 1000, 10), roomy, 5, "", ""},
		"the bus is full, by records":       {wide, engine.NewBudget(50, 1000), engine.Share, "in flight on the bus", "in flight on the bus"},
		"the bus is full, by bytes":         {wide, engine.NewBudget(1000, 50), engine.Share, "in flight on the bus", "in flight on the bus"},
		"the bus is full, a share is free":  {wide, engine.NewBudget(50, 50), engine.Share - 1, "", ""},
		"the bus was full, and half is not": {wide, engine.NewBudget(150, 1000), engine.Share, "", "in flight on the bus"},
		"the bus was full, and half is":     {wide, engine.NewBudget(200, 400), engine.Share, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New[int](1, 1, test.limits, test.budget)
			p := filled(e, test.records)
			defer e.Release(p)
			require.Equal(t, test.full, e.Full(p, false))
			require.Equal(t, test.paused, e.Full(p, true))
			e.Hold(0, true)
			if test.records > 0 {
				require.Equal(t, "held", e.Full(p, false), "it has one to probe with")
				return
			}
			require.Empty(t, e.Full(p, true), "it needs one to probe with")
		})
	}
}

// What waits behind a failing event of its key cannot be tried, so it is nothing to probe with.
func TestHeldFetchesUntilAnEventMayStart(t *testing.T) {
	e := engine.New[int](1, 1, engine.Limits{Records: 10, Bytes: 10_000, Span: 1000}, engine.NewBudget(1000, 10_000))
	p := e.Assign(0)
	add := func(offset int64, key string) {
		e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: offset, Size: 1, Key: key, Keyed: true}})
	}
	add(0, "k")
	e.Park(e.Next())
	e.Hold(0, true)
	add(1, "k")
	require.Empty(t, e.Full(p, false))
	add(2, "l")
	require.Equal(t, "held", e.Full(p, false))
}

// A partition's share is bounded by bytes too: a hundred large records would be more than the bus may have.
func TestAShareIsBoundedByBytes(t *testing.T) {
	e := engine.New[int](1, 1, engine.Limits{Records: 1000, Bytes: 8 << 20, Span: 1000}, engine.NewBudget(1000, 2<<20))
	p := e.Assign(0)
	add := func(offset int64) {
		e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: offset, Size: engine.ShareBytes - 1, Key: "k", Keyed: true}})
	}
	add(0)
	require.Empty(t, e.Full(p, false))
	add(1)
	require.Empty(t, e.Full(p, false))
	add(2)
	require.Equal(t, "in flight on the bus", e.Full(p, false))
}

// All engines of a bus share a budget, but none of their partitions is left without a share.
func TestBudgetIsSharedByEngines(t *testing.T) {
	budget := engine.NewBudget(300, 10_000)
	wide := engine.Limits{Records: 1000, Bytes: 10_000, Span: 1000}
	greedy, modest := engine.New[int](1, 1, wide, budget), engine.New[int](1, 1, wide, budget)
	full, small := filled(greedy, 300), filled(modest, engine.Share-1)
	require.Equal(t, "in flight on the bus", greedy.Full(full, false))
	require.Empty(t, modest.Full(small, true))
	require.EqualValues(t, 399, budget.Records())
	require.EqualValues(t, 798, budget.Bytes())
	greedy.Release(full)
	require.EqualValues(t, 99, budget.Records())
	require.EqualValues(t, 198, budget.Bytes())
}

// Whoever has plenty has more than half of what would have it paused, and works on it.
func TestPlenty(t *testing.T) {
	limits, wide := engine.Limits{Records: 10, Bytes: 1000, Span: 1000}, engine.Limits{Records: 1000, Bytes: 1000, Span: 1000}
	roomy := engine.NewBudget(1000, 10_000)
	for name, test := range map[string]struct {
		limits  engine.Limits
		budget  *engine.Budget
		records int
		plenty  bool
	}{
		"nothing":                            {limits, roomy, 0, false},
		"half of the records":                {limits, roomy, 5, false},
		"more than half of the records":      {limits, roomy, 6, true},
		"half of the bytes":                  {engine.Limits{Records: 1000, Bytes: 20, Span: 1000}, roomy, 5, false},
		"more than half of the bytes":        {engine.Limits{Records: 1000, Bytes: 20, Span: 1000}, roomy, 6, true},
		"half of the bus, by records":        {wide, engine.NewBudget(2*engine.Share, 10_000), engine.Share, false},
		"more than that":                     {wide, engine.NewBudget(engine.Share, 10_000), engine.Share, true},
		"more than half of the bus' bytes":   {wide, engine.NewBudget(1000, 2*engine.Share), engine.Share, true},
		"no more than a share of a full bus": {wide, engine.NewBudget(10, 10), engine.Share - 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New[int](1, 1, test.limits, test.budget)
			p := filled(e, test.records)
			require.Equal(t, test.plenty, e.Plenty(p))
			e.Hold(0, true)
			require.False(t, e.Plenty(p), "nothing is worked on")
			e.Hold(0, false)
			e.Stop(p)
			require.False(t, e.Plenty(p))
			e.Release(p)
			require.Zero(t, e.Moving(0))
		})
	}
}

// What is parked, and what waits behind it, may wait for long.
func TestWhatIsParkedIsNotPlenty(t *testing.T) {
	e := engine.New[int](1, 1, engine.Limits{Records: 10, Bytes: 1000, Span: 1000}, engine.NewBudget(1000, 10_000))
	p := e.Assign(0)
	for i := range 8 {
		e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(i), Size: 2, Key: "k", Keyed: true}})
	}
	require.True(t, e.Plenty(p))
	it := e.Next()
	e.Park(it)
	require.False(t, e.Plenty(p))
	e.Unpark(it)
	require.True(t, e.Plenty(p))
}

// A key whose events wait for each other gives nobody anything to do.
func TestOneKeyIsNotPlenty(t *testing.T) {
	e := engine.New[int](2, 1, engine.Limits{Records: 10, Bytes: 1000, Span: 1000}, engine.NewBudget(1000, 10_000))
	p := e.Assign(0)
	for i := range 8 {
		e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(i), Size: 2, Key: "k", Keyed: true}})
	}
	e.Next()
	require.False(t, e.Plenty(p))
}

// What another engine of the bus holds, such as one that is paused, is no reason to wait.
func TestPlentyIsOfItsOwn(t *testing.T) {
	budget := engine.NewBudget(300, 10_000)
	wide := engine.Limits{Records: 1000, Bytes: 10_000, Span: 1000}
	greedy, modest := engine.New[int](1, 1, wide, budget), engine.New[int](1, 1, wide, budget)
	require.True(t, greedy.Plenty(filled(greedy, 290)))
	require.False(t, modest.Plenty(filled(modest, engine.Share)))
}
