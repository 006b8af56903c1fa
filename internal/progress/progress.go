// Package progress knows which offsets of a partition are done where they are not done in order: the watermark that can be committed, and a [Map]
// of what is done above it, small enough for the metadata of that commit. Whoever resumes there does not handle again what the map says is done.
//
// Nothing in it is safe for concurrent use; the caller locks. Nothing blocks.
package progress

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Progress is what is done of one partition, during one assignment. It takes memory by the number of incomplete offsets and by the resumed map,
// not by the span between the watermark and the head: one offset that hangs may have a million done behind it.
type Progress struct {
	head  int64
	added bool
	// incomplete has, from first on, the offsets that are not done, in their order, with done ones between them until those are many. The first
	// is never done.
	incomplete []record
	first      int
	live       int // how many of them are not done
	// resumed is what the resumed map says is done from head on; offsets below head are done where incomplete does not have them.
	resumed      []run
	resumedEpoch int32
	lastEpoch    int32 // of the last record added, or what was committed with the offset resumed at
	doneEpoch    int32 // the highest of a done record
	changes      uint64
}

// record is an offset that is not done, or was not.
type record struct {
	offset int64
	epoch  int32
	before int32 // the epoch of the record before it, which a commit of this offset names
	done   bool
}

// run is a run of done offsets, from inclusive, to exclusive.
type run struct{ from, to int64 }

// New returns the progress of a partition of which nothing has been seen.
func New() *Progress {
	return &Progress{head: -1, lastEpoch: -1, doneEpoch: -1}
}

// Resume begins at a committed offset, with the leader epoch (-1 for none) and the map that were committed with it; the zero Map says nothing. It
// is for a new Progress, and panics otherwise or where committed is negative.
func (p *Progress) Resume(committed int64, epoch int32, m Map) {
	if p.Begun() || committed < 0 {
		panic(fmt.Sprintf("progress: cannot resume at offset %d: the head is %d", committed, p.head))
	}
	p.head, p.lastEpoch, p.resumedEpoch = committed, epoch, m.Epoch
	if n := len(m.runs); n == 0 || m.runs[n-1].to > math.MaxInt64-committed {
		return // a map that ends where no offset is was not committed with this one
	}
	p.resumed = make([]run, len(m.runs))
	for i, r := range m.runs {
		p.resumed[i] = run{from: committed + r.from, to: committed + r.to}
	}
}

// Begun says whether an offset is known.
func (p *Progress) Begun() bool { return p.head >= 0 }

// Forget voids what is left of the resumed map. It is for callers that find that the map is of another log, such as a topic that was made anew.
func (p *Progress) Forget() {
	if len(p.resumed) == 0 {
		return
	}
	p.resumed = nil
	p.changes++
}

// Add takes a fetched record. It returns false where the resumed map says that the record is done: it must not be handled again, and Done must not
// be called. Otherwise the record is incomplete until Done.
//
// Offsets strictly grow; those between two records, which compaction or the markers of transactions leave, count as done. Add panics on an offset
// below Head, except on the first: that the position was reset below the committed offset voids the map, and the watermark begins there. Where
// the position is reset later, a new Progress is needed.
//
// The map holds for the log that it was made of. Records that were written after a truncation (an unclean leader election, KIP-101) have a
// higher leader epoch than any before, so a record whose epoch is above the map's voids the rest of it.
func (p *Progress) Add(offset int64, epoch int32) bool {
	if offset < 0 || p.added && offset < p.head {
		panic(fmt.Sprintf("progress: offset %d added below the head %d", offset, p.head))
	}
	if offset < p.head || epoch > p.resumedEpoch {
		p.Forget()
	}
	if p.lastEpoch < 0 {
		p.lastEpoch = epoch
	}
	known := p.advance(offset)
	if known {
		p.doneEpoch = max(p.doneEpoch, epoch)
	} else {
		p.incomplete = append(p.incomplete, record{offset: offset, epoch: epoch, before: p.lastEpoch})
		p.live++
	}
	p.lastEpoch = epoch
	return !known
}

