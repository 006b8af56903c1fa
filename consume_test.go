package eventbus_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

// publish publishes orders of one key, numbered from 0.
func publish(w *world, bus *eventbus.Bus, n int) {
	for i := range n {
		require.NoError(w, bus.Publish(context.Background(), w.order("o", i)))
	}
}

func TestRetriesWait100And200And400Milliseconds(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(noHold)
		var tries journal
		r := w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			tries.add("try")
			return errors.New("no")
		}, nil, nil)
		publish(w, bus, 1)
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		require.Equal(t, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}, tries.gaps())
		require.NoError(t, r.end())
	})
}

func TestRetryPolicyOfARoute(t *testing.T) {
	for name, test := range map[string]struct {
		policy eventbus.RetryPolicy
		err    error
		gaps   []time.Duration
	}{
		"capped": {eventbus.RetryPolicy{Attempts: 5, Initial: time.Second, Max: 3 * time.Second, Jitter: -1, OutageHold: -1}, errors.New("no"),
			[]time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}},
		"the waits are the bus's": {eventbus.RetryPolicy{Attempts: 3}, errors.New("no"), []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}},
		"once":                    {eventbus.RetryPolicy{Attempts: 1, OutageHold: -1}, errors.New("no"), nil},
		"permanent":               {eventbus.RetryPolicy{}, eventbus.Permanent(errors.New("no")), nil},
		"retry after":             {eventbus.RetryPolicy{Attempts: 3, OutageHold: -1}, eventbus.RetryAfter(errors.New("no"), 7*time.Second), []time.Duration{7 * time.Second, 7 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) {
					c.Retry = eventbus.RetryPolicy{Initial: 50 * time.Millisecond, Jitter: -1, OutageHold: -1}
				})
				var tries journal
				w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
					tries.add("try")
					return test.err
				}, &eventbus.HandleOptions{Retry: &test.policy}, nil)
				publish(w, bus, 1)
				w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
				require.Equal(t, test.gaps, tries.gaps())
			})
		})
	}
}

func TestJitterStaysWithinItsPart(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var tries journal
		policy := eventbus.RetryPolicy{Attempts: 200, Initial: time.Second, Max: time.Second, Jitter: 0.2} // the bus of these tests has none
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			tries.add("try")
			return errors.New("no")
		}, &eventbus.HandleOptions{Retry: &policy}, func(s *eventbus.Subscription) {})
		publish(w, bus, 1)
		time.Sleep(4 * time.Minute)
		gaps := tries.gaps()
		require.GreaterOrEqual(t, slices.Min(gaps), 800*time.Millisecond)
		require.LessOrEqual(t, slices.Max(gaps), time.Second, "Max caps the jitter too")
		require.Greater(t, slices.Max(gaps)-slices.Min(gaps), 50*time.Millisecond)
	})
}

func TestHandlerThatEndsItsGoroutine(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			seen.add("%d", e.Payload.Number)
			if e.Payload.Number == 0 {
				runtime.Goexit()
			}
			return nil
		}, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: 1}}, nil)
		publish(w, bus, 2)
		w.until("the next one is handled", func() bool { return slices.Contains(seen.all(), "1") })
		require.EqualValues(t, 1, w.held(orders+".dlq.group"))
	})
}

func TestDeadLetterThatCannotBeWrittenHoldsTheOffset(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: orders + ".dlq.group", Err: kerr.NotEnoughReplicas, Count: -1})
		var seen journal
		r := w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			seen.add("%d", e.Payload.Number)
			if e.Payload.Number == 2 {
				return eventbus.Permanent(errors.New("no"))
			}
			return nil
		}, nil, nil)
		publish(w, bus, 4)
		w.until("two are committed", func() bool { return w.committed() == 2 })
		for range 6 {
			time.Sleep(10 * time.Second)
			require.EqualValues(t, 2, w.committed(), "the offset does not pass it")
			require.Equal(t, []string{"0", "1", "2"}, seen.all())
		}
		fault.Remove()
		w.until("all are committed", func() bool { return w.committed() == 4 })
		require.EqualValues(t, 1, w.held(orders+".dlq.group"))
		require.NoError(t, r.end())
	})
}

