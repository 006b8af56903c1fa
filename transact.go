package eventbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Transact publishes what fn publishes by its Tx in one transaction, of all its topics: readers of committed records see all of it, or nothing. It is for
// services that don't consume what they publish from; see [Topic.HandleTx] for those that do. An error of fn is returned as it is, and nothing is sent;
// nor is it where fn publishes nothing, or panics. fn is called once, and nothing of it is sent before it has returned.
//
// It blocks until ctx ends or [Config.PublishTimeout] at most; calls queue. The error of what fn has published is a [*PublishError], the same for all
// events: [ErrNotSent] says that the transaction was aborted, and [ErrOutcomeUnknown] that its commit was asked for and not answered. It
// needs [Config.Instance] and Kafka 4.0 (transaction.version 2, KIP-890); what is missing, or forbidden, is named within 5 s. It is safe for concurrent use.
func (b *Bus) Transact(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	if inTx(ctx) {
		return fmt.Errorf("eventbus: Transact: %w", errThroughTx)
	}
	if b.cfg.Instance == "" {
		return fmt.Errorf("eventbus: Transact: Config.Instance: is empty: %w", errNoInstance)
	}
	tx := &Tx{bus: b}
	succeeded := false
	defer func() {
		if !succeeded {
			tx.drop(errTxFailed)
		}
	}()
	if err := fn(context.WithValue(ctx, txKey{}, tx), tx); err != nil {
		return err
	}
	succeeded = true
	flights := tx.end()
	if len(flights) == 0 {
		return nil
	}
	result := b.transactions.run(ctx, flights)
	for _, f := range flights {
		b.finish(f, result)
	}
	if result == nil {
		return nil
	}
	return errorOfAll(len(flights), result)
}

// transactions are those of Transact, one after the other, by a client of their own.
type transactions struct {
	bus    *Bus
	turn   turn // held while there is one, which may be longer than its caller waits
	client *kgo.Client
	ctx    context.Context // of what outlasts a caller
	end    context.CancelFunc
}

// transactID is what stands in a transactional id where one of a subscription has its group.
const transactID = "tx-1"

func newTransactions(b *Bus) *transactions {
	x := &transactions{bus: b, turn: make(turn, 1)}
	x.ctx, x.end = context.WithCancel(context.Background())
	return x
}

// A transaction is undecided until its commit is asked for, or its caller has been told that it is aborted.
const (
	undecided int32 = iota
	toBeCommitted
	toBeAborted
)

// run has the result of a transaction at the end of ctx at the latest.
func (x *transactions) run(ctx context.Context, flights []*flight) error {
	ctx, cancel := context.WithTimeoutCause(ctx, x.bus.cfg.PublishTimeout, errTimeout)
	if !x.turn.within(ctx) {
		cancel()
		return fmt.Errorf("%w: another transaction is under way: %w", ErrNotSent, x.bus.withCause(context.Cause(ctx)))
	}
	stop := context.AfterFunc(x.ctx, cancel)
	var decision atomic.Int32
	answer := make(chan error, 1)
	go func() {
		defer cancel()
		defer stop()
		defer x.turn.Unlock()
		answer <- x.transact(ctx, flights, &decision)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer: // it came first
		return err
	default:
	}
	if decision.CompareAndSwap(undecided, toBeAborted) {
		return fmt.Errorf("%w: %w", ErrNotSent, x.bus.withCause(context.Cause(ctx)))
	}
	return x.bus.unknown(context.Cause(ctx))
}

// transact returns when the client is done with a transaction.
func (x *transactions) transact(ctx context.Context, flights []*flight, decision *atomic.Int32) error {
	if x.bus.closed.Load() {
		return fmt.Errorf("%w: %w", ErrNotSent, ErrClosed)
	}
	if err := x.begin(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, x.bus.withCause(err))
	}
	err := x.write(ctx, flights)
	if err == nil && !decision.CompareAndSwap(undecided, toBeCommitted) {
		err = context.Cause(ctx)
	}
	if err != nil {
		x.abort(err)
		return fmt.Errorf("%w: %w: %w", ErrNotSent, errTxAborted, x.bus.withCause(err))
	}
	switch err := x.client.EndTransaction(x.ctx, kgo.TryCommit); {
	case err == nil:
		return nil
	case errors.Is(err, kerr.OperationNotAttempted), errors.Is(err, kerr.TransactionAbortable):
		x.abort(err)
		return fmt.Errorf("%w: %w: %w", ErrNotSent, errTxAborted, err)
	default:
		x.forget()
		return x.bus.unknown(err)
	}
}

// begin begins a transaction, by another client where the last one cannot.
func (x *transactions) begin(ctx context.Context) error {
	id := x.bus.transactionalID(transactID)
	if x.client != nil {
		if x.client.BeginTransaction() == nil {
			_, _, err := x.client.ProducerID(ctx) // it has none after an epoch was given up
			return err
		}
		x.forget() // it is fenced, for good
	}
	client, err := kgo.NewClient(append(x.bus.producerOptions(), kgo.TransactionalID(id), kgo.TransactionTimeout(transactionTimeout))...)
	if err != nil {
		return err
	}
	if err := beginnable(ctx, client, id); err != nil {
		client.Close()
		return err
	}
	x.client = client
	return client.BeginTransaction()
}

// write returns when all is acknowledged, or one is refused, or ctx ends.
func (x *transactions) write(ctx context.Context, flights []*flight) error {
	var (
		mu     sync.Mutex
		failed error
		left   = len(flights)
		done   = make(chan struct{})
	)
	for _, f := range flights {
		x.client.Produce(x.ctx, &f.record, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = fmt.Errorf("topic %s: %w", f.topic, err)
			}
			if left--; left == 0 {
				close(done)
			}
		})
	}
	for {
		select {
		case <-done:
			return failed
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(patience): // the client keeps to itself what it waits for
			for _, err := range x.bus.refusals(ctx, flights) {
				return err
			}
		}
	}
}

// abort leaves a client that can begin the next transaction, or none: one sticks to what a topic was that was made again.
func (x *transactions) abort(why error) {
	if x.client.AbortBufferedRecords(x.ctx) != nil || x.client.EndTransaction(x.ctx, kgo.TryAbort) != nil || errors.Is(why, kerr.UnknownTopicID) {
		x.forget()
	}
}

// forget closes the client. What it has left open is aborted when the next one begins, or by its coordinator after transactionTimeout.
func (x *transactions) forget() {
	x.client.Close()
	x.client = nil
}

// close waits for a transaction under way, until ctx ends, and closes the client.
func (x *transactions) close(ctx context.Context) error {
	waited := x.turn.within(ctx)
	x.end()
	if !waited {
		x.turn.Lock()
	}
	if x.client != nil {
		x.forget()
	}
	x.turn.Unlock()
	if !waited {
		return fmt.Errorf("eventbus: shutdown: a transaction was not ended: %w", context.Cause(ctx))
	}
	return nil
}
