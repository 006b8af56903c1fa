package eventbus

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/engine"
)

// onAssigned is called at the start of every session of the group, also with nothing new.
func (c *consumer) onAssigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.endBroken()
	c.begin()
	again := c.takeAgain(parts)
	c.release(again, c.sub.DrainTimeout)
	c.mu.Lock()
	c.client.ResumeFetchPartitions(parts) // a pause outlives an assignment
	for topic, partitions := range parts {
		for _, p := range partitions {
			c.assignLocked(topicPartition{topic, p}, again)
		}
	}
	if !c.draining {
		c.takeBackLocked()
	}
	if c.txn != nil {
		c.wakePollLocked() // where do they begin, and which keys are parked?
	}
	c.unlock()
	c.lookSoon()
	c.bus.change()
}

// assignLocked begins an assignment. again are those that the client has assigned without having given them back.
func (c *consumer) assignLocked(key topicPartition, again []*assignment) {
	if f := c.followed[key.topic]; f == nil || !f.consumed || c.draining {
		c.strays[key] = struct{}{} // the client reads it, and what it reads is dropped
		return
	}
	_, stray := c.strays[key]
	a := newAssignment(c.handling, c, key.topic, key.partition)
	a.ahead = a.sequenced() || stray || slices.ContainsFunc(again, func(old *assignment) bool { return old.topic == key.topic && old.partition == key.partition })
	c.assigned[key] = a
	delete(c.strays, key)
	delete(c.expelled, key)
	c.fetchingLocked(a)
}

// takeAgain takes assignments of partitions that the client assigns although it never gave them back: so it does by the consumer protocol when a
// topic is added. It may then read them on from what is committed, or from where it is: so what is done is committed, unless it was of a topic which
// is gone, and the client is set back to that.
func (c *consumer) takeAgain(parts map[string][]int32) []*assignment {
	taken := c.take(parts)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range taken {
		if a.source != nil {
			continue
		}
		f := c.followed[a.topic]
		a.void = a.void || f == nil || a.part.Begun() && a.id != f.id
	}
	return taken
}

// begin begins a session.
func (c *consumer) begin() {
	c.bus.count.rebalances.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined, c.joining, c.heard = true, false, time.Now()
	c.session.member, c.session.generation = c.client.GroupMetadata()
	delete(c.troubles, "group")
}

// onRevoked gives partitions up in good order. It may wait: the group does, for RebalanceTimeout. It is called at the end of every session too,
// also with nothing to give up; then the client joins again, and until the next session commits go another way.
func (c *consumer) onRevoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.setJoining(false) // the client does not join while it calls back
	if len(parts) > 0 {
		c.noteLoss()
		c.forgetParking(parts)
	}
	if n := c.release(c.take(parts), c.sub.DrainTimeout); n > 0 {
		c.log.Warn("handlers did not end within DrainTimeout at a rebalance; their events come again", "count", n)
	}
	c.committing.Lock() // for a commit that is under way the client would wait too
	defer c.committing.Unlock()
	c.setJoining(c.sub.Protocol == ProtocolClassic) // by the other one nobody joins again
}

// onLost is told of partitions that are gone already, possibly to a member that works on them: nothing is waited for or committed.
func (c *consumer) onLost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.noteLoss()
	c.forgetParking(parts)
	lost := c.take(parts)
	c.committing.Lock()
	defer c.committing.Unlock()
	c.setJoining(c.sub.Protocol == ProtocolClassic)
	c.mu.Lock()
	c.joined = false
	for _, a := range lost {
		c.abandonLocked(a)
	}
	c.feedLocked()
	c.unlock()
	c.bus.change()
}

// abandonLocked ends an assignment without waiting for anything. A handler that goes on all the same is counted when its grace is over.
func (c *consumer) abandonLocked(a *assignment) {
	left := c.releaseLocked(a)
	if len(left) == 0 {
		return
	}
	time.AfterFunc(drainGrace, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, it := range left {
			if _, runs := c.left[it]; runs {
				c.bus.count.detached.Add(1)
			}
		}
	})
}

