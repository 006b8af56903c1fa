package eventbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/engine"
)

// buryLocked gives an item up: its dead letter is written, and the offset passes the event only when that is acknowledged. The events of its
// key wait; no slot is taken meanwhile, so that a dead-letter topic that is away holds up nobody else.
func (c *consumer) buryLocked(it *item, f failure) {
	if it.Value.of.source != nil {
		c.parkAgainLocked(it, f)
		return
	}
	if it.Value.parksLocked() {
		f.sequence = sequenceHash(it.Key)
	}
	it.Value.letter = &f
	c.sendLetterLocked(it)
}

// letterQueue are the dead letters of a partition of a dead-letter topic. The client makes batches of what flies at once, and a broker that finds a
// batch too large refuses all of it: so few fly at once, and where the broker takes even less, only one does.
type letterQueue struct {
	first         bool // it stands for all partitions, until it is known how many there are; no two fly
	waiting       []*letterFlight
	flying, bytes int
	alone         *letterFlight // flies, and no other has meanwhile
	single        bool          // no two may
}

// letterFlight is a dead letter as a record.
type letterFlight struct {
	queue  *letterQueue
	item   *item
	record *kgo.Record
	size   int
}

// letterWindow is how many bytes of dead letters fly to a partition at once; a larger one flies by itself.
const letterWindow = 64 << 10

// queueLetterLocked finds the queue of a letter, which may be another one than before.
func (c *consumer) queueLetterLocked(f *letterFlight) *letterQueue {
	key := topicPartition{f.record.Topic, -1}
	first := c.letters[key]
	if n, known := c.bus.letterPartitions.Load(f.record.Topic); known && (first == nil || first.flying == 0) {
		key.partition = f.record.Partition % n.(int32)
	}
	q := c.letters[key]
	if q == nil {
		q = &letterQueue{first: key.partition < 0}
		c.letters[key] = q
	}
	f.queue = q
	q.waiting = append(q.waiting, f)
	return q
}

func (c *consumer) sendLetterLocked(it *item) {
	t := it.Value
	c.engine.Settle(it)
	record := t.letter.record(t.record, t.origin(), c.letterTopic(t.of.route), c.group, t.trims)
	c.flyLettersLocked(c.queueLetterLocked(&letterFlight{item: it, record: record, size: recordBytes(record)}))
	if c.bus.bug == engine.ForgetLetter {
		c.engine.Done(it)
	}
}

// flyLettersLocked hands those letters over for which there is room.
func (c *consumer) flyLettersLocked(q *letterQueue) {
	for len(q.waiting) > 0 {
		f := q.waiting[0]
		if q.flying > 0 && (q.first || q.single || q.bytes+f.size > letterWindow) {
			return
		}
		q.waiting = q.waiting[1:]
		if f.item.Over() && c.bus.bug != engine.ForgetLetter {
			continue // its partition was released meanwhile
		}
		if q.alone = nil; q.flying == 0 {
			q.alone = f
		}
		q.flying, q.bytes = q.flying+1, q.bytes+f.size
		c.flyLocked(f)
	}
	q.single = q.single && q.flying > 0
}

// landedLocked goes on after a letter of the queue has its result. The first one shows how many partitions the topic has.
func (c *consumer) landedLocked(q *letterQueue) {
	if !q.first {
		c.flyLettersLocked(q)
		return
	}
	waiting := q.waiting
	q.waiting = nil
	for _, f := range waiting {
		c.flyLettersLocked(c.queueLetterLocked(f))
	}
}

func (c *consumer) flyLocked(f *letterFlight) {
	t := f.item.Value
	t.timer = time.AfterFunc(patience, func() {
		c.trouble(letterTrouble(f.record.Topic), fmt.Errorf("a dead letter is not acknowledged by %s", f.record.Topic))
	})
	if c.txn != nil {
		c.flyInTransactionLocked(f)
		return
	}
	// The record's ctx ends with the assignment. What has not been tried by then is not written, as a rule: somebody else handles the event.
	c.afterLocked(func() {
		c.bus.letters.Produce(t.of.ctx, f.record, func(_ *kgo.Record, err error) { c.letterResult(f, err) })
	})
}

