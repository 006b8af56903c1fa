package eventbus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/engine"
)

// EncodeForTest returns the key and the value that publishing e would send, without a bus.
func EncodeForTest(e AnyEvent) (key, value []byte, err error) {
	m, err := e.message()
	if err != nil {
		return nil, nil, err
	}
	m.stamp(context.Background(), "test-service")
	key, value, _, err = m.encode()
	return key, value, err
}

// ParseForTest reads one strict JSON value.
func ParseForTest(data []byte) (any, error) { return parseJSON(data) }

// ValidateForTest compiles a schema and holds a parsed value against it, as a payload.
func ValidateForTest(source []byte, instance any) error {
	s, err := compileSchema("test", source)
	if err != nil {
		return err
	}
	return s.within("payload").validate(instance)
}

// CompileForTest compiles a schema.
func CompileForTest(source []byte) error {
	_, err := compileSchema("test", source)
	return err
}

// FlightsForTest counts the events handed over and without a result.
func (b *Bus) FlightsForTest() int { return b.flights.len() }

// DeadLetterForTest makes the dead letter of r that a group writes which failed on it with err.
func DeadLetterForTest(r *kgo.Record, topic, group string, err error) *kgo.Record {
	o := origin{r.Topic, r.Partition, r.Offset, r.Timestamp}
	return failure{class: classify(err), err: err, attempts: 1, first: time.Now()}.record(r, o, topic, group, 0)
}

// SeedBugForTest builds a mistake into the groups that will run on the bus, to show that a test sees it: see engine.Bug.
func (b *Bus) SeedBugForTest(bug string) { b.bug = engine.Bug(bug) }

// SetBackForTest sets back where a group reads the first partition of a topic, as a truncated log does.
func (b *Bus) SetBackForTest(group, topic string, offset int64) {
	b.mu.Lock()
	c := b.groups[group]
	b.mu.Unlock()
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: offset}}})
}

// HoldForTest has nothing of a group settled until release is called. waiting is how many goroutines wait to settle.
func (b *Bus) HoldForTest(group string) (waiting func() int, release func()) {
	b.mu.Lock()
	c := b.groups[group]
	b.mu.Unlock()
	c.mu.Lock()
	return func() int {
		c.crowd.mu.Lock()
		defer c.crowd.mu.Unlock()
		if !c.crowd.waiting {
			return 0
		}
		return 1 + len(c.crowd.others)
	}, c.mu.Unlock
}

// DeliveryForTest is what a handler is told of a record of a topic, or of its retry topic, and the dead letter that its group then writes.
func DeliveryForTest(t AnyTopic, retry bool, r *kgo.Record) (Delivery, *kgo.Record) {
	c := &consumer{group: "group", sub: Subscription{Group: "group"}}
	route := &route{topic: t.spec(), kafkaTopic: t.Name(), retryTopic: RetryTopic(t.Name(), "group")}
	task := &task{record: r, of: &assignment{consumer: c, route: route, topic: route.kafkaTopic}}
	if retry {
		task.of.topic = route.retryTopic
	}
	f := failure{class: ClassTransient, err: errors.New("no"), attempts: 4, first: time.UnixMilli(0)}
	return task.delivery(1), f.record(r, task.origin(), DeadLetterTopic(t.Name(), "group"), c.group, 0)
}

// AdmitForTest returns what takes a fetched record, as a consumer does.
func AdmitForTest() func(*kgo.Record) *task { return (&assignment{route: &route{}}).admit }

// SendBackForTest is the record that a redrive makes of a dead letter.
func SendBackForTest(r *kgo.Record, topic, group string) *kgo.Record {
	return newLetter(r, nil).again(topic, group)
}

// InflateForTest decompresses a batch as consumers do, and says what it weighs.
func InflateForTest(codec kgo.CompressionCodecType, batch []byte) (out []byte, weight int, err error) {
	inner, err := decompressor()
	if err != nil {
		return nil, 0, err
	}
	i := &inflater{inner: inner}
	out, err = i.Decompress(batch, codec)
	return out, i.held, err
}

var decompressor = sync.OnceValues(func() (kgo.Decompressor, error) {
	client, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(maxBatchBytes))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return (&Bus{client: client}).inflater().inner, nil
})

// WeighForTest is what the records of a batch count as.
func WeighForTest(batch []byte) (int, error) { return weigh(batch) }

// Inflater is that of a client that reads.
type Inflater = inflater

// InflaterForTest returns one around the client's own decompressor.
func InflaterForTest() (*Inflater, error) {
	inner, err := decompressor()
	return &inflater{inner: inner, parts: map[topicPartition]heap{}}, err
}

// Held is what counts as decompressed and not polled.
func (i *Inflater) Held() int { return i.held }

// Polled tells that a poll has taken what there is of a topic's first partition.
func (i *Inflater) Polled(topic string) {
	i.polled(kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: topic, Partitions: []kgo.FetchPartition{{}}}}}})
}

// Certain says whether a record value is certainly a valid event of a topic: its check needs no validator.
func Certain(t AnyTopic, value []byte) bool {
	_, undecided, _ := decodeEvent(t.spec(), value, new(RawEvent))
	return !undecided
}

// DecodeBothForTest reads a record value as consumers do and, if that was quick, by the slow way as well.
func DecodeBothForTest(t AnyTopic, value []byte) (quick, slow *RawEvent, err error) {
	quick, undecided, _ := decodeEvent(t.spec(), value, new(RawEvent))
	if undecided {
		return nil, nil, nil
	}
	slow, err = parseEvent(t.spec(), value)
	return quick, slow, err
}

// TimesForTest are the times of an envelope: written, and read again.
func TimesForTest(t time.Time) (text []byte, back time.Time, err error) {
	text = appendTime(nil, t)
	back, err = readWireTime(text)
	return text, back, err
}

// HandlerContextsForTest makes the ctx of a try of a record with a key, and what ends it.
func HandlerContextsForTest(parent context.Context, timeout time.Duration, e *RawEvent, attempt int, key []byte) func() (context.Context, func()) {
	route := &route{timeout: timeout, topic: &topicSpec{}}
	of := &assignment{route: route, ctx: parent, consumer: &consumer{}}
	t := &task{of: of, raw: e, tries: tries{spent: attempt - 1}, record: &kgo.Record{Key: key}}
	return func() (context.Context, func()) {
		c := newHandlerContext(t, time.Now())
		return c, c.end
	}
}