// releaseLocked ends the ownership of an assignment, and returns what still runs of it and of the drains beside it: left behind, its results are nobody's.
func (c *consumer) releaseLocked(a *assignment) (left []*item) {
	for _, drain := range a.drainsLocked() {
		left = append(left, c.releaseLocked(drain)...)
	}
	a.stopLocked()
	for _, it := range a.part.Waiting() { // for their dead letters: nobody asks any longer what became of them
		it.Value.quiet()
	}
	c.breakLocked(errGivenUp)
	own := c.engine.Release(a.part)
	a.idleLocked() // who drains it waits for nothing more
	for _, it := range own {
		c.left[it] = struct{}{}
		c.probeGoneLocked(a.route, it.Value.probe)
		it.Value.probe = false
	}
	a.cancel()
	c.forgetLettersLocked(a.route)
	return append(left, own...)
}

// take removes assignments, so that nothing more is handed to them.
func (c *consumer) take(parts map[string][]int32) []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	var taken []*assignment
	for topic, partitions := range parts {
		for _, p := range partitions {
			key := topicPartition{topic, p}
			delete(c.expelled, key)
			c.forgetTriesLocked(key)
			if a := c.assigned[key]; a != nil {
				taken = append(taken, a.withDrainsLocked()...)
				if c.bus.bug != engine.NoOwnership {
					delete(c.assigned, key)
				}
			}
		}
	}
	return taken
}

// drain begins the end of all assignments. They stay known: a rebalance meanwhile must find them, and wait for them.
func (c *consumer) drain() []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	return slices.Collect(c.eachLocked)
}

func (c *consumer) takeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.assigned)
}

// release ends assignments: running handlers get the drain time, then their ctx is cancelled, then they are left behind; what is
// done is committed, and ownership ends in the same breath. It returns how many handlers were left behind.
func (c *consumer) release(as []*assignment, drain time.Duration) (left int) {
	if len(as) == 0 { // sessions end with nothing to give up, too
		return 0
	}
	c.give(1)
	defer c.give(-1)
	if c.txn != nil {
		drain = 0 // the transaction is aborted, whatever comes of it
	}
	c.stop(as, drain)
	c.committing.Lock()
	defer c.committing.Unlock()
	if c.txn == nil {
		c.commit(context.Background(), as)
	}
	return c.relinquish(as)
}

// releaseAtLast is release for a member that leaves. No other commit will follow, so one that a rebalance refuses is made again when that is
// over: then the partitions are still this member's, or a callback has released them.
func (c *consumer) releaseAtLast(as []*assignment, drain time.Duration) (left int) {
	c.give(1)
	defer c.give(-1)
	if c.txn != nil {
		return c.releaseInTransactions(as, drain)
	}
	c.stop(as, drain)
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	for again := true; again; again = c.wanting(as) && sleep(ctx, commitAgain) {
		c.committing.Lock()
		c.commit(ctx, as)
		c.committing.Unlock()
	}
	c.committing.Lock()
	defer c.committing.Unlock()
	return c.relinquish(as)
}

// commitAgain is the wait before a refused commit is made again; a rebalance takes about as long as its members need to answer.
const commitAgain = 50 * time.Millisecond

// stop has nothing more begin, and waits for what runs: at first as it goes, then with its ctx cancelled. It does so once.
func (c *consumer) stop(as []*assignment, drain time.Duration) {
	c.mu.Lock()
	for _, a := range as {
		a.stopLocked()
	}
	as = slices.DeleteFunc(slices.Clone(as), func(a *assignment) bool { return a.outlasted })
	c.unlock()
	if allIdle(as, drain) {
		return
	}
	for _, a := range as {
		a.cancel()
	}
	if allIdle(as, drainGrace) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range as {
		a.outlasted = true
	}
}

// relinquish ends the ownership. The caller holds committing.
func (c *consumer) relinquish(as []*assignment) (left int) {
	c.mu.Lock()
	defer c.unlock()
	for _, a := range as {
		left += len(c.releaseLocked(a))
	}
	c.bus.count.detached.Add(int64(left))
	c.feedLocked()
	return left
}

// give counts the releases under way.
func (c *consumer) give(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giving += n
	c.polled = time.Now()
}

// allIdle waits until nothing of stopped assignments is under way, or d is over.
func allIdle(as []*assignment, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for _, a := range as {
		select {
		case <-a.idle:
		case <-t.C:
			return false
		}
	}
	return true
}
