package eventbus

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/engine"
)

// item is a task with its place in the engine.
type item = engine.Item[*task]

// task is a record on its way to its end: handled, or dead-lettered.
type task struct {
	// What is looked at for each event comes first, and together: it is another processor's as a rule that has made the task.
	item   item
	of     *assignment
	record *kgo.Record
	// raw is the event, once it is decoded; broken is why it is none.
	raw    *RawEvent
	broken *failure
	tx     *Tx // of the running, or the last, try; nil without transactions

	// What follows is guarded by consumer.mu; a running try may read what belongs to it.
	notBefore  time.Time // when it may be tried that has begun anew
	started    time.Time // when the last try began; of the running one, when it was taken
	proof      time.Time // what was known when it was taken of the route's successes
	probe      bool      // the running try probes an open breaker
	lastResort bool      // and every event at hand has failed before
	writing    bool      // it has succeeded, and what it published is on its way
	held       bool      // it waits for the end of its key's release
	timer      *time.Timer
	behind     *item // the try of its key that was left behind, for whose end it waits
	tries

	event RawEvent   // what raw is, as a rule
	own   kgo.Record // what record is, for one that was fetched
}

// tries is what has come of an event's tries. An event that begins anew with an aborted transaction keeps it.
type tries struct {
	fails       int       // tries that have failed
	spent       int       // those of them that count: a try that an outage may have failed does not
	first       time.Time // when the first try failed
	counted     time.Time // when the first try failed that counts: the Budget begins there
	class       Class     // of the last failure
	next        time.Time // when the next try is due
	asked       bool      // by RetryAfter: not before
	letter      *failure  // why it is given up, while its dead letter is written
	trims       int       // parts that the dead letter had to lose
	letterFails int       // how often it could not be written
}

// accept decodes and checks the record, once.
func (t *task) accept() {
	if t.raw != nil || t.broken != nil {
		return
	}
	c := t.of.consumer
	raw, undecided, err := decodeEvent(t.of.route.topic, t.record.Value, &t.event)
	c.bus.count.checked(undecided)
	broken := err
	if raw != nil && c.sub.Validation == ValidationReport {
		err = nil
	}
	if err == nil {
		if err = t.of.route.bind(raw); err == nil && broken != nil {
			c.reportSchema(t.record, broken)
		}
	}
	t.raw = raw
	if err != nil {
		t.broken = &failure{class: brokenClass(err), err: err, first: time.Now()}
	}
}

// brokenClass is why a record is no event of its topic.
func brokenClass(err error) Class {
	var (
		broken   *SchemaError
		panicked *panicError
	)
	switch {
	case errors.As(err, &broken):
		return ClassSchema
	case errors.As(err, &panicked):
		return ClassPanic
	}
	return ClassDecode
}

// try runs the middleware and the handler once.
func (t *task) try(now time.Time) error {
	if t.accept(); t.broken != nil {
		return t.broken.err
	}
	succeeded := false // nor has a handler that ends its goroutine
	if t.of.route.tx {
		t.tx = &Tx{bus: t.of.consumer.bus}
		defer func(tx *Tx) {
			if tx.end(); !succeeded {
				tx.drop(errTxFailed)
			}
		}(t.tx)
	}
	ctx := newHandlerContext(t, now)
	defer ctx.end()
	err := catch(func() error { return t.of.route.handler(ctx, t.raw) })
	succeeded = err == nil
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return timeoutError{err}
	}
	return err
}

// unread says whether the task stands for records that could not be read.
func (t *task) unread() bool { return t.broken != nil && t.broken.until > 0 }

// origin is where an event was published to.
type origin struct {
	Topic     string // Kafka's name
	Partition int32
	Offset    int64
	Timestamp time.Time
}

