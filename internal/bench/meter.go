package main

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// snapshot is what a process has used.
type snapshot struct {
	at      time.Time
	cpu     time.Duration
	mallocs uint64
}

func look() snapshot {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it cannot fail for the process itself
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return snapshot{at: time.Now(), cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), mallocs: mem.Mallocs}
}

// until is what happened between two snapshots.
func (s snapshot) until(end snapshot, events int64) result {
	return result{
		Events: int(events), Seconds: end.at.Sub(s.at).Seconds(), CPU: (end.cpu - s.cpu).Seconds(), Allocs: float64(end.mallocs - s.mallocs),
	}
}

// meter measures from the end of the warm-up on: that many events, or as many as there are within the limit. It is safe for concurrent use.
type meter struct {
	warmup, events int64
	limit          time.Duration
	n              atomic.Int64
	done           chan struct{} // closed when it has measured

	mu         sync.Mutex
	state      int // events came, measuring, over
	first      int64
	begin, end snapshot
	last       int64
}

const (
	idle = iota
	warming
	measuring
	over
)

func newMeter(t task) *meter {
	return &meter{warmup: int64(max(t.Warmup, 1)), events: int64(t.Events), limit: t.limit(), done: make(chan struct{})}
}

func (m *meter) event() {
	switch n := m.n.Add(1); n {
	case 1:
		m.to(warming)
	case m.warmup:
		m.to(measuring)
	case m.warmup + m.events:
		m.to(over)
	}
}

// to enters a state, unless it is there already: by its last event or, earlier, by its time.
func (m *meter) to(state int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if state != m.state+1 {
		return
	}
	m.state = state
	switch state {
	case warming:
		time.AfterFunc(m.limit, func() { m.to(measuring) })
	case measuring:
		m.begin, m.first = look(), m.n.Load()
		time.AfterFunc(m.limit, func() { m.to(over) })
	case over:
		m.end, m.last = look(), m.n.Load()
		close(m.done)
	}
}

func (m *meter) result() result { return m.begin.until(m.end, m.last-m.first) }

// latencies are safe for concurrent use.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d ...time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d...)
}

// at returns a quantile, in seconds; 0 of none.
func (l *latencies) at(quantile float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return 0
	}
	slices.Sort(l.all)
	return l.all[min(int(quantile*float64(len(l.all))), len(l.all)-1)].Seconds()
}
