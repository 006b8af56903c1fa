package eventbus

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// maxParkedShown is how many parked keys of a partition are shown.
const maxParkedShown = 10

// hold is for Pause and Resume.
func (c *consumer) hold(held bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.held = held; held {
		c.takeBackAllLocked()
	}
	for _, a := range c.assigned {
		c.fetchingLocked(a)
	}
	c.feedLocked()
}

// health returns the state for [Health], and whether the consumer can make progress.
func (c *consumer) health() (g GroupHealth, live bool) {
	g = GroupHealth{Group: c.group, Partitions: []PartitionHealth{}}
	for _, err := range c.problems() {
		g.Problems = append(g.Problems, err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g.Joined, g.Paused, g.Detached = c.joined, c.pausedLocked(), len(c.left)
	live = (c.giving > 0 || time.Since(c.polled) < stallAfter) && !c.stuckLocked() // nobody polls while partitions are given up
	for _, a := range c.assigned {
		p := a.healthLocked()
		g.Lag += p.Lag
		g.LagTime = max(g.LagTime, p.LagTime)
		g.Partitions = append(g.Partitions, p)
	}
	slices.SortFunc(g.Partitions, func(a, b PartitionHealth) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return g, live
}

func (c *consumer) pausedLocked() string {
	if c.held {
		return pausedByUser
	}
	if slices.ContainsFunc(c.ordered, func(r *route) bool { return r.breaker.Open() }) {
		return pausedDownstream
	}
	return ""
}

// stuckLocked says whether a handler runs on long after its time, one that was left behind included.
func (c *consumer) stuckLocked() bool {
	for it := range c.left {
		if it.Value.stuck() {
			return true
		}
	}
	for a := range c.eachLocked {
		for _, it := range a.part.Running() {
			if it.Value.stuck() {
				return true
			}
		}
	}
	return false
}

func (t *task) stuck() bool { return time.Since(t.started) > t.of.route.timeout+stallAfter }

func (a *assignment) healthLocked() PartitionHealth {
	p := PartitionHealth{
		Topic: a.topic, Partition: a.partition, Position: a.positionLocked(), Committed: a.part.Committed(), Lag: a.lagLocked(), LagTime: a.lagTimeLocked(),
		Queued: a.part.Queued(), Bytes: a.part.Bytes(), Span: a.part.Span(), Paused: a.paused, Sequences: len(a.sequences),
	}
	if it := a.part.First(); it != nil {
		p.Oldest = max(0, time.Since(it.Value.record.Timestamp))
	}
	for _, it := range a.part.Waiting() {
		t := it.Value
		if p.Waiting == "" {
			p.Waiting = t.waiting()
		}
		if t.letter != nil || t.behind != nil || t.writing || t.held {
			continue
		}
		if p.ParkedKeys++; p.ParkedKeys <= maxParkedShown {
			p.Parked = append(p.Parked, t.parked(a.consumer.engine.Behind(it)))
		}
	}
	return p
}

func (t *task) waiting() string {
	switch {
	case t.letter != nil:
		return "dead letter"
	case t.writing:
		return "acknowledgement of what was published"
	case t.held:
		return "end of its key's release"
	case t.behind != nil:
		return fmt.Sprintf("handler that was left behind at offset %d", t.behind.Offset)
	}
	return fmt.Sprintf("try %d of offset %d", t.fails+1, t.record.Offset)
}

// measure adds what the consumer has to the metrics.
func (c *consumer) measure(m *Metrics) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.assigned {
		p := a.healthLocked()
		m.ConsumerLag += p.Lag
		m.ConsumerLagTime = max(m.ConsumerLagTime, p.LagTime)
		m.ParkedKeys += int64(p.ParkedKeys)
		m.Parked = append(m.Parked, p.Parked...)
		if p.Paused != "" {
			m.Paused++
		}
	}
}
