package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// The smallest limits are slow, and no deadlock.
func TestLimitsOfOneGoOn(t *testing.T) {
	for name, change := range map[string]func(*eventbus.Subscription){
		"records": func(s *eventbus.Subscription) { s.MaxInFlight = 1 },
		"bytes":   func(s *eventbus.Subscription) { s.MaxInFlightBytes = 1 },
		"span":    func(s *eventbus.Subscription) { s.MaxSpan = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var seen journal
				w.run(bus, handles(&seen), nil, change)
				for i := range 5 {
					publish(w, bus, 2)
					w.until("handled", func() bool { return len(seen.all()) == 2*(i+1) })
				}
			})
		})
	}
}

// A handler that was left behind returns when the partition is ours again, and full: fetching must stay paused.
func TestALateResultDoesNotResumeFetching(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		w.until("all published", func() bool { return w.held(orders) == 5000 })
		late, hold := make(chan struct{}), make(chan struct{})
		var tries atomic.Int32
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			if tries.Add(1) == 1 {
				<-late // ignores its ctx
				return nil
			}
			<-hold
			return nil
		}, nil, func(s *eventbus.Subscription) { s.MaxInFlight = 1000 })
		queued := func() int {
			g := bus.Health(context.Background()).Groups
			if len(g) == 0 || len(g[0].Partitions) == 0 {
				return 0
			}
			return g[0].Partitions[0].Queued
		}
		w.until("full", func() bool { return queued() >= 999 })
		time.Sleep(time.Second)
		loseSession(w)
		w.until("lost", func() bool { return queued() == 0 })
		w.until("full again", func() bool { return queued() >= 999 })
		time.Sleep(time.Second)
		close(late)
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, queued(), 2000, "one poll above the bound at most")
		close(hold)
	})
}

// A key of which a handler was left behind does not run beside it when its partition comes back to the same process.
func TestAKeyDoesNotRunBesideAHandlerLeftBehind(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		late := make(chan struct{})
		var running, overlaps, tries atomic.Int32
		var others journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.ID != "o" {
				others.add("%d", e.Payload.Number)
				return nil
			}
			if running.Add(1) > 1 {
				overlaps.Add(1)
			}
			defer running.Add(-1)
			if tries.Add(1) == 1 {
				<-late // ignores its ctx
			}
			return nil
		}, nil, nil)
		publish(w, bus, 2)
		require.NoError(t, bus.Publish(context.Background(), w.order("p", 7)))
		w.until("runs", func() bool { return running.Load() == 1 })
		time.Sleep(time.Second)
		loseSession(w)
		w.until("left behind", func() bool { return bus.Metrics().Detached == 1 })
		time.Sleep(20 * time.Second)
		require.NoError(t, bus.Publish(context.Background(), w.order("p", 8)))
		w.until("others go on", func() bool { a := others.all(); return len(a) > 0 && a[len(a)-1] == "8" })
		require.Zero(t, overlaps.Load())
		close(late)
		w.until("committed", func() bool { return w.committed() == 4 })
		require.EqualValues(t, 3, tries.Load(), "its result is ignored")
	})
}

// What one group lets go of the bus's budget is another's to use, at once and not at its next event. That has its share, and more, parked.
func TestABudgetThatIsFreeAgainIsUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		const parked, others = 1600, 300
		other := eventbus.NewTopic("acme.other", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		bus := w.bus(func(c *eventbus.Config) { c.MaxInFlight = parked + others })
		for i := range parked {
			require.NoError(t, bus.Publish(context.Background(), w.order("o", i)))
		}
		for i := range others {
			require.NoError(t, bus.Publish(context.Background(), other.New(order{ID: "o", Number: i})))
		}
		hold := make(chan struct{})
		var seen journal
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{w.orders.Handle(func(_ context.Context, e *eventbus.BaseEvent[order]) error {
				if e.Payload.ID == "o" {
					return eventbus.RetryAfter(errors.New("rate limit"), time.Hour)
				}
				seen.add("%d", e.Payload.Number)
				return nil
			}, nil)}
		})
		w.until("one key waits, with the others behind it", func() bool { return bus.Metrics().InFlight == parked })
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(ctx, eventbus.Subscription{Group: "other", Routes: []eventbus.Route{other.Handle(func(context.Context, *eventbus.BaseEvent[order]) error {
				<-hold
				return nil
			}, nil)}})
		}()
		w.until("the budget is used up", func() bool { return bus.Metrics().InFlight == parked+others })
		require.NoError(t, bus.Publish(context.Background(), w.order("p", 1)))
		w.until("it is handled on top, and then the partition is paused", func() bool { return len(seen.all()) == 1 && bus.Metrics().Paused == 2 })
		require.NoError(t, bus.Publish(context.Background(), w.order("p", 2)))
		time.Sleep(5 * time.Second)
		require.Len(t, seen.all(), 1)
		close(hold)
		w.until("the other group is through", func() bool { return bus.Metrics().InFlight <= parked+2 })
		w.until("the other key is handled", func() bool { return len(seen.all()) == 2 })
		cancel()
		require.NoError(t, <-ended)
	}, kfake.SeedTopics(1, "acme.other", "acme.other.dlq.other"))
}

func TestATimeoutThatOverflowsIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for _, r := range []*running{
			w.run(bus, ignore, &eventbus.HandleOptions{Timeout: math.MaxInt64}, nil),
			w.run(bus, ignore, nil, func(s *eventbus.Subscription) { s.Group = "g2"; s.DrainTimeout = math.MaxInt64 }),
		} {
			select {
			case err := <-r.ended:
				require.ErrorContains(t, err, "RebalanceTimeout")
			case <-time.After(5 * time.Second):
				require.Fail(t, "it runs")
			}
		}
	})
}

// A dead letter that is on its way when its partition is lost leaves no trouble behind.
func TestALetterOfALostPartitionIsNoTrouble(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		hold := make(chan struct{})
		w.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			if p := req.(*kmsg.ProduceRequest); len(p.Topics) == 1 && w.cluster.TopicIDInfo(p.Topics[0].TopicID) != nil &&
				w.cluster.TopicIDInfo(p.Topics[0].TopicID).Topic == orders+".dlq.group" {
				w.cluster.SleepControl(func() { <-hold })
			}
			return nil, nil, false
		})
		var tries atomic.Int32
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			if tries.Add(1) == 1 {
				return eventbus.Permanent(errors.New("no"))
			}
			return nil
		}, nil, nil)
		publish(w, bus, 1)
		w.until("refused", func() bool { return tries.Load() == 1 })
		loseSession(w)
		w.until("again, and handled", func() bool { return tries.Load() == 2 })
		time.Sleep(10 * time.Second)
		close(hold)
		time.Sleep(30 * time.Second)
		require.Empty(t, bus.Health(context.Background()).Groups[0].Problems)
	}, kfake.SleepOutOfOrder())
}

// The end of an outage is no reason to try an event before the time that its handler asked for.
func TestTheEndOfAnOutageKeepsRetryAfter(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var down outage
		var limited journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.ID == "limited" {
				limited.add("try")
				if len(limited.all()) == 1 {
					return eventbus.RetryAfter(errors.New("rate limit"), 10*time.Minute)
				}
				return nil
			}
			return down.call()
		}, nil, nil)
		require.NoError(t, bus.Publish(context.Background(), w.order("limited", 0)))
		w.until("limited", func() bool { return len(limited.all()) == 1 })
		down.away.Store(true)
		for i := range 10 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		w.until("open", func() bool { return bus.Metrics().BreakerOpened == 1 })
		time.Sleep(5 * time.Second)
		down.away.Store(false)
		time.Sleep(15 * time.Minute)
		require.Equal(t, []time.Duration{10 * time.Minute}, limited.gaps())
	})
}

// What waits while a route is paused is to be seen, and begins afresh when it goes on: its tries were the outage's.
func TestAllThatAnOutageFailedBeginsAfresh(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var down outage
		down.away.Store(true)
		var flap atomic.Int32
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if err := down.call(); err != nil {
				return err
			}
			if flap.Add(1) > 1 && flap.Load() <= 5 { // the probe is answered; the next four are too many at once for what just came back
				return errors.New("overloaded")
			}
			return nil
		}, nil, nil)
		for i := range 4 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		time.Sleep(400 * time.Millisecond)
		require.NoError(t, bus.Publish(context.Background(), w.order("o4", 4)))
		w.until("open", func() bool { return bus.Metrics().BreakerOpened == 1 })
		time.Sleep(20 * time.Second)
		require.EqualValues(t, 5, bus.Metrics().ParkedKeys)
		down.away.Store(false)
		w.until("all handled", func() bool { return w.committed() == 5 })
		require.Zero(t, bus.Metrics().DeadLettered)
	})
}

// The letters' topic may be deleted and made anew.
func TestADeadLetterTopicReCreatedIsWrittenTo(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return eventbus.Permanent(errors.New("no")) }, nil, nil)
		publish(w, bus, 1)
		w.until("written", func() bool { return w.held(orders+".dlq.group") == 1 })
		w.cluster.DeleteTopic(orders + ".dlq.group")
		time.Sleep(time.Second)
		publish(w, bus, 1)
		time.Sleep(5 * time.Second)
		require.NotEmpty(t, bus.Health(context.Background()).Groups[0].Problems)
		w.cluster.CreateTopic(orders+".dlq.group", 1, nil)
		w.until("written", func() bool { return w.held(orders+".dlq.group") == 1 })
		w.until("committed", func() bool { return w.committed() == 2 })
	})
}

