package progress_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dreamscape/eventbus/internal/progress"
)

type record struct {
	offset int64
	epoch  int32
}

// naive says what progress is, by a state for each offset.
type naive struct {
	head   int64
	added  []record
	done   map[int64]bool // of each offset below the head that is not below where it began: records, and gaps
	skip   map[int64]bool // what the resumed map says of the offsets from the head on
	epoch  int32          // the resumed map's
	under  int32          // what was committed as the epoch below where it began
	before int64          // the watermark when it was looked at last
}

func begin(committed int64, under int32, skip []int64, epoch int32) *naive {
	n := &naive{head: committed, under: under, done: map[int64]bool{}, skip: map[int64]bool{}, epoch: epoch, before: committed}
	for _, o := range skip {
		n.skip[o] = true
	}
	return n
}

// add returns what Add has to.
func (n *naive) add(r record) bool {
	if r.offset < n.head || r.epoch > n.epoch {
		clear(n.skip)
	}
	if r.offset < n.head || n.head < 0 { // nothing was added yet
		n.head, n.before = r.offset, r.offset
	}
	known := n.skip[r.offset]
	for ; n.head <= r.offset; n.head++ {
		n.done[n.head] = n.head < r.offset || known
		delete(n.skip, n.head)
	}
	n.added = append(n.added, r)
	return !known
}

func (n *naive) incomplete() []record {
	return slices.DeleteFunc(slices.Clone(n.added), func(r record) bool { return n.done[r.offset] })
}

func (n *naive) watermark() int64 {
	if open := n.incomplete(); len(open) > 0 {
		return open[0].offset
	}
	return n.head
}

// above is what is done from the watermark on, in order.
func (n *naive) above() []int64 {
	var offsets []int64
	for o, done := range n.done {
		if done && o >= n.watermark() {
			offsets = append(offsets, o)
		}
	}
	for o := range n.skip {
		offsets = append(offsets, o)
	}
	slices.Sort(offsets)
	return offsets
}

// epochs are those of the last record below the watermark, or what stands for it, and of the last done record above it, or -1.
func (n *naive) epochs() (below, above int32) {
	below, above = n.under, -1
	if below < 0 && len(n.added) > 0 {
		below = n.added[0].epoch
	}
	for _, r := range n.added {
		if r.offset < n.watermark() {
			below = r.epoch
		} else if n.done[r.offset] {
			above = r.epoch
		}
	}
	if len(n.skip) > 0 {
		above = n.epoch
	}
	return below, above
}

// machine is a log, and a group that reads it in many lives, each from what the one before has committed.
type machine struct {
	log       []record
	epoch     int32 // of the leader
	next      int   // the index of the next record to fetch
	handled   map[record]bool
	p         *progress.Progress
	n         *naive
	committed int64
	under     int32 // the epoch that was committed
	text      string
	said      []int64 // what text says
	changes   uint64
	looked    []int64 // watermark and above, when it was looked at last
}

const lineage = 0xfeedbeef

func newMachine() *machine {
	return &machine{p: progress.New(), n: begin(-1, -1, nil, 0), handled: map[record]bool{}, committed: -1}
}

func (m *machine) fetch(t *rapid.T) {
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		if m.next == len(m.log) {
			m.write(t)
		}
		r := m.log[m.next]
		m.next++
		fresh := m.p.Add(r.offset, r.epoch)
		require.Equal(t, m.n.add(r), fresh, "record %v", r)
		require.True(t, fresh || m.handled[r], "record %v is left out, and was never done", r)
	}
}

// write appends to the log a record, sometimes after a gap or under a new leader.
func (m *machine) write(t *rapid.T) {
	end := int64(0)
	if n := len(m.log); n > 0 {
		end = m.log[n-1].offset + 1
	}
	m.epoch += rapid.SampledFrom([]int32{0, 0, 0, 1}).Draw(t, "epochs")
	gap := rapid.SampledFrom([]int64{0, 0, 0, 1, 3, 40}).Draw(t, "gap")
	m.log = append(m.log, record{offset: end + gap, epoch: m.epoch})
}

