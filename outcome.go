package eventbus

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// writeLocked has what a try has published written, which ends it: the event is done when all is acknowledged.
func (c *consumer) writeLocked(it *item, took time.Duration, now time.Time) {
	t := it.Value
	if t.of.route.breaker.Succeeded(t.started, now) {
		c.closedLocked(t.of.route)
	}
	c.engine.Settle(it)
	t.writing = true
	r := &outcome{item: it, took: took, drained: c.drainRecord(it)}
	if t.tx != nil {
		r.flights = t.tx.end()
	}
	if r.left = len(r.flights); r.drained != nil {
		r.left++
	}
	c.inTransactionLocked(func(open bool) {
		if open && !it.Over() {
			c.writeOutcomeLocked(r)
			return
		}
		c.afterLocked(func() { c.bus.drop(r.flights, errGivenUp) }) // its partition was released while it waited
	})
}

// outcome is what a try has published, on its way.
type outcome struct {
	item    *item
	took    time.Duration
	flights []*flight
	drained *kgo.Record // says that an event of a released key is done; nil for any other event
	left    int         // not acknowledged
	err     error       // of one of them
}

func (c *consumer) writeOutcomeLocked(r *outcome) {
	if r.left == 0 {
		c.writtenLocked(r)
		return
	}
	records := make([]*kgo.Record, 0, r.left)
	for _, f := range r.flights {
		records = append(records, &f.record)
	}
	if r.drained != nil {
		records = append(records, r.drained)
	}
	c.handLocked(func(record *kgo.Record, err error) { c.acknowledged(r, record.Topic, err) }, records...)
}

// handLocked gives the client what belongs to the transaction, which is not ended before. landLocked follows when all of it has its result.
func (c *consumer) handLocked(done func(*kgo.Record, error), records ...*kgo.Record) {
	x := c.txn
	for _, r := range records {
		x.topics[r.Topic] = true
	}
	x.flying++
	x.handing.Add(1)
	c.firstLocked(func() {
		defer x.handing.Done()
		for _, r := range records {
			c.client.Produce(context.Background(), r, done)
		}
	})
}

// landLocked counts down what is not acknowledged, once what follows from it is done.
func (c *consumer) landLocked() {
	if c.txn.flying--; c.txn.flying == 0 {
		c.txn.wakeLocked()
	}
}

func (x *transaction) wakeLocked() {
	if x.landed != nil {
		close(x.landed)
		x.landed = nil
	}
}

// awaitLanded waits until everything that the client has been given is acknowledged, or the transaction is broken. What takes too long breaks it.
func (c *consumer) awaitLanded(ctx context.Context) {
	x := c.txn
	c.mu.Lock()
	if x.flying == 0 || x.broken != nil {
		c.mu.Unlock()
		return
	}
	landed := make(chan struct{})
	x.landed = landed
	c.mu.Unlock()
	t := time.NewTimer(transactionTimeout / 2)
	defer t.Stop()
	select {
	case <-landed:
		return
	case <-ctx.Done():
	case <-t.C:
	}
	c.mu.Lock()
	defer c.unlock()
	c.abortLocked(errTooSlow)
}

// acknowledged is told what became of a record of a result.
func (c *consumer) acknowledged(r *outcome, topic string, err error) {
	c.mu.Lock()
	defer c.unlock()
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("topic %s: %w", topic, err)
	}
	if r.left--; r.left == 0 {
		c.writtenLocked(r)
		c.landLocked()
	}
}

// writtenLocked ends the event of a result that is written, or could not be.
func (c *consumer) writtenLocked(r *outcome) {
	it, t := r.item, r.item.Value
	c.tellLaterLocked(r)
	switch {
	case it.Over(): // what is written of it must not be seen
		c.breakLocked(errGivenUp)
		return
	case c.txn.broken != nil: // it begins anew
		c.dropLocked(it)
		return
	case r.err != nil:
		c.unwrittenLocked(it, r.err)
		return
	}
	if t.of.source != nil {
		c.passLocked(it)
	}
	c.engine.Done(it)
	t.of.doneTime = t.record.Timestamp
	t.of.idleLocked()
	c.fetchingLocked(t.of)
	c.feedLocked()
}

// dropLocked ends what a broken transaction has of an event, so that nobody waits for it whose partition stops.
func (c *consumer) dropLocked(it *item) {
	if a := it.Value.of; a.part.Stopped() {
		c.engine.Abandon(it)
		a.idleLocked()
	}
}

// tellLaterLocked has the hooks and counters be told of a result when it is known whether it counts.
func (c *consumer) tellLaterLocked(r *outcome) {
	t, attempts := r.item.Value, r.item.Value.spent+1
	c.txn.told = append(c.txn.told, func(err error) {
		for _, f := range r.flights {
			c.bus.finish(f, err)
		}
		if err != nil {
			return
		}
		c.bus.count.consumed.Add(1)
		c.tellHandled(t, failure{attempts: attempts, took: r.took})
	})
}

// tellIfCommittedLocked has tell be called when the transaction is committed, and not if it is aborted.
func (c *consumer) tellIfCommittedLocked(tell func()) {
	c.txn.told = append(c.txn.told, func(err error) {
		if err == nil {
			tell()
		}
	})
}

// flyInTransactionLocked has a dead letter written in a transaction.
func (c *consumer) flyInTransactionLocked(f *letterFlight) {
	c.inTransactionLocked(func(open bool) {
		if !open {
			c.afterLocked(func() { c.letterResult(f, errTxAborted) })
			return
		}
		c.handLocked(func(_ *kgo.Record, err error) {
			c.letterResult(f, err)
			c.mu.Lock()
			defer c.unlock()
			c.landLocked()
		}, f.record)
	})
}

// unwrittenLocked is for an event whose result could not be written. What is written of it is aborted, with the whole transaction; to the event it
// is a failed try, so that it does not have others begin anew for ever.
func (c *consumer) unwrittenLocked(it *item, err error) {
	t := it.Value
	f := failure{class: ClassTransient, err: fmt.Errorf("what it published cannot be written: %w", err)}
	now := time.Now()
	t.class = f.class
	t.fails, t.spent = t.fails+1, t.spent+1
	if t.first.IsZero() {
		t.first = now
	}
	if t.counted.IsZero() {
		t.counted = now
	}
	wait, _ := t.of.route.retry.waitAfter(f.err, t.fails)
	t.next = now.Add(wait)
	if !t.of.route.retry.left(t.spent, t.next.Sub(t.counted)) {
		f.attempts, f.first = t.spent, t.first
		t.letter = &f
	}
	c.breakLocked(f.err)
}