func TestTooLargeADeadLetterLosesItsStackAndItsText(t *testing.T) {
	inWorld(t, func(w *world) {
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: orders + ".dlq.group", Err: kerr.MessageTooLarge, Count: 2})
		bus := w.bus(nil)
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { panic("no") },
			&eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: 1}}, nil)
		publish(w, bus, 1)
		w.until("written", func() bool { return w.held(orders+".dlq.group") == 1 })
		letter := w.read(orders+".dlq.group", 1)[0]
		d, err := eventbus.ParseDeadLetter(letter)
		require.NoError(t, err)
		require.Empty(t, d.Stack)
		require.Empty(t, d.Error)
		require.Equal(t, w.read(orders, 1)[0].Value, letter.Value, "never its value")
	})
}

// One that its topic does not take at all would hold its key for ever: it is named instead.
func TestALetterThatIsAlwaysTooLargeBecomesAReference(t *testing.T) {
	inWorld(t, func(w *world) {
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: orders + ".dlq.group", Err: kerr.MessageTooLarge, Count: 3})
		bus := w.bus(nil)
		var seen journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			seen.add("%d", e.Payload.Number)
			if e.Payload.Number == 0 {
				return eventbus.Permanent(errors.New("no"))
			}
			return nil
		}, nil, nil)
		publish(w, bus, 2)
		w.until("all is committed", func() bool { return w.committed() == 2 })
		require.Equal(t, []string{"0", "1"}, seen.all())
		letter := w.read(orders+".dlq.group", 1)[0]
		d, err := eventbus.ParseDeadLetter(letter)
		require.NoError(t, err)
		require.Equal(t, []any{eventbus.ClassPermanent, int64(0), int64(1)}, []any{d.Class, d.Offset, d.Until})
		require.Equal(t, w.read(orders, 1)[0].Timestamp.UnixMilli(), d.Timestamp.UnixMilli())
		require.Nil(t, letter.Key)
		require.Nil(t, letter.Value)
	})
}

// read reads n records of a topic.
func (w *world) read(topic string, n int) []*kgo.Record {
	cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(w, err)
	defer cl.Close()
	var records []*kgo.Record
	for len(records) < n {
		records = append(records, cl.PollFetches(context.Background()).Records()...)
	}
	return records
}

func TestDrainIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		started, never := make(chan struct{}), make(chan struct{})
		r := w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			close(started)
			<-never // ignores its ctx
			return nil
		}, nil, func(s *eventbus.Subscription) { s.DrainTimeout = 5 * time.Second })
		publish(w, bus, 1)
		<-started
		stopped := time.Now()
		require.ErrorContains(t, r.end(), "1 handlers did not end within DrainTimeout 5s")
		require.InDelta(t, 7*time.Second, time.Since(stopped), float64(2*time.Second))
		require.EqualValues(t, -1, w.committed(), "what did not end is not committed")
		close(never)
	})
}

func TestHandlerTimeout(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			started := time.Now()
			<-ctx.Done()
			seen.add("%v", time.Since(started))
			return ctx.Err()
		}, &eventbus.HandleOptions{Timeout: 3 * time.Second, Retry: &eventbus.RetryPolicy{Attempts: 1, OutageHold: -1}}, nil)
		publish(w, bus, 1)
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		require.Equal(t, []string{"3s"}, seen.all())
		d, err := eventbus.ParseDeadLetter(w.read(orders+".dlq.group", 1)[0])
		require.NoError(t, err)
		require.Equal(t, eventbus.ClassTimeout, d.Class)
	})
}

