package eventbus

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The prefixes of the headers of other families.
const (
	connectErrors = "__connect.errors."
	streamsErrors = "__streams.errors."
	kafkaErrors   = "__dlq.errors."
)

// typescriptSuffix is what a dead-letter topic of a TypeScript service has after the topic's name.
const typescriptSuffix = ".dlq"

// spring reads what DeadLetterPublishingRecoverer writes. Its numbers are big-endian. Headers of an origin may repeat, one for each
// topic that the record failed in: the first is where it came from. Those of an exception repeat too: the last is why it is here.
func (h *letterHeaders) spring(written time.Time) DeadLetter {
	d := DeadLetter{
		Family: FamilySpring, FailedAt: written, Attempts: h.springAttempts(),
		Partition: int32(h.springPosition("partition", 4)), Offset: h.springPosition("offset", 8),
	}
	name, topic, _ := h.springFirst("original-topic")
	h.require(name, string(topic))
	if _, _, there := h.springFirst("original-timestamp"); there {
		d.Timestamp = time.UnixMilli(h.bigEndian("original-timestamp", 8)).UTC()
	}
	_, group, _ := h.springFirst("original-consumer-group")
	d.Topic, d.Group = printable(string(topic), maxErrorText), printable(string(group), maxErrorText)
	for _, of := range []string{"exception-", "key-exception-"} { // the latter where the key did not decode
		d.Exception = cmp.Or(d.Exception, h.springLast(of+"cause-fqcn"), h.springLast(of+"fqcn"))
		d.Error = cmp.Or(d.Error, h.springLast(of+"message"))
		d.Stack = cmp.Or(d.Stack, h.springLast(of+"stacktrace"))
	}
	d.Exception, d.Error, d.Stack = printable(d.Exception, maxErrorText), printable(d.Error, maxErrorText), printable(d.Stack, maxStackText)
	return d
}

// springFirst is the first header of that name, in the form of dead letters (kafka_dlt-) or else in the other (kafka_).
func (h *letterHeaders) springFirst(name string) (full string, value []byte, there bool) {
	for _, prefix := range []string{"kafka_dlt-", "kafka_"} {
		full = prefix + name
		if value, there = h.first(full); there {
			return full, value, true
		}
	}
	return "kafka_dlt-" + name, nil, false
}

func (h *letterHeaders) springLast(name string) string {
	return cmp.Or(h.last("kafka_dlt-"+name), h.last("kafka_"+name))
}

// springPosition is a number of the origin, which must not be negative.
func (h *letterHeaders) springPosition(name string, size int) int64 {
	n := h.bigEndian("original-"+name, size)
	if n < 0 {
		full, _, _ := h.springFirst("original-" + name)
		h.errs = append(h.errs, fmt.Errorf("header %s: is negative", full))
		return 0
	}
	return n
}

// bigEndian is a number of 4 or 8 bytes, 0 where there is none.
func (h *letterHeaders) bigEndian(name string, size int) int64 {
	full, value, there := h.springFirst(name)
	switch {
	case !there:
		return 0
	case len(value) != size:
		h.errs = append(h.errs, fmt.Errorf("header %s: expected %d bytes, a big-endian number", full, size))
		return 0
	case size == 4:
		return int64(int32(binary.BigEndian.Uint32(value)))
	}
	return int64(binary.BigEndian.Uint64(value))
}

// springAttempts is how often the record was tried, where Spring was told to write it: 4 bytes, or 1 byte as older versions did.
func (h *letterHeaders) springAttempts() int {
	for _, name := range []string{"retry_topic-attempts", "kafka_deliveryAttempt"} {
		switch value := []byte(h.last(name)); len(value) {
		case 0:
		case 1:
			return int(value[0])
		case 4:
			if n := int32(binary.BigEndian.Uint32(value)); n >= 0 {
				return int(n)
			}
			fallthrough
		default:
			h.errs = append(h.errs, fmt.Errorf("header %s: expected 4 bytes, a big-endian number that is not negative", name))
			return 0
		}
	}
	return 0
}

// connect reads what the dead letter queue of a sink writes, where errors.deadletterqueue.context.headers.enable is true. It gives the
// dead letter the original's time.
func (h *letterHeaders) connect(original time.Time) DeadLetter {
	return h.written(DeadLetter{
		Family: FamilyConnect, Timestamp: original, Exception: h.text(connectErrors + "exception.class.name"),
		Error: h.text(connectErrors + "exception.message"), Stack: printable(h.last(connectErrors+"exception.stacktrace"), maxStackText),
	}, connectErrors)
}

// streams reads what the handlers of Kafka Streams write. It gives the dead letter the original's time. Its exception is
// Throwable.toString: the class, and the message where there is one.
func (h *letterHeaders) streams(original time.Time) DeadLetter {
	exception, _, _ := strings.Cut(h.text(streamsErrors+"exception"), ":")
	return h.written(DeadLetter{
		Family: FamilyStreams, Timestamp: original, Exception: exception, Error: h.text(streamsErrors + "message"),
		Stack: printable(h.last(streamsErrors+"stacktrace"), maxStackText),
	}, streamsErrors)
}

// kafka reads what the broker writes for a share group.
func (h *letterHeaders) kafka(written time.Time) DeadLetter {
	d := DeadLetter{Family: FamilyKafka, FailedAt: written, Group: h.text(kafkaErrors + "group"), Error: h.text(kafkaErrors + "message")}
	if _, there := h.first(kafkaErrors + "delivery.count"); there {
		d.Attempts = int(h.decimal(kafkaErrors+"delivery.count", math.MaxInt16))
	}
	return h.written(d, kafkaErrors)
}

// kafkajs reads what the retry handler of @dreamscape/kafka writes: how often it has sent the event to its topic again. The origin is
// taken from the name of the dead-letter topic, where that is made as <topic>.dlq or, as ours are, <topic>.dlq.<group>.
func (h *letterHeaders) kafkajs(r *kgo.Record) DeadLetter {
	topic, group, named := strings.Cut(r.Topic, dlqInfix)
	if !named {
		topic, named = strings.CutSuffix(r.Topic, typescriptSuffix)
	}
	if !named {
		topic = ""
	}
	return DeadLetter{
		Family: FamilyKafkaJS, Topic: printable(topic, maxErrorText), Group: printable(group, maxErrorText), FailedAt: r.Timestamp,
		Partition: r.Partition, Offset: r.Offset, Attempts: int(h.decimal(headerRetryCount, math.MaxInt32-1)) + 1,
	}
}

// written adds the origin, which Connect, Streams and the broker write alike, as text.
func (h *letterHeaders) written(d DeadLetter, prefix string) DeadLetter {
	d.Topic = h.text(prefix + "topic")
	d.Partition = int32(h.decimal(prefix+"partition", math.MaxInt32))
	d.Offset = h.decimal(prefix+"offset", math.MaxInt64)
	h.require(prefix+"topic", d.Topic)
	return d
}

func (h *letterHeaders) require(name, value string) {
	if value == "" {
		h.errs = append(h.errs, fmt.Errorf("header %s: is missing", name))
	}
}
