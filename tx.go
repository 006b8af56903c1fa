package eventbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
)

var (
	errThroughTx  = errors.New("inside a transaction, publish by its Tx: what the Bus sends would stay when the transaction is aborted")
	errTxOver     = errors.New("the transaction's function has returned")
	errNoInstance = errors.New("transactions need a name that this process has again when it starts again, and no other of the service has at once, such as its pod's")
	errTxFailed   = errors.New("the transaction's function has failed")
	errTxAborted  = errors.New("the transaction was aborted")
)

// TxHandler handles one event exactly once, as far as Kafka goes: what it publishes by tx and the event's offset are committed in one transaction, or
// neither is. A reader of committed records, as every [Subscription] is, sees what it published once, although the handler may be called again with
// the same event, and is when the transaction is aborted: effects elsewhere than in Kafka are repeated then. nil and errors mean what they
// do to a [Handler]; what a try has published that ends with an error, or never ends, is dropped.
type TxHandler[T any] func(ctx context.Context, tx *Tx, e *BaseEvent[T]) error

// HandleTx is [Topic.Handle] for a handler that publishes in transactions. All routes of a [Subscription] have to be of one kind, and a bus that runs
// transactional ones needs [Config.Instance] and Kafka 4.0 (transaction.version 2, KIP-890). opts may be nil.
func (t *Topic[T]) HandleTx(h TxHandler[T], opts *HandleOptions) Route {
	var plain Handler[T]
	if h != nil {
		plain = func(ctx context.Context, e *BaseEvent[T]) error {
			tx, ok := ctx.Value(txKey{}).(*Tx)
			if !ok {
				return Permanent(errors.New("eventbus: middleware passed on another ctx than one of that it was given"))
			}
			return h(ctx, tx, e)
		}
	}
	r := t.Handle(plain, opts)
	r.tx = true
	return r
}

// Tx is what is published in a transaction: by a try of a [TxHandler], or by the function of a [Bus.Transact]. It keeps the events until that has
// returned without an error; only then they are sent. It is safe for concurrent use; its zero value is not usable.
type Tx struct {
	bus *Bus

	mu      sync.Mutex
	over    bool
	flights []*flight
	size    int
}

// txKey is of a ctx that belongs to a transaction: its Tx.
type txKey struct{}

// Publish adds events to the transaction, encoded and checked against their schemas, all of them or none; it sends nothing and does not block. The
// error is a [*PublishError], and each event's wraps [ErrNotSent]: it is invalid, or there would be more than [Config.MaxBufferedEvents] or
// [Config.MaxBufferedBytes] allow, or the function has returned. It is the caller's: where the handler returns nil all the same, the rest is published. The
// correlation id is that of ctx, as in [Bus.Publish].
func (tx *Tx) Publish(ctx context.Context, events ...AnyEvent) error {
	flights, errs := tx.bus.prepare(ctx, events)
	if errs != nil {
		return &PublishError{Errors: errs}
	}
	if err := tx.add(flights); err != nil {
		tx.bus.drop(flights, err)
		return tx.bus.refuseAll(len(events), err)
	}
	return nil
}

func (tx *Tx) add(flights []*flight) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	size := tx.size
	for _, f := range flights {
		size += f.size
	}
	switch limits := tx.bus.cfg; {
	case tx.over:
		return errTxOver
	case size > limits.MaxBufferedBytes:
		return fmt.Errorf("the transaction would have %d bytes, MaxBufferedBytes allows %d: %w", size, limits.MaxBufferedBytes, kerr.MessageTooLarge)
	case len(tx.flights)+len(flights) > limits.MaxBufferedEvents:
		return fmt.Errorf("the transaction would have %d events, MaxBufferedEvents allows %d", len(tx.flights)+len(flights), limits.MaxBufferedEvents)
	}
	for _, f := range flights {
		f.done = func(error) {} // the hooks are told
	}
	tx.size = size
	tx.flights = append(tx.flights, flights...)
	return nil
}

// drop ends the transaction, and what is published in it.
func (tx *Tx) drop(why error) { tx.bus.drop(tx.end(), why) }

// end has the transaction take nothing more, and returns what it has.
func (tx *Tx) end() []*flight {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.over = true
	return tx.flights
}

// refuseAll is the error of a publish that sends none of n events.
func (b *Bus) refuseAll(n int, cause error) error {
	b.count.publishErrors.Add(int64(n))
	return errorOfAll(n, fmt.Errorf("%w: %w", ErrNotSent, cause))
}

// errorOfAll is that of a publish whose n events have one result.
func errorOfAll(n int, err error) error { return &PublishError{Errors: slices.Repeat([]error{err}, n)} }

// inTx says whether a ctx belongs to a transaction.
func inTx(ctx context.Context) bool { return ctx.Value(txKey{}) != nil }
