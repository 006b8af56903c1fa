package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/sim"
)

// publisher publishes the events: those that can be decoded through a bus, the others by a plain client.
type publisher struct {
	*simulation
	bus  *eventbus.Bus
	raw  *kgo.Client
	mu   sync.Mutex
	sent map[string]sim.Event // by the envelope's id
}

const garbagePrefix = "garbage "

func (s *simulation) newPublisher() *publisher {
	p := &publisher{simulation: s, sent: map[string]sim.Event{}}
	p.bus = s.newBus("publisher", newLink(&s.net), eventbus.Hooks{Published: func(i eventbus.PublishedInfo) {
		p.mu.Lock()
		e := p.sent[i.EventID]
		p.mu.Unlock()
		p.note(e, i.Partition, i.Offset, i.Err)
	}})
	var err error
	p.raw, err = kgo.NewClient(append(newLink(&s.net).options(), kgo.SeedBrokers(s.cluster.ListenAddrs()...))...)
	require.NoError(s, err)
	return p
}

// publish hands an event over. Those of one form keep their order.
func (p *publisher) publish(e sim.Event) {
	if e.Form == sim.Garbage {
		r := &kgo.Record{Topic: jobs, Key: []byte(e.Key), Value: []byte(garbagePrefix + e.ID)}
		p.raw.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("%w: %w", eventbus.ErrOutcomeUnknown, err)
			}
			p.note(e, r.Partition, r.Offset, err)
		})
		return
	}
	topic := p.jobs
	if e.Form == sim.Unkeyed {
		topic = p.unkeyed
	}
	event := topic.New(job{ID: e.ID, Key: e.Key})
	p.mu.Lock()
	p.sent[event.EventID] = e
	p.mu.Unlock()
	p.bus.PublishAsync(context.Background(), event, func(error) {})
}

func (p *publisher) note(e sim.Event, partition int32, offset int64, err error) {
	entry := ledger.Entry{Kind: ledger.Published, ID: e.ID, Key: p.lane(e), N: e.N, Topic: jobs, Partition: partition, Offset: offset, Result: ledger.OK}
	switch {
	case errors.Is(err, eventbus.ErrNotSent):
		entry.Result = ledger.Failed
	case err != nil:
		entry.Result = ledger.Unknown
	}
	p.history.Add(entry)
}

// close waits for every result.
func (p *publisher) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(p, p.bus.Shutdown(ctx))
	require.NoError(p, p.raw.Flush(ctx))
	p.raw.Close()
}
