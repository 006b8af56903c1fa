package itest_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/dreamscape/eventbus/internal/ledger"
)

// readBook reads what a process wrote down. A process that was killed may have left a part of a line.
func readBook(path string) ([]ledger.Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var entries []ledger.Entry
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e ledger.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			if !lines.Scan() {
				return entries, nil
			}
			return nil, fmt.Errorf("%s: entry %d: %w", path, len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}

// history puts the books of all into one.
func history(books ...[]ledger.Entry) []ledger.Entry {
	all := slices.Concat(books...)
	slices.SortStableFunc(all, func(a, b ledger.Entry) int { return cmp.Compare(a.At, b.At) })
	for i := range all {
		all[i].Seq = i + 1
	}
	return all
}

// window is what a fault was like: from its begin to its end, and how long of that nothing could work.
type window struct {
	from, to time.Duration
	down     time.Duration
}

// verdict is what the ledger and the log say of one run.
type verdict struct {
	report   ledger.Report
	doubled  int // events that are in the log twice
	mixed    int // events that are in the log before an earlier one of their key
	inFlight int // how many may come again
	publish  time.Duration
	handle   time.Duration
}

func judge(entries []ledger.Entry, load, fault window) verdict {
	v := verdict{report: ledger.Check(entries)}
	v.readLog(entries)
	v.inFlight = inFlight(entries)
	v.publish = longestStall(entries, load, fault, func(e ledger.Entry) bool { return e.Kind == ledger.Published && e.Result == ledger.OK })
	v.handle = longestStall(entries, load, fault, func(e ledger.Entry) bool { return e.Kind == ledger.Ended && e.Result == ledger.OK })
	return v
}

// readLog holds the log against what was published: once each, a key's events in the order of their publishing.
func (v *verdict) readLog(entries []ledger.Entry) {
	var log []ledger.Entry
	for _, e := range entries {
		if e.Kind == ledger.Read {
			log = append(log, e)
		}
	}
	slices.SortFunc(log, func(a, b ledger.Entry) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	ids, last := map[string]bool{}, map[string]int{}
	for _, e := range log {
		switch {
		case ids[e.ID]:
			v.doubled++
		case e.N <= last[e.Key]:
			v.mixed++
		}
		ids[e.ID], last[e.Key] = true, max(last[e.Key], e.N)
	}
}

// inFlight counts the events whose handling had begun and that the broker did not know as done: those of each member that was killed, at that
// time, and where brokers are in trouble, the most there were of all at a time. So many may come again.
func inFlight(entries []ledger.Entry) int {
	open, killed, most, trouble := map[event]string{}, 0, 0, 0
	for _, e := range entries {
		switch e.Kind {
		case ledger.Began:
			open[event{e.Partition, e.Offset}] = e.Member
		case ledger.Committed:
			maps.DeleteFunc(open, func(at event, _ string) bool {
				return at.partition == e.Partition && (at.offset < e.Offset || slices.Contains(e.Done, at.offset))
			})
		case ledger.Crashed:
			for _, member := range open {
				if member == e.Member {
					killed++
				}
			}
		case ledger.TroubleBegan:
			trouble++
		}
		if trouble > 0 {
			most = max(most, len(open))
		}
	}
	return killed + most
}

// event is where an event is in its topic.
type event struct {
	partition int32
	offset    int64
}

// longestStall is the longest time that no partition's turn came, while the load went on, without what could not work.
func longestStall(entries []ledger.Entry, load, fault window, counts func(ledger.Entry) bool) time.Duration {
	last, longest := map[int32]time.Duration{}, time.Duration(0)
	note := func(p int32, at time.Duration) {
		began, ok := last[p]
		last[p] = at
		if !ok || at < fault.from {
			return
		}
		stall := at - began
		if began < fault.to {
			stall -= min(fault.down, at-max(began, fault.from))
		}
		longest = max(longest, stall)
	}
	for _, e := range entries {
		if counts(e) && e.At >= load.from && e.At <= load.to {
			note(e.Partition, e.At)
		}
	}
	for p := range last {
		note(p, load.to) // it has not come again
	}
	return longest
}
