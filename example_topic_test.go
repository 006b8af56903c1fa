package eventbus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/dreamscape/eventbus"
)

// Invoice is a payload of another company's catalogue.
type Invoice struct {
	Number   string           `json:"number"`
	Customer string           `json:"customer"`
	Total    eventbus.Decimal `json:"total"`
}

// InvoiceIssued is a topic of that catalogue: a package variable beside its payload.
var InvoiceIssued = eventbus.NewTopic("acme.invoice.issued", &eventbus.TopicOptions[Invoice]{
	Key: func(i Invoice) string { return i.Customer },
	Schema: []byte(`{
		"type": "object",
		"required": ["number", "customer", "total"],
		"properties": {"number": {"type": "string", "pattern": "^[0-9]+$"}, "total": {"type": "number", "minimum": 0}}
	}`),
})

func ExampleNewTopic() {
	bus, end := exampleBus(eventbus.Config{Service: "billing"})
	defer end()
	ctx := context.Background()

	e := InvoiceIssued.New(Invoice{Number: "4711", Customer: "c-1", Total: eventbus.MustDecimal("19.90")})
	fmt.Println(e.EventType, e.Version)
	fmt.Println(bus.EnsureTopics(ctx, InvoiceIssued))
	fmt.Println(bus.Publish(ctx, e))
	fmt.Println(bus.Publish(ctx, InvoiceIssued.New(Invoice{Number: "A-1", Customer: "c-1"})))
	// Output:
	// acme.invoice.issued 1.0
	// <nil>
	// <nil>
	// eventbus: publish: not sent: topic acme.invoice.issued: invalid event: payload.number: pattern "^[0-9]+$"
}

// Publishing and consuming never create a topic: EnsureTopics does, and leaves those alone that exist.
func ExampleBus_EnsureTopics() {
	bus, end := exampleBus(eventbus.Config{
		Service:   "billing",
		NewTopics: eventbus.TopicDefaults{Partitions: 6, ReplicationFactor: 1}, // in production: 3
	})
	defer end()

	remind := func(context.Context, *eventbus.BaseEvent[Invoice]) error { return nil }
	sub := eventbus.Subscription{Group: "reminders", Routes: []eventbus.Route{InvoiceIssued.Handle(remind, nil)}}
	for _, t := range sub.Topics() {
		fmt.Println(t.Name())
	}
	fmt.Println(bus.EnsureTopics(context.Background(), sub.Topics()...))
	// Output:
	// acme.invoice.issued
	// acme.invoice.issued.dlq.reminders
	// acme.invoice.issued.retry.reminders
	// <nil>
}

// The events of one key, from several topics, folded into a state.
func ExampleFold() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()
	ctx := context.Background()
	err := bus.Publish(ctx,
		eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com", FirstName: "Ada"}),
		eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-2", Email: "bob@example.com", FirstName: "Bob"}),
		eventbus.UserUpdated.New(eventbus.UserUpdatedPayload{UserID: "u-1", Changes: map[string]any{"lastName": "Lovelace"}}),
	)
	if err != nil {
		panic(err)
	}

	type user struct{ first, last string }
	ada, err := eventbus.Fold(ctx, bus, "u-1", user{},
		eventbus.On(eventbus.UserCreated, func(u user, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) user {
			u.first = e.Payload.FirstName
			return u
		}),
		eventbus.On(eventbus.UserUpdated, func(u user, e *eventbus.BaseEvent[eventbus.UserUpdatedPayload]) user {
			u.last, _ = e.Payload.Changes["lastName"].(string)
			return u
		}),
	)
	fmt.Println(ada.first, ada.last, err)
	// Output: Ada Lovelace <nil>
}

// One handler serves the probes and the whole state. It answers from memory.
func ExampleBus_HealthHandler() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()
	created(bus, 1)

	mux := http.NewServeMux()
	mux.Handle("/health/", bus.HealthHandler())
	for _, path := range []string{"/health/live", "/health/ready"} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Print(path, " ", answer.Code, " ", answer.Body)
	}
	// Output:
	// /health/live 200 {"live":true}
	// /health/ready 200 {"ready":true}
}

// The first five have the names of the TypeScript package.
func ExampleMetrics() {
	bus, end := exampleBus(eventbus.Config{Service: "user-service"})
	defer end()
	created(bus, 2)

	text, err := json.MarshalIndent(bus.Metrics(), "", "  ")
	fmt.Println(string(text), err)
	// Output:
	// {
	//   "messagesPublished": 2,
	//   "messagesConsumed": 0,
	//   "publishErrors": 0,
	//   "consumerLag": 0,
	//   "deadLettered": 0,
	//   "followed": 0,
	//   "retries": 0,
	//   "schemaReports": 0,
	//   "buffered": 0,
	//   "undecided": 0,
	//   "inFlight": 0,
	//   "inFlightBytes": 0,
	//   "parkedKeys": 0,
	//   "paused": 0,
	//   "breakerOpened": 0,
	//   "detached": 0,
	//   "skipped": 0,
	//   "mapsCut": 0,
	//   "commits": 0,
	//   "commitErrors": 0,
	//   "rebalances": 0,
	//   "aborted": 0,
	//   "recreated": 0,
	//   "avgProcessingTime": 0,
	//   "consumerLagSeconds": 0
	// } <nil>
}

// What the environment leaves out has New's defaults; the result may be changed before New.
func ExampleFromEnv() {
	os.Setenv("KAFKA_BROKERS", "kafka-1:9092, kafka-2:9092")
	defer os.Unsetenv("KAFKA_BROKERS")
	cfg, err := eventbus.FromEnv("user-service")
	fmt.Println(cfg.Service, cfg.Brokers, err)

	os.Setenv("KAFKA_BROKERS", "kafka-1")
	_, err = eventbus.FromEnv("user-service")
	fmt.Println(err)
	// Output:
	// user-service [kafka-1:9092 kafka-2:9092] <nil>
	// eventbus: environment: KAFKA_BROKERS: "kafka-1" is not host:port
}

// Amounts are exact: they never go through a float.
func ExampleDecimal() {
	flight, hotel := eventbus.MustDecimal("119.90"), eventbus.MustDecimal("240.1")
	fmt.Println(flight.Add(hotel), flight.Cmp(hotel))

	_, err := eventbus.ParseDecimal("1,99")
	fmt.Println(err)
	// Output:
	// 360.00 -1
	// eventbus: not a decimal number such as 19.90
}

// A secret shows itself on the wire and nowhere else.
func ExampleSecret() {
	p := eventbus.AuthPasswordResetRequestedPayload{Email: "ada@example.com", ResetToken: "r-4711"}
	fmt.Printf("%v %q\n", p.ResetToken, string(p.ResetToken))

	wire := []byte(`{"email":"ada@example.com","resetToken":"r-4711"}`)
	fmt.Printf("%s\n", eventbus.AuthPasswordResetRequested.Redact(wire)) // before a person sees a payload
	// Output:
	// *** "r-4711"
	// {"email":"ada@example.com","resetToken":"***"}
}
