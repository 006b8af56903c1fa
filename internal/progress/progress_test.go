package progress_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/progress"
)

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
	p.Resume(10, 2, progress.Map{})
	p.Add(10, 3)
	p.Add(11, 4)
	p.Add(12, 7)
	require.EqualValues(t, 2, p.Epoch(), "what was committed with the offset is still true of it")
	p.Done(11)
	require.EqualValues(t, 4, p.Map(1).Epoch)
	p.Done(10)
	require.EqualValues(t, 4, p.Epoch())
	p.Done(12)
	require.EqualValues(t, 7, p.Epoch())
}

func TestEpochIsThatOfTheFirstRecordWhereNothingIsBelow(t *testing.T) {
	p := progress.New()
	p.Add(37, 3)
	p.Add(38, 4)
	require.EqualValues(t, 3, p.Epoch())
	p.Done(37)
	require.EqualValues(t, 3, p.Epoch())
}

func TestEpochIsWhatWasCommittedWhereThePositionIsReset(t *testing.T) {
	p := progress.New()
	p.Resume(10, 2, progress.Map{})
	p.Add(5, 3)
	require.EqualValues(t, 2, p.Epoch(), "the records below it are not newer")
}

// A member that crashes before it has fetched what the map was about must hand the map on.
func TestMapOutlivesAMemberThatFetchesLittle(t *testing.T) {
	p := started(20, 5, 6)
	for range 3 {
		text, _ := p.Map(lineage).Encode(4096)
		m, err := progress.Decode(text)
		require.NoError(t, err)
		p = progress.New()
		p.Resume(5, -1, m)
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
	next.Resume(7, -1, m)
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
			p.Resume(5, -1, m)
			for _, r := range test.before {
				require.True(t, p.Add(r.offset, r.epoch))
			}
			require.Equal(t, !test.skips, p.Add(test.then.offset, test.then.epoch))
		})
	}
}

func TestForgetVoidsTheMap(t *testing.T) {
	p := progress.New()
	p.Resume(5, -1, started(20, 5).Map(lineage))
	p.Forget()
	require.EqualValues(t, 1, p.Changes())
	require.Zero(t, p.Map(lineage).Done())
	require.True(t, p.Add(6, 1))
	p.Forget()
	require.EqualValues(t, 2, p.Changes(), "of the offset 5, which is no record's")
}

func TestResumeTakesNoMapBeyondTheLastOffset(t *testing.T) {
	p := progress.New()
	p.Resume(math.MaxInt64-10, -1, started(20, 5).Map(lineage))
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
		"resumed after an add":  {"progress: cannot resume at offset 5: the head is 6", func() { p.Resume(5, -1, progress.Map{}) }},
		"resumed below nothing": {"progress: cannot resume at offset -1: the head is -1", func() { progress.New().Resume(-1, -1, progress.Map{}) }},
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
