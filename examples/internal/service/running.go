package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/dreamscape/eventbus"
)

// Running is an [App] that was started. It is safe for concurrent use.
type Running struct {
	app      App
	bus      *eventbus.Bus
	server   *http.Server
	listener net.Listener

	stopConsuming         context.CancelFunc
	ended                 sync.WaitGroup // the goroutines that consume and serve
	failed                chan struct{}  // closed when one of them has ended unasked
	fail                  sync.Once
	consumeErr, serverErr error // to be read once both have ended
}

func start(ctx context.Context, app App, bus *eventbus.Bus, addr string) (*Running, error) {
	service := app.New(bus)
	sub := app.subscription(service)
	if err := bus.EnsureTopics(ctx, append(sub.Topics(), app.Publishes...)...); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	consuming, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Running{
		app: app, bus: bus, listener: listener, stopConsuming: stop, failed: make(chan struct{}),
		server: &http.Server{Handler: api(service, bus), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute},
	}
	r.ended.Go(func() { r.consume(consuming, sub) })
	r.ended.Go(r.serve)
	return r, nil
}

// api is the service's routes and the bus's health.
func api(service Service, bus *eventbus.Bus) http.Handler {
	mux := http.NewServeMux()
	service.Register(mux)
	mux.Handle("GET /health", bus.HealthHandler())
	mux.Handle("GET /health/", bus.HealthHandler())
	return mux
}

func (r *Running) consume(ctx context.Context, sub eventbus.Subscription) {
	r.consumeErr = r.bus.Run(ctx, sub)
	r.endedUnlessAsked(ctx.Err() == nil)
}

func (r *Running) serve() {
	err := r.server.Serve(r.listener)
	if !errors.Is(err, http.ErrServerClosed) {
		r.serverErr = err
	}
	r.endedUnlessAsked(r.serverErr != nil)
}

func (r *Running) endedUnlessAsked(unasked bool) {
	if unasked {
		r.fail.Do(func() { close(r.failed) })
	}
}

// URL is where the HTTP API is, such as http://127.0.0.1:3001.
func (r *Running) URL() string {
	_, port, _ := net.SplitHostPort(r.listener.Addr().String())
	return "http://" + net.JoinHostPort("127.0.0.1", port)
}

// Name is the app's name.
func (r *Running) Name() string { return r.app.Name }

// Bus is the app's bus, for its health and metrics. It belongs to r.
func (r *Running) Bus() *eventbus.Bus { return r.bus }

// WaitReady blocks until the app consumes, or ctx ends.
func (r *Running) WaitReady(ctx context.Context) error {
	if err := r.bus.WaitReady(ctx); err != nil {
		return fmt.Errorf("%s: %w", r.app.Name, err)
	}
	return nil
}

// Done is closed when the app has failed by itself; [Running.Stop] then returns why.
func (r *Running) Done() <-chan struct{} { return r.failed }

// Stop ends the app: first the HTTP server, which lets requests under way end, then the consumer, which lets handlers end and
// commits, then the producer, which both of them publish by. It blocks until all have ended; ctx bounds the waiting for requests
// and for acknowledgements. Calling it again is harmless.
func (r *Running) Stop(ctx context.Context) error {
	err := r.server.Shutdown(ctx)
	if err != nil {
		_ = r.server.Close() // err tells already that requests were cut off
	}
	r.stopConsuming()
	r.ended.Wait()
	if err := errors.Join(r.consumeErr, r.serverErr, err, r.bus.Shutdown(ctx)); err != nil {
		return fmt.Errorf("%s: %w", r.app.Name, err)
	}
	return nil
}
