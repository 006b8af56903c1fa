package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// outage is a thing that handlers call, and that is away for a while.
type outage struct{ away atomic.Bool }

func (o *outage) call() error {
	if o.away.Load() {
		return errors.New("connection refused")
	}
	return nil
}

// A 30-second outage of what the handler calls puts no event into the dead letters, however fast they come.
func TestAnOutageDownstreamDeadLettersNothing(t *testing.T) {
	for name, pace := range map[string]struct {
		every  time.Duration
		events int
	}{
		"1 event in 30 s": {30 * time.Second, 1}, "1 event in 7 s": {7 * time.Second, 1}, "10 events a second": {100 * time.Millisecond, 1},
		"1,000 events a second": {10 * time.Millisecond, 10},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var down outage
				var seen journal
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					if err := down.call(); err != nil {
						return err
					}
					seen.add("%s/%d", e.Payload.ID, e.Payload.Number)
					return nil
				}, nil, nil)
				n := 0
				publishFor := func(d time.Duration) {
					for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(pace.every) {
						for range pace.events {
							bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", n%50), n), nil)
							n++
						}
					}
				}
				publishFor(max(5*time.Second, pace.every))
				down.away.Store(true)
				publishFor(30 * time.Second)
				down.away.Store(false)
				publishFor(max(5*time.Second, pace.every))
				w.until("all are handled", func() bool { return len(seen.all()) == n })
				require.Zero(t, w.held(orders+".dlq.group"))
				require.Zero(t, bus.Metrics().DeadLettered)
				w.until("committed", func() bool { return w.committed() == int64(n) })
				require.Empty(t, bus.Health(context.Background()).Error, "it went on by itself")
			})
		})
	}
}

func TestHealthSaysThatAGroupIsPausedDownstream(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var down outage
		down.away.Store(true)
		var tries journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			tries.add("%s", e.Payload.ID)
			return down.call()
		}, nil, nil)
		for i := range 2000 {
			bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i), i), nil)
		}
		w.until("paused", func() bool { return bus.Metrics().BreakerOpened == 1 })
		time.Sleep(500 * time.Millisecond)
		h := bus.Health(context.Background())
		g := h.Groups[0]
		require.Equal(t, "downstream", g.Paused)
		require.Equal(t, "downstream", g.Partitions[0].Paused)
		require.Contains(t, g.Problems[0], "paused: downstream")
		require.True(t, h.Live, "a restart mends nothing")
		require.True(t, h.Ready)

		before := len(tries.all())
		time.Sleep(2 * time.Minute)
		require.Equal(t, 7, len(tries.all())-before, "one event at a time, after 1, 2, 4, 8, 16, 30, 30 s")
		gaps := tries.gaps()
		require.Equal(t, []time.Duration{
			2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second,
		}, gaps[len(gaps)-6:])
		down.away.Store(false)
		w.until("all handled", func() bool { return w.committed() == 2000 })
		require.Zero(t, w.held(orders+".dlq.group"))
		g = bus.Health(context.Background()).Groups[0]
		require.Empty(t, g.Paused)
		require.Empty(t, g.Problems)
	})
}

// Not one bad event, and not five of them among good ones, pauses anybody.
func TestPoisonEventsPauseNobody(t *testing.T) {
	for name, poison := range map[string]int{"one": 1, "twenty keys": 20} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var seen journal
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					time.Sleep(time.Millisecond)
					if e.Payload.Number < 0 {
						return errors.New("no such account")
					}
					seen.add("%d", e.Payload.Number)
					return nil
				}, nil, nil)
				for i := range 1000 {
					if i%(1000/poison) == 0 {
						bus.PublishAsync(context.Background(), w.order(fmt.Sprint("bad", i), -1), nil)
					}
					bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i%100), i), nil)
				}
				w.until("good ones handled", func() bool { return len(seen.all()) == 1000 })
				for i := range 20 {
					require.NoError(t, bus.Publish(context.Background(), w.order("late", i)))
					time.Sleep(100 * time.Millisecond)
				}
				w.until("bad ones dead-lettered", func() bool { return w.held(orders+".dlq.group") == int64(poison) })
				require.Len(t, seen.all(), 1020)
				require.Zero(t, bus.Metrics().BreakerOpened)
			})
		})
	}
}

// An event that fails alone may be bad or the outage's: it is tried on, and given up when another one has succeeded, or after 5 minutes.
func TestAnEventIsGivenUpWhenOthersSucceed(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var tries journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.ID == "good" {
				return nil
			}
			tries.add("try")
			return errors.New("no")
		}, nil, nil)
		require.NoError(t, bus.Publish(context.Background(), w.order("bad", 0)))
		time.Sleep(time.Minute)
		require.Zero(t, w.held(orders+".dlq.group"), "nobody has succeeded since")
		require.Greater(t, len(tries.all()), 4)
		require.NoError(t, bus.Publish(context.Background(), w.order("good", 0)))
		w.until("given up", func() bool { return w.held(orders+".dlq.group") == 1 })
		d, err := eventbus.ParseDeadLetter(w.read(orders+".dlq.group", 1)[0])
		require.NoError(t, err)
		require.Equal(t, 4, d.Attempts, "those that an outage may have failed do not count")
	})
}

