package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/dreamscape/eventbus"
)

// eventbus as it comes: nothing is set but how many handlers run where they take a while.

const topicName = eventbus.TopicPaymentInitiated

func newBus(t task) (*eventbus.Bus, error) {
	return eventbus.New(eventbus.Config{
		Service: service, Brokers: t.Brokers, TopicPrefix: t.Prefix, Logger: slog.New(slog.DiscardHandler), Client: t.Settings.options(),
		NewTopics: eventbus.TopicDefaults{Partitions: partitions}, Retry: eventbus.RetryPolicy{Jitter: -1}, MaxBufferedEvents: t.Settings.Buffered,
	})
}

func shutdown(bus *eventbus.Bus) {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	_ = bus.Shutdown(ctx) // it has been measured
}

func eventbusPublishes(t task) (publisher, error) {
	bus, err := newBus(t)
	if err != nil {
		return publisher{}, err
	}
	ctx := context.Background()
	return publisher{
		await: func(p payment) error { return bus.Publish(ctx, eventbus.PaymentInitiated.New(p)) },
		send:  func(p payment, done func(error)) { bus.PublishAsync(ctx, eventbus.PaymentInitiated.New(p), done) },
		close: func() { shutdown(bus) },
	}, nil
}

func eventbusConsumes(ctx context.Context, t task, h *handler) error {
	bus, err := newBus(t)
	if err != nil {
		return err
	}
	defer shutdown(bus)
	sub := eventbus.Subscription{
		Group: t.Group, Concurrency: t.Settings.Concurrency, MaxInFlight: t.Settings.InFlight,
		Routes: []eventbus.Route{eventbus.PaymentInitiated.Handle(func(_ context.Context, e *eventbus.BaseEvent[payment]) error { return h.handle(e.Payload) }, nil)},
	}
	if h.work > 0 && sub.Concurrency == 0 {
		sub.Concurrency = keys
	}
	topics := sub.Topics()
	if t.Pretends {
		topics = topics[:2] // not the retry topic: it would have events as well
	}
	if err := bus.EnsureTopics(ctx, topics...); err != nil {
		return err
	}
	return bus.Run(ctx, sub)
}

// decodeEvent is what eventbus does with a record before its handler: it decodes strictly, and validates.
func decodeEvent(value []byte) (payment, error) {
	e, err := eventbus.PaymentInitiated.Decode(value)
	if err != nil {
		return payment{}, err
	}
	return e.Payload, nil
}

// tries of a failing event, and the waits between them, as eventbus's default.
var waits = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}
