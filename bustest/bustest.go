// Package bustest gives a test a bus on a broker of its own, in one line, and says what was published on it:
//
//	bus := bustest.New(t)
//	signUp(bus, "ada@example.com") // the code under test
//	e := bustest.RequirePublished(t, bus, eventbus.UserCreated, nil)
//
// The broker runs inside the test's process and ends with the test, so tests may run in parallel.
package bustest

import (
	"cmp"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// Timeout is how long a wait lasts at most before the test fails, unless [Options.Timeout] says otherwise.
const Timeout = 10 * time.Second

// Options are the properties of a test's bus; the zero value works.
type Options struct {
	// Config of the bus. Service is "test" if empty; Brokers is set, whatever it is. Retry.OutageHold is -1 if zero: a test's only event is
	// dead-lettered as soon as its tries are used up, and not held for 5 minutes because nothing else succeeded.
	Config eventbus.Config
	// Topics that exist beside DreamScape's.
	Topics []eventbus.AnyTopic
	// Broker is one to share. nil: a new one.
	Broker *embedded.Broker
	// Timeout is how long each wait lasts at most before the test fails. Default: [Timeout].
	Timeout time.Duration
}

// Bus is a bus for one test. It is safe for concurrent use, but its methods that can fail the test are for the test's goroutine.
type Bus struct {
	*eventbus.Bus
	Broker   *embedded.Broker
	t        testing.TB
	timeout  time.Duration
	recorder *recorder
}

// New returns a bus on a new broker that has DreamScape's topics. Both end with the test.
func New(t testing.TB) *Bus {
	t.Helper()
	return NewWith(t, Options{})
}

// NewWith is New with options. It fails the test where the bus cannot be made.
func NewWith(t testing.TB, opts Options) *Bus {
	t.Helper()
	if opts.Broker == nil {
		opts.Broker = startBroker(t, opts.Config.TopicPrefix)
	}
	cfg := opts.Config
	cfg.Brokers = opts.Broker.Brokers()
	if cfg.Service == "" {
		cfg.Service = "test"
	}
	if cfg.Retry.OutageHold == 0 {
		cfg.Retry.OutageHold = -1
	}
	bus, err := eventbus.New(cfg)
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	b := &Bus{Bus: bus, Broker: opts.Broker, t: t, timeout: cmp.Or(opts.Timeout, Timeout)}
	t.Cleanup(b.shutdown)
	b.ensure(opts.Topics...)
	b.recorder = newRecorder(t, cfg)
	return b
}

func startBroker(t testing.TB, prefix string) *embedded.Broker {
	t.Helper()
	broker, err := embedded.Start(embedded.Options{TopicPrefix: prefix, Partitions: 2})
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	t.Cleanup(broker.Close)
	return broker
}

func (b *Bus) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		b.t.Errorf("bustest: %v", err)
	}
}

func (b *Bus) ensure(topics ...eventbus.AnyTopic) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	if err := b.EnsureTopics(ctx, topics...); err != nil {
		b.t.Fatalf("bustest: %v", err)
	}
}

// Start runs subscriptions in the background until the test ends, or the returned func is called, which waits for the clean drain.
// It creates their topics and dead-letter topics and returns when they are ready. A Run that fails fails the test.
func (b *Bus) Start(subs ...eventbus.Subscription) (stop func()) {
	b.t.Helper()
	for _, s := range subs {
		b.ensure(s.Topics()...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, subs...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("bustest: Run: %v", err)
		}
	})
	b.t.Cleanup(stop)
	b.waitReady(ended)
	return stop
}

func (b *Bus) waitReady(ended chan error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- b.WaitReady(ctx) }()
	select {
	case err := <-ready:
		if err != nil {
			b.t.Fatalf("bustest: %v", err)
		}
	case err := <-ended:
		ended <- nil // for stop
		b.t.Fatalf("bustest: Run ended: %v", err)
	}
}
