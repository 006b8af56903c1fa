package eventbus_test

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/sim"
)

// handle is every member's handler. It does what the script says and writes it down before it returns.
func (s *simulation) handle(m *member) eventbus.Handler[job] {
	return func(ctx context.Context, e *eventbus.BaseEvent[job]) error {
		if m.crashed() { // the process is gone; whatever still runs in it does nothing
			<-ctx.Done()
			return ctx.Err()
		}
		event := s.events[e.Payload.ID]
		d, _ := eventbus.DeliveryFrom(ctx)
		entry := ledger.Entry{
			Member: m.name, Topic: jobs, Partition: d.Partition, Offset: d.Offset, ID: event.ID, Key: s.lane(event), N: event.N,
			Attempt: d.Attempt, Stubborn: event.Deed.Stubborn,
		}
		entry.Try = s.history.Begin(entry)
		note := func(kind ledger.Kind, result ledger.Result) {
			entry := entry
			entry.Kind, entry.Result = kind, result
			s.history.Add(entry)
		}
		stop := context.AfterFunc(ctx, func() { note(ledger.Cancelled, "") })
		result, err := s.perform(ctx, m, event)
		stop()
		note(ledger.Ended, result)
		switch {
		case result != ledger.Panicked:
			return err
		case event.Deed.Manner == sim.Exits:
			runtime.Goexit()
		}
		panic("as the script says")
	}
}

// perform takes the time that the event takes, and says how the try ends.
func (s *simulation) perform(ctx context.Context, m *member, event sim.Event) (ledger.Result, error) {
	if event.Deed.Stubborn {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(event.Deed.Takes):
	case <-ctx.Done():
		return ledger.GaveUp, ctx.Err()
	case <-m.dead:
		return ledger.Died, errCrashed
	}
	if m.crashed() {
		return ledger.Died, errCrashed
	}
	if s.isDown() {
		return ledger.Failed, errDown
	}
	if !s.fails(event) {
		return ledger.OK, nil
	}
	switch event.Deed.Manner {
	case sim.GivesUp:
		return ledger.Failed, eventbus.Permanent(errScripted)
	case sim.Panics, sim.Exits:
		return ledger.Panicked, nil
	}
	return ledger.Failed, errScripted
}

var (
	errScripted = errors.New("as the script says")
	errCrashed  = errors.New("crashed")
	errDown     = errors.New("what it calls is down")
)

func (s *simulation) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *simulation) fails(event sim.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries[event.ID]++
	return s.tries[event.ID] <= event.Deed.Fails
}
