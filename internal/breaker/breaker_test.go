package breaker_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dreamscape/eventbus/internal/breaker"
)

// second is a time, in seconds.
func second(s float64) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(s * float64(time.Second)))
}

// try is a try of a key's event. One without a key succeeded.
type try struct {
	began, ended float64
	failed       string
}

// outage are failures of so many keys, so many seconds apart.
func outage(keys int, apart float64) (tries []try) {
	for i := range keys {
		at := float64(i) * apart
		tries = append(tries, try{at, at + apart/2, strconv.Itoa(i)})
	}
	return tries
}

func TestOpens(t *testing.T) {
	poison := func(n int) (tries []try) {
		for i := range n {
			tries = append(tries, try{float64(i), float64(i) + 0.5, "poison"})
		}
		return tries
	}
	for name, test := range map[string]struct {
		tries []try
		opens int // the number of the try that opens it, from 1 on; 0: none
	}{
		"nothing":                            {nil, 0},
		"four keys":                          {outage(4, 1), 0},
		"five keys":                          {outage(5, 1), 5},
		"more keys open it once":             {outage(9, 1), 5},
		"five keys at 1 event in 30 s":       {outage(5, 30), 5},
		"five keys at 1,000 events a second": {outage(5, 0.001), 5},
		"one poison key, a thousand times":   {poison(1000), 0},
		"a poison key beside four others":    {slices.Concat(poison(2), outage(4, 1)), 6},
		"a key that fails twice counts once": {slices.Concat(outage(4, 1), outage(4, 1), outage(5, 1)), 13},
		"a success in between": {slices.Concat(
			outage(4, 1), []try{{4, 4.1, ""}, {5, 5.1, "4"}, {6, 6.1, "5"}, {7, 7.1, "6"}, {8, 8.1, "7"}}), 0},
		"five after a success": {slices.Concat(
			outage(4, 1), []try{{4, 4.1, ""}, {5, 5.1, "4"}, {6, 6.1, "5"}, {7, 7.1, "6"}, {8, 8.1, "7"}, {9, 9.1, "8"}}), 10},
		"a failure that began before a success does not count": {slices.Concat(
			[]try{{0, 1, ""}, {0.5, 2, "before"}}, []try{{2, 2.1, "0"}, {2, 2.2, "1"}, {2, 2.3, "2"}, {2, 2.4, "3"}}), 0},
		"nor one that began with it": {slices.Concat(
			[]try{{0, 1, ""}, {1, 2, "with"}}, []try{{2, 2.1, "0"}, {2, 2.2, "1"}, {2, 2.3, "2"}, {2, 2.4, "3"}}), 0},
		"one that began right after it does": {slices.Concat(
			[]try{{0, 1, ""}, {1.001, 2, "after"}}, []try{{2, 2.1, "0"}, {2, 2.2, "1"}, {2, 2.3, "2"}, {2, 2.4, "3"}}), 6},
	} {
		t.Run(name, func(t *testing.T) {
			var b breaker.Breaker[string]
			opened := 0
			for i, try := range test.tries {
				if try.failed == "" {
					require.False(t, b.Succeeded(second(try.began), second(try.ended)), "it was not open")
					continue
				}
				if b.Failed(try.failed, second(try.began), second(try.ended)) {
					require.Zero(t, opened, "it opens once")
					opened = i + 1
				}
				require.Equal(t, opened > 0, b.Open())
			}
			require.Equal(t, test.opens, opened)
		})
	}
}

// opened is open since second 0.
func opened(t *testing.T) *breaker.Breaker[int] {
	var b breaker.Breaker[int]
	require.False(t, b.Due(second(0)), "a closed one has no probe")
	for k := range breaker.Trip {
		require.Equal(t, k == breaker.Trip-1, b.Failed(k, second(-1), second(0)))
	}
	return &b
}

func TestProbesComeAtGrowingIntervals(t *testing.T) {
	b := opened(t)
	at := 0.0
	for _, wait := range []float64{1, 2, 4, 8, 16, 30, 30, 30} {
		at += wait
		require.Equal(t, second(at), b.Next())
		require.False(t, b.Due(second(at-0.001)))
		require.True(t, b.Due(second(at)))
		require.True(t, b.Due(second(at+100)))
		b.Probe()
		require.False(t, b.Due(second(at+100)), "one at a time")
		at += 0.25 // is when it fails
		b.ProbeFailed(second(at))
		require.True(t, b.Open())
	}
	require.Equal(t, 30*time.Second, breaker.MaxWait)
}

func TestSuccessCloses(t *testing.T) {
	b := opened(t)
	b.Probe()
	b.ProbeFailed(second(1))
	b.Probe()
	require.True(t, b.Succeeded(second(3), second(3.5)))
	require.False(t, b.Open())
	require.False(t, b.Due(second(1000)))
	require.False(t, b.Succeeded(second(4), second(4.5)), "it was closed already")
	require.Equal(t, second(4), b.Proof())

	for k := range breaker.Trip {
		require.False(t, b.Open(), "it is counted anew")
		b.Failed(k, second(5), second(6))
	}
	require.Equal(t, second(7), b.Next(), "the waits begin anew")
	require.True(t, b.Due(second(7)), "no probe is under way")
}