// A member that lost its partition finishes late. Marked or committed by topic and partition, its offset would rewind the new
// owner's commit; no broker refuses it.
func TestLateResultDoesNotTouchTheNewOwner(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.bus(nil), w.bus(nil)
		release, began := make(chan struct{}), make(chan struct{})
		var byOne, byTwo journal
		quick := func(s *eventbus.Subscription) {
			s.DrainTimeout = time.Second
			s.RebalanceTimeout = 20 * time.Second
		}
		short := &eventbus.HandleOptions{Timeout: 10 * time.Second}
		first := w.run(one, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 3 {
				close(began)
				<-release // ignores its ctx
			}
			byOne.add("%d", e.Payload.Number)
			return nil
		}, short, quick)
		publish(w, one, 10)
		<-began
		// The partition moves: the first member leaves it behind at its shutdown, and the second takes over.
		stopped := make(chan error, 1)
		go func() { stopped <- first.end() }()
		second := w.run(two, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			byTwo.add("%d", e.Payload.Number)
			return nil
		}, short, quick)
		w.until("the new owner has committed all", func() bool { return w.committed() == 10 })
		close(release)
		require.ErrorContains(t, <-stopped, "did not end")
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			require.EqualValues(t, 10, w.committed())
		}
		require.Equal(t, []string{"0", "1", "2", "3"}, byOne.all())
		require.Equal(t, []string{"3", "4", "5", "6", "7", "8", "9"}, byTwo.all(), "what was in flight comes again, nothing else")
		require.NoError(t, second.end())
	})
}

func TestRefusedCommitsLoseNothing(t *testing.T) {
	for _, code := range []*kerr.Error{
		kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.RequestTimedOut, kerr.CoordinatorNotAvailable,
		kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.GroupAuthorizationFailed, kerr.UnknownServerError,
	} {
		t.Run(code.Message, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: code, Count: 5})
				bus := w.bus(nil)
				var seen journal
				r := w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					seen.add("%d", e.Payload.Number)
					return nil
				}, nil, nil)
				publish(w, bus, 5)
				w.until("committed in the end", func() bool { return w.committed() == 5 })
				require.Subset(t, seen.all(), []string{"0", "1", "2", "3", "4"})
				require.NoError(t, r.end())
			})
		})
	}
}

func TestAWrongPasswordIsNamedWhileConsuming(t *testing.T) {
	inWorld(t, func(w *world) {
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1, TopLevel: true})
		login := func(c *eventbus.Config) { c.SASL = plain.Auth{User: "ada", Pass: "right"}.AsMechanism() }
		handler := func(context.Context, *eventbus.BaseEvent[order]) error { return nil }
		fast := w.run(w.bus(login), handler, nil, func(s *eventbus.Subscription) { s.FailFast = true })
		require.ErrorIs(t, <-fast.ended, kerr.SaslAuthenticationFailed)
		require.Less(t, w.took(), 5*time.Second)

		bus := w.bus(login)
		began := time.Now()
		slow := w.run(bus, handler, nil, nil)
		w.until("health names it", func() bool {
			h := bus.Health(context.Background())
			return len(h.Groups) == 1 && slices.ContainsFunc(h.Groups[0].Problems, func(p string) bool { return p != "" })
		})
		require.Less(t, time.Since(began), 5*time.Second)
		require.Contains(t, bus.Health(context.Background()).Groups[0].Problems[0], "SASL_AUTHENTICATION_FAILED")
		fault.Remove()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, bus.WaitReady(ctx), "it recovers by itself")
		require.NoError(t, slow.end())
	}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "ada", "right"))
}

func TestAForbiddenGroupIsNamed(t *testing.T) {
	topics := []kfake.ACL{}
	for _, op := range []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe} {
		topics = append(topics, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "acme.", Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: op, Allow: true})
	}
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism() })
		r := w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
		w.until("health names it", func() bool {
			h := bus.Health(context.Background())
			return len(h.Groups) == 1 && len(h.Groups[0].Problems) > 0
		})
		require.Less(t, w.took(), 5*time.Second)
		h := bus.Health(context.Background())
		require.Contains(t, h.Groups[0].Problems[0], "GROUP_AUTHORIZATION_FAILED")
		require.False(t, h.Ready)
		require.True(t, h.Live)
		require.NoError(t, r.end())
	}, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "bob", "bob", topics...))
}

