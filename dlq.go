package eventbus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What stands between a topic and a group in the names of the group's dead-letter topic and of its retry topic.
const (
	dlqInfix   = ".dlq."
	retryInfix = ".retry."
)

// DeadLetterTopic returns the name of the topic that a group's dead letters of a topic are in, <topic>.dlq.<group>, without
// [Config.TopicPrefix].
func DeadLetterTopic(topic, group string) string { return topic + dlqInfix + group }

// RetryTopic returns the name of the topic into which a group's dead letters of a topic are redriven, <topic>.retry.<group>, without
// [Config.TopicPrefix]. Only that group reads it, so that no other group sees an event twice.
func RetryTopic(topic, group string) string { return topic + retryInfix + group }

// failure is why a group gives an event up.
type failure struct {
	class    Class
	err      error
	attempts int
	first    time.Time
	took     time.Duration // the last try
}

// record makes the dead letter of r. Each trim leaves a larger part out: first the stack, then the error text; never the value.
func (f failure) record(r *kgo.Record, topic, group string, trim int) *kgo.Record {
	text := []kgo.RecordHeader{}
	add := func(name, value string) {
		text = append(text, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	add(headerTopic, r.Topic)
	add(headerPartition, strconv.Itoa(int(r.Partition)))
	add(headerOffset, strconv.FormatInt(r.Offset, 10))
	add(headerTimestamp, formatTime(r.Timestamp))
	add(headerGroup, group)
	add(headerAttempts, strconv.Itoa(f.attempts))
	add(headerFirstFailedAt, formatTime(f.first))
	add(headerFailedAt, formatTime(time.Now()))
	add(headerErrorClass, string(f.class))
	if trim < 2 {
		add(headerError, printable(f.err.Error(), maxErrorText))
	}
	var panicked *panicError
	if trim < 1 && errors.As(f.err, &panicked) && len(panicked.stack) > 0 {
		add(headerStack, printable(string(panicked.stack), maxStackText))
	}
	add(headerFingerprint, f.fingerprint(r.Topic, group))
	add(headerRedrives, redrives(r.Headers))
	add(headerRetryCount, strconv.Itoa(max(f.attempts-1, 0)))
	return &kgo.Record{
		Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: append(foreignHeaders(r.Headers), text...),
	}
}

// foreignHeaders are those that a dead letter keeps as they are: all but our own of an earlier failure.
func foreignHeaders(headers []kgo.RecordHeader) []kgo.RecordHeader {
	var kept []kgo.RecordHeader
	for _, h := range headers {
		if !strings.HasPrefix(h.Key, headerPrefix) && h.Key != headerRetryCount {
			kept = append(kept, h)
		}
	}
	return kept
}

func redrives(headers []kgo.RecordHeader) string {
	n, err := strconv.Atoi((&letterHeaders{of: headers}).last(headerRedrives))
	if err != nil || n < 0 || n > math.MaxInt32 {
		n = 0
	}
	return strconv.Itoa(n)
}

// fingerprint is equal for failures of one kind.
func (f failure) fingerprint(topic, group string) string {
	return fingerprint(topic, group, string(f.class), f.err.Error())
}

// deadLetter writes the dead letter of r and waits for its acknowledgement, trying for as long as the partition is ours: the
// offset must not pass an event that is neither handled nor dead-lettered. It says whether it was written.
func (a *assignment) deadLetter(r *kgo.Record, f failure) bool {
	c := a.consumer
	topic := c.letterTopic(a.route)
	a.setWaiting("dead letter")
	defer a.setWaiting("")
	late := time.AfterFunc(patience, func() {
		c.trouble("dead letter "+topic, fmt.Errorf("a dead letter is not acknowledged by %s", topic))
	})
	defer late.Stop()
	for trim, fails := 0, 1; ; fails++ {
		err := c.bus.produceLetter(a.ctx, f.record(r, topic, c.group, trim))
		if err == nil {
			late.Stop()
			c.resolve("dead letter " + topic)
			c.deadLettered(r, f)
			return true
		}
		if a.ctx.Err() != nil {
			return false
		}
		if errors.Is(err, kerr.MessageTooLarge) && trim < 2 {
			trim++
			continue
		}
		late.Stop()
		c.trouble("dead letter "+topic, fmt.Errorf("a dead letter cannot be written to %s: %w", topic, err))
		if !a.sleep(backOff(fails)) {
			return false
		}
	}
}

// companionTopic is Kafka's name of a dead-letter or retry topic: the topic and the group both have the prefix.
func (b *Bus) companionTopic(topic, infix, group string) string {
	return b.cfg.TopicPrefix + topic + infix + b.cfg.TopicPrefix + group
}

func (b *Bus) letterTopic(topic, group string) string {
	return b.companionTopic(topic, dlqInfix, group)
}

func (c *consumer) letterTopic(r *route) string { return c.bus.letterTopic(r.topic.name, c.sub.Group) }

// deadLettered tells everyone who wants to know.
func (c *consumer) deadLettered(r *kgo.Record, f failure) {
	c.bus.count.deadLettered.Add(1)
	c.log.Warn("event dead-lettered", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "key_hash", KeyHash(r.Key),
		"class", string(f.class), "attempt", f.attempts, "fingerprint", f.fingerprint(r.Topic, c.group))
}

// produceLetter waits for the acknowledgement until ctx ends. The record may be written after that.
func (b *Bus) produceLetter(ctx context.Context, r *kgo.Record) error {
	result := make(chan error, 1)
	b.letters.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