// What is parked while a route is paused stays so where no slot is free to probe with.
func TestAProbeWithoutASlotUnparksNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		other := eventbus.NewTopic("acme.other", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		bus := w.bus(nil)
		hold := make(chan struct{})
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Concurrency = 1
			s.Routes = []eventbus.Route{
				w.orders.Handle(func(context.Context, *eventbus.BaseEvent[order]) error { return errors.New("no") }, nil),
				other.Handle(func(context.Context, *eventbus.BaseEvent[order]) error {
					<-hold
					return nil
				}, nil),
			}
		})
		for i := range 8 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		w.until("open", func() bool { return bus.Metrics().BreakerOpened == 1 })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 8, bus.Metrics().ParkedKeys)
		for i := range 5 {
			require.NoError(t, bus.Publish(context.Background(), other.New(order{ID: fmt.Sprint("o", i)})))
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 8, bus.Metrics().ParkedKeys)
		close(hold)
		time.Sleep(time.Minute)
		synctest.Wait() // a probe may be made at this very moment
		require.EqualValues(t, 8, bus.Metrics().ParkedKeys)
	}, kfake.SeedTopics(1, "acme.other", "acme.other.dlq.group"))
}

// The end of a Run is bounded where nothing answers any longer.
func TestAShutdownWithoutABrokerIsBounded(t *testing.T) {
	for name, frozen := range map[string]bool{"unreachable": false, "frozen": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var dead atomic.Bool
				w.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if dead.Load() {
						select {
						case <-ctx.Done():
							return nil, ctx.Err()
						case <-time.After(5 * time.Second): // the client's DialTimeout, which counts for its own dialer only
							return nil, os.ErrDeadlineExceeded
						}
					}
					return w.net.DialContext(ctx, network, address)
				}
				bus := w.bus(nil)
				var seen journal
				hold := make(chan struct{})
				r := w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
					if e.Payload.ID == "bad" {
						return eventbus.Permanent(errors.New("no"))
					}
					if e.Payload.ID == "slow" {
						<-hold
					}
					return handles(&seen)(ctx, e)
				}, nil, nil)
				publish(w, bus, 1)
				require.NoError(t, bus.Publish(context.Background(), w.order("slow", 1)))
				require.NoError(t, bus.Publish(context.Background(), w.order("late", 1)))
				w.until("handled", func() bool { return w.committed() == 1 })
				dead.Store(true)
				w.cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
					w.cluster.KeepControl()
					if frozen {
						return nil, nil, true
					}
					return nil, errors.New("cut"), dead.Load()
				})
				close(hold)
				time.Sleep(3 * time.Second)
				stopped := time.Now()
				_ = r.end()
				took := time.Since(stopped)
				dead.Store(false)
				time.Sleep(5 * time.Minute) // for what the client has left to end
				require.Less(t, took, 20*time.Second, "two commits, and leaving")
			})
		})
	}
}

// A member whose partition has gone to another has no trouble with committing it.
func TestARefusedCommitOfALostPartitionIsForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: -1})
		one, two := w.bus(nil), w.bus(nil)
		var seen journal
		w.run(one, handles(&seen), nil, nil)
		publish(w, one, 1)
		problems := func() int {
			g := one.Health(context.Background()).Groups
			if len(g) == 0 {
				return 0
			}
			return len(g[0].Problems)
		}
		w.until("named", func() bool { return problems() == 1 })
		require.Len(t, w.cluster.GroupInfo("group").Members, 1)
		member := w.cluster.GroupInfo("group").Members[0].MemberID
		w.run(two, handles(&seen), nil, nil)
		w.until("two members", func() bool { return len(w.cluster.GroupInfo("group").Members) == 2 })
		time.Sleep(10 * time.Second)
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID, Count: 1, TopLevel: true, When: func(r kmsg.Request) bool {
			return r.(*kmsg.HeartbeatRequest).MemberID == member
		}})
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group = "group"
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID = member
		leave.Members = append(leave.Members, m)
		_, err := leave.RequestWith(context.Background(), w.raw())
		require.NoError(t, err)
		w.until("the other has it", func() bool {
			g := two.Health(context.Background()).Groups
			return len(g) == 1 && len(g[0].Partitions) == 1
		})
		fault.Remove()
		time.Sleep(30 * time.Second)
		require.Zero(t, problems())
	})
}

// The time that an outage took is not taken from the Budget of an event: there is time to try it again when what it calls is back.
func TestAnOutageUsesUpNoBudget(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var down outage
		down.away.Store(true)
		var calls atomic.Int32
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			if err := down.call(); err != nil {
				return err
			}
			if n := calls.Add(1); n > 1 && n <= 4 { // the probe is answered; the next three are too many at once for what has just come back
				return errors.New("overloaded")
			}
			return nil
		}, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Budget: 10 * time.Second}}, nil)
		for i := range 10 {
			require.NoError(t, bus.Publish(context.Background(), w.order(fmt.Sprint("o", i), i)))
		}
		time.Sleep(30 * time.Second)
		down.away.Store(false)
		w.until("all handled", func() bool { return w.committed() == 10 })
		require.Zero(t, bus.Metrics().DeadLettered)
	})
}
