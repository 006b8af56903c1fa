package eventbus_test

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// What a transactional handler publishes, and that it is done with its event, is committed at once: a payment is made once for each booking, whatever
// crashes in between.
func ExampleTopic_HandleTx() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		panic(err)
	}
	bus, end := busOn(broker, eventbus.Config{Service: "payment-service", Instance: "payment-0"})
	defer end()
	ctx, stop := context.WithCancel(context.Background())
	booking := eventbus.VoyageBookingCreatedPayload{BookingID: "b-1", UserID: "u-1", FlightID: "f-1", HotelID: "h-1"}
	if err := bus.Publish(ctx, eventbus.VoyageBookingCreated.New(booking)); err != nil {
		panic(err)
	}
	tries := 0
	pay := func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]) error {
		payment := eventbus.PaymentInitiatedPayload{
			TransactionID: "t-" + e.Payload.BookingID, UserID: e.Payload.UserID, Amount: eventbus.MustDecimal("49.90"), Currency: "EUR",
		}
		if err := tx.Publish(ctx, eventbus.PaymentInitiated.New(payment)); err != nil {
			return err
		}
		if tries++; tries == 1 {
			return fmt.Errorf("try again") // what this try has published is dropped
		}
		return nil
	}
	go func() {
		seen := committed(broker, eventbus.TopicPaymentInitiated, 1)
		fmt.Println("payments:", len(seen), "tries:", tries)
		stop()
	}()
	err = bus.Run(ctx, eventbus.Subscription{
		Group:  "payment-group",
		Routes: []eventbus.Route{eventbus.VoyageBookingCreated.HandleTx(pay, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Initial: time.Millisecond}})},
	})
	fmt.Println("error:", err)
	// Output:
	// payments: 1 tries: 2
	// error: <nil>
}

// Events of several topics are published in a transaction: who reads committed records sees all of them, or none.
func ExampleBus_Transact() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		panic(err)
	}
	bus, end := busOn(broker, eventbus.Config{Service: "user-service", Instance: "user-0"})
	defer end()
	err = bus.Transact(context.Background(), func(ctx context.Context, tx *eventbus.Tx) error {
		created := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"})
		login := eventbus.AuthLogin.New(eventbus.AuthLoginPayload{UserID: "u-1", IPAddress: "192.0.2.1"})
		return tx.Publish(ctx, created, login)
	})
	fmt.Println("error:", err)
	fmt.Println(len(committed(broker, eventbus.TopicUserCreated, 1)), len(committed(broker, eventbus.TopicAuthLogin, 1)))
	// Output:
	// error: <nil>
	// 1 1
}

// committed reads committed records of a topic, until there are n.
func committed(broker *embedded.Broker, topic string, n int) (records []*kgo.Record) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	for len(records) < n {
		records = append(records, client.PollFetches(context.Background()).Records()...)
	}
	return records
}