// advance moves the head above offset, and tells whether the resumed map says that offset is done.
func (p *Progress) advance(offset int64) bool {
	known := false
	for len(p.resumed) > 0 && p.resumed[0].from <= offset {
		known = offset < p.resumed[0].to
		p.resumed[0].from = offset + 1
		if p.resumed[0].from < p.resumed[0].to {
			break
		}
		p.resumed = p.resumed[1:]
	}
	if len(p.resumed) == 0 {
		p.resumed = nil // lets go of the memory
	}
	// A gap is done from now on. A known offset was before, and moves the watermark where nothing is incomplete.
	if offset != p.head || known && p.live == 0 {
		p.changes++
	}
	p.head, p.added = offset+1, true
	return known
}

// Done marks an incomplete offset as done. It panics where the offset is not incomplete.
func (p *Progress) Done(offset int64) {
	open := p.incomplete[p.first:]
	i, ok := slices.BinarySearchFunc(open, offset, func(r record, offset int64) int { return cmp.Compare(r.offset, offset) })
	if !ok || open[i].done {
		panic(fmt.Sprintf("progress: done with offset %d, which is not incomplete", offset))
	}
	open[i].done = true
	p.doneEpoch = max(p.doneEpoch, open[i].epoch)
	p.live--
	p.changes++
	p.tidy()
}

// tidy keeps the first of incomplete one that is not done, and the done ones fewer than the others and a few. Each move of a record is paid for
// by a done one that goes.
func (p *Progress) tidy() {
	const few = 64
	for p.first < len(p.incomplete) && p.incomplete[p.first].done {
		p.first++
	}
	if len(p.incomplete) <= 2*p.live+few {
		return
	}
	kept := p.incomplete[:0]
	if cap(p.incomplete) > 4*(p.live+few) {
		kept = make([]record, 0, 2*(p.live+few))
	}
	for _, r := range p.incomplete[p.first:] {
		if !r.done {
			kept = append(kept, r)
		}
	}
	p.incomplete, p.first = kept, 0
}

// Watermark is the lowest offset that is not done, or Head where none is incomplete: what to commit. It is -1 before an offset is known. It never
// falls, except where the first Add is below the committed offset.
func (p *Progress) Watermark() int64 {
	if p.live == 0 {
		return p.head
	}
	return p.incomplete[p.first].offset
}

// Epoch is the leader epoch of the last record below the watermark, to be committed with it (KIP-320). Where no such record was added, it is what
// Resume was given, or else that of the first record added; -1 where there is none. A commit without an epoch would hide from whoever resumes there
// that the log was truncated below and written anew. One that is too high hides nothing: what is written after a truncation has a higher epoch than
// all that was read before.
func (p *Progress) Epoch() int32 {
	if p.live == 0 {
		return p.lastEpoch
	}
	return p.incomplete[p.first].before
}

// Head is one above the highest offset added. Before the first Add it is the committed offset, or -1 without one.
func (p *Progress) Head() int64 { return p.head }

// Incomplete is how many offsets were added and are not done.
func (p *Progress) Incomplete() int { return p.live }

// Span is the distance from the watermark to the head.
func (p *Progress) Span() int64 { return p.head - p.Watermark() }

// Changes grows whenever the watermark or the set of done offsets above it has changed, and may grow at other times. Where it is what it was at
// the last commit, there is nothing new to commit. What Resume brings is committed already and does not count.
func (p *Progress) Changes() uint64 { return p.changes }

// Map is what is done above the watermark now, with what the resumed map says of offsets that were not fetched again yet. It is to be committed
// with the watermark. Lineage names the log that the offsets belong to; [Map.Lineage] brings it back. The caller owns what it returns.
func (p *Progress) Map(lineage uint32) Map {
	base := p.Watermark()
	m := Map{Lineage: lineage, Epoch: p.doneEpoch, runs: make([]run, 0, p.live+len(p.resumed)+1)}
	next := base // all below it is told
	for _, r := range p.incomplete[p.first:] {
		if !r.done {
			m.add(next-base, r.offset-base)
			next = r.offset + 1
		}
	}
	m.add(next-base, p.head-base)
	for _, r := range p.resumed {
		m.add(r.from-base, r.to-base)
		m.Epoch = p.resumedEpoch // none below it, or the map would have been voided
	}
	return m
}
