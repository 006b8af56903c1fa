package progress_test

import (
	"math"
	"math/rand/v2"
	"runtime"
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
	before int64          // the watermark when it was looked at last
}

func begin(committed int64, skip []int64, epoch int32) *naive {
	n := &naive{head: committed, done: map[int64]bool{}, skip: map[int64]bool{}, epoch: epoch, before: committed}
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
	offsets := []int64{}
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

// epochs are those of the last record below the watermark, and of the last done record above it, or -1.
func (n *naive) epochs() (below, above int32) {
	below, above = -1, -1
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
	text      string
	said      []int64 // what text says
	changes   uint64
	looked    []int64 // watermark and above, when it was looked at last
}

const lineage = 0xfeedbeef

func newMachine() *machine {
	return &machine{p: progress.New(), n: begin(-1, nil, 0), handled: map[record]bool{}, committed: -1}
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
	m.committed, m.text, m.said = m.p.Watermark(), text, above[:len(above)-int(dropped)]
	if limit == 4096 {
		require.Zero(t, dropped)
	}
}

// crash begins a new life at what was committed, if anything was. Sometimes the log has lost its end meanwhile, or the position is reset.
func (m *machine) crash(t *rapid.T) {
	m.p, m.n, m.next, m.changes, m.looked = progress.New(), begin(-1, nil, 0), 0, 0, nil
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
	m.p.Resume(m.committed, from)
	m.n = begin(m.committed, m.said, from.Epoch)
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
	require.Equal(t, above, offsets(watermark, is))
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

// offsets lists what a map says is done.
func offsets(committed int64, m progress.Map) []int64 {
	list := []int64{}
	for _, r := range m.Runs() {
		for o := r[0]; o < r[1]; o++ {
			list = append(list, committed+o)
		}
	}
	return list
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

// started is the progress of a partition read from its beginning, whose offsets below head are done except some.
func started(head int64, incomplete ...int64) *progress.Progress {
	p := progress.New()
	for _, o := range incomplete {
		p.Add(o, 1)
	}
	if len(incomplete) == 0 || incomplete[len(incomplete)-1] < head-1 {
		p.Add(head-1, 1)
		p.Done(head - 1)
	}
	return p
}

func TestNewKnowsNothing(t *testing.T) {
	p := progress.New()
	require.False(t, p.Begun())
	require.Equal(t, []int64{-1, -1, 0, 0}, []int64{p.Watermark(), p.Head(), p.Span(), int64(p.Incomplete())})
	require.Equal(t, []int32{-1, -1}, []int32{p.Epoch(), p.Map(1).Epoch})
	require.Zero(t, p.Map(1).Done())
}

func TestEpochIsThatOfTheRecordBeforeTheWatermark(t *testing.T) {
	p := progress.New()
	p.Resume(10, progress.Map{})
	p.Add(10, 3)
	p.Add(11, 4)
	p.Add(12, 7)
	require.EqualValues(t, -1, p.Epoch(), "no record below it is known")
	p.Done(11)
	require.EqualValues(t, 4, p.Map(1).Epoch)
	p.Done(10)
	require.EqualValues(t, 4, p.Epoch())
	p.Done(12)
	require.EqualValues(t, 7, p.Epoch())
}

// A member that crashes before it has fetched what the map was about must hand the map on.
func TestMapOutlivesAMemberThatFetchesLittle(t *testing.T) {
	p := started(20, 5, 6)
	for range 3 {
		text, _ := p.Map(lineage).Encode(4096)
		m, err := progress.Decode(text)
		require.NoError(t, err)
		p = progress.New()
		p.Resume(5, m)
		require.Equal(t, [][2]int64{{2, 15}}, p.Map(lineage).Runs())
		require.EqualValues(t, lineage, m.Lineage)
		require.Zero(t, p.Changes(), "it is committed already")
	}
	require.True(t, p.Add(5, 1))
	require.True(t, p.Add(6, 1))
	p.Done(5)
	p.Done(6)
	require.EqualValues(t, 7, p.Watermark(), "what the map says is believed record by record")
	require.Equal(t, [][2]int64{{0, 13}}, p.Map(lineage).Runs())
	text, dropped := p.Map(lineage).Encode(4096)
	require.Zero(t, dropped)
	m, err := progress.Decode(text)
	require.NoError(t, err)
	next := progress.New()
	next.Resume(7, m)
	for o := int64(7); o < 20; o++ {
		changes := next.Changes()
		require.False(t, next.Add(o, 1))
		require.Greater(t, next.Changes(), changes)
		require.Equal(t, o+1, next.Watermark())
	}
	require.True(t, next.Add(20, 1))
}

func TestMapIsVoidInAnotherLog(t *testing.T) {
	m := started(20, 5).Map(lineage)
	for name, test := range map[string]struct {
		before []record // all to be handled
		then   record
		skips  bool
	}{
		"the same log":                          {[]record{{5, 1}}, record{6, 1}, true},
		"rewritten under a new leader":          {nil, record{6, 2}, false},
		"rewritten from where nothing was done": {[]record{{5, 2}}, record{6, 1}, false},
		"reset below what was committed":        {[]record{{3, 1}}, record{6, 1}, false},
		"cleaned above what was committed":      {nil, record{12, 1}, true},
		"gone with all the map is about":        {nil, record{30, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := progress.New()
			p.Resume(5, m)
			for _, r := range test.before {
				require.True(t, p.Add(r.offset, r.epoch))
			}
			require.Equal(t, !test.skips, p.Add(test.then.offset, test.then.epoch))
		})
	}
}

func TestForgetVoidsTheMap(t *testing.T) {
	p := progress.New()
	p.Resume(5, started(20, 5).Map(lineage))
	p.Forget()
	require.EqualValues(t, 1, p.Changes())
	require.Zero(t, p.Map(lineage).Done())
	require.True(t, p.Add(6, 1))
	p.Forget()
	require.EqualValues(t, 2, p.Changes(), "of the offset 5, which is no record's")
}

func TestResumeTakesNoMapBeyondTheLastOffset(t *testing.T) {
	p := progress.New()
	p.Resume(math.MaxInt64-10, started(20, 5).Map(lineage))
	require.Zero(t, p.Map(lineage).Done())
}

func TestMisusePanics(t *testing.T) {
	p := progress.New()
	p.Add(3, 1)
	p.Add(5, 1)
	p.Done(5)
	for name, test := range map[string]struct {
		text string
		call func()
	}{
		"done twice":            {"progress: done with offset 5, which is not incomplete", func() { p.Done(5) }},
		"done of a gap":         {"progress: done with offset 4, which is not incomplete", func() { p.Done(4) }},
		"done above the head":   {"progress: done with offset 6, which is not incomplete", func() { p.Done(6) }},
		"added twice":           {"progress: offset 5 added below the head 6", func() { p.Add(5, 1) }},
		"added below zero":      {"progress: offset -1 added below the head -1", func() { progress.New().Add(-1, 1) }},
		"resumed after an add":  {"progress: cannot resume at offset 5: the head is 6", func() { p.Resume(5, progress.Map{}) }},
		"resumed below nothing": {"progress: cannot resume at offset -1: the head is -1", func() { progress.New().Resume(-1, progress.Map{}) }},
	} {
		t.Run(name, func(t *testing.T) { require.PanicsWithValue(t, test.text, test.call) })
	}
}

func TestMemoryIsByWhatIsIncomplete(t *testing.T) {
	before := inUse()
	p := progress.New()
	p.Add(0, 1)
	for o := int64(1); o < 200_000; o++ {
		p.Add(o, 1)
		p.Done(o)
	}
	require.EqualValues(t, 200_000, p.Span())
	require.Less(t, inUse()-before, int64(100_000), "one hangs")
	for o := int64(200_000); o < 400_000; o++ {
		p.Add(o, 1)
	}
	require.Greater(t, inUse()-before, int64(4_000_000))
	for o := int64(399_999); o >= 200_000; o-- {
		p.Done(o)
	}
	require.Less(t, inUse()-before, int64(100_000), "one hangs again")
	p.Done(0)
	require.EqualValues(t, 400_000, p.Watermark())
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// hanging is progress with 10,000 offsets incomplete over a span of a million, the first of them for ever.
func hanging() (p *progress.Progress, incomplete []int64) {
	p = progress.New()
	for o := range int64(1_000_000) {
		p.Add(o, 1)
		if o%100 != 0 {
			p.Done(o)
		} else if o > 0 {
			incomplete = append(incomplete, o)
		}
	}
	return p, incomplete
}

// BenchmarkDone is one record that comes and one that is done, in no order.
func BenchmarkDone(b *testing.B) {
	p, incomplete := hanging()
	random := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		i := random.IntN(len(incomplete))
		p.Done(incomplete[i])
		incomplete[i] = p.Head()
		p.Add(p.Head(), 1)
	}
}

// BenchmarkMap is what a commit costs.
func BenchmarkMap(b *testing.B) {
	p, _ := hanging()
	b.ReportAllocs()
	for b.Loop() {
		p.Map(lineage).Encode(4096)
	}
}
