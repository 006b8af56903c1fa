// Package breaker notices that what a handler calls is down: not one event is bad, but everything fails. It knows no Kafka, starts no
// goroutine and reads no clock; callers lock, and say what time it is.
package breaker

import "time"

const (
	// Trip is how many keys must fail with no success in between before the breaker opens. One bad event, or one bad key, never does.
	Trip = 5
	// FirstWait is the time to the first probe. It doubles with each that fails, up to MaxWait.
	FirstWait = time.Second
	// MaxWait is the longest time between two probes.
	MaxWait = 30 * time.Second
)

// Breaker is closed as long as events succeed now and then. Open, it lets through one probe at a time. The zero value is closed.
type Breaker[K comparable] struct {
	failing map[K]struct{} // the keys that have failed since the last success
	open    bool
	probing bool
	wait    time.Duration
	next    time.Time
	proof   time.Time
	last    time.Time // when a try last succeeded
}

// Succeeded notes a try that began at started and succeeded now. It says whether that closed the breaker: any success does. One that began
// before the outage closes it too early, and the next failures open it again.
func (b *Breaker[K]) Succeeded(started, now time.Time) (closed bool) {
	b.last = now
	if started.After(b.proof) {
		b.proof = started
	}
	closed = b.open
	b.open, b.probing = false, false
	clear(b.failing)
	return closed
}

// Failed notes a try of k's event that began at started and failed as in an outage. It says whether that opened the breaker. A failure
// beside a success, which came while the try was running, does not count.
func (b *Breaker[K]) Failed(k K, started, now time.Time) (opened bool) {
	if b.open || !started.After(b.last) {
		return false
	}
	if b.failing == nil {
		b.failing = map[K]struct{}{}
	}
	b.failing[k] = struct{}{}
	if len(b.failing) < Trip {
		return false
	}
	clear(b.failing)
	b.open, b.probing, b.wait, b.next = true, false, FirstWait, now.Add(FirstWait)
	return true
}

// Open says whether only probes may start.
func (b *Breaker[K]) Open() bool { return b.open }

// Due says whether a probe may start now.
func (b *Breaker[K]) Due(now time.Time) bool { return b.open && !b.probing && !now.Before(b.next) }

// Probe notes that a probe has started.
func (b *Breaker[K]) Probe() { b.probing = true }

// ProbeFailed notes that the probe has failed: the next one comes after a longer wait.
func (b *Breaker[K]) ProbeFailed(now time.Time) {
	if !b.probing {
		return
	}
	b.probing, b.wait = false, min(2*b.wait, MaxWait)
	b.next = now.Add(b.wait)
}

// ProbeGone notes that the probe ended without telling anything: its partition was taken away, or its event was a bad one.
func (b *Breaker[K]) ProbeGone() { b.probing = false }

// Next is when the next probe may start; it means nothing while the breaker is closed.
func (b *Breaker[K]) Next() time.Time { return b.next }

// Proof is the latest start of a try that has succeeded: what the tries called was up then. Zero before the first.
func (b *Breaker[K]) Proof() time.Time { return b.proof }
