package bustest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
)

// signUp is the code under test.
func signUp(bus *eventbus.Bus, email string) error {
	return bus.Publish(context.Background(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: email}))
}

// In a test, t is its *testing.T; Examples have none.
func ExampleRequirePublished() {
	test := func(t testing.TB) {
		bus := bustest.New(t)
		if err := signUp(bus.Bus, "ada@example.com"); err != nil {
			t.Fatalf("sign up: %v", err)
		}
		e := bustest.RequirePublished(t, bus, eventbus.UserCreated, nil)
		fmt.Println(e.Source, "published", e.Payload.Email)
	}
	fmt.Printf("failures: %q\n", inTest(test))
	// Output:
	// test published ada@example.com
	// failures: ""
}

// Start runs a service's subscriptions until the test ends, or what it returns is called.
func ExampleBus_Start() {
	test := func(t testing.TB) {
		bus := bustest.New(t)
		greet := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			return bus.Publish(ctx, eventbus.UserPreferencesUpdated.New(eventbus.UserPreferencesUpdatedPayload{UserID: e.Payload.UserID}))
		}
		bus.Start(eventbus.Subscription{Group: "greeter", Routes: []eventbus.Route{eventbus.UserCreated.Handle(greet, nil)}})

		if err := signUp(bus.Bus, "ada@example.com"); err != nil {
			t.Fatalf("sign up: %v", err)
		}
		e := bustest.RequirePublished(t, bus, eventbus.UserPreferencesUpdated, nil)
		fmt.Println("preferences of", e.Payload.UserID)
	}
	fmt.Printf("failures: %q\n", inTest(test))
	// Output:
	// preferences of u-1
	// failures: ""
}

// Fault has the broker misbehave: here the code under test has to live with lost answers, and an event must not be doubled by that.
func ExampleBus_Fault() {
	test := func(t testing.TB) {
		bus := bustest.New(t)
		faults := bus.Fault(
			bustest.Fault{Request: bustest.Produce, Topic: eventbus.TopicUserCreated, Times: 2, Do: bustest.Fail(kerr.NotEnoughReplicas)},
			bustest.Fault{Request: bustest.Produce, Times: 1, Do: bustest.CutAnswer()},
		)
		if err := signUp(bus.Bus, "ada@example.com"); err != nil {
			t.Fatalf("sign up: %v", err)
		}
		fmt.Println("requests met:", faults.Hits())
		fmt.Println("events:", len(bustest.Published(t, bus, eventbus.UserCreated)))
	}
	fmt.Printf("failures: %q\n", inTest(test))
	// Output:
	// requests met: 3
	// events: 1
	// failures: ""
}
