package eventbus

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

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
	// until is one above the last offset that the dead letter stands for by reference; 0: it has the record itself.
	until int64
	// sequence names the key that the event is parked with; "": it parks none.
	sequence string
}

// text is the error, as it is kept.
func (f failure) text() string { return printable(f.err.Error(), maxErrorText) }

// record makes the dead letter of r. Each trim leaves a larger part out: first the stack, then the error text; never the value. One by
// reference has nothing of the record.
func (f failure) record(r *kgo.Record, o origin, topic, group string, trim int) *kgo.Record {
	text := []kgo.RecordHeader{}
	add := func(name, value string) {
		text = append(text, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	add(headerTopic, o.Topic)
	add(headerPartition, strconv.Itoa(int(o.Partition)))
	add(headerOffset, strconv.FormatInt(o.Offset, 10))
	if f.until > 0 {
		add(headerUntil, strconv.FormatInt(f.until, 10))
	}
	if f.until == 0 || !o.Timestamp.IsZero() {
		add(headerTimestamp, formatTime(o.Timestamp))
	}
	add(headerGroup, group)
	if f.sequence != "" {
		add(headerSequence, f.sequence)
	}
	add(headerAttempts, strconv.Itoa(f.attempts))
	add(headerFirstFailedAt, formatTime(f.first))
	add(headerFailedAt, formatTime(time.Now()))
	add(headerErrorClass, string(f.class))
	if trim < 2 {
		add(headerError, f.text())
	}
	var panicked *panicError
	if trim < 1 && errors.As(f.err, &panicked) && len(panicked.stack) > 0 {
		add(headerStack, printable(string(panicked.stack), maxStackText))
	}
	add(headerFingerprint, f.fingerprint(o.Topic, group))
	add(headerRedrives, strconv.Itoa(redrives(r.Headers)))
	add(headerRetryCount, strconv.Itoa(max(f.attempts-1, 0)))
	if f.until > 0 {
		return &kgo.Record{Topic: topic, Partition: r.Partition, Headers: text}
	}
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

// redrives is how often a record was sent back.
func redrives(headers []kgo.RecordHeader) int {
	n, err := strconv.Atoi((&letterHeaders{of: headers}).last(headerRedrives))
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0
	}
	return n
}

// fingerprint is equal for failures of one kind.
func (f failure) fingerprint(topic, group string) string {
	return fingerprint(topic, group, string(f.class), f.err.Error())
}

// companionTopic is Kafka's name of a dead-letter or retry topic: the topic and the group both have the prefix.
func (b *Bus) companionTopic(topic, infix, group string) string {
	return b.cfg.TopicPrefix + topic + infix + b.cfg.TopicPrefix + group
}

func (b *Bus) letterTopic(topic, group string) string {
	return b.companionTopic(topic, dlqInfix, group)
}

func (b *Bus) retryTopic(topic, group string) string {
	return b.companionTopic(topic, retryInfix, group)
}
