package bustest_test

import (
	"context"
	"fmt"
	"testing"

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
