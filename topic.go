package eventbus

import (
	"context"
	"encoding/binary"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// AnyTopic is a [Topic] of any payload, or a topic beside the catalogue such as the dead letters of a group. Only this package
// implements it.
type AnyTopic interface {
	// Name is the topic's name without [Config.TopicPrefix].
	Name() string
	spec() *topicSpec
}

// TopicOptions are the optional properties of a topic; its zero value works.
type TopicOptions[T any] struct {
	// Key returns the record key: events of one key are handled in the order of their publishing. It is called at every
	// publish, must not change the payload, and must not return "". nil: events have no key, are spread over the partitions
	// and have no order.
	Key func(payload T) string
	// Schema is a JSON Schema document that payloads are checked against, before they are published and before they are
	// handled. It is of draft 2020-12, whether its $schema says so or nothing. References out of the document are refused.
	// Fields marked writeOnly are secrets and masked wherever a person looks. nil: a payload only has to be an object that
	// decodes into T.
	Schema []byte
	// Type is the envelope's eventType. Default: the topic's name, without "dreamscape." where it starts so.
	Type string
	// Version is the envelope's version, MAJOR.MINOR. Default: "1.0".
	Version string
}

// Topic is a Kafka topic whose events carry a payload of type T. Make it with [NewTopic], once, as a package variable. It is
// immutable and safe for concurrent use; its zero value is not usable.
type Topic[T any] struct {
	topicSpec
	key   func(T) string
	codec codec // of T
}

// topicSpec is what the engine knows of a topic: everything but the payload's type.
type topicSpec struct {
	name      string
	eventType string
	version   string
	schema    *schema
	// schemaJSON is schema's text.
	schemaJSON []byte
	checker    *onepass.Checker // nil where there is none
	// source is the topic whose dead letters (infix dlqInfix), or redriven events (retryInfix), of group this one holds; nil for a
	// topic of events.
	source *topicSpec
	infix  string
	group  string
}

var (
	topicName    = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	eventVersion = regexp.MustCompile(`^[0-9]{1,9}\.[0-9]{1,9}$`)
)

// NewTopic declares a topic. It panics on a name that Kafka does not allow, a version that is not MAJOR.MINOR, and a schema that
// does not compile, because it is meant for package variables. opts may be nil.
func NewTopic[T any](name string, opts *TopicOptions[T]) *Topic[T] {
	if opts == nil {
		opts = &TopicOptions[T]{}
	}
	spec, err := newTopicSpec(name, opts.Type, opts.Version, opts.Schema)
	if err != nil {
		panic("eventbus: NewTopic: " + err.Error())
	}
	return &Topic[T]{topicSpec: spec, key: opts.Key, codec: newCodec(reflect.TypeFor[T]())}
}

func newTopicSpec(name, eventType, version string, schemaJSON []byte) (topicSpec, error) {
	if err := checkTopicName("name", name); err != nil {
		return topicSpec{}, err
	}
	spec := topicSpec{name: name, eventType: eventType, version: version}
	if spec.eventType == "" {
		spec.eventType = strings.TrimPrefix(name, "dreamscape.")
	}
	if spec.version == "" {
		spec.version = "1.0"
	}
	if !eventVersion.MatchString(spec.version) {
		return topicSpec{}, fmt.Errorf("topic %s: Version: %q is not MAJOR.MINOR, such as 1.0", name, version)
	}
	if schemaJSON != nil {
		spec.schemaJSON = slices.Clone(schemaJSON)
		var err error
		if spec.schema, err = compileSchema(name, schemaJSON); err != nil {
			return topicSpec{}, fmt.Errorf("topic %s: Schema: %w", name, err)
		}
	}
	spec.checker = newChecker(spec.schema)
	return spec, nil
}

// checkTopicName follows Kafka's own rule (org.apache.kafka.common.internals.Topic).
func checkTopicName(field, name string) error {
	if !topicName.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("%s: %q is not a Kafka topic name: 1 to 249 of a-z A-Z 0-9 . _ -", field, name)
	}
	return nil
}

func (s *topicSpec) spec() *topicSpec { return s }

// Name returns the topic's name, without [Config.TopicPrefix].
func (s *topicSpec) Name() string { return s.name }

// EventType returns the eventType that the envelopes of this topic carry.
func (s *topicSpec) EventType() string { return s.eventType }

// Schema returns the JSON Schema that payloads are checked against, nil where there is none. The slice is the caller's.
func (s *topicSpec) Schema() []byte { return slices.Clone(s.schemaJSON) }

// Redact returns the JSON payload with every field that the topic's schema marks writeOnly replaced by "***". Show a payload to
// a person only through it. What cannot be parsed is replaced as a whole. The argument is not changed.
func (s *topicSpec) Redact(payload []byte) []byte { return s.schema.redact(payload) }

// New makes an event of this topic with a new id (UUID version 7) and the present time, cut to milliseconds. Both stay as they
// are however often the event is published. Source and CorrelationID are stamped at publishing where they are empty, on the wire
// only: the event itself is never changed.
func (t *Topic[T]) New(payload T) *BaseEvent[T] {
	now := time.Now().UTC()
	return &BaseEvent[T]{
		EventID:   newEventID(now).String(),
		EventType: t.eventType,
		Timestamp: now.Truncate(time.Millisecond),
		Version:   t.version,
		Payload:   payload,
		topic:     t,
	}
}

