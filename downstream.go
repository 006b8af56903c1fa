package eventbus

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dreamscape/eventbus/internal/breaker"
)

// What a handler calls can be down: then every event fails, and none is to blame. The route's breaker notices, and until it is over only one
// event at a time is tried, no try counts, and fetching pauses.

// noteFailureLocked tells the route's breaker of a failed try. true: it may be an outage's, and does not count.
func (c *consumer) noteFailureLocked(it *item, probe bool, now time.Time) bool {
	t := it.Value
	r := t.of.route
	lastResort := t.lastResort
	t.lastResort = false
	if !t.class.mayBeOutage() {
		if probe && t.class == ClassPanic {
			r.breaker.ProbeFailed(now)
			c.probeLaterLocked(r)
			return false
		}
		c.probeGoneLocked(r, probe)
		return false
	}
	switch {
	case probe:
		r.breaker.ProbeFailed(now)
		c.probeLaterLocked(r)
	case !t.proven() && r.breaker.Failed(it.Lane(), t.started, now): // an event that fails where others succeed says nothing of an outage
		c.openedLocked(r)
	}
	if lastResort && now.Sub(t.first) >= r.retry.OutageHold {
		t.spent = max(t.spent, t.fails-1) // else it would be tried for ever
		return false
	}
	return r.breaker.Open()
}

// proven says whether the event itself is to blame: another one of its route began after it first failed, and succeeded before its last try
// began. A success that is only younger than the failure may have been on its way when an outage began.
func (t *task) proven() bool { return !t.proof.Before(t.first) }

// openedLocked holds a route.
func (c *consumer) openedLocked(r *route) {
	c.takeBackAllLocked()
	c.engine.Hold(r.n, true)
	for _, a := range c.assignedTo(r) {
		c.fetchingLocked(a)
	}
	c.bus.count.breakerOpened.Add(1)
	c.probeLaterLocked(r)
	c.afterLocked(func() {
		c.trouble(downstreamTrouble(r), fmt.Errorf("paused: downstream: the handler of %s failed for %d keys in a row; one event is tried from time to time",
			r.kafkaTopic, breaker.Trip))
	})
}

// closedLocked lets a route go on. What failed meanwhile begins afresh, and soon: its tries were the outage's.
func (c *consumer) closedLocked(r *route) {
	c.engine.Hold(r.n, false)
	r.probeTimer.Stop()
	for _, a := range c.assignedTo(r) {
		for _, it := range a.part.Waiting() {
			c.beginAfreshLocked(it)
		}
		c.fetchingLocked(a)
	}
	c.feedLocked()
	c.afterLocked(func() { c.resolve(downstreamTrouble(r)) })
}

func (c *consumer) beginAfreshLocked(it *item) {
	t := it.Value
	if t.letter != nil || t.behind != nil || t.writing || t.held {
		return
	}
	t.fails, t.spent = 0, 0
	wait := max(time.Until(t.next), 0)
	if !t.asked {
		wait = min(wait, t.of.route.retry.wait(1))
	}
	t.next = time.Now().Add(wait)
	t.timer.Reset(wait)
}

func downstreamTrouble(r *route) string { return "downstream " + r.kafkaTopic }

// assignedTo returns the assignments of a route, and the drains beside them.
func (c *consumer) assignedTo(r *route) []*assignment {
	var as []*assignment
	for a := range c.eachLocked {
		if a.route == r {
			as = append(as, a)
		}
	}
	return as
}

// probeLaterLocked sees to it that the next probe starts when it is due.
func (c *consumer) probeLaterLocked(r *route) {
	if r.probeTimer != nil {
		r.probeTimer.Stop()
	}
	r.probeTimer = time.AfterFunc(time.Until(r.breaker.Next()), func() {
		c.mu.Lock()
		defer c.unlock()
		c.feedLocked()
	})
}

// probeGoneLocked has another probe start at once in place of one that told nothing.
func (c *consumer) probeGoneLocked(r *route, probe bool) {
	if probe {
		r.breaker.ProbeGone()
	}
}

// probeLocked starts the event that has been ready longest, or else the parked one that is due first. nil: there is none, or no slot is free;
// the next one that comes, or is due, is tried at once.
func (c *consumer) probeLocked(r *route) *item {
	if c.engine.Running() == c.sub.Concurrency {
		return nil // and what is parked stays so
	}
	it := c.engine.NextOf(r.n)
	for it != nil && (c.followsLocked(it) || c.waitsLocked(it)) {
		it = c.engine.NextOf(r.n)
	}
	lastResort := it == nil
	if lastResort {
		if it = c.earliestParked(r); it == nil {
			return nil
		}
		it.Value.quiet()
		c.engine.Unpark(it)
		if it = c.engine.NextOf(r.n); it == nil || c.followsLocked(it) {
			return nil
		}
	}
	r.breaker.Probe()
	it.Value.probe, it.Value.lastResort = true, lastResort
	return it
}

// earliestParked leaves out what RetryAfter keeps from being tried yet.
func (c *consumer) earliestParked(r *route) *item {
	now := time.Now()
	var parked []*item
	for _, a := range c.assignedTo(r) {
		for _, it := range a.part.Waiting() {
			if t := it.Value; it.Parked() && t.letter == nil && t.behind == nil && !t.held && !(t.asked && now.Before(t.next)) {
				parked = append(parked, it)
			}
		}
	}
	if len(parked) == 0 {
		return nil
	}
	return slices.MinFunc(parked, func(a, b *item) int {
		return cmp.Or(a.Value.next.Compare(b.Value.next), cmp.Compare(a.Offset, b.Offset))
	})
}
