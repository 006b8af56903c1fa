package eventbus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	// ErrNotSent says that an event was certainly not written: it was invalid or too large, or there was no room in the buffer in
	// time, or the bus was shut down, or Kafka does not know its topic. Publish it again once the cause, which is wrapped too,
	// is mended.
	ErrNotSent = errors.New("not sent")
	// ErrOutcomeUnknown says that an event was handed over and not acknowledged in time: it may have been written, or may yet
	// be. The cause is wrapped where it is known, such as a wrong password. Publishing the event again may double it on the
	// topic, under the same id.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrClosed says that the bus has been shut down.
	ErrClosed = errors.New("bus is shut down")

	errBatch   = errors.New("another event of the batch is invalid")
	errTimeout = fmt.Errorf("no acknowledgement within PublishTimeout: %w", context.DeadlineExceeded)
	errFull    = errors.New("no room in the publish buffer")
)

// PublishError is the error of [Bus.Publish]: the result of each event, so that only those are published again that need to be.
// errors.Is and errors.As look into all of them.
type PublishError struct {
	// Errors has one entry an event, in the order of Publish's arguments; nil for an acknowledged one.
	Errors []error
}

// Error lists the events that failed, by their index, with their errors.
func (e *PublishError) Error() string {
	failed := e.Unwrap()
	if len(e.Errors) == 1 {
		return "eventbus: publish: " + failed[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "eventbus: publish: %d of %d events failed", len(failed), len(e.Errors))
	for i, err := range e.Errors {
		if err != nil {
			fmt.Fprintf(&b, "; [%d] %v", i, err)
		}
	}
	return b.String()
}

// Unwrap returns the errors that are not nil.
func (e *PublishError) Unwrap() []error {
	return slices.DeleteFunc(slices.Clone(e.Errors), func(err error) bool { return err == nil })
}

// Publish writes events and waits until Kafka has acknowledged all of them, by all in-sync replicas. They may be of several
// topics; events of one key keep their order. Every event is encoded and checked against its schema before any is sent, and none
// is changed. It blocks until ctx ends or [Config.PublishTimeout] at most; that ends the waiting, not the sending.
//
// The error is a [*PublishError]; each event's error wraps [ErrNotSent] or [ErrOutcomeUnknown]. A wrong password, an unknown or a
// forbidden topic is named within 5 s. No events: nil. With the ctx of a [TxHandler] or of [Bus.Transact] it is refused: publish by the [Tx]. It is safe
// for concurrent use.
func (b *Bus) Publish(ctx context.Context, events ...AnyEvent) error {
	if inTx(ctx) && len(events) > 0 {
		return b.refuseAll(len(events), errThroughTx)
	}
	flights, errs := b.prepare(ctx, events)
	if errs != nil {
		return &PublishError{Errors: errs}
	}
	errs = make([]error, len(flights))
	var landed sync.WaitGroup
	for i, f := range flights {
		landed.Add(1)
		f.done = func(err error) {
			errs[i] = err
			landed.Done()
		}
		b.send(ctx, f)
	}
	b.await(ctx, flights, &landed)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return &PublishError{Errors: errs}
	}
	return nil
}

// await returns when every flight has its result, which the end of ctx brings about.
func (b *Bus) await(ctx context.Context, flights []*flight, landed *sync.WaitGroup) {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			for _, f := range flights {
				b.finish(f, b.unknown(context.Cause(ctx)))
			}
		})
		defer stop()
	}
	landed.Wait()
}

// PublishAsync writes one event and calls done with its result, as [Bus.Publish] would return it, exactly once. It blocks only
// while the buffer is full, until ctx ends; ctx ends nothing else. An event that the checks refuse has done called before
// PublishAsync returns; else done runs on a goroutine of the bus, in the order of the acknowledgements, must be quick and must not
// publish synchronously. A nil done has failures logged.
func (b *Bus) PublishAsync(ctx context.Context, e AnyEvent, done func(error)) {
	if done == nil {
		done = b.logFailure
	}
	if inTx(ctx) {
		done(b.refuseAll(1, errThroughTx))
		return
	}
	f, err := b.prepareOne(ctx, e)
	if err != nil {
		b.count.publishErrors.Add(1)
		done(&PublishError{Errors: []error{fmt.Errorf("%w: %w", ErrNotSent, err)}})
		return
	}
	b.announce(ctx, f, false)
	f.alone, f.done = true, done
	b.send(ctx, f)
}

func (b *Bus) logFailure(err error) {
	if err != nil {
		b.cfg.Logger.Error("publish failed", "error", err)
	}
}

// Encode returns the record that [Bus.Publish] would send, checked in the same way and not sent; for an outbox. The record is the
// caller's.
func (b *Bus) Encode(ctx context.Context, e AnyEvent) (*kgo.Record, error) {
	f, err := b.prepareOne(ctx, e)
	if err != nil {
		return nil, err
	}
	b.announce(ctx, f, true)
	f.follow(nil)
	return &f.record, nil
}

// flight is an event on its way to Kafka, from the hand-over to its result.
type flight struct {
	record   kgo.Record
	writing  writing
	bus      *Bus
	topic    string                // without Config.TopicPrefix
	told     *envelope             // what hooks are told of it; nil where there are none
	followed []func(PublishedInfo) // hooks that were told of it before, and want its result
	size     int
	started  time.Time
	deadline time.Time // when it has its result at the latest
	ended    atomic.Bool
	alone    bool        // its error is a whole PublishError
	done     func(error) // called once

	before, after *flight // see flights
	linked        bool
}

