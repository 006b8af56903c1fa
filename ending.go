package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	errTooLong   = errors.New("the group rebalances for too long")
	errTooSlow   = errors.New("what was published is not acknowledged in time")
	errGivenUp   = errors.New("partitions were given up")
	errNotWanted = errors.New("aborted: it comes again")
	errRefused   = errors.New("the group does not take its offsets") // the client has not told more
)

// endTransaction commits the transaction, or aborts it, where it is due, and begins the next. What ctx cuts short leaves the client unusable: it is for
// the end of the consumer.
func (c *consumer) endTransaction(ctx context.Context) {
	x := c.txn
	x.ending.Lock()
	defer x.ending.Unlock()
	c.mu.Lock()
	ends := x.due && c.endableLocked()
	opens := x.begun && (ends || !x.open)
	if ends {
		x.open, x.due = false, false
		if x.timer != nil {
			x.timer.Stop()
		}
	}
	c.mu.Unlock()
	if !ends && !opens {
		return
	}
	c.give(1)
	defer c.give(-1)
	if ends {
		c.nextTransaction(ctx)
	}
	if opens && ctx.Err() == nil && c.failed() == nil {
		if err := c.openTransaction(ctx); err != nil && ctx.Err() == nil {
			c.transactionFailed(err)
		}
	}
}

func (c *consumer) transactionFailed(err error) {
	c.trouble(transactionTrouble, fmt.Errorf("transactional id %s: %w", c.bus.transactionalID(c.sub.Group), err))
}

// endableLocked says whether the transaction can be ended now. While the group rebalances, the client holds a commit back, for as long as a member that
// has crashed is missed; one that waits for that too long is aborted.
func (c *consumer) endableLocked() bool {
	x := c.txn
	if x.broken != nil {
		return true
	}
	if x.due = false; x.since.IsZero() { // the timer of the one before; or it is to be opened
		return false
	}
	if !c.joining {
		return true
	}
	if time.Since(x.since) > transactionTimeout/2 {
		x.broken = errTooLong
		return true
	}
	x.timer.Reset(transactionInterval)
	return false
}

// errFenced ends a consumer whose client can have no further transaction. Another one, with a client of its own, takes its place.
var errFenced = errors.New("the transactional client cannot begin another transaction")

// ending is how a transaction has ended.
type ending int

const (
	endedCommitted ending = iota
	endedAborted
	endedEmpty // nothing was done in it, such as after a dead letter that could not be written
)

// nextTransaction ends a transaction that takes no results any more, and begins the next.
func (c *consumer) nextTransaction(ctx context.Context) {
	x := c.txn
	ended, err := c.commitTransaction(ctx)
	if err != nil && ctx.Err() == nil {
		c.transactionFailed(err)
		_ = c.client.EndTransaction(ctx, kgo.TryAbort) // where the end is not known, the client wants it before the next can begin
	}
	if ended == endedCommitted {
		c.resolve(transactionTrouble)
	}
	c.mu.Lock()
	topics, renewed := slices.Collect(maps.Keys(x.topics)), errors.Is(err, kerr.UnknownTopicID) || errors.Is(x.broken, kerr.UnknownTopicID)
	c.mu.Unlock()
	if renewed {
		c.client.PurgeTopicsFromProducing(topics...) // one was made again, and the client sticks to what it was
	}
	if x.begun {
		if err := x.session.Begin(); err != nil && ctx.Err() == nil {
			c.fail(fmt.Errorf("%w: %w", errFenced, err))
		}
	}
	c.endedTransaction(ended, err)
}

// commitTransaction commits or aborts. An error is why it is not committed, where that is not of our own making.
func (c *consumer) commitTransaction(ctx context.Context) (ending, error) {
	c.awaitLanded(ctx)
	c.awaitCompleted(ctx)
	c.mu.Lock()
	broken := c.txn.broken
	c.mu.Unlock()
	c.txn.handing.Wait() // of the next one, what comes to the client from now on would be
	if broken != nil {
		_, err := c.txn.session.End(ctx, kgo.TryAbort)
		if errors.Is(broken, errTooSlow) {
			err = errors.Join(broken, err)
		}
		return endedAborted, err
	}
	as := c.assignments()
	chosen, _ := c.chooseCommits(as)
	if len(chosen) == 0 && c.hasResults() { // they would be lost without the offsets that go with them
		_, err := c.txn.session.End(ctx, kgo.TryAbort)
		return endedAborted, err
	}
	if len(chosen) == 0 { // not by the session, which would set the client back
		return endedEmpty, c.client.EndTransaction(ctx, kgo.TryAbort)
	}
	ctx = kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
		c.addOffsets(req, as, chosen)
		return nil
	})
	c.setCommitting(time.Now())
	committed, err := c.txn.session.End(ctx, kgo.TryCommit)
	c.setCommitting(time.Time{})
	if errors.Is(err, kerr.OffsetMetadataTooLarge) {
		c.shrinkMaps()
	}
	if !committed {
		c.bus.count.commitErrors.Add(1)
		return endedAborted, err
	}
	c.bus.count.commits.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, commit := range chosen {
		c.engine.Committed(commit)
	}
	return endedCommitted, nil
}