func TestBackPressurePausesOnePartition(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		w.until("all published", func() bool { return w.held(orders) == 5000 })
		hold := make(chan struct{})
		var seen journal
		r := w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			<-hold
			seen.add("%d", e.Payload.Number)
			return nil
		}, nil, func(s *eventbus.Subscription) { s.MaxInFlight = 1000 })
		time.Sleep(10 * time.Second)
		p := bus.Health(context.Background()).Groups[0].Partitions[0]
		require.LessOrEqual(t, p.Queued, 2000, "one poll above the bound at most")
		require.EqualValues(t, 5000, p.Lag)
		close(hold)
		w.until("all handled", func() bool { return len(seen.all()) == 5000 })
		require.NoError(t, r.end())
		require.EqualValues(t, 5000, w.committed())
	})
}

func TestValidationReport(t *testing.T) {
	inWorld(t, func(w *world) {
		schema := []byte(`{"type":"object","properties":{"number":{"type":"integer","maximum":5}}}`)
		strict := eventbus.NewTopic(orders, &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }, Schema: schema})
		bus := w.bus(nil)
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 9)), "this writer has no schema")
		var seen journal
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(ctx, eventbus.Subscription{Group: "group", Validation: eventbus.ValidationReport, Routes: []eventbus.Route{
				strict.Handle(func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					seen.add("%d", e.Payload.Number)
					return nil
				}, nil),
			}})
		}()
		w.until("handled", func() bool { return len(seen.all()) == 1 })
		require.EqualValues(t, 1, bus.Metrics().SchemaReports)
		require.Zero(t, w.held(orders+".dlq.group"))
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestShutdownDrainsRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		began := make(chan struct{})
		r := w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number > 0 {
				return nil
			}
			close(began)
			time.Sleep(3 * time.Second) // the event that the handler publishes now must not be refused
			return bus.Publish(ctx, w.order("next", 1))
		}, nil, nil)
		publish(w, bus, 1)
		<-began
		require.NoError(t, bus.Shutdown(context.Background()))
		require.NoError(t, <-r.ended)
		require.EqualValues(t, 1, w.committed())
		require.EqualValues(t, 2, w.held(orders))
		require.ErrorIs(t, bus.Run(context.Background(), eventbus.Subscription{}), eventbus.ErrClosed)
	})
}

// A partition moves while its first owner goes on with another one: the late result must change neither's commits.
func TestLateResultAfterARebalance(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.two", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		one, two := w.bus(nil), w.bus(nil)
		for i := range 40 { // of both partitions
			require.NoError(t, one.Publish(context.Background(), topic.New(order{ID: string(rune('a' + i%20)), Number: i})))
		}
		release := make(chan struct{})
		subscription := func(h eventbus.Handler[order]) eventbus.Subscription {
			return eventbus.Subscription{
				Group: "group", DrainTimeout: time.Second, RebalanceTimeout: 20 * time.Second,
				Routes: []eventbus.Route{topic.Handle(h, &eventbus.HandleOptions{Timeout: 10 * time.Second})},
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 2)
		go func() {
			ended <- one.Run(ctx, subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
				<-release // every partition's first event is stuck, whatever its ctx says
				return nil
			}))
		}()
		w.until("the first member is stuck on both", func() bool {
			g := one.Health(context.Background()).Groups
			return len(g) == 1 && len(g[0].Partitions) == 2 && g[0].Partitions[0].Queued > 0 && g[0].Partitions[1].Queued > 0
		})
		go func() {
			ended <- two.Run(ctx, subscription(func(context.Context, *eventbus.BaseEvent[order]) error { return nil }))
		}()
		w.until("the second member has taken one over and is through", func() bool {
			g := two.Health(context.Background()).Groups
			return len(g) == 1 && len(g[0].Partitions) == 1 && g[0].Partitions[0].Lag == 0 && g[0].Partitions[0].Committed > 5
		})
		moved := two.Health(context.Background()).Groups[0].Partitions[0]
		close(release)
		w.until("the first member is through with its own", func() bool {
			g := one.Health(context.Background()).Groups
			return len(g) == 1 && len(g[0].Partitions) == 1 && g[0].Partitions[0].Lag == 0 && g[0].Partitions[0].Committed > 5
		})
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			require.Equal(t, moved.Committed, w.commits("acme.two")[moved.Partition], "the moved partition's commit stays")
		}
		cancel()
		<-ended
		<-ended
	}, kfake.SeedTopics(2, "acme.two", "acme.two.dlq.group"))
}