func (m *machine) done(t *rapid.T) {
	open := m.n.incomplete()
	if len(open) == 0 {
		t.Skip("none")
	}
	r := rapid.SampledFrom(open).Draw(t, "record")
	m.p.Done(r.offset)
	m.n.done[r.offset], m.handled[r] = true, true
}

func (m *machine) commit(t *rapid.T) {
	if !m.p.Begun() {
		t.Skip("nothing is known")
	}
	limit := rapid.OneOf(rapid.IntRange(-1, 40), rapid.Just(4096)).Draw(t, "limit")
	text, dropped := m.p.Map(lineage).Encode(limit)
	require.LessOrEqual(t, len(text), max(limit, 0))
	above := m.n.above()
	m.committed, m.under, m.text, m.said = m.p.Watermark(), m.p.Epoch(), text, above[:len(above)-int(dropped)]
	if limit == 4096 {
		require.Zero(t, dropped)
	}
}

// crash begins a new life at what was committed, if anything was. Sometimes the log has lost its end meanwhile, or the position is reset.
func (m *machine) crash(t *rapid.T) {
	m.p, m.n, m.next, m.changes, m.looked = progress.New(), begin(-1, -1, nil, 0), 0, 0, nil
	if rapid.IntRange(0, 4).Draw(t, "truncate") == 0 && len(m.log) > 0 {
		m.log = m.log[:rapid.IntRange(0, len(m.log)-1).Draw(t, "left")]
		m.epoch++
	}
	if m.committed < 0 {
		return
	}
	from, err := progress.Decode(m.text)
	require.NoError(t, err)
	require.EqualValues(t, len(m.said), from.Done())
	m.p.Resume(m.committed, m.under, from)
	m.n = begin(m.committed, m.under, m.said, from.Epoch)
	if rapid.IntRange(0, 9).Draw(t, "reset") > 0 {
		for m.next < len(m.log) && m.log[m.next].offset < m.committed {
			m.next++
		}
	}
}

func (m *machine) forget(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "forget") > 0 {
		t.Skip("seldom")
	}
	m.p.Forget()
	clear(m.n.skip)
}

func (m *machine) check(t *rapid.T) {
	watermark, above, open := m.n.watermark(), m.n.above(), m.n.incomplete()
	require.Equal(t, m.n.head >= 0, m.p.Begun())
	require.Equal(t, []int64{watermark, m.n.head, int64(len(open)), m.n.head - watermark},
		[]int64{m.p.Watermark(), m.p.Head(), int64(m.p.Incomplete()), m.p.Span()}, "watermark, head, incomplete, span")
	require.GreaterOrEqual(t, watermark, m.n.before, "the watermark never falls")
	m.n.before = watermark
	is := m.p.Map(lineage)
	require.Equal(t, above, is.Offsets(watermark))
	require.EqualValues(t, len(above), is.Done())
	below, highest := m.n.epochs()
	require.Equal(t, below, m.p.Epoch())
	if highest >= 0 {
		require.Equal(t, highest, is.Epoch)
	}
	m.checkChanges(t, append([]int64{watermark}, above...))
}

func (m *machine) checkChanges(t *rapid.T, now []int64) {
	changes := m.p.Changes()
	require.GreaterOrEqual(t, changes, m.changes)
	if m.looked != nil && !slices.Equal(m.looked, now) {
		require.Greater(t, changes, m.changes)
	}
	m.changes, m.looked = changes, now
}

func TestProgressIsWhatAStateForEachOffsetSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine()
		t.Repeat(map[string]func(*rapid.T){
			"fetch": m.fetch, "fetch more": m.fetch, "done": m.done, "done more": m.done, "done most": m.done,
			"commit": m.commit, "crash": m.crash, "forget": m.forget, "": m.check,
		})
	})
}