// awaitCompleted waits until the coordinator has completed the transaction before: until all partitions have its marker, it refuses the offsets of the
// next one (CONCURRENT_TRANSACTIONS), and the client aborts that for it, with all that was done. It is needed where nothing was published: what
// was is acknowledged after that. Who may not ask does without.
func (c *consumer) awaitCompleted(ctx context.Context) {
	x, id := c.txn, c.bus.transactionalID(c.sub.Group)
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout/2)
	defer cancel()
	c.setCommitting(time.Now()) // a rebalance does not wait for longer than for the commit
	defer c.setCommitting(time.Time{})
	for wait := time.Millisecond; ; wait = min(2*wait, transactionInterval) {
		c.mu.Lock()
		needed := x.broken == nil && len(x.topics) == 0
		c.mu.Unlock()
		if !needed || !c.completing(ctx, id) || !sleep(ctx, wait) {
			return
		}
	}
}

// completing says whether a transaction's end is not written everywhere yet, as far as the coordinator says.
func (c *consumer) completing(ctx context.Context, id string) bool {
	asking, cancel := context.WithTimeout(ctx, blockedGrace)
	defer cancel()
	all, err := c.bus.admin.DescribeTransactions(asking, id)
	if err == nil {
		err = all[id].Err
	}
	if err != nil {
		return kerr.IsRetriable(err)
	}
	return strings.HasPrefix(all[id].State, "Prepare")
}

func (c *consumer) hasResults() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.txn.told) > 0
}

func (c *consumer) setCommitting(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.txn.committed = since
}

