package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// quick start: README has the lines from here
func authService(ctx context.Context) error {
	cfg, err := eventbus.FromEnv("auth-service") // KAFKA_BROKERS, else localhost:9092
	if err != nil {
		return err
	}
	bus, err := eventbus.New(cfg)
	if err != nil {
		return err
	}
	handler := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return openSession(ctx, e.Payload.UserID) // nil: done; an error: again later, then dead-lettered
	}
	sub := eventbus.Subscription{Group: "auth-group", Routes: []eventbus.Route{eventbus.UserCreated.Handle(handler, nil)}}
	if err := bus.EnsureTopics(ctx, sub.Topics()...); err != nil {
		return err
	}
	ada := eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com", FirstName: "Ada", LastName: "Lovelace"}
	if err := bus.Publish(ctx, eventbus.UserCreated.New(ada)); err != nil {
		return err
	}
	err = bus.Run(ctx, sub) // until ctx ends; then it drains
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, bus.Shutdown(ctx))
}

// quick start: to here

// A service that publishes an event and handles it, on a broker in this process.
func Example() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()
	os.Setenv("KAFKA_BROKERS", broker.Brokers()[0])
	defer os.Unsetenv("KAFKA_BROKERS")

	ctx, stop := context.WithCancel(context.Background()) // a service: signal.NotifyContext
	openSession = func(_ context.Context, userID string) error {
		fmt.Println("session opened for", userID)
		stop()
		return nil
	}
	fmt.Println("error:", authService(ctx))
	// Output:
	// session opened for u-1
	// error: <nil>
}

// openSession is what the service does: code that knows nothing of Kafka.
var openSession func(ctx context.Context, userID string) error
