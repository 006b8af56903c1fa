package ledger

import (
	"cmp"
	"math"
	"slices"
)

// index is a history by partition and by member.
type index struct {
	entries []Entry
	parts   map[place]*part
	crashed map[string]int // member: when
	trouble []span
	read    bool // the log was read at the end
	report  Report
}

// place is a partition.
type place struct {
	topic     string
	partition int32
}

// never is later than every entry.
const never = math.MaxInt

// span is from one entry to another, never where it did not end.
type span struct{ from, to int }

// part is what happened to a partition.
type part struct {
	log       map[int64]Entry // Published or Read, by offset
	offsets   []int64         // of log, sorted
	tries     []*try          // as they began
	letters   []Entry
	read      map[int64][]Entry // LetterRead, by offset
	commits   []Entry
	committed []Entry
	refused   []Entry
	owners    []Entry // Assigned, Released, Lost
	ends      map[int64][]end
}

// try is one call of the handler.
type try struct {
	began     Entry
	ended     Entry
	cancelled int // never where it was not
}

func (t *try) to() int {
	if t.ended.Seq == 0 {
		return never
	}
	return t.ended.Seq
}

// end is an event done: handled, or dead-lettered.
type end struct {
	began, done Entry
}

func newIndex(entries []Entry) *index {
	x := &index{entries: entries, parts: map[place]*part{}, crashed: map[string]int{}}
	tries := map[int]*try{}
	for _, e := range entries {
		x.note(e)
		x.noteTry(e, tries)
		x.noteTrouble(e)
	}
	for _, p := range x.parts {
		p.finish()
		x.report.Events += len(p.log)
		x.report.Letters += len(p.letters)
		x.report.Commits += len(p.commits)
	}
	x.report.Tries = len(tries)
	return x
}

func (x *index) part(e Entry) *part {
	at := place{e.Topic, e.Partition}
	if x.parts[at] == nil {
		x.parts[at] = &part{log: map[int64]Entry{}, read: map[int64][]Entry{}, ends: map[int64][]end{}}
	}
	return x.parts[at]
}

func (x *index) note(e Entry) {
	switch e.Kind {
	case Read:
		x.read = true
		x.part(e).log[e.Offset] = e
	case Published:
		if e.Result == OK {
			x.part(e).log[e.Offset] = e // a Read of the same offset comes later
		}
	case Letter:
		x.part(e).letters = append(x.part(e).letters, e)
	case LetterRead:
		x.part(e).read[e.Offset] = append(x.part(e).read[e.Offset], e)
	case Commit:
		x.part(e).commits = append(x.part(e).commits, e)
	case Committed:
		x.part(e).committed = append(x.part(e).committed, e)
	case Refused:
		x.part(e).refused = append(x.part(e).refused, e)
	case Assigned, Released, Lost:
		x.part(e).owners = append(x.part(e).owners, e)
		if e.Kind == Lost {
			x.report.Losses++
		}
	case Crashed:
		x.crashed[e.Member] = e.Seq
		x.report.Crashes++
	}
}

func (x *index) noteTry(e Entry, tries map[int]*try) {
	switch t := tries[e.Try]; {
	case e.Kind == Began:
		t = &try{began: e, cancelled: never}
		tries[e.Try] = t
		x.part(e).tries = append(x.part(e).tries, t)
	case t == nil:
	case e.Kind == Cancelled:
		t.cancelled = e.Seq
	case e.Kind == Ended:
		t.ended = e
	}
}

func (x *index) noteTrouble(e Entry) {
	switch e.Kind {
	case TroubleBegan:
		x.trouble = append(x.trouble, span{e.Seq, never})
	case TroubleOver:
		for i, s := range x.trouble {
			if s.to == never && x.entries[s.from-1].Detail == e.Detail {
				x.trouble[i].to = e.Seq
				return
			}
		}
	}
}

func (p *part) finish() {
	for offset := range p.log {
		p.offsets = append(p.offsets, offset)
	}
	slices.Sort(p.offsets)
	for _, t := range p.tries {
		if t.ended.Result == OK {
			p.ends[t.began.Offset] = append(p.ends[t.began.Offset], end{t.began, t.ended})
		}
	}
	for _, l := range p.letters {
		p.ends[l.Offset] = append(p.ends[l.Offset], end{p.decided(l), l})
	}
	for _, ends := range p.ends {
		slices.SortFunc(ends, func(a, b end) int { return cmp.Compare(a.done.Seq, b.done.Seq) })
	}
}

// decided is the try after which a member wrote a letter, which may be acknowledged much later; the letter itself where there was none, because the
// record could not be decoded.
func (p *part) decided(letter Entry) Entry {
	decided := letter
	for _, t := range p.tries {
		if t.began.Member == letter.Member && t.began.Offset == letter.Offset && t.to() < letter.Seq {
			decided = t.began
		}
	}
	return decided
}

// done is when an offset was first done, never if it was not.
func (p *part) done(offset int64) int {
	if ends := p.ends[offset]; len(ends) > 0 {
		return ends[0].done.Seq
	}
	return never
}

// dead says whether what a member began then, by a partition of its own, was no longer its business at an entry: it had crashed, or the
// group had given the partition up for lost.
func (x *index) dead(p *part, member string, began, at int) bool {
	if crash, ok := x.crashed[member]; ok && crash < at {
		return true
	}
	assigned := p.assigned(member, began)
	for _, o := range p.owners {
		if o.Kind == Lost && o.Member == member && o.Seq > assigned && o.Seq < at {
			return true
		}
	}
	return false
}

// assigned is when the partition was last assigned to a member before an entry, 0 if it was not.
func (p *part) assigned(member string, before int) int {
	last := 0
	for _, o := range p.owners {
		if o.Kind == Assigned && o.Member == member && o.Seq < before {
			last = o.Seq
		}
	}
	return last
}

// disturbed says whether between two entries something happened that explains a repetition in a partition.
func (x *index) disturbed(p *part, from, to int) bool {
	within := func(seq int) bool { return seq > from && seq < to }
	for _, seq := range x.crashed {
		if within(seq) {
			return true
		}
	}
	if slices.ContainsFunc(x.trouble, func(s span) bool { return s.from < to && s.to > from }) ||
		slices.ContainsFunc(p.refused, func(e Entry) bool { return within(e.Seq) }) ||
		slices.ContainsFunc(p.owners, func(e Entry) bool { return e.Kind == Lost && within(e.Seq) }) {
		return true
	}
	return slices.ContainsFunc(p.tries, func(t *try) bool { return t.began.Stubborn && t.cancelled < to && t.to() > from })
}
