package eventbus

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BaseEvent is the envelope and its payload. Make one with [Topic.New]; a handler receives one. Fields may be set before
// publishing. It prints and logs without its payload, which may be personal; take Payload by name to show it.
type BaseEvent[T any] struct {
	EventID       string    // a UUID; New makes version 7, other versions are read
	EventType     string    // the topic's event type, such as "user.created"
	Timestamp     time.Time // when it happened; milliseconds on the wire
	Version       string    // MAJOR.MINOR
	Source        string    // the publishing service; "" when publishing: Config.Service
	Payload       T
	CorrelationID string // "" when publishing: that of ctx, else the event's own id

	topic *Topic[T]
	call  call // of a record on its way through middleware
}

// call is an event whose payload has its type, with the handler that it is for.
type call interface {
	handle(context.Context) error
	// lane is the key that the payload has.
	lane() string
}

// AnyEvent is a [BaseEvent] of any payload. Only this package implements it.
type AnyEvent interface {
	// Topic is the topic that made the event. nil for one that did not come from [Topic.New] or a handler.
	Topic() AnyTopic
	// message is what does not depend on the bus that publishes it.
	message() (message, error)
	// writePayload appends the payload as JSON.
	writePayload(to *bytes.Buffer) error
}

// message is an event that is to be encoded: what the engine knows of it.
type message struct {
	topic *topicSpec
	key   string // "" for none
	env   envelope
	event AnyEvent
}

// envelope is every field of an event but its payload.
type envelope struct {
	eventID, eventType string
	timestamp          time.Time
	version, source    string
	correlationID      string
}

// Topic returns the topic that made the event, or nil.
func (e *BaseEvent[T]) Topic() AnyTopic {
	if e == nil || e.topic == nil {
		return nil
	}
	return e.topic
}

// String returns the envelope without the payload.
func (e BaseEvent[T]) String() string {
	return fmt.Sprintf("%s %s from %s at %s", e.EventType, e.EventID, e.Source, formatTime(e.Timestamp))
}

// Format prints String for every verb, so that no verb prints the payload.
func (e BaseEvent[T]) Format(f fmt.State, _ rune) { fmt.Fprint(f, e.String()) }

// LogValue logs the envelope without the payload.
func (e BaseEvent[T]) LogValue() slog.Value {
	return slog.GroupValue(slog.String("event_id", e.EventID), slog.String("event_type", e.EventType),
		slog.String("source", e.Source), slog.String("correlation_id", e.CorrelationID))
}

func (e *BaseEvent[T]) message() (message, error) {
	if e == nil || e.topic == nil {
		return message{}, invalid("event", "make it with Topic.New")
	}
	m := message{topic: &e.topic.topicSpec, event: e, env: envelope{
		eventID: e.EventID, eventType: e.EventType, timestamp: e.Timestamp, version: e.Version,
		source: e.Source, correlationID: e.CorrelationID,
	}}
	if e.topic.key == nil {
		return m, nil
	}
	key := e.topic.key(e.Payload)
	if key == "" {
		return message{}, fmt.Errorf("topic %s: %w", e.topic.name, invalid("key", "the payload's key field must not be empty"))
	}
	m.key = key
	return m, nil
}

func (e *BaseEvent[T]) writePayload(to *bytes.Buffer) error {
	return e.topic.codec.write(to, &e.Payload)
}

// Header is a record header. Kafka allows several of one key.
type Header struct {
	Key   string
	Value []byte
}

// Delivery is where an event being handled comes from; of a redriven one, where it came from at first. Key and Headers are shared; do not change them.
type Delivery struct {
	Topic     string // the topic that the event was published to, without Config.TopicPrefix
	Partition int32
	Offset    int64
	Timestamp time.Time // the record's; the event's own is BaseEvent.Timestamp
	Key       []byte
	Headers   []Header
	Group     string // without Config.TopicPrefix
	Attempt   int    // 1 at the first try; one that an outage may have failed is made again under the same number
	Redrives  int    // how often the event was sent back from the dead letters
}

// headerCausation carries the id of the event whose handling published this one.
const headerCausation = "causationId"

// CausationID returns the id of the event whose handler published this one, or "".
func (d Delivery) CausationID() string {
	for _, h := range d.Headers {
		if h.Key == headerCausation {
			return string(h.Value)
		}
	}
	return ""
}

func deliveryHeaders(headers []kgo.RecordHeader) []Header {
	out := make([]Header, len(headers))
	for i, h := range headers {
		out[i] = Header{Key: h.Key, Value: h.Value}
	}
	return out
}

type (
	deliveryKey    struct{}
	correlationKey struct{}
	causationKey   struct{}
)

// DeliveryFrom returns the delivery that a handler's ctx belongs to; false outside of one.
func DeliveryFrom(ctx context.Context) (Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(Delivery)
	return d, ok
}

// WithCorrelationID has the events published with the returned ctx carry id, unless they have a correlation id themselves. Use
// it where a request enters the fleet; a handler's ctx has its event's already. id must not be empty.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// CorrelationIDFrom returns the correlation id that events published with ctx will carry, or "".
func CorrelationIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}

// stamp fills in what the bus and the ctx know.
func (m *message) stamp(ctx context.Context, service string) {
	if m.env.source == "" {
		m.env.source = service
	}
	if m.env.correlationID == "" {
		m.env.correlationID = CorrelationIDFrom(ctx)
	}
	if m.env.correlationID == "" {
		m.env.correlationID = m.env.eventID
	}
}
