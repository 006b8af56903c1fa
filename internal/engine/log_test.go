package engine_test

import "slices"

// record is a record of a partition. What is written at its offset after a truncation is another one.
type record struct {
	offset  int64
	epoch   int32
	marker  bool // of a transaction
	free    bool
	keyed   bool
	key     string
	size    int
	handled bool // by anybody, ever
}

// committed is what a group has committed of a partition.
type committed struct {
	offset int64 // -1: nothing
	epoch  int32
	text   string
	said   map[int64]bool // what text says is done
	above  int32          // the epoch in it
}

// log is a partition as its broker keeps it.
type log struct {
	n         int
	records   []*record
	end       int64
	epoch     int32
	committed committed
}

// write appends a record, sometimes after offsets that compaction has taken away.
func (g *log) write(choose choose) {
	g.end += []int64{0, 0, 0, 0, 1, 3}[choose(6)]
	r := &record{offset: g.end, epoch: g.epoch, size: 1 + choose(4)}
	switch n := choose(12); n {
	case 0:
		r.marker = true
	case 1:
		r.free = true
	case 2, 3, 4: // without a key
	default:
		r.keyed, r.key = true, []string{"", "a", "b", "c"}[n%4]
	}
	g.records = append(g.records, r)
	g.end++
}

// truncate loses all but n records, as an unclean election does; what is written from then on has a higher epoch.
func (g *log) truncate(n int) {
	g.records, g.end = slices.Clone(g.records[:n]), 0
	if n > 0 {
		g.end = g.records[n-1].offset + 1
	}
	g.epoch++
}

// position is where a client goes on that was at an offset, after a record of an epoch: where the records of that epoch and of those before it
// end, if that is lower, since what it has seen above is gone (KIP-320). Without an epoch it only notices an offset that is not there.
func (g *log) position(offset int64, epoch int32) int64 {
	if epoch < 0 && offset > g.end {
		return 0
	}
	for _, r := range g.records {
		if epoch >= 0 && r.epoch > epoch {
			return min(offset, r.offset)
		}
	}
	return min(offset, g.end)
}

// from returns n records at most, from an offset on.
func (g *log) from(offset int64, n int) []*record {
	for i, r := range g.records {
		if r.offset >= offset {
			return g.records[i:min(i+n, len(g.records))]
		}
	}
	return nil
}

// lost returns a record below an offset that nobody has handled, or nil.
func (g *log) lost(below int64) *record {
	for _, r := range g.records {
		if r.offset < below && !r.handled && !r.marker {
			return r
		}
	}
	return nil
}
