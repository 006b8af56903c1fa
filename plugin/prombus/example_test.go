package prombus_test

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/plugin/prombus"
)

// A service whose metrics are collected; promhttp.Handler would serve them.
func Example() {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()

	metrics := prombus.New(nil)
	cfg := eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{metrics.Hooks()}}
	cfg.Brokers = broker.Brokers()
	bus, err := eventbus.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = bus.Shutdown(context.Background()) }()
	registry := prometheus.NewRegistry()
	metrics.Watch(bus)
	registry.MustRegister(metrics)

	ctx := context.Background()
	if err := bus.EnsureTopics(ctx, eventbus.UserCreated); err != nil {
		fmt.Println(err)
	}
	if err := bus.Publish(ctx, user("u-1")); err != nil {
		fmt.Println(err)
	}
	published, err := testutil.GatherAndCount(registry, "eventbus_publish_duration_seconds")
	fmt.Println("topics published to:", published, err)
	// Output: topics published to: 1 <nil>
}
