package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// deadLettered returns a bus whose group auth has given up n users.
func deadLettered(n int) (bus *eventbus.Bus, end func()) {
	ctx, stop := context.WithCancel(context.Background())
	var gone atomic.Int64
	told := eventbus.Hooks{Handled: func(eventbus.HandledInfo) {
		if gone.Add(1) == int64(n) {
			stop()
		}
	}}
	bus, end = exampleBus(eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{told}})
	open := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("no tenant for " + e.Payload.UserID))
	}
	sub := eventbus.Subscription{Group: "auth", Concurrency: 1, Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}}
	if err := bus.EnsureTopics(ctx, sub.Topics()...); err != nil {
		panic(err)
	}
	created(bus, n)
	if err := bus.Run(ctx, sub); err != nil {
		panic(err)
	}
	return bus, end
}

// What a group gave up is looked at by kind.
func ExampleBus_DeadLetters() {
	bus, end := deadLettered(3)
	defer end()
	look := func(ctx context.Context) error {
		letters, err := bus.DeadLetters(eventbus.UserCreated, "auth")
		if err != nil {
			return err
		}
		kinds, err := letters.Groups(ctx, eventbus.LetterFilter{}) // the most frequent first
		if err != nil {
			return err
		}
		for _, k := range kinds {
			fmt.Println(k.Count, "times", k.Fingerprint, k.Sample.Class)
			for l, err := range letters.List(ctx, eventbus.LetterFilter{Fingerprint: k.Fingerprint}) {
				if err != nil {
					return err
				}
				fmt.Println("  key", eventbus.KeyHash(l.Record.Key), "after", l.Attempts, "try:", l.Error)
			}
		}
		return nil
	}
	fmt.Println(look(context.Background()))
	// Output:
	// 3 times 8d3226beb4134fe7 permanent
	//   key ff341102 after 1 try: no tenant for u-1
	//   key fe340f6f after 1 try: no tenant for u-2
	//   key fd340ddc after 1 try: no tenant for u-3
	// <nil>
}

// Once the handler is mended, the letters go back to the group, and to no other.
func ExampleDeadLetters_Redrive() {
	bus, end := deadLettered(2)
	defer end()
	letters, err := bus.DeadLetters(eventbus.UserCreated, "auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	opts := eventbus.RedriveOptions{Filter: eventbus.LetterFilter{Class: eventbus.ClassPermanent}}
	report, err := letters.Redrive(ctx, opts) // a dry run: it sends nothing
	fmt.Println("would send:", report.Sent, err)
	opts.Send = true
	report, err = letters.Redrive(ctx, opts) // 100 a second; where it is interrupted, the same call goes on
	fmt.Println("sent:", report.Sent, err)

	var handled atomic.Int64
	open := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		fmt.Println("handled:", e.EventType, "of", d.Topic, "redrives:", d.Redrives)
		if handled.Add(1) == 2 {
			stop()
		}
		return nil
	}
	sub := eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}}
	fmt.Println(bus.Run(ctx, sub))
	// Output:
	// would send: 2 <nil>
	// sent: 2 <nil>
	// handled: user.created of dreamscape.user.created redrives: 1
	// handled: user.created of dreamscape.user.created redrives: 1
	// <nil>
}

// What was handled wrongly is handled once more.
func ExampleBus_Replay() {
	bus, end := deadLettered(2)
	defer end()
	ctx := context.Background()
	opts := eventbus.ReplayOptions{Since: time.Now().Add(-time.Hour)}
	report, err := bus.Replay(ctx, eventbus.UserCreated, "auth", opts) // a dry run: it sends nothing
	fmt.Println("would send:", report.Sent, err)
	opts.Send = true
	report, err = bus.Replay(ctx, eventbus.UserCreated, "auth", opts) // 100 a second; each call sends anew
	fmt.Println("sent:", report.Sent, err)
	// Output:
	// would send: 2 <nil>
	// sent: 2 <nil>
}

// Redriven or not, letters stay until retention or a purge takes them.
func ExampleDeadLetters_Purge() {
	bus, end := deadLettered(3)
	defer end()
	letters, err := bus.DeadLetters(eventbus.UserCreated, "auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	opts := eventbus.PurgeOptions{Before: time.Now()}
	report, err := letters.Purge(context.Background(), opts) // a dry run: it deletes nothing
	fmt.Println("would delete:", report.Letters, err)
	opts.Delete = true
	report, err = letters.Purge(context.Background(), opts)
	fmt.Println("deleted:", report.Letters, err)
	left := 0
	for _, err := range letters.List(context.Background(), eventbus.LetterFilter{}) {
		if err == nil {
			left++
		}
	}
	fmt.Println("left:", left)
	// Output:
	// would delete: 3 <nil>
	// deleted: 3 <nil>
	// left: 0
}

// givenUp writes the dead letter of a TypeScript service: the event as it was, and how often it was sent to its topic again.
func givenUp(broker *embedded.Broker, bus *eventbus.Bus, topic string) error {
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := bus.EnsureTopics(ctx, eventbus.NewTopic[eventbus.UserCreatedPayload](topic, nil)); err != nil {
		return err
	}
	event, err := bus.Encode(ctx, eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"}))
	if err != nil {
		return err
	}
	again := []kgo.RecordHeader{{Key: "retryCount", Value: []byte("3")}}
	return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: event.Key, Value: event.Value, Headers: again}).FirstErr()
}

// A TypeScript service's dead letters go to the Go service that takes over from it.
func ExampleBus_DeadLettersIn() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	bus, end := busOn(broker, eventbus.Config{Service: "auth-service"})
	defer end()
	move := func(ctx context.Context, name string, auth eventbus.Subscription) error {
		if err := errors.Join(givenUp(broker, bus, name), bus.EnsureTopics(ctx, auth.Topics()...)); err != nil {
			return err
		}
		letters, err := bus.DeadLettersIn(name, eventbus.UserCreated, auth.Group)
		if err != nil {
			return err
		}
		for l, err := range letters.List(ctx, eventbus.LetterFilter{}) {
			if err != nil {
				return err
			}
			fmt.Println(l.Family, "gave up an event of", l.Topic, "after", l.Attempts, "tries")
		}
		report, err := letters.Redrive(ctx, eventbus.RedriveOptions{Send: true})
		fmt.Println("sent:", report.Sent)
		return err
	}
	open := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }
	auth := eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}}
	fmt.Println(move(context.Background(), "dreamscape.user.created.dlq", auth))
	// Output:
	// kafkajs gave up an event of dreamscape.user.created after 4 tries
	// sent: 1
	// <nil>
}
