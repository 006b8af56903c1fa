package itest_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
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

// window is from one time to another.
type window struct{ from, to time.Duration }

// overlap is how long both are.
func (w window) overlap(other window) time.Duration {
	return max(0, min(w.to, other.to)-max(w.from, other.from))
}

// harm is what a fault did, and when.
type harm struct {
	window
	outages []outage
	strikes []strike
}

// outage is a time in which something could not work, whatever the bus does.
type outage struct {
	window
	of       map[int32]bool // partitions; nil: all
	handling bool           // publishing could
}

// strike is when something was taken away: what was in flight then may come again.
type strike struct {
	window
	member string // from whom; "": from all
}

// verdict is what the ledger and the log say of one run.
type verdict struct {
	report   ledger.Report
	doubled  int     // events that are in the log twice
	mixed    int     // events that are in the log before an earlier one of their key
	inFlight int     // how many may come again
	strange  []event // that came again, and were not in flight
	publish  time.Duration
	handle   time.Duration
}

func judge(entries []ledger.Entry, load window, h harm) verdict {
	v := verdict{report: ledger.Check(entries)}
	v.readLog(entries)
	v.readFlights(entries, h.strikes)
	v.publish = longestStall(entries, load, h, ledger.Published)
	v.handle = longestStall(entries, load, h, ledger.Ended)
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

const (
	// commitEvery is how often a member commits; a commit that was under way when something struck may be lost too.
	commitEvery = time.Second
	// sessionTimeout is short, so that a killed member's partitions are given on soon. No member handles for longer without its group.
	sessionTimeout = 6 * time.Second
)

// struck says whether an event whose handling begins now may be lost sight of: its commit is not made before something is taken away, or
// cannot be made afterwards, until its member gives up.
func struck(e ledger.Entry, strikes []strike) bool {
	return slices.ContainsFunc(strikes, func(s strike) bool {
		return (s.member == "" || s.member == e.Member) && e.At >= s.from-2*commitEvery && e.At <= s.to+sessionTimeout
	})
}

// readFlights finds what may come again: what had begun and the broker did not know as done, of a member that was killed, at that time; and
// where something else struck, what of it began about then, the most there was at a time.
func (v *verdict) readFlights(entries []ledger.Entry, strikes []strike) {
	type flight struct {
		member string
		struck bool
	}
	open, may, done, killed, now, most := map[event]flight{}, map[event]bool{}, map[event]bool{}, 0, 0, 0
	land := func(at event) {
		if open[at].struck {
			now--
		}
		delete(open, at)
	}
	for _, e := range entries {
		at := event{e.Partition, e.Offset}
		switch e.Kind {
		case ledger.Began:
			land(at)
			open[at] = flight{e.Member, struck(e, strikes)}
			if open[at].struck {
				may[at] = true
				now++
				most = max(most, now)
			}
		case ledger.Committed:
			for o := range open {
				if o.partition == e.Partition && (o.offset < e.Offset || slices.Contains(e.Done, o.offset)) {
					land(o)
				}
			}
		case ledger.Crashed:
			for o, f := range open {
				if f.member == e.Member {
					may[o] = true
					killed++
				}
			}
		case ledger.Ended, ledger.Letter:
			if e.Kind == ledger.Ended && e.Result != ledger.OK {
				continue
			}
			if done[at] && !may[at] {
				v.strange = append(v.strange, at)
			}
			done[at] = true
		}
	}
	v.inFlight = killed + most
}

// event is where an event is in its topic.
type event struct {
	partition int32
	offset    int64
}

// longestStall is the longest time that a partition's turn did not come, from the fault on and while the load went on, without what could not
// work.
func longestStall(entries []ledger.Entry, load window, h harm, kind ledger.Kind) time.Duration {
	last, longest := map[int32]time.Duration{}, time.Duration(0)
	note := func(p int32, at time.Duration) {
		if at >= h.from {
			longest = max(longest, h.stall(p, window{last[p], at}, kind))
		}
		last[p] = at
	}
	for _, e := range entries {
		if e.Kind != kind || e.Result != ledger.OK || e.At > load.to {
			continue
		}
		if _, known := last[e.Partition]; !known || e.At < load.from {
			last[e.Partition] = load.from // a partition that stands still from the first moment on does so too
		}
		if e.At >= load.from {
			note(e.Partition, e.At)
		}
	}
	for p := range last {
		note(p, load.to) // it has not come again
	}
	return longest
}

// stall is how long of a time without anything of a partition it could have come. Of outages that overlap, the longest counts.
func (h harm) stall(p int32, without window, kind ledger.Kind) time.Duration {
	excused := time.Duration(0)
	for _, o := range h.outages {
		if (o.of == nil || o.of[p]) && (!o.handling || kind == ledger.Ended) {
			excused = max(excused, without.overlap(o.window))
		}
	}
	return without.to - without.from - excused
}
