package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dreamscape/eventbus"
)

// A route may be tried again in its own way. Classify judges errors that come from elsewhere.
func ExampleRetryPolicy() {
	ctx, stop := context.WithCancel(context.Background())
	told := eventbus.Hooks{Handled: func(i eventbus.HandledInfo) {
		fmt.Println("tries:", i.Attempts, "class:", i.DeadLetter)
		stop()
	}}
	bus, end := exampleBus(eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{told}})
	defer end()
	created(bus, 1)

	policy := eventbus.RetryPolicy{
		Attempts: 8, Initial: time.Second, Budget: 10 * time.Minute,
		Classify: func(err error) eventbus.Class {
			if errors.Is(err, os.ErrPermission) {
				return eventbus.ClassPermanent // no further try will mend it
			}
			return "" // as usual
		},
	}
	open := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return fmt.Errorf("opening the session's file: %w", os.ErrPermission)
	}
	route := eventbus.UserCreated.Handle(open, &eventbus.HandleOptions{Retry: &policy})
	sub := eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{route}}
	if err := bus.EnsureTopics(ctx, sub.Topics()...); err != nil {
		fmt.Println(err)
	}
	_ = bus.Run(ctx, sub)
	// Output:
	// tries: 1 class: permanent
}

// A key whose event fails is parked: its later events wait, those of other keys go on. Hooks, Health and Metrics show it.
func ExampleParkedKey() {
	ctx, stop := context.WithCancel(context.Background())
	parked := make(chan struct{})
	told := eventbus.Hooks{Parked: func(k eventbus.ParkedKey) {
		fmt.Println("parked after", k.Attempts, "try:", k.Class, k.KeyHash == eventbus.KeyHash([]byte("u-1")))
		close(parked)
	}}
	bus, end := exampleBus(eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{told}})
	defer end()
	created(bus, 2)

	open := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		if e.Payload.UserID == "u-1" {
			return eventbus.RetryAfter(errors.New("503 Service Unavailable"), time.Hour)
		}
		<-parked
		fmt.Println("handled:", e.Payload.UserID)
		fmt.Println("parked keys:", bus.Metrics().ParkedKeys)
		stop()
		return nil
	}
	_ = bus.Run(ctx, eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}})
	// Output:
	// parked after 1 try: transient true
	// handled: u-2
	// parked keys: 1
}

// While a database is being moved, a group begins nothing new. It keeps its partitions and what it has fetched.
func ExampleBus_Pause() {
	bus, end := exampleBus(eventbus.Config{Service: "auth-service"})
	defer end()
	handled := make(chan string)
	open := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		handled <- e.Payload.UserID
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- bus.Run(ctx, eventbus.Subscription{Group: "auth", Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)}})
	}()
	created(bus, 1)
	fmt.Println("handled:", <-handled)

	fmt.Println(bus.Pause("auth"))
	fmt.Println("paused:", bus.Health(ctx).Groups[0].Paused)
	created(bus, 1)
	select {
	case id := <-handled:
		fmt.Println("handled while paused:", id)
	case <-time.After(50 * time.Millisecond):
	}
	fmt.Println(bus.Resume("auth"))
	fmt.Println("handled:", <-handled)
	stop()
	fmt.Println(<-ended)
	// Output:
	// handled: u-1
	// <nil>
	// paused: by Pause
	// <nil>
	// handled: u-1
	// <nil>
}

// A static member keeps its partitions while its process restarts. One that is not coming back gives them up.
func ExampleBus_ScaleDown() {
	bus, end := exampleBus(eventbus.Config{Service: "auth-service"})
	defer end()
	created(bus, 1)
	ctx, stop := context.WithCancel(context.Background())
	open := func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		stop() // SIGTERM
		return nil
	}
	err := bus.Run(ctx, eventbus.Subscription{
		Group: "auth", InstanceID: "auth-2", // the pod's name in a StatefulSet
		Routes: []eventbus.Route{eventbus.UserCreated.Handle(open, nil)},
	})
	scaledDown := true // this pod is one too many
	if scaledDown {
		fmt.Println(err, bus.ScaleDown(context.Background()))
		return
	}
	fmt.Println(err, bus.Shutdown(context.Background()))
	// Output: <nil> <nil>
}
