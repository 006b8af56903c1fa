package itest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/ledger"
)

// sec is a time of a made-up run.
const sec = time.Second

// turns are when a partition's turn came.
func turns(kind ledger.Kind, p int32, seconds ...int) []ledger.Entry {
	var entries []ledger.Entry
	for _, at := range seconds {
		entries = append(entries, ledger.Entry{Kind: kind, Result: ledger.OK, Partition: p, At: time.Duration(at) * sec})
	}
	return entries
}

// through are all seconds from one to another.
func through(from, to int) []int {
	var all []int
	for at := from; at <= to; at++ {
		all = append(all, at)
	}
	return all
}

// TestVerdictStalls has partitions stand still: the load is from 0 to 100, the fault from 20 to 60.
func TestVerdictStalls(t *testing.T) {
	still := func(from, to int) []int { return append(through(-5, from), through(to, 110)...) }
	span := func(from, to time.Duration) window { return window{from * sec, to * sec} }
	first := map[int32]bool{0: true}
	for name, test := range map[string]struct {
		outages []outage
		turns   [2][]int // of two partitions
		handled time.Duration
		publish time.Duration
	}{
		"nothing happens":                         {nil, [2][]int{through(-5, 110), through(-5, 110)}, 1, 1},
		"the cut broker's partition waits for it": {[]outage{{window: span(20, 40), of: first}}, [2][]int{still(20, 42), through(-5, 110)}, 2, 2},
		"all stand still with it":                 {[]outage{{window: span(20, 40), of: first}}, [2][]int{still(20, 54), still(20, 54)}, 34, 34},
		"only another one stands still":           {[]outage{{window: span(20, 40), of: first}}, [2][]int{through(-5, 110), still(22, 40)}, 18, 18},
		"nothing could work":                      {[]outage{{window: span(20, 40)}}, [2][]int{still(20, 45), still(20, 44)}, 5, 5},
		"what comes after an outage is no part":   {[]outage{{window: span(20, 40)}}, [2][]int{still(41, 58), still(20, 41)}, 17, 17},
		"nor what came before it":                 {[]outage{{window: span(35, 40)}}, [2][]int{still(21, 36), through(-5, 110)}, 14, 14},
		"no coordinator: publishing goes on":      {[]outage{{window: span(26, 40), handling: true}}, [2][]int{still(25, 41), still(25, 41)}, 2, 16},
		"of two outages, the longer":              {[]outage{{window: span(20, 40), of: first}, {window: span(26, 40), handling: true}}, [2][]int{still(20, 43), through(-5, 110)}, 3, 3},
		"it stands still from the first moment":   {nil, [2][]int{append(through(-5, -1), 50), through(-5, 110)}, 50, 50},
		"it does not come again":                  {nil, [2][]int{through(-5, 110), through(-5, 30)}, 70, 70},
		"it never comes while the load is on":     {nil, [2][]int{through(-5, 110), through(-5, -1)}, 100, 100},
		"before the fault, nobody counts":         {nil, [2][]int{still(2, 18), through(-5, 110)}, 1, 1},
	} {
		h := harm{window: span(20, 60), outages: test.outages}
		for kind, want := range map[ledger.Kind]time.Duration{ledger.Ended: test.handled, ledger.Published: test.publish} {
			entries := history(turns(kind, 0, test.turns[0]...), turns(kind, 1, test.turns[1]...))
			require.Equal(t, want*sec, longestStall(entries, span(0, 100), h, kind), "%s: %s", name, kind)
		}
	}
}

// TestVerdictFlights has something strike at 20, in a group of two members, and counts what may come again.
func TestVerdictFlights(t *testing.T) {
	at := func(kind ledger.Kind, member string, p int32, offset int64, when time.Duration) ledger.Entry {
		return ledger.Entry{Kind: kind, Member: member, Partition: p, Offset: offset, At: when * sec, Result: ledger.OK}
	}
	// handled is a handling of an event and, if it is committed, when.
	handled := func(member string, p int32, offset int64, when time.Duration, committed ...time.Duration) []ledger.Entry {
		entries := []ledger.Entry{at(ledger.Began, member, p, offset, when), at(ledger.Ended, member, p, offset, when)}
		for _, c := range committed {
			entries = append(entries, at(ledger.Committed, "", p, offset+1, c))
		}
		return entries
	}
	everybody, one := []strike{{window{20 * sec, 20 * sec}, ""}}, []strike{{window{20 * sec, 20 * sec}, "a"}}
	for name, test := range map[string]struct {
		strikes  []strike
		books    [][]ledger.Entry
		inFlight int
		strange  int
	}{
		"nothing strikes":       {nil, [][]ledger.Entry{handled("a", 0, 0, 19), handled("b", 1, 0, 19)}, 0, 0},
		"nothing, and yet":      {nil, [][]ledger.Entry{handled("a", 0, 0, 19), handled("b", 0, 0, 23)}, 0, 1},
		"in flight":             {everybody, [][]ledger.Entry{handled("a", 0, 0, 19), handled("b", 1, 0, 20), handled("b", 0, 0, 30)}, 2, 0},
		"committed before":      {everybody, [][]ledger.Entry{handled("a", 0, 0, 17, 18), handled("b", 0, 1, 18)}, 1, 0},
		"old, and not":          {everybody, [][]ledger.Entry{handled("a", 0, 0, 15), handled("b", 0, 0, 30)}, 0, 1},
		"handled without group": {everybody, [][]ledger.Entry{handled("a", 0, 0, 27), handled("b", 0, 0, 35)}, 0, 1},
		"before it gives up":    {everybody, [][]ledger.Entry{handled("a", 0, 0, 25), handled("b", 0, 0, 35)}, 1, 0},
		"the other member's":    {one, [][]ledger.Entry{handled("a", 0, 0, 19), handled("b", 1, 0, 19), handled("a", 1, 0, 30)}, 1, 1},
		"never two at a time":   {everybody, [][]ledger.Entry{handled("a", 0, 0, 19, 20), handled("a", 0, 1, 21, 22)}, 1, 0},
		"a member is killed": {nil, [][]ledger.Entry{handled("a", 0, 0, 1), handled("b", 1, 0, 1), {at(ledger.Crashed, "a", 0, 0, 5)},
			handled("b", 0, 0, 9), handled("a", 1, 0, 9)}, 1, 1},
	} {
		var v verdict
		v.readFlights(history(test.books...), test.strikes)
		require.Equal(t, test.inFlight, v.inFlight, name)
		require.Len(t, v.strange, test.strange, name)
	}
}