func TestAnySuccessCloses(t *testing.T) {
	b := opened(t)
	require.True(t, b.Succeeded(second(-9), second(0.1)), "also of a try that began before, and was no probe")
	require.False(t, b.Open())
}

func TestProbeThatTellsNothing(t *testing.T) {
	b := opened(t)
	b.Probe()
	b.ProbeGone()
	require.True(t, b.Due(second(1)), "another one starts at once")
	require.False(t, b.Due(second(0.999)))
	b.Probe()
	b.ProbeFailed(second(1))
	require.Equal(t, second(3), b.Next(), "and it has cost no wait")
}

// A probe may end when another event's success has closed the breaker, and five failures have opened it again.
func TestLateProbeOfAnOutageThatIsOver(t *testing.T) {
	b := opened(t)
	b.Probe()
	b.Succeeded(second(1), second(2))
	b.ProbeFailed(second(3))
	require.False(t, b.Open())
	for k := range breaker.Trip {
		b.Failed(k, second(4), second(5))
	}
	b.ProbeFailed(second(5.5))
	require.Equal(t, second(6), b.Next(), "the new outage's waits are its own")
}

func TestFailuresOfAnOpenOneAreNotCounted(t *testing.T) {
	b := opened(t)
	for k := range 100 {
		require.False(t, b.Failed(k, second(1), second(2)))
	}
	require.Equal(t, second(1), b.Next())
	b.Succeeded(second(2), second(3))
	require.False(t, b.Failed(0, second(4), second(5)))
	require.False(t, b.Open())
}

func TestProofIsTheLatestStartOfASuccess(t *testing.T) {
	var b breaker.Breaker[int]
	require.Zero(t, b.Proof())
	for _, test := range []struct{ began, ended, proof float64 }{{3, 4, 3}, {1, 5, 3}, {4, 6, 4}, {4, 7, 4}} {
		b.Succeeded(second(test.began), second(test.ended))
		require.Equal(t, second(test.proof), b.Proof())
	}
	b.Failed(1, second(8), second(9))
	require.Equal(t, second(4), b.Proof())
}

// plain says what the breaker does by the history since the last success.
type plain struct {
	failed  []int // keys
	opened  bool
	probes  int // that have failed
	probing bool
	next    time.Time
	last    time.Time
	proof   time.Time
}

func (p *plain) succeeded(began, now time.Time) {
	if began.After(p.proof) {
		p.proof = began
	}
	p.failed, p.opened, p.probes, p.probing, p.last = nil, false, 0, false, now
}

func (p *plain) fail(k int, began, now time.Time) {
	if p.opened || !began.After(p.last) {
		return
	}
	p.failed = append(p.failed, k)
	slices.Sort(p.failed)
	if len(slices.Compact(slices.Clone(p.failed))) == 5 {
		p.opened, p.next = true, now.Add(time.Second)
	}
}

func (p *plain) probeFailed(now time.Time) {
	if p.probing {
		p.probes++
		p.probing, p.next = false, now.Add([]time.Duration{0, 2, 4, 8, 16, 30}[min(p.probes, 5)]*time.Second)
	}
}

// machine runs a breaker beside the plain one.
type machine struct {
	b   breaker.Breaker[int]
	p   plain
	now time.Time
}

// began is when a try that ends now began.
func (m *machine) began(t *rapid.T) time.Time {
	return m.now.Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "took")) * time.Second / 4)
}

func (m *machine) wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.SampledFrom([]int{1, 2, 4, 30, 120}).Draw(t, "wait")) * time.Second / 4)
}

func (m *machine) succeed(t *rapid.T) {
	began, open := m.began(t), m.p.opened
	if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
		t.Skip("most fail")
	}
	m.p.succeeded(began, m.now)
	require.Equal(t, open, m.b.Succeeded(began, m.now))
}

func (m *machine) fail(t *rapid.T) {
	k, began, open := rapid.IntRange(0, 7).Draw(t, "key"), m.began(t), m.p.opened
	m.p.fail(k, began, m.now)
	require.Equal(t, !open && m.p.opened, m.b.Failed(k, began, m.now))
}

func (m *machine) probe(t *rapid.T) {
	if !m.b.Due(m.now) {
		t.Skip("not due")
	}
	m.b.Probe()
	m.p.probing = true
}

func (m *machine) probeFailed(*rapid.T) {
	m.b.ProbeFailed(m.now)
	m.p.probeFailed(m.now)
}

func (m *machine) probeGone(*rapid.T) {
	m.b.ProbeGone()
	m.p.probing = false
}

func (m *machine) check(t *rapid.T) {
	require.Equal(t, m.p.opened, m.b.Open())
	require.Equal(t, m.p.opened && !m.p.probing && !m.now.Before(m.p.next), m.b.Due(m.now))
	require.Equal(t, m.p.proof, m.b.Proof())
	if m.p.opened {
		require.Equal(t, m.p.next, m.b.Next())
	}
}

func TestBreakerDoesWhatTheHistorySays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{now: second(0)}
		for range 4 {
			t.Repeat(map[string]func(*rapid.T){
				"wait": m.wait, "succeed": m.succeed, "fail": m.fail, "fail more": m.fail, "fail most": m.fail, "probe": m.probe,
				"probe more": m.probe, "probe failed": m.probeFailed, "probe gone": m.probeGone, "": m.check,
			})
		}
	})
}
