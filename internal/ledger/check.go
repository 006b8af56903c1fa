package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Check judges a finished history. It changes nothing.
func Check(entries []Entry) Report {
	x := newIndex(entries)
	places := slices.SortedFunc(maps.Keys(x.parts), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	x.checkPublished()
	for _, at := range places {
		p := x.parts[at]
		x.checkLost(p)
		x.checkOrder(p)
		x.checkOverlaps(p)
		x.checkCommits(p)
		x.checkOwners(p)
		x.checkRepeats(p)
		x.checkLetters(p)
	}
	return x.report
}

func (x *index) find(promise Promise, proof []Entry, format string, args ...any) {
	proof = slices.DeleteFunc(proof, func(e Entry) bool { return e.Seq == 0 })
	slices.SortFunc(proof, func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	proof = slices.CompactFunc(proof, func(a, b Entry) bool { return a.Seq == b.Seq })
	x.report.Findings = append(x.report.Findings, Finding{Promise: promise, Text: fmt.Sprintf(format, args...), Proof: proof})
}

// checkPublished holds the publisher's results against the log, where it was read.
func (x *index) checkPublished() {
	if !x.read {
		return
	}
	found := map[string]Entry{}
	for _, e := range x.entries {
		if e.Kind == Read && e.ID != "" {
			found[e.ID] = e
		}
	}
	for _, e := range x.entries {
		if e.Kind != Published {
			continue
		}
		r, there := found[e.ID]
		switch {
		case e.Result == OK && !there:
			x.find(NotLost, []Entry{e}, "%s was acknowledged and is not in the log", e.ID)
		case e.Result == Failed && there:
			x.find(NotPhantom, []Entry{e, r}, "%s was certainly not written and is in the log", e.ID)
		}
	}
}

func (x *index) checkLost(p *part) {
	for _, offset := range p.offsets {
		if p.done(offset) == never && len(p.read[offset]) == 0 {
			x.find(NotLost, append([]Entry{p.log[offset]}, p.tried(offset)...), "offset %d was never handled nor dead-lettered", offset)
		}
	}
	if !x.read {
		return
	}
	for _, l := range p.letters {
		if len(p.read[l.Offset]) == 0 {
			x.find(NotLost, []Entry{l}, "the dead letter of offset %d was acknowledged and is not in its log", l.Offset)
		}
	}
}

// tried are the tries of an offset.
func (p *part) tried(offset int64) []Entry {
	var entries []Entry
	for _, t := range p.tries {
		if t.began.Offset == offset {
			entries = append(entries, t.began, t.ended)
		}
	}
	return entries
}

// checkOrder holds every event against the one before it of its key.
func (x *index) checkOrder(p *part) {
	before := p.before()
	for _, offset := range p.offsets {
		prev, ok := before[offset]
		if ok && p.done(offset) < p.done(prev) {
			x.find(InOrder, []Entry{p.log[prev], p.log[offset], p.first(prev), p.first(offset)},
				"offset %d was done before offset %d of its key", offset, prev)
		}
	}
	for _, t := range p.tries {
		prev, ok := before[t.began.Offset]
		if ok && p.done(prev) > t.began.Seq {
			x.find(InOrder, append(p.tried(prev), p.first(prev), t.began), "a try of offset %d began before offset %d of its key was done",
				t.began.Offset, prev)
		}
	}
	x.checkRetries(p)
}

// before maps each offset to the one before it of the same key.
func (p *part) before() map[int64]int64 {
	before, last := map[int64]int64{}, map[string]int64{}
	for _, offset := range p.offsets {
		key := p.log[offset].Key
		if prev, ok := last[key]; ok {
			before[offset] = prev
		}
		last[key] = offset
	}
	return before
}

func (p *part) first(offset int64) Entry {
	if ends := p.ends[offset]; len(ends) > 0 {
		return ends[0].done
	}
	return Entry{}
}

// checkRetries finds members that go on with a key while an earlier event of it, which they began themselves, has failed and is not done by them:
// also where somebody else did it before.
func (x *index) checkRetries(p *part) {
	type lane struct{ member, key string }
	open := map[lane]*try{}
	for _, t := range p.tries {
		l := lane{t.began.Member, t.began.Key}
		prev := open[l]
		open[l] = t
		if prev == nil || prev.began.Offset >= t.began.Offset || prev.to() > t.began.Seq || prev.ended.Result == OK {
			continue
		}
		if p.assigned(l.member, t.began.Seq) > prev.began.Seq || p.lettered(prev.began.Offset, prev.began.Seq, t.began.Seq) {
			continue
		}
		if !x.dead(p, l.member, prev.began.Seq, t.began.Seq) {
			x.find(InOrder, []Entry{prev.began, prev.ended, t.began}, "%s went on to offset %d without finishing offset %d of its key",
				l.member, t.began.Offset, prev.began.Offset)
		}
	}
}

func (p *part) lettered(offset int64, from, to int) bool {
	return slices.ContainsFunc(p.letters, func(l Entry) bool { return l.Offset == offset && l.Seq > from && l.Seq < to })
}

// checkOverlaps finds tries of one key that run at once. It allows those of the dead, and those that ignored the end of their ctx.
func (x *index) checkOverlaps(p *part) {
	running := map[string][]*try{}
	for _, t := range p.tries {
		key := t.began.Key
		running[key] = slices.DeleteFunc(running[key], func(r *try) bool { return r.to() < t.began.Seq })
		for _, r := range running[key] {
			detached := r.began.Stubborn && r.cancelled < t.began.Seq
			apart := r.began.Member != t.began.Member &&
				(x.dead(p, r.began.Member, r.began.Seq, t.began.Seq) || x.dead(p, t.began.Member, t.began.Seq, t.began.Seq))
			if detached || apart {
				x.report.Overlaps++
				continue
			}
			x.find(OneAtATime, []Entry{r.began, r.ended, t.began, t.ended}, "tries of offsets %d and %d, of one key, ran at once",
				r.began.Offset, t.began.Offset)
		}
		running[key] = append(running[key], t)
	}
}
