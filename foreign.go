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
		Partition: int32(h.springPosition("original-partition", 4)), // #nosec G115 -- 4 bytes are an int32
		Offset:    h.springPosition("original-offset", 8),
	}
	topic := h.springFirst("original-topic")
	h.require(topic.Key, string(topic.Value))
	if h.springFirst("original-timestamp").Value != nil {
		d.Timestamp = time.UnixMilli(h.bigEndian("original-timestamp", 8)).UTC()
	}
	d.Topic, d.Group = printable(string(topic.Value), maxErrorText), printable(string(h.springFirst("original-consumer-group").Value), maxErrorText)
	d.Exception = cmp.Or(h.springLast("exception-cause-fqcn"), h.springLast("exception-fqcn", "key-exception-fqcn"))
	d.Error = h.springLast("exception-message", "key-exception-message") // the latter where the key did not decode
	d.Stack = h.springLast("exception-stacktrace", "key-exception-stacktrace")
	d.Exception, d.Error, d.Stack = printable(d.Exception, maxErrorText), printable(d.Error, maxErrorText), printable(d.Stack, maxStackText)
	return d
}

// springForms are the names of a header: where a listener's error handler wrote it, and where a retry topic's did. A record may have both.
func springForms(names ...string) (forms []string) {
	for _, name := range names {
		forms = append(forms, "kafka_dlt-"+name, "kafka_"+name)
	}
	return forms
}

// springFirst is the first header of that name, one without a value where there is none.
func (h *letterHeaders) springFirst(name string) kgo.RecordHeader {
	forms := springForms(name)
	if header, there := h.first(forms...); there {
		return header
	}
	return kgo.RecordHeader{Key: forms[0]}
}

func (h *letterHeaders) springLast(names ...string) string { return h.last(springForms(names...)...) }

// springPosition is a number of the origin, which must not be negative.
func (h *letterHeaders) springPosition(name string, size int) int64 {
	n := h.bigEndian(name, size)
	if n < 0 {
		h.errs = append(h.errs, fmt.Errorf("header %s: is negative", h.springFirst(name).Key))
		return 0
	}
	return n
}

// bigEndian is a number of 4 or 8 bytes, 0 where there is none.
func (h *letterHeaders) bigEndian(name string, size int) int64 {
	header := h.springFirst(name)
	switch {
	case header.Value == nil:
		return 0
	case len(header.Value) != size:
		h.errs = append(h.errs, fmt.Errorf("header %s: expected %d bytes, a big-endian number", header.Key, size))
		return 0
	case size == 4:
		return int64(int32(binary.BigEndian.Uint32(header.Value))) // #nosec G115 -- Java's int: its upper half is negative
	}
	return int64(binary.BigEndian.Uint64(header.Value)) // #nosec G115 -- Java's long: its upper half is negative
}

// springAttempts is how often the record was tried, where Spring tells: retry topics always do, and write the number of the next try, also
// where there is none any more.
func (h *letterHeaders) springAttempts() int {
	if next := h.springCount("retry_topic-attempts"); next > 0 {
		return next - 1
	}
	return h.springCount("kafka_deliveryAttempt")
}

// springCount is a number of 4 bytes, or of 1 byte as older versions wrote it; 0 where there is none.
func (h *letterHeaders) springCount(name string) int {
	switch value := []byte(h.last(name)); len(value) {
	case 0:
		return 0
	case 1:
		return int(value[0])
	case 4:
		if n := int32(binary.BigEndian.Uint32(value)); n >= 0 { // #nosec G115 -- Java's int; the negative half is refused
			return int(n)
		}
	}
	h.errs = append(h.errs, fmt.Errorf("header %s: expected 4 bytes, a big-endian number that is not negative", name))
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

// streams reads what the handlers of Kafka Streams write. It gives the dead letter the original's time.
func (h *letterHeaders) streams(original time.Time) DeadLetter {
	return h.written(DeadLetter{
		Family: FamilyStreams, Timestamp: original, Exception: h.text(streamsErrors + "exception"), Error: h.text(streamsErrors + "message"),
		Stack: printable(h.last(streamsErrors+"stacktrace"), maxStackText),
	}, streamsErrors)
}

// kafka reads what the broker writes for a share group: these headers and no others, even where it copies the record.
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

// written adds the origin, which Connect, Streams and the broker write alike, as text. Where a dead letter failed again, its headers are
// there twice: the first tell where it came from.
func (h *letterHeaders) written(d DeadLetter, prefix string) DeadLetter {
	origin := func(name string) string {
		header, _ := h.first(prefix + name)
		return string(header.Value)
	}
	d.Topic = printable(origin("topic"), maxErrorText)
	d.Partition = int32(h.number(prefix+"partition", origin("partition"), math.MaxInt32)) // #nosec G115 -- number keeps to its limit
	d.Offset = h.number(prefix+"offset", origin("offset"), math.MaxInt64)
	h.require(prefix+"topic", d.Topic)
	return d
}

func (h *letterHeaders) require(name, value string) {
	if value == "" {
		h.errs = append(h.errs, fmt.Errorf("header %s: is missing", name))
	}
}