func TestStoppingIsBoundedWhileTheBrokerIsFrozen(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		r := w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			seen.add("%d", e.Payload.Number)
			return nil
		}, nil, nil)
		publish(w, bus, 3)
		w.until("handled", func() bool { return len(seen.all()) == 3 })
		w.cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			return nil, nil, true // swallowed
		})
		bus.PublishAsync(context.Background(), w.order("o", 4), nil)
		frozen := time.Now()
		_ = r.end()
		require.Less(t, time.Since(frozen), 12*time.Second, "5 s for the commit, 5 s to leave")
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		frozen = time.Now()
		require.ErrorContains(t, bus.Shutdown(ctx), "1 events were not acknowledged")
		require.Less(t, time.Since(frozen), 5*time.Second)
		time.Sleep(time.Minute) // the clients that were left closing end by themselves
	})
}

func TestADeadlineOfWhatTheHandlerCallsIsNoTimeout(t *testing.T) {
	inWorld(t, func(w *world) {
		var told []eventbus.HandledInfo
		bus := w.bus(func(c *eventbus.Config) {
			c.Hooks = []eventbus.Hooks{{}, {Handled: func(i eventbus.HandledInfo) { told = append(told, i) }}}
		})
		r := w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
			time.Sleep(time.Second)
			return context.DeadlineExceeded // as a database driver's
		}, &eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: 2, OutageHold: -1}}, nil)
		publish(w, bus, 1)
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		require.NoError(t, r.end())
		require.Len(t, told, 1)
		require.Equal(t, eventbus.ClassTransient, told[0].DeadLetter)
		require.Equal(t, 2, told[0].Attempts)
		require.Equal(t, time.Second, told[0].Took)
		require.GreaterOrEqual(t, told[0].Age, 2*time.Second)
		require.Equal(t, eventbus.KeyHash([]byte("o")), told[0].KeyHash)
	})
}

func TestMiddlewareThatSwapsTheEventIsToldSo(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) {
			c.Middleware = []eventbus.Middleware{func(next eventbus.RawHandler) eventbus.RawHandler {
				return func(ctx context.Context, e *eventbus.RawEvent) error {
					return next(ctx, &eventbus.RawEvent{EventID: e.EventID})
				}
			}}
		})
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
		publish(w, bus, 1)
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		d, err := eventbus.ParseDeadLetter(w.read(orders+".dlq.group", 1)[0])
		require.NoError(t, err)
		require.Equal(t, eventbus.ClassPermanent, d.Class)
		require.Contains(t, d.Error, "middleware")
	})
}

func TestMiddlewareRunsOutsideInForEachTry(t *testing.T) {
	inWorld(t, func(w *world) {
		var seen journal
		around := func(name string) eventbus.Middleware {
			return func(next eventbus.RawHandler) eventbus.RawHandler {
				return func(ctx context.Context, e *eventbus.RawEvent) error {
					d, _ := eventbus.DeliveryFrom(ctx)
					seen.add("%s %s %d", name, e.EventType, d.Attempt)
					return next(ctx, e)
				}
			}
		}
		bus := w.bus(func(c *eventbus.Config) { c.Middleware = []eventbus.Middleware{around("outer"), around("inner")} })
		w.run(bus, func(ctx context.Context, _ *eventbus.BaseEvent[order]) error {
			if d, _ := eventbus.DeliveryFrom(ctx); d.Attempt == 1 {
				return errors.New("again")
			}
			seen.add("handled")
			return nil
		}, nil, nil)
		publish(w, bus, 1)
		w.until("handled", func() bool { return len(seen.all()) == 5 })
		require.Equal(t, []string{"outer acme.orders 1", "inner acme.orders 1", "outer acme.orders 2", "inner acme.orders 2", "handled"}, seen.all())
	})
}