// letterResult is told what became of a dead letter. One that could not be written is tried again for as long as the partition is ours: the
// offset must not pass an event that is neither handled nor dead-lettered.
func (c *consumer) letterResult(f *letterFlight, err error) {
	c.mu.Lock()
	defer c.unlock()
	it, t, q := f.item, f.item.Value, f.queue
	t.quiet()
	alone := q.alone == f
	q.flying, q.bytes = q.flying-1, q.bytes-f.size
	defer c.landedLocked(q)
	topic := f.record.Topic
	switch {
	case it.Over(): // given up with its partition: it comes again
		c.breakLocked(errGivenUp) // the letter must not be seen
	case c.txn != nil && errors.Is(err, kerr.UnknownTopicID): // the topic was made again
		c.breakLocked(err)
		c.dropLocked(it)
	case c.txn != nil && c.txn.broken != nil: // it begins anew
		c.dropLocked(it)
	case err == nil && t.parksLocked():
		c.parkLetterLocked(it, f.record)
	case err == nil:
		c.buriedLocked(it)
	case t.of.part.Stopped():
		c.engine.Abandon(it)
		t.of.idleLocked()
	case errors.Is(err, context.Canceled) && t.of.ctx.Err() == nil: // its batch began with one of an assignment that has ended
		q.waiting = append(q.waiting, f)
	case errors.Is(err, kerr.MessageTooLarge) && !alone: // its batch is, and it may be not
		q.single = true
		q.waiting = append(q.waiting, f)
	case errors.Is(err, kerr.MessageTooLarge) && t.trims < 2:
		t.trims++
		c.sendLetterLocked(it)
	case errors.Is(err, kerr.MessageTooLarge) && t.letter.until == 0: // and would be for ever
		t.letter.until = t.origin().Offset + 1
		c.sendLetterLocked(it)
	default:
		c.letterFailedLocked(it, fmt.Errorf("a dead letter cannot be written to %s: %w", topic, err))
	}
}

// buriedLocked ends an item whose dead letter is acknowledged.
func (c *consumer) buriedLocked(it *item) {
	t := it.Value
	c.engine.Done(it)
	if !t.unread() {
		t.of.doneTime = t.record.Timestamp
	}
	t.of.idleLocked()
	c.fetchingLocked(t.of)
	c.feedLocked()
	tell := func() {
		c.bus.count.deadLettered.Add(1)
		c.resolve(letterTrouble(c.letterTopic(t.of.route)))
		if t.letter.class != ClassSequence {
			c.logLetter(t)
		}
		c.tellHandled(t, *t.letter)
	}
	if c.txn != nil {
		c.tellIfCommittedLocked(tell)
		return
	}
	c.afterLocked(tell)
}

// letterFailedLocked has a dead letter written again later. Until then it waits like a parked event: a partition that stops does not wait for it.
func (c *consumer) letterFailedLocked(it *item, err error) {
	t := it.Value
	t.letterFails++
	c.engine.Park(it)
	t.timer = time.AfterFunc(backOff(t.letterFails), func() {
		c.mu.Lock()
		defer c.unlock()
		if it.Parked() {
			c.sendLetterLocked(it)
		}
	})
	c.afterLocked(func() { c.trouble(letterTrouble(c.letterTopic(t.of.route)), err) })
}

// forgetLettersLocked resolves the trouble with a dead-letter topic that no dead letter waits for any longer.
func (c *consumer) forgetLettersLocked(r *route) {
	for _, a := range c.assigned {
		for _, it := range a.part.Waiting() {
			if a.route == r && it.Value.letter != nil {
				return
			}
		}
	}
	c.afterLocked(func() { c.resolve(letterTrouble(c.letterTopic(r))) })
}

func letterTrouble(topic string) string { return "dead letter " + topic }

// letterTopic is Kafka's name of the topic of a route's dead letters.
func (c *consumer) letterTopic(r *route) string { return c.bus.letterTopic(r.topic.name, c.sub.Group) }

func (c *consumer) logLetter(t *task) {
	r, f := t.record, *t.letter
	var id, correlation string
	if t.raw != nil {
		id, correlation = t.raw.EventID, t.raw.CorrelationID
	}
	c.log.Warn("event dead-lettered", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "event_id", id, "correlation_id", correlation,
		"key_hash", KeyHash(r.Key), "class", string(f.class), "attempt", f.attempts, "fingerprint", f.fingerprint(t.origin().Topic, c.group))
}
