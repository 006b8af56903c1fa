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

// Behind a failing event of its key, most of what a partition or the bus may hold has to wait. The other keys have the rest, and wait for none of it.
func TestWhatIsParkedLeavesTheRest(t *testing.T) {
	wide := engine.Limits{Records: 10_000, Bytes: 10_000, Span: 10_000}
	for name, test := range map[string]struct {
		limits engine.Limits
		budget *engine.Budget
	}{
		"records of the partition": {engine.Limits{Records: 1000, Bytes: 10_000, Span: 10_000}, engine.NewBudget(10_000, 10_000)},
		"bytes of the partition":   {engine.Limits{Records: 10_000, Bytes: 2000, Span: 10_000}, engine.NewBudget(10_000, 10_000)},
		"span":                     {engine.Limits{Records: 10_000, Bytes: 10_000, Span: 1000}, engine.NewBudget(10_000, 10_000)},
		"records of the bus":       {wide, engine.NewBudget(1000, 10_000)},
		"bytes of the bus":         {wide, engine.NewBudget(10_000, 2000)},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New[int](1, 1, test.limits, test.budget)
			p := e.Assign(0)
			add := func(offset int64, key string) {
				e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: offset, Size: 2, Key: key, Keyed: true}})
			}
			for i := range int64(800) {
				add(i, "parked")
			}
			e.Park(e.Next())
			for i := range int64(200) {
				add(800+i, "other")
			}
			require.NotEmpty(t, e.Full(p, false))
			for range 100 {
				require.NotEmpty(t, e.Full(p, true), "there is less room than what moves")
				e.Done(e.Next())
			}
			if name == "span" { // it stays as long as the first event
				require.NotEmpty(t, e.Full(p, true))
				return
			}
			require.Empty(t, e.Full(p, true))
		})
	}
}

// What is parked takes nothing of a partition's share of records: its healthy keys have that, while others have the bus full.
func TestAShareIsOfWhatMoves(t *testing.T) {
	e := engine.New[int](1, 1, engine.Limits{Records: 1000, Bytes: 10_000, Span: 1000}, engine.NewBudget(300, 10_000))
	p, offset := e.Assign(0), int64(0)
	add := func(n int, key string) {
		for range n {
			e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: offset, Size: 2, Key: key, Keyed: true}})
			offset++
		}
	}
	add(engine.Share, "parked")
	e.Park(e.Next())
	filled(e, 300)
	add(engine.Share-1, "healthy")
	require.Empty(t, e.Full(p, true))
	add(1, "healthy")
	require.Equal(t, "in flight on the bus", e.Full(p, true))
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

// What may move at all is what the limits leave beside what is parked. Two bytes are in a record.
func TestRoom(t *testing.T) {
	limits, wide := engine.Limits{Records: 300, Bytes: 10_000, Span: 1000}, engine.Limits{Records: 1000, Bytes: 10_000, Span: 1000}
	roomy := engine.NewBudget(2000, 20_000)
	for name, test := range map[string]struct {
		limits          engine.Limits
		budget          *engine.Budget
		parked, others  int
		room, roomOnBus int
	}{
		"nothing":                            {limits, roomy, 0, 0, 0, 0},
		"nothing is parked":                  {limits, roomy, 0, 200, 300, 2000},
		"some are":                           {limits, roomy, 140, 100, 160, 1860},
		"all are":                            {limits, roomy, 140, 0, 0, 0},
		"more than is allowed are":           {limits, roomy, 301, 100, 1, 1699},
		"by bytes of the partition":          {engine.Limits{Records: 1000, Bytes: 400, Span: 1000}, roomy, 140, 100, 60, 1860},
		"by records of the bus":              {wide, engine.NewBudget(200, 10_000), 140, 100, 860, 60},
		"by bytes of the bus":                {wide, engine.NewBudget(1000, 400), 140, 100, 860, 60},
		"no more than a share of a full bus": {wide, engine.NewBudget(10, 10), 0, engine.Share - 1, 1000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New[int](1, 1, test.limits, test.budget)
			p := e.Assign(0)
			add := func(i int, key string) {
				e.Add(p, &engine.Item[int]{Record: engine.Record{Offset: int64(i), Size: 2, Key: key, Keyed: true}})
			}
			for i := range test.parked {
				add(i, "parked")
			}
			if test.parked > 0 {
				e.Park(e.Next())
			}
			for i := range test.others {
				add(test.parked+i, fmt.Sprint(i))
			}
			is := func(room, onBus, moving int, why string) {
				t.Helper()
				require.Equal(t, room, e.Room(p), why)
				require.Equal(t, onBus, e.RoomOnBus(p), why)
				require.Equal(t, moving, e.Moving(), why)
			}
			is(test.room, test.roomOnBus, test.others, "it moves")
			e.Hold(0, true)
			is(0, 0, 0, "nothing is worked on")
			e.Hold(0, false)
			is(test.room, test.roomOnBus, test.others, "it moves again")
			e.Stop(p)
			is(0, 0, 0, "it was stopped")
			e.Release(p)
			require.Zero(t, e.MovingOf(0))
		})
	}
}

// What another engine of the bus holds, such as one that is paused, takes nothing of it.
func TestRoomOnBusIsOfItsOwn(t *testing.T) {
	budget := engine.NewBudget(300, 10_000)
	wide := engine.Limits{Records: 1000, Bytes: 10_000, Span: 1000}
	greedy, modest := engine.New[int](1, 1, wide, budget), engine.New[int](1, 1, wide, budget)
	filled(greedy, 290)
	require.Equal(t, 300, modest.RoomOnBus(filled(modest, engine.Share)))
}