// addOffsets replaces what the client would commit, all that was polled, by what is done.
func (c *consumer) addOffsets(req *kmsg.TxnOffsetCommitRequest, as []*assignment, chosen chosenCommits) {
	req.Topics = nil
	at := map[string]int{}
	for _, a := range as {
		commit, ok := chosen[topicPartition{a.topic, a.partition}]
		if !ok {
			continue
		}
		i, known := at[a.topic]
		if !known {
			i = len(req.Topics)
			at[a.topic] = i
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic, t.TopicID = a.topic, a.id
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		metadata, dropped := commit.Map.Encode(c.mapLimit)
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = a.partition, commit.Offset, commit.Epoch, &metadata
		if dropped > 0 {
			c.bus.count.mapsCut.Add(1)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
}

// endedTransaction does what follows from an end. Where it was aborted, everything begins anew.
func (c *consumer) endedTransaction(ended ending, err error) {
	x := c.txn
	c.mu.Lock()
	defer c.unlock()
	told, waiting, why := x.told, x.waiting, x.broken
	if ended == endedAborted {
		if !x.since.IsZero() { // else nothing was done in it
			c.noteAbortedLocked(cmp.Or(why, err, errRefused))
		}
		x.aborted++
	} else {
		x.aborted = 0
	}
	if ended == endedAborted || x.stopped {
		x.waiting = nil
		c.rollBackLocked()
		for _, f := range waiting {
			f(false)
		}
	}
	x.number++
	x.since, x.broken, x.told, x.stopped = time.Time{}, nil, nil, false
	clear(x.topics)
	c.afterLocked(func() {
		result := resultOf(ended, why, err)
		for _, f := range told {
			f(result)
		}
	})
}

func (c *consumer) noteAbortedLocked(why error) {
	c.bus.count.aborted.Add(1)
	why = c.bus.login.clean(why)
	c.afterLocked(func() { c.log.Info("transaction aborted: its events are handled again", "error", why) })
}

// giveUpTransaction tells those who wait for a transaction of a consumer that has ended: there will be none, and what was in one is aborted.
func (c *consumer) giveUpTransaction() {
	if c.txn == nil {
		return
	}
	c.mu.Lock()
	defer c.unlock()
	told, waiting := c.txn.told, c.txn.waiting
	c.txn.told, c.txn.waiting = nil, nil
	for _, f := range waiting {
		f(false)
	}
	c.afterLocked(func() {
		for _, f := range told {
			f(resultOf(endedAborted, errGivenUp, nil))
		}
	})
}

// resultOf is the error of what was published in a transaction that has ended, as far as that is known.
func resultOf(ended ending, why, err error) error {
	switch {
	case ended == endedCommitted:
		return nil
	case why == nil && err != nil: // its commit was asked for
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return fmt.Errorf("%w: %w: %w", ErrNotSent, errTxAborted, errors.Join(why, errNotWanted))
}

// rollBackLocked has every partition begin anew where the group has committed. How often which event has failed is remembered.
func (c *consumer) rollBackLocked() {
	for key, old := range c.assigned {
		for _, each := range old.withDrainsLocked() {
			c.carryLocked(each)
		}
		c.abandonLocked(old)
		if c.draining {
			delete(c.assigned, key)
			continue
		}
		a := newAssignment(c.handling, c, key.topic, key.partition)
		a.ahead, a.paused = true, old.paused
		c.assigned[key] = a
		c.fetchingLocked(a)
	}
	c.feedLocked()
}

func (c *consumer) carryLocked(a *assignment) {
	for it := range a.part.Items {
		kept := it.Value.tries
		if a.source != nil || kept.letter != nil && kept.letter.class == ClassSequence { // whether it is given up is seen anew
			kept.letter = nil
		}
		if kept.fails > 0 || kept.letterFails > 0 || kept.letter != nil {
			c.txn.carried[place{topicPartition{a.topic, a.partition}, it.Value.record.Offset}] = kept
		}
	}
}

// forgetTriesLocked forgets what is remembered of a partition that somebody else has from now on.
func (c *consumer) forgetTriesLocked(key topicPartition) {
	if c.txn != nil {
		letters := topicPartition{c.letterTopic(c.routes[key.topic]), key.partition} // what was released of them
		maps.DeleteFunc(c.txn.carried, func(at place, _ tries) bool { return at.topicPartition == key || at.topicPartition == letters })
	}
}

// recallLocked gives an event that begins anew what is remembered of it.
func (c *consumer) recallLocked(t *task) {
	if c.txn == nil {
		return
	}
	at := place{topicPartition{t.of.topic, t.of.partition}, t.record.Offset}
	was, ok := c.txn.carried[at]
	if !ok {
		return
	}
	delete(c.txn.carried, at)
	t.tries, t.notBefore = was, was.next
	if t.letter != nil && t.broken == nil {
		t.broken = t.letter
	}
	t.letter = nil // it is written again
}

// endBroken aborts a transaction that is broken. Within one, the session does not tell of a second loss of partitions, so none may outlast the next
// assignment. It is called while a rebalance holds up the poll loop.
func (c *consumer) endBroken() {
	if c.txn == nil {
		return
	}
	c.mu.Lock()
	broken := c.txn.broken != nil
	c.mu.Unlock()
	if !broken {
		return
	}
	ctx, cancel := outlast(c.ending, drainGrace+commitTimeout) // what was sent has to be answered first, which it may never be; nobody polls until then
	defer cancel()
	c.endTransaction(ctx)
}

// releaseInTransactions is releaseAtLast: transactions go on while handlers end, and the last one commits what they have done.
func (c *consumer) releaseInTransactions(as []*assignment, drain time.Duration) (left int) {
	ctx, cancel := context.WithTimeout(context.Background(), drain+drainGrace+commitTimeout)
	defer cancel()
	c.mu.Lock()
	for _, a := range as {
		a.stopLocked()
	}
	c.unlock()
	for deadline := time.Now().Add(drain); !allIdle(as, min(transactionInterval, time.Until(deadline))); c.endBetweenRebalances(ctx) {
		if !time.Now().Before(deadline) {
			for _, a := range as {
				a.cancel()
			}
			allIdle(as, drainGrace)
			break
		}
	}
	c.endLast(ctx)
	c.committing.Lock()
	defer c.committing.Unlock()
	return c.relinquish(as)
}

// endLast ends what is left when nothing runs any more.
func (c *consumer) endLast(ctx context.Context) {
	for left := true; left && ctx.Err() == nil; {
		c.mu.Lock()
		if left = !c.txn.since.IsZero() || len(c.txn.waiting) > 0; left {
			c.txn.due = true
		}
		c.mu.Unlock()
		if left {
			c.endBetweenRebalances(ctx)
		}
		if c.isJoining() {
			sleep(ctx, transactionInterval)
		}
	}
}

// endBetweenRebalances is endTransaction for when nobody polls: none may begin meanwhile.
func (c *consumer) endBetweenRebalances(ctx context.Context) {
	c.holdRebalance()
	c.endTransaction(ctx)
	c.allowRebalance()
}
