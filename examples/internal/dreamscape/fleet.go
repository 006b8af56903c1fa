package dreamscape

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/ai"
	"github.com/dreamscape/eventbus/examples/internal/auth"
	"github.com/dreamscape/eventbus/examples/internal/payment"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/user"
	"github.com/dreamscape/eventbus/examples/internal/voyage"
)

var apps = []service.App{auth.App, user.App, payment.App, voyage.App, ai.App}

// fleet is the five services, running in this process.
type fleet struct {
	services []*service.Running // in the order of apps
}

// startFleet starts all services and waits until they consume. Where one cannot start, none is left running.
func startFleet(ctx context.Context, cfg eventbus.Config, addr func(service.App) string) (*fleet, error) {
	f := &fleet{services: make([]*service.Running, len(apps))}
	errs := make([]error, len(apps))
	var started sync.WaitGroup
	for i, app := range apps {
		started.Go(func() { f.services[i], errs[i] = startReady(ctx, app, cfg, addr(app)) })
	}
	started.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, f.stop(ctx))
	}
	return f, nil
}

// startReady returns the service also where it was started and did not get ready, to be stopped.
func startReady(ctx context.Context, app service.App, cfg eventbus.Config, addr string) (*service.Running, error) {
	running, err := service.Start(ctx, app, cfg, addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(addr)
		return nil, fmt.Errorf("%s: port %s is taken by another program", app.Name, port)
	}
	if err != nil {
		return nil, err
	}
	return running, running.WaitReady(ctx)
}

// drainTime is what requests and acknowledgements under way get when the fleet stops.
const drainTime = 15 * time.Second

// stop ends all services at once, each in its own good order, and waits for them; also where ctx has ended.
func (f *fleet) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	errs := make([]error, len(f.services))
	var stopped sync.WaitGroup
	for i, s := range f.services {
		if s != nil {
			stopped.Go(func() { errs[i] = s.Stop(ctx) })
		}
	}
	stopped.Wait()
	return errors.Join(errs...)
}

// watch returns a ctx that ends with the first service that fails by itself; its cause names that service. end ends the watching.
func (f *fleet) watch(ctx context.Context) (watched context.Context, end func()) {
	watched, cancel := context.WithCancelCause(ctx)
	var watchers sync.WaitGroup
	for _, s := range f.services {
		watchers.Go(func() {
			select {
			case <-s.Done():
				cancel(fmt.Errorf("%s failed", s.Name()))
			case <-watched.Done():
			}
		})
	}
	return watched, func() {
		cancel(nil)
		watchers.Wait()
	}
}

// service returns the service of that name, nil for none.
func (f *fleet) service(name string) *service.Running {
	for _, s := range f.services {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// metrics is the sum over all services.
func (f *fleet) metrics() (sum eventbus.Metrics) {
	for _, s := range f.services {
		m := s.Bus().Metrics()
		sum.MessagesPublished += m.MessagesPublished
		sum.MessagesConsumed += m.MessagesConsumed
		sum.DeadLettered += m.DeadLettered
	}
	return sum
}
