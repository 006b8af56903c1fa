package eventbus

import (
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
	it.Value.letter = &f
	c.sendLetterLocked(it)
}

func (c *consumer) sendLetterLocked(it *item) {
	t := it.Value
	topic := c.letterTopic(t.of.route)
	c.engine.Settle(it)
	t.timer = time.AfterFunc(patience, func() {
		c.trouble(letterTrouble(topic), fmt.Errorf("a dead letter is not acknowledged by %s", topic))
	})
	// Its ctx ends with the assignment: what is not on its way by then would be a letter about an event that somebody else handles.
	record := t.letter.record(t.record, t.origin(), topic, c.group, t.trims)
	c.afterLocked(func() {
		c.bus.letters.Produce(t.of.ctx, record, func(_ *kgo.Record, err error) { c.letterResult(it, err) })
	})
	if c.bus.bug == engine.ForgetLetter {
		c.engine.Done(it)
	}
}

// letterResult is told what became of a dead letter. One that could not be written is tried again for as long as the partition is ours: the
// offset must not pass an event that is neither handled nor dead-lettered.
func (c *consumer) letterResult(it *item, err error) {
	c.mu.Lock()
	defer c.unlock()
	t := it.Value
	t.quiet()
	topic := c.letterTopic(t.of.route)
	switch {
	case it.Over(): // given up with its partition: it comes again
	case err == nil:
		c.buriedLocked(it)
	case t.of.part.Stopped():
		c.engine.Abandon(it)
		t.of.idleLocked()
	case errors.Is(err, kerr.MessageTooLarge) && t.trims < 2:
		t.trims++
		c.sendLetterLocked(it)
	default:
		if errors.Is(err, kerr.UnknownTopicID) { // the client sticks to the topic that was there before
			c.afterLocked(func() { c.bus.letters.PurgeTopicsFromProducing(topic) })
		}
		c.letterFailedLocked(it, fmt.Errorf("a dead letter cannot be written to %s: %w", topic, err))
	}
}

// buriedLocked ends an item whose dead letter is acknowledged.
func (c *consumer) buriedLocked(it *item) {
	t := it.Value
	c.engine.Done(it)
	t.of.doneTime = t.record.Timestamp
	t.of.idleLocked()
	c.fetchingLocked(t.of)
	c.feedLocked()
	c.bus.count.deadLettered.Add(1)
	c.afterLocked(func() {
		c.resolve(letterTrouble(c.letterTopic(t.of.route)))
		c.logLetter(t)
		c.tellHandled(t, *t.letter)
	})
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
	c.log.Warn("event dead-lettered", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "key_hash", KeyHash(r.Key),
		"class", string(f.class), "attempt", f.attempts, "fingerprint", f.fingerprint(t.origin().Topic, c.group))
}
