package eventbus

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The headers that a dead letter has beside those of its record; all are text. DeadLetter has their meaning.
const (
	headerPrefix        = "eb-"
	headerTopic         = "eb-orig-topic"
	headerPartition     = "eb-orig-partition"
	headerOffset        = "eb-orig-offset"
	headerUntil         = "eb-orig-until"
	headerTimestamp     = "eb-orig-timestamp"
	headerGroup         = "eb-group"
	headerSequence      = "eb-sequence"
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

// Family is whose headers a dead letter has: which program gave the record up.
type Family string

// The families of dead letters that [ParseDeadLetter] reads.
const (
	FamilyEventbus Family = "eventbus" // a Subscription
	FamilySpring   Family = "spring"   // Spring for Apache Kafka: kafka_dlt-*, or the same headers without dlt-
	FamilyConnect  Family = "connect"  // a sink of Kafka Connect: __connect.errors.*
	FamilyStreams  Family = "streams"  // Kafka Streams: __streams.errors.* (KIP-1034)
	FamilyKafka    Family = "kafka"    // a share group of Kafka 4.4: __dlq.errors.* (KIP-1191)
	FamilyKafkaJS  Family = "kafkajs"  // a TypeScript service, by @dreamscape/kafka: retryCount, and none of the others' headers
)

// DeadLetter is what a dead letter's headers say. A record that a [Subscription] gave up has the key, the value and the headers of the
// original, byte for byte, but for those headers that an earlier dead letter of it had, and is in the same partition where the
// dead-letter topic has it. What another family does not tell is zero; the fields say what that is. Its texts are safe to print: no
// control characters, valid UTF-8.
//
// Share groups are Kafka's. TypeScript services tell nothing but how often they have tried; the rest is taken from where the letter is.
type DeadLetter struct {
	Family    Family
	Topic     string // Kafka's name of the original's topic. TypeScript: that of <topic>.dlq or <topic>.dlq.<group>, else ""
	Partition int32  // the original's. TypeScript: the dead letter's own, which has the same keys where both topics have as many
	Offset    int64  // the original's. TypeScript: the dead letter's own
	// Until is 0, or the letter is only a reference, without the record: then it is one above the last offset that it stands for, and Offset is
	// the first. Records that cannot be decompressed, or only to too much, are given up so, and one that its dead-letter topic does not take
	// for its size. They are where they were, in Topic, for as long as that keeps them. Other families: 0.
	Until         int64
	Timestamp     time.Time // the original record's; zero where it could not be read. Share groups, TypeScript: zero
	Group         string    // Kafka's name of the group that gave up. TypeScript: that of <topic>.dlq.<group>, else "". Connect, Streams: ""
	Attempts      int       // how often it was tried; 0 where the record did not get to a handler, or Spring does not tell. Connect, Streams: 0
	FirstFailedAt time.Time // other families: zero
	FailedAt      time.Time // Spring, share groups, TypeScript: the letter's own time. Connect, Streams, which give it the original's: zero
	Class         Class     // other families: ""
	Exception     string    // the Java class of the error, its cause's where Spring tells it. Our own, share groups, TypeScript: ""
	Error         string    // at most 1 kB; the handler's own words where it failed. TypeScript: ""
	Stack         string    // at most 8 kB, after a panic or an exception
	Fingerprint   string    // equal for failures of the same kind; of other families, made when reading
	Redrives      int       // how often it has been sent back to its group. Other families: 0
	// Sequence says that it was parked with its key ([OrderSequenced]): DeadLetters.Release has it handled, and Redrive leaves it. Other families: false.
	Sequence bool
}

// ParseDeadLetter reads the headers of a record from a dead-letter topic, which this package or one of the other families has written.
// Where a record has those of several, ours win, else those that come last; retryCount counts only where there are no
// others. Where another family's dead letter failed once more and has
// its headers twice, the first tell Topic, Partition, Offset, Timestamp and Group, the last why. The error names the header that is missing
// or malformed. It keeps nothing of r.
func ParseDeadLetter(r *kgo.Record) (DeadLetter, error) {
	h := &letterHeaders{of: r.Headers}
	var d DeadLetter
	switch family := h.family(); family {
	case FamilyEventbus:
		d = h.eventbus()
	case FamilySpring:
		d = h.spring(r.Timestamp)
	case FamilyConnect:
		d = h.connect(r.Timestamp)
	case FamilyStreams:
		d = h.streams(r.Timestamp)
	case FamilyKafka:
		d = h.kafka(r.Timestamp)
	case FamilyKafkaJS:
		d = h.kafkajs(r)
	default:
		return DeadLetter{}, fmt.Errorf("eventbus: not a dead letter: it has none of the headers %s, kafka_dlt-*, __connect.errors.*, "+
			"__streams.errors.*, __dlq.errors.*, %s", headerTopic, headerRetryCount)
	}
	if err := errors.Join(h.errs...); err != nil {
		return DeadLetter{}, fmt.Errorf("eventbus: not a dead letter: %w", err)
	}
	if d.Fingerprint == "" {
		d.Fingerprint = fingerprint(d.Topic, d.Group, string(d.Family)+d.Exception, d.Error)
	}
	return d, nil
}

// letterHeaders reads the headers of a dead letter and collects what is wrong with them.
type letterHeaders struct {
	of   []kgo.RecordHeader
	errs []error
}

// family is whose the record is, "" for nobody's.
func (h *letterHeaders) family() (last Family) {
	for _, header := range h.of {
		switch key := header.Key; {
		case key == headerTopic:
			return FamilyEventbus
		case strings.HasPrefix(key, "kafka_dlt-"), key == "kafka_original-topic", key == "kafka_exception-fqcn":
			last = FamilySpring
		case strings.HasPrefix(key, connectErrors):
			last = FamilyConnect
		case strings.HasPrefix(key, streamsErrors):
			last = FamilyStreams
		case strings.HasPrefix(key, kafkaErrors):
			last = FamilyKafka
		case key == headerRetryCount && last == "": // a service that tries again by the topic itself leaves it to whoever gives the event up
			last = FamilyKafkaJS
		}
	}
	return last
}

func (h *letterHeaders) eventbus() DeadLetter {
	d := DeadLetter{
		Family: FamilyEventbus, Topic: h.text(headerTopic),
		Partition: int32(h.decimal(headerPartition, math.MaxInt32)), // #nosec G115 -- decimal keeps to its limit
		Offset:    h.decimal(headerOffset, math.MaxInt64), Group: h.text(headerGroup),
		Attempts: int(h.decimal(headerAttempts, math.MaxInt32)), FirstFailedAt: h.time(headerFirstFailedAt), FailedAt: h.time(headerFailedAt),
		Class: Class(h.text(headerErrorClass)), Error: h.text(headerError), Stack: printable(h.last(headerStack), maxStackText),
		Fingerprint: h.text(headerFingerprint), Redrives: int(h.decimal(headerRedrives, math.MaxInt32)),
	}
	_, d.Sequence = h.first(headerSequence)
	if _, there := h.first(headerUntil); there {
		d.Until = h.until(d.Offset)
	}
	if _, there := h.first(headerTimestamp); there || d.Until == 0 {
		d.Timestamp = h.time(headerTimestamp)
	}
	if d.Topic == "" || d.Group == "" || d.Class == "" {
		h.errs = append(h.errs, fmt.Errorf("headers %s, %s, %s: expected all of them", headerTopic, headerGroup, headerErrorClass))
	}
	return d
}

// first is the first header of those names, as the first failure wrote it; last is the value of the last.
func (h *letterHeaders) first(names ...string) (kgo.RecordHeader, bool) {
	i := slices.IndexFunc(h.of, func(header kgo.RecordHeader) bool { return slices.Contains(names, header.Key) })
	if i < 0 {
		return kgo.RecordHeader{}, false
	}
	return h.of[i], true
}

func (h *letterHeaders) last(names ...string) string {
	for _, header := range slices.Backward(h.of) {
		if slices.Contains(names, header.Key) {
			return string(header.Value)
		}
	}
	return ""
}

// text is the last value, safe to print.
func (h *letterHeaders) text(name string) string { return printable(h.last(name), maxErrorText) }

// decimal is the last value, a number from 0 to limit.
func (h *letterHeaders) decimal(name string, limit int64) int64 {
	return h.number(name, h.last(name), limit)
}

// number is a number of text, from 0 to limit.
func (h *letterHeaders) number(name, text string, limit int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > limit {
		h.errs = append(h.errs, fmt.Errorf("header %s: expected a decimal number from 0 to %d", name, limit))
		return 0
	}
	return n
}

// until is one above the last offset of a reference that begins at offset.
func (h *letterHeaders) until(offset int64) int64 {
	n := h.decimal(headerUntil, math.MaxInt64)
	if n <= offset {
		h.errs = append(h.errs, fmt.Errorf("header %s: expected a number above %s", headerUntil, headerOffset))
		return 0
	}
	return n
}

func (h *letterHeaders) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339, h.last(name))
	if err != nil {
		h.errs = append(h.errs, fmt.Errorf("header %s: expected an RFC 3339 date-time", name))
	}
	return t
}

// fingerprint is equal for failures of one kind: words with a digit in them, which are mostly ids and times, are left out.
func fingerprint(topic, group, class, text string) string {
	var kept []string
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' }) {
		if !strings.ContainsFunc(word, unicode.IsDigit) {
			kept = append(kept, word)
		}
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{topic, group, class, strings.Join(kept, " ")}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// printable makes text safe for a header and for a terminal: valid UTF-8, no control characters but line ends and tabs, none that
// change the direction of writing or cannot be seen, at most limit bytes.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
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
