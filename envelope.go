package eventbus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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
	// bound is the typed handler call of a record on its way through middleware, lane the key that its payload has.
	bound func(context.Context) error
	lane  func() string
}

// AnyEvent is a [BaseEvent] of any payload. Only this package implements it.
type AnyEvent interface {
	// Topic is the topic that made the event. nil for one that did not come from [Topic.New] or a handler.
	Topic() AnyTopic
	// message encodes what does not depend on the bus that publishes it.
	message() (message, error)
}

// message is an event with its payload encoded: what the engine knows of it.
type message struct {
	topic   *topicSpec
	key     []byte
	env     envelope
	payload jsontext.Value
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
	payload, err := marshalPayload(e.Payload)
	if err != nil {
		return message{}, fmt.Errorf("topic %s: %w", e.topic.name, err)
	}
	m := message{topic: &e.topic.topicSpec, payload: payload, env: envelope{
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
	m.key = []byte(key)
	return m, nil
}

// wireEnvelope is the envelope as it is on the wire, with DreamScape's names.
type wireEnvelope struct {
	EventID       string         `json:"eventId"`
	EventType     string         `json:"eventType"`
	Timestamp     string         `json:"timestamp"`
	Version       string         `json:"version"`
	Source        string         `json:"source"`
	Payload       jsontext.Value `json:"payload"`
	CorrelationID string         `json:"correlationId"`
}

// wireTime is what JavaScript's toISOString writes.
const wireTime = "2006-01-02T15:04:05.000Z"

func formatTime(t time.Time) string { return t.UTC().Format(wireTime) }

// parseTime reads any RFC 3339 date-time, also with a lower-case t or z and with a leap second, which Go's time cannot hold: it
// becomes the second after.
func parseTime(s string) (time.Time, error) {
	s = strings.ToUpper(s)
	leap := len(s) > 19 && s[16:19] == ":60"
	if leap {
		s = s[:16] + ":59" + s[19:]
	}
	t, err := time.Parse(time.RFC3339, s)
	if leap {
		t = t.Add(time.Second)
	}
	return t, err
}

// encode writes the record value and checks it just as a reader will.
func (m message) encode() ([]byte, error) {
	if m.env.eventType != m.topic.eventType {
		return nil, fmt.Errorf("topic %s: %w", m.topic.name, invalid("eventType", "must be "+m.topic.eventType))
	}
	value, err := json.Marshal(wireEnvelope{
		EventID: m.env.eventID, EventType: m.env.eventType, Timestamp: formatTime(m.env.timestamp), Version: m.env.version,
		Source: m.env.source, Payload: m.payload, CorrelationID: m.env.correlationID,
	})
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", m.topic.name, asInvalid("event", err))
	}
	if _, err := checkEvent(m.topic, value); err != nil {
		return nil, fmt.Errorf("topic %s: %w", m.topic.name, err)
	}
	return value, nil
}

// decodeEvent reads a record value: strictly as JSON, leniently as to what older writers leave out. The returned event is usable
// also when the error is only a broken schema (a [SchemaError]).
func decodeEvent(topic *topicSpec, value []byte) (*RawEvent, error) {
	if value == nil {
		return nil, &DecodeError{Reason: "the record has no value"}
	}
	checked, broken := checkEvent(topic, value)
	if checked == nil {
		return nil, broken
	}
	var wire wireEnvelope
	if err := json.Unmarshal(value, &wire); err != nil {
		return nil, &DecodeError{Reason: "the envelope's fields do not have the types of an event"}
	}
	at, err := parseTime(wire.Timestamp)
	if err != nil {
		return nil, &DecodeError{Reason: "timestamp: expected an RFC 3339 date-time"}
	}
	return &RawEvent{
		EventID: wire.EventID, EventType: checked["eventType"].(string), Timestamp: at, Version: checked["version"].(string),
		Source: checked["source"].(string), CorrelationID: checked["correlationId"].(string), Payload: []byte(wire.Payload),
	}, broken
}

// checkEvent parses the record value and holds it against the envelope's schema and the payload's. The envelope it returns has
// what was left out filled in. It is nil where the value is no envelope at all; a broken payload schema comes with the envelope.
func checkEvent(topic *topicSpec, value []byte) (map[string]any, error) {
	tree, err := parseJSON(value)
	if err != nil {
		return nil, err
	}
	env, ok := tree.(map[string]any)
	if !ok {
		return nil, &DecodeError{Reason: "the value is not a JSON object"}
	}
	fill := func(name string, value any) {
		if s, there := env[name]; !there || s == nil || s == "" {
			env[name] = value
		}
	}
	fill("eventType", topic.eventType)
	fill("version", "1.0")
	fill("source", "unknown")
	fill("correlationId", env["eventId"])
	if err := envelopeSchema().validate(env); err != nil {
		return nil, err
	}
	if env["eventType"] != topic.eventType {
		return nil, invalid("eventType", "must be "+topic.eventType)
	}
	return env, topic.schema.within("payload").validate(env["payload"])
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

// handling is the ctx in which a handler of e runs.
func handling(ctx context.Context, e *RawEvent, d Delivery) context.Context {
	ctx = context.WithValue(ctx, deliveryKey{}, d)
	ctx = context.WithValue(ctx, causationKey{}, e.EventID)
	return WithCorrelationID(ctx, e.CorrelationID)
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
