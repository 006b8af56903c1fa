// Package dreamscape is all five services in one process: a fleet to try by hand ([Serve]), and a traveller's journey through it that
// checks itself ([Once]).
package dreamscape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// Options are what both ways to run have in common; the zero value works.
type Options struct {
	// Out gets everything that is printed. Default: nothing is.
	Out io.Writer
	// Verbose has Once log every event too.
	Verbose bool
}

func (o Options) out() io.Writer {
	if o.Out == nil {
		return io.Discard
	}
	return &lockedWriter{out: o.Out}
}

// lockedWriter lets hooks write while a step is printed.
type lockedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

// Serve runs the services on their documented ports, and the console beside them, until ctx ends, and logs every event. It returns nil after a clean drain.
func Serve(ctx context.Context, opts Options) error {
	out := opts.out()
	site, err := connect()
	if err != nil {
		return err
	}
	defer site.close()
	site.cfg.Hooks = []eventbus.Hooks{newEventLog(out).hooks()}
	f, err := within(ctx, func(ctx context.Context) (*fleet, error) { return startFleet(ctx, site.cfg, documentedPort) })
	if err != nil {
		return err
	}
	shown, err := startPage(ctx, site)
	if err != nil {
		return errors.Join(err, f.stop(ctx))
	}
	printWelcome(out, site, f)
	watched, end := f.watch(ctx)
	<-watched.Done()
	end()
	fmt.Fprintln(out, "draining…")
	if ctx.Err() == nil {
		err = context.Cause(watched) // a service has ended by itself
	}
	return errors.Join(err, shown.close(ctx), f.stop(ctx))
}

// startLimit bounds the start of the services, and of what watches them.
const startLimit = 20 * time.Second

// within starts something that must be there within startLimit.
func within[T any](ctx context.Context, start func(context.Context) (T, error)) (started T, err error) {
	starting, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not started within %v", startLimit))
	defer cancel()
	if started, err = start(starting); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("given up while starting: %w", context.Cause(ctx)) // all services would say so, at length
	}
	return started, err
}

func documentedPort(app service.App) string { return app.Addr }

// anyPort lets a fleet run beside others.
func anyPort(service.App) string { return "localhost:0" }

// site is the Kafka that the fleet runs on.
type site struct {
	cfg    eventbus.Config
	broker *embedded.Broker // nil where the cluster is somebody else's
}

// connect takes the cluster that the environment names, or else starts an embedded broker.
func connect() (*site, error) {
	cfg, err := eventbus.FromEnv("") // every service fills in its name
	if err != nil {
		return nil, err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if len(cfg.Brokers) > 0 {
		return &site{cfg: cfg}, nil
	}
	broker, err := embedded.Start(embedded.Options{TopicPrefix: cfg.TopicPrefix})
	if err != nil {
		return nil, err
	}
	cfg.Brokers, cfg.TLS, cfg.SASL = broker.Brokers(), nil, nil
	return &site{cfg: cfg, broker: broker}, nil
}

func (s *site) close() {
	if s.broker != nil {
		s.broker.Close()
	}
}

func (s *site) String() string {
	brokers := strings.Join(s.cfg.Brokers, ",")
	if s.broker != nil {
		return "an embedded broker, " + brokers
	}
	return brokers
}

// timeLimit bounds a journey, from the first step to the last check.
const timeLimit = 25 * time.Second

// Once starts the services on free ports, drives a journey through them, prints what came of it and stops them. It returns nil only if
// all went as it should: every step, all 27 events published and read back, all 12 consumptions, every saga, no dead letter, a clean
// drain.
func Once(ctx context.Context, opts Options) error {
	began, out := time.Now(), opts.out()
	site, err := connect()
	if err != nil {
		return err
	}
	defer site.close()
	j, err := within(ctx, func(ctx context.Context) (*journey, error) { return startJourney(ctx, site, out, opts.Verbose) })
	if err != nil {
		return err
	}
	defer j.reader.close()
	fmt.Fprintf(out, "DreamScape: %d services on %v, ready after %v\n\n", len(apps), site, time.Since(began).Round(time.Millisecond))
	err = j.travel(ctx)
	j.printSummary()
	if err = errors.Join(err, j.fleet.stop(ctx)); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nAll as it should be, and drained, after %v.\n", time.Since(began).Round(time.Millisecond))
	return nil
}
