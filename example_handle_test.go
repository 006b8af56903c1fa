package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// created publishes events of n users, u-1 to u-n.
func created(bus *eventbus.Bus, n int) {
	for i := range n {
		user := eventbus.UserCreatedPayload{UserID: fmt.Sprint("u-", i+1), Email: "ada@example.com"}
		if err := bus.Publish(context.Background(), eventbus.UserCreated.New(user)); err != nil {
			panic(err)
		}
	}
}

// A subscription is a group and its routes, one a topic. A new group begins with the earliest event.
func ExampleTopic_Handle() {
	bus, end := exampleBus(eventbus.Config{Service: "auth-service"})
	defer end()
	created(bus, 1)

	ctx, stop := context.WithCancel(context.Background())
	open := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		fmt.Println(e.EventType, "from", e.Source+":", e.Payload.UserID)
		stop() // ends Run below
		return nil
	}
	revoke := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserDeletedPayload]) error { return nil }

	err := bus.Run(ctx, eventbus.Subscription{
		Group: "dreamscape-auth-service-group",
		Routes: []eventbus.Route{
			eventbus.UserCreated.Handle(open, nil),
			eventbus.UserDeleted.Handle(revoke, &eventbus.HandleOptions{Timeout: 5 * time.Second}),
		},
	})
	fmt.Println("error:", err)
	// Output:
	// user.created from auth-service: u-1
	// error: <nil>
}

// A permanent error is not tried again: the event goes to the dead letters of its topic and group.
func ExamplePermanent() {
	ctx, stop := context.WithCancel(context.Background())
	told := eventbus.Hooks{Handled: func(i eventbus.HandledInfo) {
		fmt.Println(i.Topic, i.Attempts, i.DeadLetter)
		stop()
	}}
	bus, end := exampleBus(eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{told}})
	defer end()
	created(bus, 1)

	refuse := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("the account was closed"))
	}
	sub := eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(refuse, nil)}}
	fmt.Println(bus.EnsureTopics(ctx, sub.Topics()...)) // the dead-letter topic too
	fmt.Println(bus.Run(ctx, sub))
	// Output:
	// <nil>
	// dreamscape.user.created 1 permanent
	// <nil>
}

// A handler that knows when it is worth another try says so.
func ExampleRetryAfter() {
	bus, end := exampleBus(eventbus.Config{Service: "auth-service"})
	defer end()
	created(bus, 1)

	ctx, stop := context.WithCancel(context.Background())
	open := func(ctx context.Context, _ *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		fmt.Println("try", d.Attempt)
		if d.Attempt == 1 {
			return eventbus.RetryAfter(errors.New("429 Too Many Requests"), 20*time.Millisecond)
		}
		stop()
		return nil
	}
	fmt.Println(bus.Run(ctx, eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}}))
	// Output:
	// try 1
	// try 2
	// <nil>
}

// Middleware is a function around every handler, for each try.
func ExampleMiddleware() {
	announce := func(next eventbus.RawHandler) eventbus.RawHandler {
		return func(ctx context.Context, e *eventbus.RawEvent) error {
			fmt.Println("before", e.EventType)
			err := next(ctx, e)
			fmt.Println("after", e.EventType, err)
			return err
		}
	}
	bus, end := exampleBus(eventbus.Config{Service: "auth-service", Middleware: []eventbus.Middleware{announce}})
	defer end()
	created(bus, 1)

	ctx, stop := context.WithCancel(context.Background())
	open := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		fmt.Println("open", e.Payload.UserID)
		stop()
		return nil
	}
	_ = bus.Run(ctx, eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}})
	// Output:
	// before user.created
	// open u-1
	// after user.created <nil>
}

// Hooks tell what happened to each event, for metrics: no payload and no key is in them.
func ExampleHooks() {
	ctx, stop := context.WithCancel(context.Background())
	told := eventbus.Hooks{
		Published: func(i eventbus.PublishedInfo) { fmt.Println("published", i.Topic, i.KeyHash, i.Err) },
		Handled: func(i eventbus.HandledInfo) {
			fmt.Println("handled", i.Topic, "by", i.Group, "tries:", i.Attempts)
			stop()
		},
	}
	bus, end := exampleBus(eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{told}})
	defer end()
	created(bus, 1)

	open := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }
	_ = bus.Run(ctx, eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}})
	// Output:
	// published dreamscape.user.created ff341102 <nil>
	// handled dreamscape.user.created by auth tries: 1
}

// Dead letters are records of an ordinary topic, which any Kafka client reads. ParseDeadLetter says what happened.
func ExampleParseDeadLetter() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	bus, end := busOn(broker, eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{{
		Handled: func(eventbus.HandledInfo) { stop() },
	}}})
	defer end()
	created(bus, 1)
	refuse := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("the account was closed"))
	}
	sub := eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(refuse, nil)}}
	_ = bus.EnsureTopics(ctx, sub.Topics()...)
	_ = bus.Run(ctx, sub)

	reader, err := kgo.NewClient(
		kgo.SeedBrokers(broker.Brokers()...),
		kgo.ConsumeTopics(eventbus.DeadLetterTopic(eventbus.TopicUserCreated, "auth")),
	)
	if err != nil {
		panic(err)
	}
	defer reader.Close()
	for _, record := range reader.PollFetches(context.Background()).Records() {
		letter, err := eventbus.ParseDeadLetter(record)
		fmt.Println(letter.Topic, letter.Group, letter.Class, letter.Attempts, err)
		fmt.Println(letter.Error)
		e, err := eventbus.UserCreated.Decode(record.Value) // the event, byte for byte
		fmt.Println(e.Payload.UserID, err)
	}
	// Output:
	// dreamscape.user.created auth permanent 1 <nil>
	// the account was closed
	// u-1 <nil>
}
