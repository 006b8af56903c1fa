package eventbus

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"
)

// Metrics is a snapshot of a bus's counters since it was made. The first five have the names of the TypeScript package.
type Metrics struct {
	MessagesPublished int64 `json:"messagesPublished"` // events acknowledged by the broker
	MessagesConsumed  int64 `json:"messagesConsumed"`  // events handled, by all groups of this bus
	PublishErrors     int64 `json:"publishErrors"`     // events whose publish returned an error
	ConsumerLag       int64 `json:"consumerLag"`       // records not yet handled in the partitions assigned to this bus
	// AvgProcessingTime is the mean time that handlers took, over all tries. In JSON: milliseconds.
	AvgProcessingTime time.Duration `json:"avgProcessingTime"`

	DeadLettered  int64 `json:"deadLettered"`  // events moved to a dead-letter topic
	Retries       int64 `json:"retries"`       // tries after the first
	SchemaReports int64 `json:"schemaReports"` // events that broke their schema and were handled all the same (ValidationReport)
	Buffered      int64 `json:"buffered"`      // events handed over and not yet acknowledged
}

// MarshalJSON writes AvgProcessingTime in milliseconds.
func (m Metrics) MarshalJSON() ([]byte, error) {
	type plain Metrics
	return json.Marshal(struct {
		plain
		AvgProcessingTime float64 `json:"avgProcessingTime"`
	}{plain(m), float64(m.AvgProcessingTime) / float64(time.Millisecond)})
}

// Hooks are told what happens to events, for logs and metrics. Every func may be nil. They are called synchronously, by several
// goroutines at once, so they must be quick and safe for concurrent use. Nothing in them shows a payload or a key.
type Hooks struct {
	// Published is called once for every event that passed the checks of a publish, when its result is known.
	Published func(PublishedInfo)
	// Handled is called once for every event when a group is done with it: handled or dead-lettered.
	Handled func(HandledInfo)
}

// PublishedInfo tells of a publish that ended.
type PublishedInfo struct {
	Topic         string // without Config.TopicPrefix
	Partition     int32  // -1 where it failed
	Offset        int64  // -1 where it failed
	EventID       string
	Source        string
	CorrelationID string
	KeyHash       string        // of the record's key, see KeyHash
	Took          time.Duration // from the call to the result
	Err           error         // nil, or it wraps ErrNotSent or ErrOutcomeUnknown
}

// HandledInfo tells of an event that a group is done with.
type HandledInfo struct {
	Topic         string // without Config.TopicPrefix
	Partition     int32
	Offset        int64
	Group         string // without Config.TopicPrefix
	EventID       string // "" where the record could not be decoded
	Source        string
	CorrelationID string
	KeyHash       string
	Attempts      int           // 0 where the record did not get to the handler
	Took          time.Duration // of the last try
	DeadLetter    Class         // why it was dead-lettered; "" where it was handled
}

// RawHandler handles an event whose payload is still JSON: the inside of a [Middleware].
type RawHandler func(ctx context.Context, e *RawEvent) error

// Middleware wraps a handler. It may refuse an event by an error, look at it, or change ctx; it must not change the event.
type Middleware func(next RawHandler) RawHandler

// counters count since the bus was made.
type counters struct {
	published, publishErrors, consumed, deadLettered, retries, schemaReports atomic.Int64
	tries, tryTime                                                           atomic.Int64
}

// tried counts one try of a handler.
func (c *counters) tried(took time.Duration, attempt int) {
	c.tries.Add(1)
	c.tryTime.Add(int64(took))
	if attempt > 1 {
		c.retries.Add(1)
	}
}

func (c *counters) snapshot() Metrics {
	m := Metrics{
		MessagesPublished: c.published.Load(), MessagesConsumed: c.consumed.Load(), PublishErrors: c.publishErrors.Load(),
		DeadLettered: c.deadLettered.Load(), Retries: c.retries.Load(), SchemaReports: c.schemaReports.Load(),
	}
	if tries := c.tries.Load(); tries > 0 {
		m.AvgProcessingTime = time.Duration(c.tryTime.Load() / tries)
	}
	return m
}
