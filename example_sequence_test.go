package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dreamscape/eventbus"
)

// A booking that cannot be handled holds back the later events of its user, and nobody else's. Once the handler is mended, the user's key is released: what
// was parked is handled in order, and then what is new.
func ExampleDeadLetters_Release() {
	var parked, mended, handled atomic.Int64
	told := eventbus.Hooks{Handled: func(i eventbus.HandledInfo) {
		if i.DeadLetter != "" {
			parked.Add(1)
		}
	}}
	bus, end := exampleBus(eventbus.Config{Service: "voyage-service", Instance: "voyage-0", Hooks: []eventbus.Hooks{told}})
	defer end()
	ctx, stop := context.WithCancel(context.Background())
	book := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		if e.Payload.Email == "broken@example.com" && mended.Load() == 0 {
			return eventbus.Permanent(errors.New("no such address"))
		}
		fmt.Println(e.Payload.UserID, e.Payload.Email)
		handled.Add(1)
		return nil
	}
	sub := eventbus.Subscription{
		Group: "voyage", Concurrency: 1,
		Routes: []eventbus.Route{eventbus.UserCreated.Handle(book, &eventbus.HandleOptions{Order: eventbus.OrderSequenced})},
	}
	if err := bus.EnsureTopics(ctx, sub.Topics()...); err != nil {
		panic(err)
	}
	for _, e := range []eventbus.UserCreatedPayload{{UserID: "ada", Email: "broken@example.com"}, {UserID: "ada", Email: "second@example.com"}, {UserID: "bob", Email: "first@example.com"}} {
		if err := bus.Publish(ctx, eventbus.UserCreated.New(e)); err != nil {
			panic(err)
		}
	}
	release := func(ctx context.Context) error {
		letters, err := bus.DeadLetters(eventbus.UserCreated, "voyage")
		if err != nil {
			return err
		}
		keys, err := letters.Sequences(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			fmt.Println("parked:", k.Key, "because of:", k.Error)
			if err := letters.Release(ctx, k.Key, eventbus.ReleaseOptions{}); err != nil {
				return err
			}
		}
		return nil
	}
	go func() {
		defer stop()
		until(func() bool { return parked.Load() == 2 && handled.Load() == 1 })
		mended.Store(1)
		if err := release(ctx); err != nil {
			panic(err)
		}
		until(func() bool { return handled.Load() == 3 })
	}()
	fmt.Println("error:", bus.Run(ctx, sub))
	// Output:
	// bob first@example.com
	// parked: ada because of: no such address
	// ada broken@example.com
	// ada second@example.com
	// error: <nil>
}

func until(condition func() bool) {
	for !condition() {
		time.Sleep(10 * time.Millisecond)
	}
}
