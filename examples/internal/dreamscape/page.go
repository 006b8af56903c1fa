package dreamscape

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/console"
)

// consoleAddr is where Serve has the console. It has no login, so it is for this machine.
const consoleAddr = "localhost:3000"

// page is the console, served in this process by a bus of its own.
type page struct {
	bus   *eventbus.Bus
	stop  context.CancelFunc
	ended chan error
}

// startPage serves the console and waits until it answers. Dead letters can be sent back and deleted on the embedded broker only: elsewhere they are
// somebody else's.
func startPage(ctx context.Context, s *site) (*page, error) {
	cfg := s.cfg
	cfg.Service, cfg.Hooks = "console", nil
	bus, err := eventbus.New(cfg)
	if err != nil {
		return nil, err
	}
	ours := s.broker != nil
	shown, err := console.New(bus, &console.Options{Title: "DreamScape", AllowRedrive: ours, AllowPurge: ours})
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	p, ready := &page{bus: bus, stop: stop, ended: make(chan error, 1)}, make(chan struct{})
	go func() { p.ended <- shown.ListenAndServe(serving, consoleAddr, func(string) { close(ready) }) }()
	select {
	case <-ready:
		return p, nil
	case err := <-p.ended:
		p.ended <- err
		return nil, p.close(ctx)
	}
}

// close also takes the nil page.
func (p *page) close(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	select {
	case err := <-p.ended:
		return errors.Join(err, p.bus.Shutdown(ctx))
	case <-ctx.Done():
		return fmt.Errorf("the console: %w", context.Cause(ctx))
	}
}