func TestAnEventIsHandledSoonAfterARestart(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.three", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			bus := w.bus(nil)
			handled := make(chan time.Time, 1)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() {
				ended <- bus.Run(ctx, eventbus.Subscription{Group: "group", Routes: []eventbus.Route{
					topic.Handle(func(context.Context, *eventbus.BaseEvent[order]) error {
						handled <- time.Now()
						return nil
					}, nil),
				}})
			}()
			require.NoError(t, bus.WaitReady(context.Background()))
			time.Sleep(200 * time.Millisecond)
			published := time.Now()
			require.NoError(t, bus.Publish(context.Background(), topic.New(order{ID: key})))
			require.Less(t, (<-handled).Sub(published), time.Second)
			cancel()
			require.NoError(t, <-ended)
		}
	}, kfake.SeedTopics(3, "acme.three", "acme.three.dlq.group"))
}

func TestAMemberOfAnotherKindIsNamed(t *testing.T) {
	inWorld(t, func(w *world) {
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InconsistentGroupProtocol, Count: -1})
		bus := w.bus(nil)
		r := w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
		w.until("health names it", func() bool {
			h := bus.Health(context.Background())
			return len(h.Groups) == 1 && len(h.Groups[0].Problems) > 0
		})
		require.Less(t, w.took(), 5*time.Second)
		require.Contains(t, bus.Health(context.Background()).Groups[0].Problems[0], "such as kafkajs, is a member: move a group as a whole")
		fault.Remove() // the TypeScript members are stopped
		require.NoError(t, bus.WaitReady(context.Background()))
		require.NoError(t, r.end())
	})
}

// pauses proves the race between dispatch and next.
func TestPauseIsNotLost(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 5000 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		w.until("all published", func() bool { return w.held(orders) == 5000 })
		var seen journal
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			seen.add("%d", e.Payload.Number)
			return nil
		}, nil, nil)
		time.Sleep(time.Minute)
		t.Logf("%+v", bus.Health(context.Background()))
		require.Len(t, seen.all(), 5000)
	})
}

func TestBackPressureCountsBytes(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 40 {
			require.NoError(t, bus.Publish(context.Background(), w.order(strings.Repeat("o", 400_000), i)))
		}
		hold := make(chan struct{})
		var seen journal
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			<-hold
			return handles(&seen)(ctx, e)
		}, nil, nil)
		time.Sleep(10 * time.Second)
		require.Less(t, bus.Health(context.Background()).Groups[0].Partitions[0].Queued, 15, "8 MiB and a fetch")
		close(hold)
		w.until("all handled", func() bool { return len(seen.all()) == 40 })
	})
}

func TestAnAbortedTransactionIsNotHandled(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.TransactionalID("tx"))...)
		require.NoError(t, err)
		defer cl.Close()
		for i, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			require.NoError(t, cl.BeginTransaction())
			r, err := bus.Encode(context.Background(), w.order("o", i))
			require.NoError(t, err)
			require.NoError(t, cl.ProduceSync(context.Background(), r).FirstErr())
			require.NoError(t, cl.EndTransaction(context.Background(), end))
		}
		var seen journal
		w.run(bus, handles(&seen), nil, nil)
		w.until("the committed one", func() bool { return len(seen.all()) > 0 })
		require.Equal(t, []string{"1"}, seen.all())
		history, err := eventbus.Fold(context.Background(), bus, "o", nil, eventbus.On(w.orders, func(s []int, e *eventbus.BaseEvent[order]) []int {
			return append(s, e.Payload.Number)
		}))
		require.NoError(t, err)
		require.Equal(t, []int{1}, history)
	})
}