// NewJSON is New for a payload that is JSON, such as one that a person has typed. The error says that it is not strict JSON, not of the payload's type, or
// has a field that the type does not have and that would be lost; [Bus.Publish] checks the schema.
func (t *Topic[T]) NewJSON(payload []byte) (AnyEvent, error) {
	if _, err := parseJSON(payload); err != nil {
		return nil, err
	}
	e := t.New(*new(T))
	if err := t.codec.read(payload, &e.Payload); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(payload, new(T), t.codec.from, json.RejectUnknownMembers(true)); err != nil && errors.Is(err, json.ErrUnknownName) {
		return nil, fmt.Errorf("topic %s: the payload has a field that its type does not have: %w", t.name, err)
	}
	return e, nil
}

// newEventID returns a UUID of version 7 (RFC 9562 section 5.7, with the clock's precision in rand_a as by section 6.2, method 3). It has to be unique,
// not secret: the kernel's randomness, and one clock for all threads, which google/uuid has, cost more than the rest of New.
func newEventID(now time.Time) (id uuid.UUID) {
	ms, part := uint64(now.UnixMilli()), uint64(now.Nanosecond()%1e6)*4096/1e6 // #nosec G115 -- the 48 bits that there are last until the year 10889
	binary.BigEndian.PutUint64(id[:8], ms<<16|7<<12|part)
	binary.BigEndian.PutUint64(id[8:], 0b10<<62|rand.Uint64()>>2) // #nosec G404 -- by the runtime's ChaCha8, seeded by the kernel for each thread
	return id
}

// Handler handles one event. nil acknowledges it; an error has it tried again by the [RetryPolicy] and then dead-lettered
// ([Permanent] at once). It may be called again with the same event after a crash or a rebalance, so its effect must be
// repeatable: remember EventID. Pass ctx on when publishing: the new event then inherits the correlation id. ctx is cancelled
// when the handler's time is over, or the drain time is, at a shutdown or a rebalance.
type Handler[T any] func(ctx context.Context, e *BaseEvent[T]) error

// HandleOptions are the optional properties of a [Route]; its zero value works.
type HandleOptions struct {
	// Timeout bounds one try of the handler by its ctx. Default: 30 s.
	Timeout time.Duration
	// Retry is the policy of this route; a field that it leaves zero is that of [Config.Retry]. nil: all of them.
	Retry *RetryPolicy
	// Order says which events wait for each other, and for one that was given up. Default: OrderByKey.
	Order Order
}

// Order says which events of a partition wait for each other.
type Order int

const (
	// OrderByKey handles the events of one key one after the other, in the order of their offsets, and those without a key likewise.
	OrderByKey Order = iota
	// OrderNone handles every event by itself: none waits for another, also not for one of its key that is tried again.
	OrderNone
	// OrderSequenced is OrderByKey also where an event is given up: its key is parked, its later events follow it among the dead letters in their order, untried,
	// and other keys go on. [DeadLetters.Release] has the group handle them, and then go on with the key. What is parked is kept by Kafka alone: in the
	// dead-letter topic and in [SequenceTopic], which have as many partitions as the topic, and is written in one transaction with the offset. So the
	// subscription works in transactions, also where its handlers do not: it needs [Config.Instance] and Kafka 4.0. The topic has to have keys; an event
	// without one, and a batch that cannot be read, park nothing.
	OrderSequenced
)

// Handle routes the topic's events to h within a [Subscription]. opts may be nil.
func (t *Topic[T]) Handle(h Handler[T], opts *HandleOptions) Route {
	if opts == nil {
		opts = &HandleOptions{}
	}
	r := Route{topic: &t.topicSpec, timeout: opts.Timeout, retry: opts.Retry, order: opts.Order, keyed: t.key != nil}
	if h == nil {
		return r
	}
	r.bind = func(raw *RawEvent) error {
		c := &typedCall[T]{handler: h}
		raw.call = c
		return t.fill(&c.event, raw)
	}
	return r
}

// typedCall implements [call].
type typedCall[T any] struct {
	handler Handler[T]
	event   BaseEvent[T]
}

func (c *typedCall[T]) handle(ctx context.Context) error { return c.handler(ctx, &c.event) }
func (c *typedCall[T]) lane() string                     { return c.event.topic.laneOf(c.event.Payload) }

// laneOf is the key of a payload, "" where the user's function panics: such events are in one lane with others.
func (t *Topic[T]) laneOf(payload T) (key string) {
	_ = catch(func() error {
		key = t.key(payload)
		return nil
	})
	return key
}

// Decode reads a record value of this topic, strictly and checked against the schema, as it is done before a handler: for tests and
// for readers beside a [Subscription]. The error is a [*DecodeError] or a [*SchemaError].
func (t *Topic[T]) Decode(value []byte) (*BaseEvent[T], error) {
	raw, _, err := decodeEvent(&t.topicSpec, value, new(RawEvent))
	if err != nil {
		return nil, err
	}
	return t.typed(raw)
}

// DecodeRaw is [Topic.Decode] for who does not know the payload's type: it stays JSON, which is shown to a person only through Redact.
func (s *topicSpec) DecodeRaw(value []byte) (*RawEvent, error) {
	raw, _, err := decodeEvent(s, value, new(RawEvent))
	return raw, err
}

func (t *Topic[T]) typed(raw *RawEvent) (*BaseEvent[T], error) {
	e := &BaseEvent[T]{}
	return e, t.fill(e, raw)
}

// fill is the one place where a payload gets its type back.
func (t *Topic[T]) fill(e *BaseEvent[T], raw *RawEvent) error {
	*e = BaseEvent[T]{
		EventID: raw.EventID, EventType: raw.EventType, Timestamp: raw.Timestamp, Version: raw.Version,
		Source: raw.Source, CorrelationID: raw.CorrelationID, topic: t,
	}
	return t.codec.read(raw.Payload, &e.Payload)
}

// RawEvent is an event whose payload is still JSON: what middleware sees. The payload is shared; do not change it.
type RawEvent = BaseEvent[stdjson.RawMessage]
