package eventbus_test

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// published is what a Publishing hook has seen.
type published struct {
	mu    sync.Mutex
	begun []eventbus.PublishingInfo
	ended []eventbus.PublishedInfo
}

func (p *published) hooks(headers ...eventbus.Header) eventbus.Hooks {
	return eventbus.Hooks{Publishing: func(_ context.Context, e eventbus.PublishingInfo) ([]eventbus.Header, func(eventbus.PublishedInfo)) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.begun = append(p.begun, e)
		return headers, func(i eventbus.PublishedInfo) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ended = append(p.ended, i)
		}
	}}
}

func (p *published) counts() (begun, ended int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.begun), len(p.ended)
}

func hooked(hooks ...eventbus.Hooks) func(*eventbus.Config) {
	return func(c *eventbus.Config) { c.Hooks = hooks }
}

func TestHeadersOfHooksAreOnTheRecord(t *testing.T) {
	inWorld(t, func(w *world) {
		var p published
		bus := w.bus(hooked(
			eventbus.Hooks{Publishing: func(context.Context, eventbus.PublishingInfo) ([]eventbus.Header, func(eventbus.PublishedInfo)) {
				panic("hook")
			}},
			p.hooks(eventbus.Header{Key: "traceparent", Value: []byte("00-a")}, eventbus.Header{Key: "eb-retries", Value: []byte("9")},
				eventbus.Header{Key: "baggage", Value: make([]byte, 17<<10)}, eventbus.Header{Key: "tracestate", Value: []byte("b")}),
			eventbus.Hooks{Publishing: func(context.Context, eventbus.PublishingInfo) ([]eventbus.Header, func(eventbus.PublishedInfo)) {
				return nil, nil
			}},
		))
		var names []string
		w.run(bus, func(ctx context.Context, _ *eventbus.BaseEvent[order]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			for _, h := range d.Headers {
				names = append(names, h.Key+"="+string(h.Value))
			}
			return nil
		}, nil, nil)
		e := w.order("o", 1)
		require.NoError(t, bus.Publish(context.Background(), e))
		w.until("handled", func() bool { return bus.Metrics().MessagesConsumed == 1 })
		require.Equal(t, []string{"traceparent=00-a", "tracestate=b"}, names)
		require.Equal(t, []eventbus.PublishingInfo{{
			Topic: orders, EventID: e.EventID, EventType: e.EventType, Source: "acme-service", CorrelationID: e.EventID,
			KeyHash: eventbus.KeyHash([]byte("o")), Bytes: p.begun[0].Bytes,
		}}, p.begun)
		require.NotZero(t, p.begun[0].Bytes)
		require.Len(t, p.ended, 1)
		require.NoError(t, p.ended[0].Err)
		require.Zero(t, p.ended[0].Offset)
		require.Equal(t, e.EventID, p.ended[0].EventID)
	})
}

// Who is told that an event is about to be published is told of its end, and of nothing that is refused before.
func TestWhatIsRefusedIsNotAnnounced(t *testing.T) {
	inWorld(t, func(w *world) {
		var p published
		bus := w.bus(hooked(p.hooks(eventbus.Header{Key: "traceparent", Value: []byte("00-a")})))
		invalid := w.order("o", 1)
		invalid.EventID = "none"
		require.Error(t, bus.Publish(context.Background(), w.order("o", 1), invalid))
		bus.PublishAsync(context.Background(), invalid, func(error) {})
		_, err := bus.Encode(context.Background(), invalid)
		require.Error(t, err)
		begun, _ := p.counts()
		require.Zero(t, begun)

		r, err := bus.Encode(context.Background(), w.order("o", 1))
		require.NoError(t, err)
		require.Equal(t, "traceparent", r.Headers[0].Key)
		require.True(t, p.begun[0].Encoded)
		require.EqualValues(t, -1, p.ended[0].Offset)

		require.NoError(t, bus.Shutdown(context.Background()))
		require.ErrorIs(t, bus.Publish(context.Background(), w.order("o", 1)), eventbus.ErrClosed)
		require.Len(t, p.ended, 2)
		require.ErrorIs(t, p.ended[1].Err, eventbus.ErrNotSent)
	})
}

func TestWhatATransactionDropsEndsForItsHooks(t *testing.T) {
	inTx(t, func(w *world) {
		var p published
		bus := w.bus(func(c *eventbus.Config) {
			w.instance("one")(c)
			c.Hooks = []eventbus.Hooks{p.hooks(eventbus.Header{Key: "traceparent", Value: []byte("00-a")})}
		})
		tries := 0
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{w.orders.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
				require.NoError(t, tx.Publish(ctx, copyTopic.New(e.Payload)))
				if tries++; tries == 1 {
					return errors.New("again")
				}
				return nil
			}, nil)}
		})
		publish(w, w.bus(nil), 1)
		w.until("done", func() bool { _, ended := p.counts(); return ended == 2 })
		require.ErrorIs(t, p.ended[0].Err, eventbus.ErrNotSent)
		require.NoError(t, p.ended[1].Err)
		require.Len(t, p.begun, 2)

		failed := errors.New("no")
		require.ErrorIs(t, bus.Transact(context.Background(), func(ctx context.Context, tx *eventbus.Tx) error {
			require.NoError(t, tx.Publish(ctx, copyTopic.New(order{ID: "o"})))
			return failed
		}), failed)
		require.NoError(t, bus.Transact(context.Background(), func(ctx context.Context, tx *eventbus.Tx) error {
			return tx.Publish(ctx, copyTopic.New(order{ID: "o"}))
		}))
		require.Len(t, p.ended, 4)
		require.ErrorContains(t, p.ended[2].Err, "has failed")
		require.NoError(t, p.ended[3].Err)
	})
}

