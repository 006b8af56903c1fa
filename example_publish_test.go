package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// exampleBus returns a bus on a broker of its own, and what ends both. What a service logs is left out.
func exampleBus(cfg eventbus.Config) (bus *eventbus.Bus, end func()) {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		panic(err)
	}
	return busOn(broker, cfg)
}

func busOn(broker *embedded.Broker, cfg eventbus.Config) (bus *eventbus.Bus, end func()) {
	cfg.Brokers, cfg.Logger = broker.Brokers(), slog.New(slog.DiscardHandler)
	bus, err := eventbus.New(cfg)
	if err != nil {
		panic(err)
	}
	return bus, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bus.Shutdown(ctx); err != nil {
			panic(err)
		}
		broker.Close()
	}
}

// New checks the configuration and names the fields that are wrong. It does not wait for a broker.
func ExampleNew() {
	_, err := eventbus.New(eventbus.Config{Service: "user service", Brokers: []string{"kafka"}})
	fmt.Println(err)

	bus, err := eventbus.New(eventbus.Config{Service: "user-service"}) // connects in the background
	fmt.Println(err)
	fmt.Println(bus.Shutdown(context.Background()))
	// Output:
	// eventbus: Config.Service: "user service" is not a service's name: 1 to 249 of a-z A-Z 0-9 . _ -
	// eventbus: Config.Brokers: "kafka" is not host:port
	// <nil>
	// <nil>
}

// An event is made once, by its topic, and published as often as need be: its id and its time stay.
func ExampleBus_Publish() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()

	e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"})
	err := bus.Publish(context.Background(), e)
	fmt.Println(err, bus.Metrics().MessagesPublished)
	// Output: <nil> 1
}

// A batch may mix topics. All of it is checked before any of it is sent.
func ExampleBus_Publish_batch() {
	bus, end := exampleBus(eventbus.Config{Service: "voyage-service"})
	defer end()

	cancelled := eventbus.VoyageBookingCancelled.New(eventbus.VoyageBookingCancelledPayload{BookingID: "b-1", Reason: "sold out"})
	changed := eventbus.VoyageBookingUpdated.New(eventbus.VoyageBookingUpdatedPayload{BookingID: "b-2", Changes: map[string]any{"seat": "12A"}})
	fmt.Println(bus.Publish(context.Background(), cancelled, changed))

	changed.Payload.BookingID = ""
	fmt.Println(bus.Publish(context.Background(), cancelled, changed))
	fmt.Println(bus.Metrics().MessagesPublished)
	// Output:
	// <nil>
	// eventbus: publish: 2 of 2 events failed; [0] not sent: another event of the batch is invalid; [1] not sent: topic dreamscape.voyage.booking.updated: invalid event: key: the payload's key field must not be empty
	// 2
}

// done gets the result of each event. Without a done, failures are logged.
func ExampleBus_PublishAsync() {
	bus, end := exampleBus(eventbus.Config{Service: "voyage-service"})
	defer end()

	var acknowledged sync.WaitGroup
	for i := range 3 {
		acknowledged.Add(1)
		e := eventbus.VoyageSearchPerformed.New(eventbus.VoyageSearchPerformedPayload{UserID: "u-1", ResultCount: i})
		bus.PublishAsync(context.Background(), e, func(err error) {
			fmt.Println("found", i, err)
			acknowledged.Done()
		})
	}
	acknowledged.Wait()
	// Output:
	// found 0 <nil>
	// found 1 <nil>
	// found 2 <nil>
}

// Each event of a batch has its own result. Publish those again that were certainly not written.
func ExamplePublishError() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the caller has gone
	events := []eventbus.AnyEvent{
		eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"}),
		eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-2", Email: "grace@example.com"}),
	}

	var again, unknown []eventbus.AnyEvent
	err := bus.Publish(ctx, events...)
	if failed, ok := errors.AsType[*eventbus.PublishError](err); ok {
		for i, err := range failed.Errors {
			switch {
			case err == nil: // acknowledged
			case errors.Is(err, eventbus.ErrNotSent): // certainly not written: mend the cause, publish it again
				again = append(again, events[i])
			case errors.Is(err, eventbus.ErrOutcomeUnknown): // perhaps written; once more is perhaps twice, under one id
				unknown = append(unknown, events[i])
			}
		}
	}

	fmt.Println(len(again), len(unknown), errors.Is(err, context.Canceled))
	fmt.Println(bus.Publish(context.Background(), again...))
	// Output:
	// 2 0 true
	// <nil>
}

// What breaks its schema is not sent. The error names fields and rules, never a value.
func ExampleSchemaError() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()

	err := bus.Publish(context.Background(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada"}))
	if broken, ok := errors.AsType[*eventbus.SchemaError](err); ok {
		for _, v := range broken.Violations {
			fmt.Println(v.Field, "must be", v.Rule)
		}
	}
	// Output: payload.email must be format "email"
}

// For a table of outgoing events: write the record with the data that it belongs to, and send it later.
func ExampleBus_Encode() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()

	e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"})
	record, err := bus.Encode(context.Background(), e)
	fmt.Println(record.Topic, string(record.Key), err)

	read, err := eventbus.UserCreated.Decode(record.Value)
	fmt.Println(read.EventID == e.EventID, read.Source, read.Payload.Email, err)
	// Output:
	// dreamscape.user.created u-1 <nil>
	// true user-service ada@example.com <nil>
}

// A request's id goes with every event that the request causes. A handler that passes its ctx on passes the id on.
func ExampleWithCorrelationID() {
	bus, end := exampleBus(eventbus.Config{Service: "payment-service"})
	defer end()
	ctx, stop := context.WithCancel(context.Background())

	pay := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]) error {
		return bus.Publish(ctx, eventbus.PaymentFailed.New(eventbus.PaymentFailedPayload{TransactionID: "t-1", ErrorCode: "card_declined"}))
	}
	cancel := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.PaymentFailedPayload]) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		fmt.Println(e.CorrelationID, d.CausationID() != "", d.Topic, d.Attempt)
		stop()
		return nil
	}
	sub := eventbus.Subscription{Group: "payments", Routes: []eventbus.Route{
		eventbus.VoyageBookingCreated.Handle(pay, nil), eventbus.PaymentFailed.Handle(cancel, nil),
	}}

	request := eventbus.WithCorrelationID(ctx, "request-7")
	booking := eventbus.VoyageBookingCreatedPayload{BookingID: "b-1", UserID: "u-1", FlightID: "FL-PAR-1", HotelID: "HO-PAR-1"}
	fmt.Println(bus.Publish(request, eventbus.VoyageBookingCreated.New(booking)))
	fmt.Println(bus.Run(ctx, sub))
	// Output:
	// <nil>
	// request-7 true dreamscape.payment.failed 1
	// <nil>
}