// origin returns the record's own place or, for one that was redriven, that of the event that was given up.
func (t *task) origin() origin {
	o := origin{t.record.Topic, t.record.Partition, t.record.Offset, t.record.Timestamp}
	if t.of.topic != t.of.route.retryTopic && t.of.source == nil || t.unread() {
		return o
	}
	o.Topic = t.of.route.kafkaTopic
	h := &letterHeaders{of: t.record.Headers}
	partition, offset, at := h.decimal(headerPartition, math.MaxInt32), h.decimal(headerOffset, math.MaxInt64), h.time(headerTimestamp)
	if len(h.errs) == 0 {
		o.Partition, o.Offset, o.Timestamp = int32(partition), offset, at // #nosec G115 -- decimal keeps to its limit
	}
	return o
}

func (t *task) delivery(attempt int) Delivery {
	o := t.origin()
	return Delivery{
		Topic: t.of.route.topic.name, Partition: o.Partition, Offset: o.Offset, Timestamp: o.Timestamp, Key: t.record.Key,
		Headers: deliveryHeaders(t.record.Headers), Group: t.of.consumer.sub.Group, Attempt: attempt, Redrives: redrives(t.record.Headers),
	}
}

// quiet stops the task's timer.
func (t *task) quiet() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// startableLocked says whether nextLocked may find something.
func (c *consumer) startableLocked() bool {
	if c.held {
		return false
	}
	now := time.Now()
	return c.engine.Ready() || slices.ContainsFunc(c.ordered, func(r *route) bool { return r.breaker.Due(now) })
}

// nextLocked takes the next item to try, nil if there is none.
func (c *consumer) nextLocked(now time.Time) *item {
	if c.held {
		return nil
	}
	for _, r := range c.ordered {
		if r.breaker.Due(now) {
			if it := c.probeLocked(r); it != nil {
				return beginTry(it, r, now)
			}
		}
	}
	return c.nextReadyLocked(now)
}

// nextReadyLocked is nextLocked without those that probe.
func (c *consumer) nextReadyLocked(now time.Time) *item {
	for it := c.engine.Next(); it != nil; it = c.engine.Next() {
		if !c.notYetLocked(it, now) && !c.followsLocked(it) && !c.waitsLocked(it) {
			return beginTry(it, it.Value.of.route, now)
		}
	}
	return nil
}

// waitsLocked has an item that would start wait where a try of its key was left behind and still runs: the partition went, and has come back.
func (c *consumer) waitsLocked(it *item) bool {
	for left := range c.left {
		if left.Value.of.home() == it.Value.of.home() && left.Lane().Alike(it.Lane()) {
			it.Value.behind = left
			c.engine.Park(it)
			return true
		}
	}
	return false
}

// notYetLocked has an item that has begun anew wait for its next try as before.
func (c *consumer) notYetLocked(it *item, now time.Time) bool {
	wait := it.Value.notBefore.Sub(now)
	it.Value.notBefore = time.Time{}
	if wait <= 0 || it.Value.broken != nil && it.Value.letterFails == 0 {
		return false
	}
	c.parkLocked(it, wait, now)
	return true
}

// leftEndedLocked is told that a try that was left behind has ended: whatever its result was, it is nobody's any longer.
func (c *consumer) leftEndedLocked(left *item) {
	delete(c.left, left)
	if next := c.successor; next != nil {
		c.afterLocked(func() {
			next.mu.Lock()
			defer next.unlock()
			next.leftEndedLocked(left)
		})
	}
	for a := range c.eachLocked {
		for _, it := range a.part.Waiting() {
			if it.Value.behind == left {
				it.Value.behind = nil
				c.engine.Unpark(it)
			}
		}
	}
	c.feedLocked()
}

func beginTry(it *item, r *route, now time.Time) *item {
	it.Value.started, it.Value.proof = now, r.breaker.Proof()
	return it
}

// judgeLocked decides about a try's result.
func (c *consumer) judgeLocked(r tryResult) {
	it, t, err, now := r.it, r.it.Value, r.err, r.at
	took := now.Sub(r.began)
	probe := t.probe
	t.probe, t.started = false, r.began
	if t.broken == nil {
		c.bus.count.tried(took, !t.first.IsZero())
	}
	switch {
	case it.Over(): // its partition was released meanwhile
		c.leftEndedLocked(it)
		if tx := t.tx; err == nil && tx != nil {
			c.afterLocked(func() { tx.drop(errGivenUp) })
		}
	case t.broken != nil:
		c.probeGoneLocked(t.of.route, probe)
		c.buryLocked(it, *t.broken)
	case err == nil && c.txn != nil:
		c.writeLocked(it, took, now)
	case err == nil:
		c.doneLocked(it, took, now)
	case t.of.part.Stopped(): // more likely the shutdown than the event: it comes again, and no try is spent
		c.engine.Abandon(it)
		c.probeGoneLocked(t.of.route, probe)
	default:
		c.failedLocked(it, failure{class: r.class, err: err, took: took}, probe, now)
	}
}