// prepare encodes and checks every event; errs is nil only if all may be sent.
func (b *Bus) prepare(ctx context.Context, events []AnyEvent) (flights []*flight, errs []error) {
	flights = make([]*flight, len(events))
	for i, e := range events {
		f, err := b.prepareOne(ctx, e)
		if err != nil && errs == nil {
			errs = make([]error, len(events))
		}
		if err != nil {
			errs[i] = fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		flights[i] = f
	}
	if errs == nil {
		for _, f := range flights {
			b.announce(ctx, f, false)
		}
		return flights, nil
	}
	b.count.publishErrors.Add(int64(len(events)))
	for i, err := range errs {
		if err == nil {
			errs[i] = fmt.Errorf("%w: %w", ErrNotSent, errBatch)
		}
	}
	return nil, errs
}

func (b *Bus) prepareOne(ctx context.Context, e AnyEvent) (*flight, error) {
	if e == nil {
		return nil, invalid("event", "is nil")
	}
	m, err := e.message()
	if err != nil {
		return nil, err
	}
	m.stamp(ctx, b.cfg.Service)
	key, value, undecided, err := m.encode()
	b.count.checked(undecided)
	if err != nil {
		return nil, err
	}
	f := b.newFlight(m.topic.name, key, value)
	if cause, ok := ctx.Value(causationKey{}).(string); ok {
		f.record.Headers = append(f.record.Headers, kgo.RecordHeader{Key: headerCausation, Value: []byte(cause)})
		f.size = recordBytes(&f.record)
	}
	if len(b.cfg.Hooks) > 0 {
		told := m.env // copied here alone, or every event's would be on the heap
		f.told = &told
	}
	room := b.cfg.MaxBufferedBytes
	if slices.ContainsFunc(b.cfg.Hooks, func(h Hooks) bool { return h.Publishing != nil }) {
		room = max(0, room-maxHookHeaders) // for what may come
	}
	if f.size > room {
		return nil, fmt.Errorf("topic %s: the event has %d bytes, MaxBufferedBytes allows %d: %w", m.topic.name, f.size, room, kerr.MessageTooLarge)
	}
	return f, nil
}

// newFlight makes one for a topic, which is named without Config.TopicPrefix.
func (b *Bus) newFlight(topic string, key, value []byte) *flight {
	now := time.Now()
	f := &flight{bus: b, topic: topic, size: len(key) + len(value), started: now, deadline: now.Add(b.cfg.PublishTimeout)}
	f.record.Topic, f.record.Key, f.record.Value = b.cfg.TopicPrefix+topic, key, value
	return f
}

// KeyHash returns a short hash (FNV-1a, hexadecimal) that stands for a record key in logs, where the key itself may be personal.
// It is "" for no key.
func KeyHash(key []byte) string {
	if key == nil {
		return ""
	}
	h := fnv.New32a()
	_, _ = h.Write(key) // never fails
	return fmt.Sprintf("%08x", h.Sum32())
}

// send hands f over, waiting for room until ctx ends. The record's own context never ends: one caller's cancelled ctx would fail
// its neighbours' records in the batch.
func (b *Bus) send(ctx context.Context, f *flight) {
	if err := b.enter(ctx, f); err != nil {
		b.finish(f, fmt.Errorf("%w: %w", ErrNotSent, err))
		return
	}
	b.flights.add(f)
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	f.writing.ctx, f.writing.record, f.writing.result = ctx, &f.record, f
	b.events.produce(&f.writing)
}

// produced implements [result].
func (f *flight) produced(_ *kgo.Record, err error) {
	f.bus.buffer.Leave(f.size)
	f.bus.flights.remove(f)
	f.bus.finish(f, f.produceError(err))
}

func (b *Bus) enter(ctx context.Context, f *flight) error {
	if b.closed.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !b.buffer.TryEnter(f.size) {
		ctx, cancel := context.WithDeadlineCause(ctx, f.deadline, errTimeout)
		defer cancel()
		if err := b.buffer.Enter(ctx, f.size); err != nil {
			return fmt.Errorf("%w: %w", errFull, b.withCause(err))
		}
	}
	if b.closed.Load() { // while it waited
		b.buffer.Leave(f.size)
		return ErrClosed
	}
	return nil
}

// finish gives f its result, the first one only: an acknowledgement may come after its waiter has gone.
func (b *Bus) finish(f *flight, err error) {
	if !f.ended.CompareAndSwap(false, true) {
		return
	}
	err = b.login.clean(err)
	if err == nil {
		b.count.published.Add(1)
	} else {
		b.count.publishErrors.Add(1)
	}
	if err != nil { // the client may still have it
		b.flights.landed(f)
	}
	b.tellPublished(f, err)
	if f.alone && err != nil {
		err = &PublishError{Errors: []error{err}}
	}
	f.done(err)
}

// produceError says what a client's error means for the record. A topic that does not exist holds none of it, and a batch that a
// broker finds too large it does not append; everything else may have followed an attempt that was appended.
func (f *flight) produceError(err error) error {
	if err != nil {
		err = fmt.Errorf("topic %s: %w", f.topic, err)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errEitherTopic):
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID),
		errors.Is(err, kerr.InvalidTopicException):
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// unknown is the result of a flight that is waited for no longer.
func (b *Bus) unknown(why error) error {
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, b.withCause(why))
}

// withCause adds what is wrong with the connections, where something is.
func (b *Bus) withCause(err error) error {
	err = b.login.clean(err)
	if broken := b.link.failure(); broken != nil && !errors.Is(err, broken) {
		return fmt.Errorf("%w: %w", err, broken)
	}
	return err
}
