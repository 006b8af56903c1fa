package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

func TestRunReturnsNilWhateverTheCauseOfTheEndIs(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		ctx, cancel := context.WithCancelCause(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(ctx, eventbus.Subscription{Group: "group", Routes: []eventbus.Route{
				w.orders.Handle(func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil)}})
		}()
		require.NoError(t, bus.WaitReady(context.Background()))
		cancel(errors.New("another service of the errgroup failed"))
		require.NoError(t, <-ended)
	})
}

func TestFailFastIsForTheStart(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		r := w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil,
			func(s *eventbus.Subscription) { s.FailFast = true })
		require.NoError(t, bus.WaitReady(context.Background()))
		time.Sleep(time.Hour)
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup, kmsg.Heartbeat}, Err: kerr.UnknownServerError, Count: 60})
		select {
		case err := <-r.ended:
			t.Fatalf("an hour after its start, at %v: %v", w.took(), err)
		case <-time.After(5 * time.Minute):
		}
		require.True(t, bus.Health(context.Background()).Ready)
		require.NoError(t, r.end())
	})
}

func TestABadSecondSubscriptionIsAnErrorAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		h := w.orders.Handle(func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil)
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(context.Background(), eventbus.Subscription{Group: "group", Routes: []eventbus.Route{h}},
				eventbus.Subscription{Group: "group-2", Routes: []eventbus.Route{h}, SessionTimeout: 50 * time.Millisecond})
		}()
		require.ErrorContains(t, <-ended, "SessionTimeout")
		require.Zero(t, w.took())
	})
}

func TestABadLastSubscriptionDoesNotDeadlock(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		h := w.orders.Handle(func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil)
		var subs []eventbus.Subscription
		for i := range 40 {
			subs = append(subs, eventbus.Subscription{Group: fmt.Sprint("group-", i), Routes: []eventbus.Route{h}})
		}
		subs = append(subs, eventbus.Subscription{Group: "last", Routes: []eventbus.Route{h}, SessionTimeout: 50 * time.Millisecond})
		require.Error(t, bus.Run(context.Background(), subs...))
	})
}

func TestTheFatalErrorOfOneDrainsAll(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(context.Background(), eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}},
				eventbus.Subscription{Group: "other", FailFast: true, Routes: []eventbus.Route{eventbus.NewTopic[order]("acme.none", nil).Handle(ignore, nil)}})
		}()
		select {
		case err := <-ended:
			require.ErrorContains(t, err, "acme.none")
		case <-time.After(time.Minute):
			t.Fatal("the other one runs on")
		}
	})
}

func TestAFailureAtTheStopSpendsNoAttempt(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		began := make(chan struct{})
		r := w.run(bus, func(ctx context.Context, _ *eventbus.BaseEvent[order]) error {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		}, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: 1}}, func(s *eventbus.Subscription) { s.DrainTimeout = time.Second })
		publish(w, bus, 1)
		<-began
		require.NoError(t, r.end())
		require.Zero(t, w.held(orders+".dlq.group"), "it was the last try, and it was no failure")
		require.EqualValues(t, -1, w.committed())
	})
}

func TestAHookThatPanicsStopsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{{
				Published: func(eventbus.PublishedInfo) { panic("published") },
				Handled:   func(eventbus.HandledInfo) { panic("handled") },
				Parked:    func(eventbus.ParkedKey) { panic("parked") },
			}}
		})
		var seen journal
		r := w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			if d, _ := eventbus.DeliveryFrom(ctx); d.Attempt == 1 {
				return errors.New("no")
			}
			return handles(&seen)(ctx, e)
		}, nil, nil)
		publish(w, bus, 5)
		w.until("all are handled", func() bool { return w.committed() == 5 })
		require.Len(t, seen.all(), 5)
		require.NoError(t, r.end())
	})
}

// Brokers that are away may be back: only what waiting will not mend is fast to fail.
func TestFailFastWaitsForBrokers(t *testing.T) {
	for name, dial := range map[string]func(ctx context.Context, network, address string) (net.Conn, error){
		"refused": func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") },
		"a black hole": func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(5 * time.Second)
			return nil, errors.New("i/o timeout")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var up atomic.Bool
				w.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if up.Load() {
						return w.net.DialContext(ctx, network, address)
					}
					return dial(ctx, network, address)
				}
				bus := w.bus(nil)
				r := w.run(bus, ignore, nil, func(s *eventbus.Subscription) { s.FailFast = true })
				time.Sleep(20 * time.Second)
				require.Empty(t, r.ended)
				require.NotEmpty(t, bus.Health(context.Background()).Error)
				up.Store(true)
				require.NoError(t, bus.WaitReady(context.Background()))
			})
		})
	}
}

