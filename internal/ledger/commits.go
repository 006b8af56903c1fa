package ledger

import (
	"maps"
	"slices"
)

// checkCommits finds commits that pass or name what was not done when they reached the broker, and committed offsets that fall.
func (x *index) checkCommits(p *part) {
	told := map[int64]bool{}
	for _, c := range p.commits {
		for _, offset := range p.claims(c) {
			if p.done(offset) > c.Seq && !told[offset] {
				told[offset] = true
				x.find(CommitsDone, append(p.tried(offset), p.log[offset], p.first(offset), c), "%s committed offset %d as done", c.Member, offset)
			}
		}
	}
	for i := 1; i < len(p.committed); i++ {
		if was, is := p.committed[i-1], p.committed[i]; is.Offset < was.Offset {
			x.find(CommitsGrow, []Entry{was, p.cause(is), is}, "the committed offset fell from %d to %d", was.Offset, is.Offset)
		}
	}
}

// claims are the offsets of the log that a commit says are done. A done map may name offsets that no record has, such as a marker's.
func (p *part) claims(c Entry) []int64 {
	n, _ := slices.BinarySearch(p.offsets, c.Offset)
	claims := slices.Clone(p.offsets[:n])
	for _, offset := range c.Done {
		if _, ok := p.log[offset]; ok && offset >= c.Offset {
			claims = append(claims, offset)
		}
	}
	return claims
}

// cause is the last commit of an offset before an entry.
func (p *part) cause(committed Entry) Entry {
	var cause Entry
	for _, c := range p.commits {
		if c.Seq < committed.Seq && c.Offset == committed.Offset {
			cause = c
		}
	}
	return cause
}

// checkOwners finds commits of a session for a partition that was last given to another one. It asks only for commits that the broker would
// take: a member that was evicted cannot know it yet. A partition that was given back and not given on still is its last owner's to commit.
func (x *index) checkOwners(p *part) {
	for _, c := range p.commits {
		if !c.Current {
			continue
		}
		var last Entry
		for _, o := range p.owners {
			if o.Kind == Assigned && o.Seq < c.Seq {
				last = o
			}
		}
		if last.Session != c.Session {
			x.find(CommitsOwned, []Entry{last, c}, "%s committed offset %d of a partition that is not its own", c.Member, c.Offset)
		}
	}
}

// known says whether the broker knew at an entry that an offset was done.
func (p *part) known(offset int64, at int) (Entry, bool) {
	var last Entry
	for _, c := range p.committed {
		if c.Seq < at {
			last = c
		}
	}
	return last, last.Seq > 0 && (offset < last.Offset || slices.Contains(last.Done, offset))
}

// checkRepeats holds every further end of an event against the first one.
func (x *index) checkRepeats(p *part) {
	for _, offset := range p.offsets {
		ends := p.ends[offset]
		for i := 1; i < len(ends); i++ {
			x.checkRepeat(p, offset, ends[0], ends[i])
		}
	}
}

func (x *index) checkRepeat(p *part, offset int64, first, again end) {
	promise := OnlyOnce
	switch {
	case again.done.Kind == Letter && first.done.Kind == Letter:
		promise = OneLetter
	case again.done.Kind == Letter:
		promise = NoLetterForDone
	}
	proof := []Entry{first.began, first.done, again.began, again.done}
	owner := p.assigned(again.began.Member, again.began.Seq)
	if c, ok := p.known(offset, owner); ok && first.done.Seq < owner {
		x.find(promise, append(proof, c), "offset %d was done again by an owner that could know that it was done", offset)
		return
	}
	if x.explained(p, first, again) {
		x.report.Repeated++
		return
	}
	x.find(promise, proof, "offset %d was done again without a reason", offset)
}

func (x *index) explained(p *part, first, again end) bool {
	return x.disturbed(p, first.began.Seq, again.done.Seq) ||
		x.dead(p, first.began.Member, first.began.Seq, again.done.Seq) || x.dead(p, again.began.Member, again.began.Seq, again.done.Seq)
}

// checkLetters finds letters that nobody saw acknowledged and that are in the log beside another one. Who was told is in checkRepeats.
func (x *index) checkLetters(p *part) {
	for _, l := range p.letters {
		if p.log[l.Offset].Sound {
			x.find(NoLetterForOutage, append(p.tried(l.Offset), l), "offset %d was dead-lettered, and its handler fails in an outage only", l.Offset)
		}
	}
	for _, offset := range slices.Sorted(maps.Keys(p.read)) {
		if read := p.read[offset]; len(read) > max(p.acknowledged(offset), 1) && !x.disturbed(p, 0, read[0].Seq) {
			x.find(OneLetter, read, "offset %d has %d dead letters without a reason", offset, len(read))
		}
	}
}

func (p *part) acknowledged(offset int64) int {
	n := 0
	for _, l := range p.letters {
		if l.Offset == offset {
			n++
		}
	}
	return n
}
