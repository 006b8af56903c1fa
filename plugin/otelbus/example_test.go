package otelbus_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/plugin/otelbus"
)

// A service whose spans are kept in memory; otlptracehttp would send them to a collector.
func Example() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()

	spans := tracetest.NewInMemoryExporter()
	tracing, err := otelbus.New(&otelbus.Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{tracing.Hooks()}, Middleware: []eventbus.Middleware{tracing.Middleware()}}
	cfg.Brokers = broker.Brokers()
	bus, err := eventbus.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := bus.EnsureTopics(ctx, eventbus.UserCreated); err != nil {
		fmt.Println(err)
	}
	if err := bus.Publish(ctx, user("u-1")); err != nil {
		fmt.Println(err)
	}
	if err := bus.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	for _, s := range spans.GetSpans() {
		fmt.Println(s.Name, s.SpanKind)
	}
	// Output: send dreamscape.user.created producer
}