// doneLocked ends an item that was handled.
func (c *consumer) doneLocked(it *item, took time.Duration, now time.Time) {
	t := it.Value
	if t.of.route.breaker.Succeeded(t.started, now) {
		c.closedLocked(t.of.route)
	}
	if !c.engine.Done(it) {
		return
	}
	t.of.doneTime = t.record.Timestamp
	c.bus.count.consumed.Add(1)
	if len(c.bus.cfg.Hooks) > 0 {
		c.afterLocked(func() { c.tellHandled(t, failure{attempts: t.spent + 1, took: took}) })
	}
}

// failedLocked has an item tried again, or given up.
func (c *consumer) failedLocked(it *item, f failure, probe bool, now time.Time) {
	t, r := it.Value, it.Value.of.route
	t.class = f.class
	t.fails++
	if t.first.IsZero() {
		t.first = now
	}
	var wait time.Duration
	wait, t.asked = r.retry.waitAfter(f.err, t.fails)
	once := r.retry.Attempts == 1
	if c.noteFailureLocked(it, probe, now) && !once { // the outage's, not the event's
		c.parkLocked(it, wait, now)
		return
	}
	if t.spent == 0 {
		t.counted = now
	}
	t.spent++
	switch {
	case f.class != ClassPermanent && r.retry.left(t.spent, now.Add(wait).Sub(t.counted)):
		c.parkLocked(it, wait, now)
	case !once && f.class.mayBeOutage() && !t.proven() && now.Sub(t.first) < r.retry.OutageHold:
		t.spent-- // nothing of this route has succeeded since: it may be an outage, and is no reason to give an event up
		c.parkLocked(it, wait, now)
	default:
		f.attempts, f.first = t.spent, t.first
		c.buryLocked(it, f)
	}
}

// parkLocked has an item wait for its next try. A timer waits, no goroutine.
func (c *consumer) parkLocked(it *item, wait time.Duration, now time.Time) {
	t := it.Value
	t.next = now.Add(wait)
	c.engine.Park(it)
	t.timer = time.AfterFunc(wait, func() { c.unpark(it) })
	if len(c.bus.cfg.Hooks) > 0 {
		k := t.parked(c.engine.Behind(it))
		c.afterLocked(func() { c.tellParked(k) })
	}
}

// unpark lets a parked item start again. While its route is paused it stays parked, where it is seen, and may be the next probe.
func (c *consumer) unpark(it *item) {
	c.mu.Lock()
	defer c.unlock()
	if it.Value.of.route.breaker.Open() || c.engine.Unpark(it) {
		c.feedLocked()
	}
}

// afterLocked has f run when the lock is free again: hooks, logs and what takes other locks.
func (c *consumer) afterLocked(f func()) { c.after = append(c.after, f) }

// firstLocked has f run before what waits to be run.
func (c *consumer) firstLocked(f func()) { c.after = slices.Insert(c.after, 0, f) }

// unlock unlocks mu and does what was left for afterwards.
func (c *consumer) unlock() {
	after := c.after
	c.after = nil
	c.mu.Unlock()
	c.do(after)
}

// do does what was left for afterwards. Where one of that ends its goroutine, as a hook may that is a test's, the rest is done on another one.
func (c *consumer) do(after []func()) {
	if len(after) == 0 {
		return
	}
	defer func() {
		if len(after) > 0 {
			rest := after[1:]
			c.workers.Go(func() { c.do(rest) })
		}
	}()
	for len(after) > 0 {
		after[0]()
		after = after[1:]
	}
}
