package eventbus

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Hooks are told what happens to events, for logs and metrics. Every func may be nil. They are called synchronously, by several
// goroutines at once, so they must be quick and safe for concurrent use. One that panics is logged, and the event goes its way. Nothing in
// them shows a payload or a key.
type Hooks struct {
	// Publishing is called once for every event that passed the checks of a publish, before it is handed over, with the ctx of the call: for tracing. The
	// headers, which become the bus's, are added to the event's record; more than 16 KiB, and names that begin with "eb-", are left out and
	// logged. The func, which may be nil, is called once, when the result is known: as Published is, and also where the event is dropped with the try,
	// or the function, that published it by a Tx.
	Publishing func(ctx context.Context, e PublishingInfo) (headers []Header, ended func(PublishedInfo))
	// Published is called once for every event that passed the checks of a publish, when its result is known.
	Published func(PublishedInfo)
	// Handled is called once for every event when a group is done with it: handled or dead-lettered.
	Handled func(HandledInfo)
	// Parked is called each time that an event failed and its key waits for another try.
	Parked func(ParkedKey)
}

// tell calls the hooks.
func (b *Bus) tell(what func(Hooks)) {
	for _, h := range b.cfg.Hooks {
		b.call(func() { what(h) })
	}
}

// call calls a hook.
func (b *Bus) call(hook func()) {
	if err := catch(func() error { hook(); return nil }); err != nil {
		b.cfg.Logger.Error("a hook failed", "error", err)
	}
}

// PublishingInfo tells of an event that is about to be published.
type PublishingInfo struct {
	Topic         string // without Config.TopicPrefix
	EventID       string
	EventType     string
	Source        string
	CorrelationID string
	KeyHash       string // of the record's key, see KeyHash
	Bytes         int    // of the record's value
	Encoded       bool   // by Bus.Encode: the record is its caller's, and nothing is sent
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
	Age           time.Duration // of the record by its timestamp, at the end; not below 0, whatever its publisher's clock said
	DeadLetter    Class         // why it was dead-lettered; "" where it was handled
}

// RawHandler handles an event whose payload is still JSON: the inside of a [Middleware].
type RawHandler func(ctx context.Context, e *RawEvent) error

// Middleware wraps a handler. It may refuse an event by an error, look at it, or change ctx; it must not change the event.
type Middleware func(next RawHandler) RawHandler

// maxHookHeaders is how many bytes of headers hooks may add to a record: W3C's baggage may have 8,192.
const maxHookHeaders = 16 << 10

// announce tells hooks of an event that is to be published, and adds their headers to its record.
func (b *Bus) announce(ctx context.Context, f *flight, encoded bool) {
	if f.told == nil {
		return
	}
	b.tell(func(h Hooks) {
		if h.Publishing == nil {
			return
		}
		headers, ended := h.Publishing(ctx, PublishingInfo{
			Topic: f.topic, EventID: f.told.eventID, EventType: f.told.eventType, Source: f.told.source, CorrelationID: f.told.correlationID,
			KeyHash: KeyHash(f.record.Key), Bytes: len(f.record.Value), Encoded: encoded,
		})
		if ended != nil {
			f.followed = append(f.followed, ended)
		}
		b.addHeaders(f, headers)
	})
}

func (b *Bus) addHeaders(f *flight, headers []Header) {
	room := maxHookHeaders
	for _, h := range f.record.Headers {
		room -= len(h.Key) + len(h.Value)
	}
	for _, h := range headers {
		size := len(h.Key) + len(h.Value)
		if size > room || strings.HasPrefix(h.Key, headerPrefix) {
			b.cfg.Logger.Error("a header of a hook is left out", "name", h.Key, "bytes", size)
			continue
		}
		room -= size
		f.record.Headers = append(f.record.Headers, kgo.RecordHeader(h))
	}
	f.size = recordBytes(&f.record)
}

// drop tells hooks that events are not published that they were told of.
func (b *Bus) drop(flights []*flight, why error) {
	for _, f := range flights {
		f.follow(fmt.Errorf("%w: %w", ErrNotSent, why))
	}
}

func (b *Bus) tellPublished(f *flight, err error) {
	if f.told == nil {
		return
	}
	info := f.info(err)
	if err == nil {
		info.Partition, info.Offset = f.record.Partition, f.record.Offset
	}
	f.followBy(info)
	b.tell(func(h Hooks) {
		if h.Published != nil {
			h.Published(info)
		}
	})
}

// info is what hooks are told of a flight that has nowhere landed.
func (f *flight) info(err error) PublishedInfo {
	return PublishedInfo{
		Topic: f.topic, Partition: -1, Offset: -1, EventID: f.told.eventID, Source: f.told.source, CorrelationID: f.told.correlationID,
		KeyHash: KeyHash(f.record.Key), Took: time.Since(f.started), Err: err,
	}
}

// follow tells those who were told of an event before that it goes nowhere.
func (f *flight) follow(err error) {
	if len(f.followed) > 0 {
		f.followBy(f.info(err))
	}
}

func (f *flight) followBy(info PublishedInfo) {
	for _, ended := range f.followed {
		f.bus.call(func() { ended(info) })
	}
}