func TestWaitReadyWaitsForTheTopics(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			for _, topic := range r.(*kmsg.MetadataRequest).Topics {
				if topic.Topic != nil && *topic.Topic == "acme.lonely.dlq.group" {
					return nil, nil, true // no answer
				}
			}
			return nil, nil, false
		})
		lonely := eventbus.NewTopic[order]("acme.lonely", nil)
		w.run(bus, ignore, nil, func(s *eventbus.Subscription) { s.Routes = []eventbus.Route{lonely.Handle(ignore, nil)} })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.Error(t, bus.WaitReady(ctx), "nobody has seen its dead-letter topic, which is missing")
	}, kfake.SeedTopics(1, "acme.lonely"))
}

// Describe without Read is what a service has that only publishes.
func TestATopicThatMayNotBeReadIsNamed(t *testing.T) {
	allow := func(kind kmsg.ACLResourceType, name string, ops ...kmsg.ACLOperation) (acls []kfake.ACL) {
		for _, op := range ops {
			acls = append(acls, kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true})
		}
		return acls
	}
	var acls []kfake.ACL
	acls = append(acls, allow(kmsg.ACLResourceTypeTopic, orders, kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite)...)
	acls = append(acls, allow(kmsg.ACLResourceTypeTopic, orders+".dlq.group", kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite)...)
	acls = append(acls, allow(kmsg.ACLResourceTypeGroup, "group", kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)...)
	inWorld(t, func(w *world) {
		login := func(c *eventbus.Config) { c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism() }
		bus := w.bus(login)
		publish(w, bus, 3)
		w.run(bus, ignore, nil, nil)
		time.Sleep(time.Minute)
		h := bus.Health(context.Background())
		t.Logf("%+v", h)
		if h.Ready {
			t.Error("ready, and can read nothing")
		}
		r := w.run(w.bus(login), ignore, nil, func(s *eventbus.Subscription) { s.FailFast = true })
		select {
		case err := <-r.ended:
			require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
		case <-time.After(time.Minute):
			t.Error("FailFast waits for ever")
		}
	}, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "bob", "bob", acls...))
}

func TestATopicThatComesLateIsReadAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		late := eventbus.NewTopic[order]("acme.late", nil)
		bus := w.bus(nil)
		var seen journal
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil), late.Handle(handles(&seen), nil)}}
		w.run(bus, nil, nil, func(s *eventbus.Subscription) { *s = sub })
		time.Sleep(10 * time.Minute)
		created := time.Now()
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		require.NoError(t, bus.Publish(context.Background(), late.New(order{ID: "o"})))
		w.until("handled", func() bool { return len(seen.all()) == 1 })
		require.Less(t, time.Since(created), 10*time.Second)
	})
}

func TestThePrefixIsInEveryNameInKafka(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.TopicPrefix = "p." })
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(func(context.Context, *eventbus.BaseEvent[order]) error {
			return eventbus.Permanent(errors.New("no"))
		}, nil)}}
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		w.run(bus, nil, nil, func(s *eventbus.Subscription) { *s = sub })
		require.NoError(t, bus.WaitReady(context.Background()))
		for range 10 {
			publish(w, bus, 1)
		}
		w.until("all dead-lettered", func() bool { return bus.Metrics().DeadLettered == 10 })
		require.Len(t, w.read("p.acme.orders.dlq.p.group", 10), 10)
		require.Equal(t, "p.group", bus.Health(context.Background()).Groups[0].Group)
		require.NotNil(t, w.cluster.GroupInfo("p.group"))
		require.Nil(t, w.cluster.GroupInfo("group"))
		require.Zero(t, w.held(orders))
	})
}

func TestAMissingDeadLetterTopicIsNotReady(t *testing.T) {
	inWorld(t, func(w *world) {
		lonely := eventbus.NewTopic[order]("acme.lonely", nil)
		bus := w.bus(nil)
		w.run(bus, handles(new(journal)), nil, func(s *eventbus.Subscription) { s.Routes = []eventbus.Route{lonely.Handle(ignore, nil)} })
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.ErrorContains(t, bus.WaitReady(ctx), "acme.lonely.dlq.group")
		require.False(t, bus.Health(context.Background()).Ready)
	}, kfake.SeedTopics(1, "acme.lonely"))
}
