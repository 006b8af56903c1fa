package eventbus

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// dlqInfix stands between a topic and a group in the name of the group's dead-letter topic.
const dlqInfix = ".dlq."

// The headers that a dead letter has beside those of its record; all are text. DeadLetter has their meaning.
const (
	headerPrefix        = "eb-"
	headerTopic         = "eb-orig-topic"
	headerPartition     = "eb-orig-partition"
	headerOffset        = "eb-orig-offset"
	headerTimestamp     = "eb-orig-timestamp"
	headerGroup         = "eb-group"
	headerAttempts      = "eb-attempts"
	headerFirstFailedAt = "eb-first-failed-at"
	headerFailedAt      = "eb-failed-at"
	headerErrorClass    = "eb-error-class"
	headerError         = "eb-error"
	headerStack         = "eb-stack"
	headerFingerprint   = "eb-fingerprint"
	headerRedrives      = "eb-redrives"
	headerRetryCount    = "retryCount" // as the TypeScript services write it
)

const (
	maxErrorText = 1 << 10
	maxStackText = 8 << 10
)

// DeadLetterTopic returns the name of the topic that a group's dead letters of a topic are in, <topic>.dlq.<group>, without
// [Config.TopicPrefix].
func DeadLetterTopic(topic, group string) string { return topic + dlqInfix + group }

// DeadLetter is what a dead letter's headers say. Its record has the key, the value and the headers of the original, byte for byte,
// but for those headers that an earlier dead letter of it had, and is in the same partition where the dead-letter topic has it.
type DeadLetter struct {
	Topic         string // Kafka's name of the original's topic
	Partition     int32
	Offset        int64
	Timestamp     time.Time // the original record's
	Group         string    // Kafka's name of the group that gave up
	Attempts      int       // how often the handler was tried; 0 where the record did not get to it
	FirstFailedAt time.Time
	FailedAt      time.Time
	Class         Class
	Error         string // at most 1 kB; the handler's own words where it failed
	Stack         string // at most 8 kB, after a panic
	Fingerprint   string // equal for failures of the same kind
	Redrives      int    // how often it has been sent back to its group
}

// ParseDeadLetter reads the headers of a record from a dead-letter topic that this package has written. The error names the header
// that is missing or malformed.
func ParseDeadLetter(r *kgo.Record) (DeadLetter, error) {
	h := lastHeaders(r.Headers)
	var errs []error
	number := func(name string) int64 {
		n, err := strconv.ParseInt(h[name], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("header %s: expected a decimal number", name))
		}
		return n
	}
	at := func(name string) time.Time {
		t, err := time.Parse(time.RFC3339, h[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("header %s: expected an RFC 3339 date-time", name))
		}
		return t
	}
	d := DeadLetter{
		Topic: h[headerTopic], Partition: int32(number(headerPartition)), Offset: number(headerOffset), Timestamp: at(headerTimestamp),
		Group: h[headerGroup], Attempts: int(number(headerAttempts)), FirstFailedAt: at(headerFirstFailedAt), FailedAt: at(headerFailedAt),
		Class: Class(h[headerErrorClass]), Error: h[headerError], Stack: h[headerStack], Fingerprint: h[headerFingerprint],
		Redrives: int(number(headerRedrives)),
	}
	if d.Topic == "" || d.Group == "" || d.Class == "" {
		errs = append(errs, fmt.Errorf("headers %s, %s, %s: expected all of them", headerTopic, headerGroup, headerErrorClass))
	}
	if err := errors.Join(errs...); err != nil {
		return DeadLetter{}, fmt.Errorf("eventbus: not a dead letter: %w", err)
	}
	return d, nil
}

func lastHeaders(headers []kgo.RecordHeader) map[string]string {
	last := map[string]string{}
	for _, h := range headers {
		last[h.Key] = string(h.Value)
	}
	return last
}

// failure is why a group gives an event up.
type failure struct {
	class    Class
	err      error
	attempts int
	first    time.Time
	took     time.Duration // the last try
}

// record makes the dead letter of r. Each trim leaves a larger part out: first the stack, then the error text; never the value.
func (f failure) record(r *kgo.Record, o origin, topic, group string, trim int) *kgo.Record {
	text := []kgo.RecordHeader{}
	add := func(name, value string) {
		text = append(text, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	add(headerTopic, o.Topic)
	add(headerPartition, strconv.Itoa(int(o.Partition)))
	add(headerOffset, strconv.FormatInt(o.Offset, 10))
	add(headerTimestamp, formatTime(o.Timestamp))
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
	add(headerFingerprint, f.fingerprint(o.Topic, group))
	add(headerRedrives, strconv.Itoa(redrives(r.Headers)))
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

// redrives is how often a record was sent back.
func redrives(headers []kgo.RecordHeader) int {
	n, err := strconv.Atoi(lastHeaders(headers)[headerRedrives])
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// fingerprint is equal for failures of one kind: digits are left out, which are mostly ids and times.
func (f failure) fingerprint(topic, group string) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, f.err.Error())
	sum := sha256.Sum256([]byte(strings.Join([]string{topic, group, string(f.class), text}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// printable makes text safe for a header: valid UTF-8, no control characters but line ends, at most limit bytes.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// letterTopic is Kafka's name of a dead-letter topic: the topic and the group both have the prefix.
func (b *Bus) letterTopic(topic, group string) string {
	return DeadLetterTopic(b.cfg.TopicPrefix+topic, b.cfg.TopicPrefix+group)
}

// retryInfix stands between a topic and a group in the name of the group's retry topic.
const retryInfix = ".retry."

// retryTopic is Kafka's name of a retry topic: the topic and the group both have the prefix.
func (b *Bus) retryTopic(topic, group string) string {
	return b.cfg.TopicPrefix + topic + retryInfix + b.cfg.TopicPrefix + group
}