func TestAnEventAloneIsGivenUpAfterFiveMinutes(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return errors.New("no") }, nil, nil)
		publish(w, bus, 1)
		published := time.Now()
		time.Sleep(290 * time.Second)
		require.Zero(t, w.held(orders+".dlq.group"))
		w.until("given up", func() bool { return w.held(orders+".dlq.group") == 1 })
		require.InDelta(t, 5*time.Minute, time.Since(published), float64(31*time.Second))
	})
}

// Where all that is known is bad, an event that comes is the probe, and the others end as dead letters.
func TestABreakerThatPoisonOpenedCloses(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.ID == "good" {
				return nil
			}
			return errors.New("no")
		}, nil, nil)
		for i := range 6 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("bad", i), i)))
		}
		time.Sleep(30 * time.Second)
		require.Equal(t, "downstream", bus.Health(context.Background()).Groups[0].Paused)
		for i := range 3 {
			require.NoError(t, bus.Publish(context.Background(), w.order("good", i)))
			time.Sleep(45 * time.Second)
		}
		w.until("given up", func() bool { return w.held(orders+".dlq.group") == 6 })
		require.Empty(t, bus.Health(context.Background()).Groups[0].Paused)
		w.until("committed", func() bool { return w.committed() == 9 })
	})
}

// Five bad keys look like an outage. Without any other event to try, they are held as long as one by itself, and a while.
func TestFiveBadEventsAloneAreGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return errors.New("no") }, nil, nil)
		for i := range 5 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		time.Sleep(290 * time.Second)
		require.Zero(t, w.held(orders+".dlq.group"))
		parked := bus.Health(context.Background()).Groups[0].Partitions[0].Parked
		require.Len(t, parked, 5)
		for _, k := range parked {
			require.False(t, k.NextTry.Before(time.Now()), "it is the next probe at the earliest")
		}
		time.Sleep(5 * time.Minute)
		require.EqualValues(t, 5, w.held(orders+".dlq.group"))
		require.Empty(t, bus.Health(context.Background()).Groups[0].Partitions[0].Parked)
	})
}

// Who asks for one try, because it must not be repeated, gets one, in an outage too.
func TestOneTryIsOneTry(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var tries journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			tries.add("%d", e.Payload.Number)
			return errors.New("no")
		}, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: 1}}, func(s *eventbus.Subscription) { s.Concurrency = 1 })
		for i := range 10 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		time.Sleep(10 * time.Second)
		require.Less(t, len(tries.all()), 10, "the breaker keeps the others from it")
		time.Sleep(10 * time.Minute)
		require.Len(t, tries.all(), 10)
		require.EqualValues(t, 10, w.held(orders+".dlq.group"))
	})
}

// Bad events must not keep those from being fetched that would prove them bad: neither by what waits behind them, nor by their number.
func TestABreakerDoesNotStayOpenOverBadEventsAlone(t *testing.T) {
	for name, test := range map[string]struct {
		limit  int // 0: the default
		within time.Duration
	}{
		"the partition takes more": {0, time.Minute}, "the partition takes no more": {15, 6 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var seen journal
				publish := func(id string, n int) {
					for i := range n {
						require.NoError(t, bus.Publish(context.Background(), w.order(id, i)))
					}
				}
				for i := range 5 {
					publish(fmt.Sprint("bad", i), 1)
				}
				publish("bad0", 10)
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					if e.Payload.ID == "good" {
						seen.add("%d", e.Payload.Number)
						return nil
					}
					return errors.New("no")
				}, nil, func(s *eventbus.Subscription) { s.MaxInFlight = test.limit })
				time.Sleep(10 * time.Second)
				require.Equal(t, "downstream", bus.Health(context.Background()).Groups[0].Paused)
				publish("good", 10)
				if test.limit > 0 {
					time.Sleep(4*time.Minute + 30*time.Second)
					require.Zero(t, w.held(orders+".dlq.group"), "it may be an outage")
				}
				time.Sleep(test.within - w.took())
				require.Len(t, seen.all(), 10)
			})
		})
	}
}

// What is down is what one handler calls: the others go on, and their successes prove nothing for it.
func TestAnOutagePausesItsRouteOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		other := eventbus.NewTopic("acme.other", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		bus := w.bus(nil)
		var down outage
		down.away.Store(true)
		var seen journal
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{
			w.orders.Handle(func(context.Context, *eventbus.BaseEvent[order]) error { return down.call() }, nil),
			other.Handle(handles(&seen), nil),
		}}
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		w.run(bus, nil, nil, func(s *eventbus.Subscription) { *s = sub })
		for i := range 300 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i), other.New(order{ID: fmt.Sprint("o", i), Number: i})))
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, seen.all(), 300)
		require.Zero(t, w.held(orders+".dlq.group"))
		down.away.Store(false)
		w.until("the rest", func() bool { return w.committed() == 300 })
		require.Zero(t, w.held(orders+".dlq.group"))
	})
}