func TestHeadersOfHooksHaveRoomInTheBuffer(t *testing.T) {
	inWorld(t, func(w *world) {
		var p published
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{p.hooks(eventbus.Header{Key: "baggage", Value: []byte(strings.Repeat("x", 15<<10))})}
			c.MaxBufferedBytes = 16 << 10
		})
		require.ErrorContains(t, bus.Publish(context.Background(), w.order("o", 1)), "MaxBufferedBytes")
		begun, _ := p.counts()
		require.Zero(t, begun)
	})
}

// A handler that ends its goroutine drops what it has published, too, and so does the end of its consumer.
func TestHandlersThatEndTheirGoroutineEndTheirPublishes(t *testing.T) {
	inTx(t, func(w *world) {
		var p published
		bus := w.bus(func(c *eventbus.Config) {
			w.instance("one")(c)
			c.Hooks = []eventbus.Hooks{p.hooks()}
		})
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{w.orders.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
				require.NoError(t, tx.Publish(ctx, copyTopic.New(e.Payload)))
				runtime.Goexit()
				return nil
			}, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: 2}})}
		})
		publish(w, w.bus(nil), 1)
		w.until("dead-lettered", func() bool { return bus.Metrics().DeadLettered == 1 })
		begun, ended := p.counts()
		require.Equal(t, []int{2, 2}, []int{begun, ended})
	})
}

// What waits for an acknowledgement when its consumer ends has an end, too.
func TestTheEndOfAConsumerEndsItsPublishes(t *testing.T) {
	inTx(t, func(w *world) {
		var p published
		bus := w.bus(func(c *eventbus.Config) {
			w.instance("one")(c)
			c.Hooks = []eventbus.Hooks{p.hooks()}
		})
		r := w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{w.orders.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
				return tx.Publish(ctx, copyTopic.New(e.Payload))
			}, nil)}
		})
		require.NoError(t, waitReady(bus, time.Minute))
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: copies, Err: kerr.NotEnoughReplicas, Count: -1})
		publish(w, w.bus(nil), 5)
		w.until("published", func() bool { begun, _ := p.counts(); return begun == 5 })
		_ = r.end()
		w.until("told", func() bool { begun, ended := p.counts(); return begun == ended })
		for _, i := range p.ended {
			require.ErrorIs(t, i.Err, eventbus.ErrNotSent)
		}
	})
}

// quickly has events handled that take little time, so that goroutines take several at once.
func quickly(w *world, bus *eventbus.Bus, n int, change func(*eventbus.Subscription)) *running {
	w.ordered(bus, n, n)
	return w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
		time.Sleep(5 * time.Microsecond)
		return nil
	}, nil, change)
}

func TestAHookThatHangsIsLeftBehind(t *testing.T) {
	inWorld(t, func(w *world) {
		hold := make(chan struct{})
		w.Cleanup(func() { close(hold) })
		var told atomic.Int32
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{{Handled: func(eventbus.HandledInfo) {
				if told.Add(1) == 100 {
					<-hold
				}
			}}}
		})
		r := quickly(w, bus, 5000, func(s *eventbus.Subscription) { s.DrainTimeout = 2 * time.Second })
		w.until("all handled, but for those that the hook holds up", func() bool { return w.committed() == 5000 })
		before := time.Now()
		require.ErrorContains(t, r.end(), "left behind")
		require.Less(t, time.Since(before), 5*time.Second)
	})
}

func TestAHookThatEndsItsGoroutineHoldsUpNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		var told atomic.Int32
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{{Handled: func(eventbus.HandledInfo) {
				if told.Add(1)%100 == 0 {
					runtime.Goexit()
				}
			}}}
		})
		r := quickly(w, bus, 5000, nil)
		w.until("all handled", func() bool { return w.committed() == 5000 && told.Load() == 5000 })
		require.NoError(t, r.end())
	})
}

// Whoever pauses a subscription may hold what its hooks wait for.
func TestPauseCallsNoHooks(t *testing.T) {
	inWorld(t, func(w *world) {
		var told, within atomic.Int32
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{{Handled: func(eventbus.HandledInfo) {
				if told.Add(1); strings.Contains(string(debug.Stack()), "(*Bus).Pause") {
					within.Add(1)
				}
			}}}
		})
		const n = 5000
		quickly(w, bus, n, nil)
		for told.Load() == 0 {
			time.Sleep(time.Microsecond)
		}
		for told.Load() < n {
			time.Sleep(103 * time.Microsecond)
			require.NoError(t, bus.Pause("group"))
			require.NoError(t, bus.Resume("group"))
		}
		w.until("all handled", func() bool { return w.committed() == n })
		require.Zero(t, within.Load())
	})
}
