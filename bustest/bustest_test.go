package bustest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/embedded"
)

const canary = "CANARY-4711"

func user(id string) *eventbus.BaseEvent[eventbus.UserCreatedPayload] {
	return eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: id, Email: "ada@example.com", FirstName: canary})
}

func publish(t testing.TB, bus *bustest.Bus, events ...eventbus.AnyEvent) {
	t.Helper()
	require.NoError(t, bus.Publish(context.Background(), events...))
}

// handling is a subscription of group to user.created.
func handling(group string, h eventbus.Handler[eventbus.UserCreatedPayload]) eventbus.Subscription {
	return eventbus.Subscription{Group: group, Routes: []eventbus.Route{eventbus.UserCreated.Handle(h, nil)}}
}

func TestRequirePublishedReturnsTheFirstMatch(t *testing.T) {
	bus := bustest.New(t)
	first, second := user("u-1"), user("u-2")
	publish(t, bus, first, second)

	is := func(id string) func(*eventbus.BaseEvent[eventbus.UserCreatedPayload]) bool {
		return func(e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) bool { return e.Payload.UserID == id }
	}
	require.Equal(t, second.EventID, bustest.RequirePublished(t, bus, eventbus.UserCreated, is("u-2")).EventID)
	require.Equal(t, first.EventID, bustest.RequirePublished(t, bus, eventbus.UserCreated, is("u-1")).EventID, "what was read before is looked at again")
	require.NotNil(t, bustest.RequirePublished(t, bus, eventbus.UserCreated, nil))
}

func TestRequirePublishedWaits(t *testing.T) {
	bus := bustest.New(t)
	time.AfterFunc(100*time.Millisecond, func() { _ = bus.Publish(context.Background(), user("u-1")) })
	require.Equal(t, "u-1", bustest.RequirePublished(t, bus, eventbus.UserCreated, nil).Payload.UserID)
}

func TestRequirePublishedFailsWithoutShowingAPayload(t *testing.T) {
	const timeout = time.Second // of real time, so that it has read everything
	published := user("u-1")
	var began time.Time
	failure := inTest(func(t testing.TB) {
		bus := bustest.NewWith(t, bustest.Options{Timeout: timeout})
		if err := bus.Publish(context.Background(), published); err != nil {
			t.Fatalf("publish: %v", err)
		}
		began = time.Now()
		bustest.RequirePublished(t, bus, eventbus.UserCreated, func(e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) bool {
			return e.Payload.UserID == "u-2"
		})
		t.Errorf("RequirePublished came back")
	})
	require.Contains(t, failure, "no matching event on dreamscape.user.created within 1s")
	require.Contains(t, failure, published.EventID, "what was published instead")
	require.Contains(t, failure, "from test", "and by whom")
	require.NotContains(t, failure, canary)
	require.NotContains(t, failure, "ada@example.com")
	require.NotContains(t, failure, "came back")
	require.GreaterOrEqual(t, time.Since(began), timeout)
}

func TestPublishedReturnsEverything(t *testing.T) {
	bus := bustest.New(t)
	require.Empty(t, bustest.Published(t, bus, eventbus.UserCreated))
	for i := range 20 {
		publish(t, bus, user(fmt.Sprint("u-", i%3)))
	}
	events := bustest.Published(t, bus, eventbus.UserCreated)
	require.Len(t, events, 20)
	last := map[string]time.Time{}
	for _, e := range events {
		require.False(t, e.Timestamp.Before(last[e.Payload.UserID]), "each key in its order")
		last[e.Payload.UserID] = e.Timestamp
	}
	require.Len(t, last, 3)
}

func TestStartHandlesAndStopDrains(t *testing.T) {
	bus := bustest.New(t)
	var handled atomic.Int32
	began, finish := make(chan struct{}), make(chan struct{})
	stop := bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		if handled.Add(1) == 1 {
			close(began)
			<-finish
		}
		return nil
	}))
	require.Equal(t, "healthy", bus.Health(context.Background()).Status, "Start returns when all is ready")
	publish(t, bus, user("u-1"))
	<-began
	time.AfterFunc(50*time.Millisecond, func() { close(finish) })
	stop()
	require.EqualValues(t, 1, bus.Metrics().MessagesConsumed, "stop waits for the running handler")
	stop() // again is harmless

	publish(t, bus, user("u-2"))
	bus.Start(handling("group", func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		require.Equal(t, "u-2", e.Payload.UserID, "what was done is committed")
		handled.Add(1)
		return nil
	}))
	require.Eventually(t, func() bool { return handled.Load() == 2 }, bustest.Timeout, 5*time.Millisecond)
}

