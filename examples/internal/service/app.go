package service

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/dreamscape/eventbus"
)

// App is a service that can be started. All fields are required.
type App struct {
	Name string // the service's name, such as "auth-service"
	Addr string // where its HTTP API listens by default, such as ":3001"
	// Publishes are the topics of all events that the service publishes.
	Publishes []eventbus.AnyTopic
	// New makes the service on a bus that has not begun to consume.
	New func(*eventbus.Bus) Service
}

// Service is the inside of an [App]. Its HTTP handlers and its event handlers run concurrently.
type Service interface {
	// Register adds the HTTP API to mux.
	Register(mux *http.ServeMux)
	// Routes are the events that the service handles.
	Routes() []eventbus.Route
}

// Publisher is the part of [eventbus.Bus] that a service publishes by, so that tests can do without a broker.
type Publisher interface {
	Publish(ctx context.Context, events ...eventbus.AnyEvent) error
}

// Group is the service's consumer group.
func (a App) Group() string { return "dreamscape-" + a.Name + "-group" }

// subscription is what the service handles.
func (a App) subscription(s Service) eventbus.Subscription {
	return eventbus.Subscription{Group: a.Group(), Routes: s.Routes()}
}

// Access is what the service does with its bus, for its permissions.
func (a App) Access() eventbus.Access {
	return eventbus.Access{Publishes: a.Publishes, Handles: []eventbus.Subscription{a.subscription(a.New(nil))}}
}

const (
	startTimeout   = 30 * time.Second
	stopTimeout    = 30 * time.Second
	publishTimeout = 10 * time.Second // a client waits for the answer
)

// Run starts the app and blocks until ctx ends, then stops it: nil after a clean stop. If the app fails by itself, that ends Run
// too, and is its error.
func Run(ctx context.Context, app App, cfg eventbus.Config, addr string) error {
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	running, err := Start(startCtx, app, cfg, addr)
	if err != nil {
		return err
	}
	slog.Info("service started", "service", app.Name, "url", running.URL())
	select {
	case <-ctx.Done():
	case <-running.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return running.Stop(stopCtx)
}

// Start connects the app, creates the topics that are missing, listens on addr (host:port; port 0 for a free one) and begins to
// consume. ctx bounds the start only; what was started is ended by [Running.Stop]. An empty cfg.Service is the app's name, a
// cfg.PublishTimeout of 0 is 10 seconds.
func Start(ctx context.Context, app App, cfg eventbus.Config, addr string) (*Running, error) {
	if cfg.Service == "" {
		cfg.Service = app.Name
	}
	if cfg.PublishTimeout == 0 {
		cfg.PublishTimeout = publishTimeout
	}
	bus, err := eventbus.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", app.Name, err)
	}
	running, err := start(ctx, app, bus, addr)
	if err != nil {
		_ = bus.Shutdown(ctx) // nothing was published yet
		return nil, fmt.Errorf("%s: %w", app.Name, err)
	}
	return running, nil
}