func TestStartMakesTheDeadLetterTopic(t *testing.T) {
	bus := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Logger: slog.New(slog.DiscardHandler)}})
	bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("no"))
	}))
	publish(t, bus, user("u-1"))
	require.Eventually(t, func() bool { return bus.Metrics().DeadLettered == 1 }, bustest.Timeout, 5*time.Millisecond)
}

func TestABadSubscriptionFailsTheTest(t *testing.T) {
	require.Contains(t, inTest(func(t testing.TB) {
		bus := bustest.New(t)
		bus.Start(eventbus.Subscription{Group: "group", Routes: []eventbus.Route{{}}})
	}), `eventbus: Subscription "group": Routes[0]: make it with Topic.Handle`)
}

func TestABadConfigFailsTheTest(t *testing.T) {
	require.Contains(t, inTest(func(t testing.TB) {
		bustest.NewWith(t, bustest.Options{Config: eventbus.Config{PublishTimeout: -1}})
	}), "Config.PublishTimeout")
}

func TestAHandlerThatOutlastsTheDrainFailsTheTest(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	require.Contains(t, inTest(func(t testing.TB) {
		bus := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Logger: slog.New(slog.DiscardHandler)}})
		began := make(chan struct{})
		sub := handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			close(began)
			<-release
			return nil
		})
		sub.DrainTimeout = 10 * time.Millisecond
		stop := bus.Start(sub)
		if err := bus.Publish(context.Background(), user("u-1")); err != nil {
			t.Fatalf("publish: %v", err)
		}
		<-began
		stop()
	}), "did not end within DrainTimeout")
}

func TestBusesShareABroker(t *testing.T) {
	one := bustest.New(t)
	two := bustest.NewWith(t, bustest.Options{Broker: one.Broker, Config: eventbus.Config{Service: "other"}})
	publish(t, one, user("u-1"))
	require.Equal(t, "test", bustest.RequirePublished(t, two, eventbus.UserCreated, nil).Source)
	publish(t, two, user("u-2"))
	require.Len(t, bustest.Published(t, one, eventbus.UserCreated), 2)
}

func TestTopicsOfAnotherCatalogueAndAPrefix(t *testing.T) {
	type order struct {
		ID string `json:"id"`
	}
	placed := eventbus.NewTopic("acme.order.placed", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
	bus := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{TopicPrefix: "staging."}, Topics: []eventbus.AnyTopic{placed}})
	publish(t, bus, placed.New(order{ID: "o-1"}), user("u-1"))
	require.Equal(t, "o-1", bustest.RequirePublished(t, bus, placed, nil).Payload.ID)
	require.NotNil(t, bus.Broker.Cluster().TopicInfo("staging.acme.order.placed"))
	var users int64
	for _, p := range bus.Broker.Cluster().PartitionInfos("staging." + eventbus.TopicUserCreated) {
		users += p.HighWatermark
	}
	require.EqualValues(t, 1, users, "DreamScape's topics have the prefix too")
}

// A broker that a test shares is the test's to close: a bus on it ends without it.
func TestASharedBrokerOutlivesTheBus(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{})
	require.NoError(t, err)
	defer broker.Close()
	require.Empty(t, inTest(func(t testing.TB) {
		bus := bustest.NewWith(t, bustest.Options{Broker: broker})
		if err := bus.Publish(context.Background(), user("u-1")); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}))
	bus := bustest.NewWith(t, bustest.Options{Broker: broker})
	require.Equal(t, "u-1", bustest.RequirePublished(t, bus, eventbus.UserCreated, nil).Payload.UserID)
}

// In production an event that alone fails is held for minutes: what its handler calls may be down. A test does not wait for that.
func TestALoneFailingEventIsDeadLettered(t *testing.T) {
	for name, policy := range map[string]*eventbus.RetryPolicy{"by the bus's policy": nil, "by the route's": {Attempts: 2, Initial: time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			bus := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{
				Logger: slog.New(slog.DiscardHandler), Retry: eventbus.RetryPolicy{Initial: time.Millisecond},
			}})
			sub := handling("g", nil)
			sub.Routes[0] = eventbus.UserCreated.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
				return errors.New("no")
			}, &eventbus.HandleOptions{Retry: policy})
			bus.Start(sub)
			publish(t, bus, user("u-1"))
			require.Eventually(t, func() bool { return bus.Metrics().DeadLettered == 1 }, bustest.Timeout, time.Millisecond)
		})
	}
}
