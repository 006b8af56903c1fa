package bustest_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/embedded"
)

// inVirtualTime runs test with a bus whose waits take no real time. Its topics have one partition.
func inVirtualTime(t *testing.T, prefix string, test func(t *testing.T, bus *bustest.Bus)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var net kfake.VirtualNetwork
		broker, err := embedded.Start(embedded.Options{Port: 9092, Listen: net.Listen, Partitions: 1, TopicPrefix: prefix})
		require.NoError(t, err)
		t.Cleanup(broker.Close)
		test(t, bustest.NewWith(t, bustest.Options{Broker: broker, Timeout: time.Minute, Config: eventbus.Config{
			TopicPrefix: prefix, Client: []kgo.Opt{kgo.Dialer(net.DialContext)}, Logger: slog.New(slog.DiscardHandler),
		}}))
	})
}

// stored is how many events of user.created the broker has.
func stored(bus *bustest.Bus, prefix string) int {
	return int(bus.Broker.Cluster().PartitionInfo(prefix+eventbus.TopicUserCreated, 0).HighWatermark)
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// Each action, on publishing: how often, whether the event is written, once, and how long it takes.
func TestActionsOnProduce(t *testing.T) {
	for name, test := range map[string]struct {
		fault       bustest.Fault
		hits        int
		least, most time.Duration
	}{
		"fail before the work":      {bustest.Fault{Times: 3, Do: bustest.Fail(kerr.NotEnoughReplicas)}, 3, time.Millisecond, 5 * time.Second},
		"fail after the work":       {bustest.Fault{Times: 2, Do: bustest.Fail(kerr.NotEnoughReplicasAfterAppend)}, 2, time.Millisecond, 5 * time.Second},
		"time out after the work":   {bustest.Fault{Times: 1, Do: bustest.Fail(kerr.RequestTimedOut)}, 1, time.Millisecond, 5 * time.Second},
		"delay":                     {bustest.Fault{Times: 1, Do: bustest.Delay(7 * time.Second)}, 1, 7 * time.Second, 8 * time.Second},
		"delay of the answer":       {bustest.Fault{Times: 1, Do: bustest.DelayAnswer(7 * time.Second)}, 1, 7 * time.Second, 8 * time.Second},
		"cut before the work":       {bustest.Fault{Times: 2, Do: bustest.Cut()}, 2, time.Millisecond, 5 * time.Second},
		"cut instead of the answer": {bustest.Fault{Times: 2, Do: bustest.CutAnswer()}, 2, time.Millisecond, 5 * time.Second},
		"silence":                   {bustest.Fault{Times: 1, Do: bustest.Silence()}, 1, 5 * time.Second, 29 * time.Second},
		"after two":                 {bustest.Fault{After: 2, Times: 1, Do: bustest.Fail(kerr.NotEnoughReplicas)}, 0, 0, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
				publish(t, bus, user("u-0")) // the producer has its id
				test.fault.Request, test.fault.Topic = bustest.Produce, eventbus.TopicUserCreated
				faults := bus.Fault(test.fault)
				began := time.Now()
				publish(t, bus, user("u-1"))
				took := time.Since(began)
				require.Equal(t, test.hits, faults.Hits())
				require.GreaterOrEqual(t, took, test.least)
				require.LessOrEqual(t, took, test.most)
				require.Equal(t, 2, stored(bus, ""), "the producer's retries are not doubled")

				publish(t, bus, user("u-2"))
				require.Equal(t, test.hits, faults.Hits(), "no more than Times, or not yet")
			})
		})
	}
}

// What the client is told and what the broker did are two things.
func TestBeforeAndAfterTheWork(t *testing.T) {
	for name, test := range map[string]struct {
		do   bustest.Action
		done int
	}{
		"fail":       {bustest.Fail(kerr.NotEnoughReplicas), 0},
		"fail after": {bustest.Fail(kerr.NotEnoughReplicasAfterAppend), 1},
		"delay":      {bustest.Delay(time.Hour), 0},
		"answer":     {bustest.DelayAnswer(time.Hour), 1},
		"cut":        {bustest.Cut(), 0},
		"cut after":  {bustest.CutAnswer(), 1},
		"silence":    {bustest.Silence(), 0},
		"refuse":     {bustest.Refuse(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
				publish(t, bus, user("u-0"))
				fault := bustest.Fault{Request: bustest.Produce, Do: test.do}
				if name == "refuse" {
					fault.Request = bustest.Any
				}
				faults := bus.Fault(fault)
				ctx, cancel := within(20 * time.Second)
				defer cancel()
				require.ErrorIs(t, bus.Publish(ctx, user("u-1")), eventbus.ErrOutcomeUnknown)
				require.Equal(t, 1+test.done, stored(bus, ""))

				faults.Remove()
				faults.Remove()
				publish(t, bus, user("u-2"))
				require.Equal(t, 3, stored(bus, ""), "both are written in the end, once")
			})
		})
	}
}

func TestFiltersByTopic(t *testing.T) {
	inVirtualTime(t, "staging.", func(t *testing.T, bus *bustest.Bus) {
		faults := bus.Fault(bustest.Fault{Request: bustest.Produce, Topic: eventbus.TopicUserCreated, Do: bustest.Fail(kerr.TopicAuthorizationFailed)})
		other := eventbus.UserDeleted.New(eventbus.UserDeletedPayload{UserID: "u-1"})
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		err := bus.Publish(ctx, other, user("u-1"))
		failed, ok := errors.AsType[*eventbus.PublishError](err)
		require.True(t, ok)
		require.NoError(t, failed.Errors[0], "the other topic of the same request is written")
		require.ErrorIs(t, failed.Errors[1], kerr.TopicAuthorizationFailed)
		require.Positive(t, faults.Hits())
		require.Zero(t, stored(bus, "staging."))
	})
}

func TestFiltersDeadLetterTopics(t *testing.T) {
	for _, prefix := range []string{"", "staging."} {
		inVirtualTime(t, prefix, func(t *testing.T, bus *bustest.Bus) {
			faults := bus.Fault(bustest.Fault{
				Request: bustest.Produce, Topic: eventbus.DeadLetterTopic(eventbus.TopicUserCreated, "group"), Times: 2, Do: bustest.Fail(kerr.NotEnoughReplicas),
			})
			bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
				return eventbus.Permanent(errors.New("no"))
			}))
			publish(t, bus, user("u-1"))
			faults.Wait(2)
			require.Eventually(t, func() bool { return bus.Metrics().DeadLettered == 1 }, time.Minute, time.Millisecond)
			require.Equal(t, 2, faults.Hits())
		})
	}
}

func TestFiltersRetryTopics(t *testing.T) {
	inVirtualTime(t, "staging.", func(t *testing.T, bus *bustest.Bus) {
		sub := handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil })
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		faults := bus.Fault(bustest.Fault{Request: bustest.Fetch, Topic: eventbus.RetryTopic(eventbus.TopicUserCreated, "group"), Do: bustest.Delay(time.Second)})
		bus.Start(sub)
		faults.Wait(1)
	})
}

// A fetch of a session under way names no topics: they are those of its connection.
func TestFiltersFetchesByTopic(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
		var handled atomic.Int32
		bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			handled.Add(1)
			return nil
		}))
		none := bus.Fault(bustest.Fault{Request: bustest.Fetch, Topic: eventbus.TopicUserDeleted, Do: bustest.Cut()})
		publish(t, bus, user("u-1"))
		require.Eventually(t, func() bool { return handled.Load() == 1 }, time.Minute, time.Millisecond)
		time.Sleep(30 * time.Second)
		require.Zero(t, none.Hits())

		script := bus.Fault(
			bustest.Fault{Request: bustest.Fetch, Topic: eventbus.TopicUserCreated, Times: 2, Do: bustest.Cut()},
			bustest.Fault{Request: bustest.Fetch, Topic: eventbus.TopicUserCreated, Times: 2, Do: bustest.Fail(kerr.NotLeaderForPartition)},
			bustest.Fault{Request: bustest.Fetch, Topic: eventbus.TopicUserCreated, Times: 1, Do: bustest.Delay(20 * time.Second)},
			bustest.Fault{Request: bustest.Fetch, Topic: eventbus.TopicUserCreated, Times: 1, Do: bustest.CutAnswer()},
		)
		script.Wait(5)
		publish(t, bus, user("u-2"))
		bustest.RequirePublished(t, bus, eventbus.UserCreated, func(e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) bool {
			return e.Payload.UserID == "u-2" // the test's own reader is left alone
		})
		require.Equal(t, 5, script.Hits())
		require.EqualValues(t, 1, handled.Load())
		require.Eventually(t, func() bool { return handled.Load() == 2 }, time.Minute, time.Millisecond)
		require.Equal(t, 6, script.Hits())
	})
}

// The requests of a group, each kind by each filter, and no other's.
func TestFiltersByGroup(t *testing.T) {
	for request, name := range map[bustest.Request]string{
		bustest.FindCoordinator: "FindCoordinator", bustest.JoinGroup: "JoinGroup", bustest.SyncGroup: "SyncGroup", bustest.Heartbeat: "Heartbeat",
		bustest.OffsetFetch: "OffsetFetch", bustest.OffsetCommit: "OffsetCommit", bustest.LeaveGroup: "LeaveGroup",
	} {
		for prefix, do := range map[string]bustest.Action{"": bustest.Cut(), "staging.": bustest.Fail(kerr.CoordinatorNotAvailable)} {
			t.Run(name+" "+prefix, func(t *testing.T) {
				inVirtualTime(t, prefix, func(t *testing.T, bus *bustest.Bus) {
					ours := bus.Fault(bustest.Fault{Request: request, Group: "group", Times: 1, Do: do})
					others := bus.Fault(bustest.Fault{Request: request, Group: "other", Do: do})
					var handled atomic.Int32
					stop := bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
						handled.Add(1)
						return nil
					}))
					publish(t, bus, user("u-1"))
					require.Eventually(t, func() bool { return handled.Load() == 1 }, time.Minute, time.Millisecond)
					time.Sleep(10 * time.Second) // a commit and heartbeats
					stop()
					require.Equal(t, 1, ours.Hits())
					require.Zero(t, others.Hits())
					require.EqualValues(t, 1, handled.Load())
				})
			})
		}
	}
}

// A lost answer to a commit: it was made.
func TestFiltersByGroupAndTopic(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
		commit := bustest.Fault{Request: bustest.OffsetCommit, Group: "group", Topic: eventbus.TopicUserCreated, Do: bustest.CutAnswer()}
		wrong := commit
		wrong.Topic = eventbus.TopicUserDeleted
		unmet, lost := bus.Fault(wrong), bus.Fault(commit)
		bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }))
		publish(t, bus, user("u-1"))
		lost.Wait(1)
		synctest.Wait()
		require.EqualValues(t, 1, bus.Broker.Cluster().GroupInfo("group").Commits[eventbus.TopicUserCreated][0].Offset)
		require.Zero(t, unmet.Hits())
		lost.Remove()
	})
}

// Two calls of Fault share nothing: a request that both would meet goes to the first.
func TestScriptsBesideEachOther(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
		publish(t, bus, user("u-0"))
		first := bus.Fault(bustest.Fault{Request: bustest.Produce, After: 1, Times: 1, Do: bustest.Fail(kerr.NotEnoughReplicas)})
		second := bus.Fault(bustest.Fault{Request: bustest.Produce, Times: 2, Do: bustest.Cut()})
		publish(t, bus, user("u-1"))
		require.Equal(t, 1, first.Hits(), "the first let one through, to the second")
		require.Equal(t, 2, second.Hits())
		require.Equal(t, 2, stored(bus, ""))
	})
}

// A broker that is down and comes back, in real time and with a real port.
func TestRefuseForReal(t *testing.T) {
	bus := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Logger: slog.New(slog.DiscardHandler)}})
	var handled atomic.Int32
	bus.Start(handling("group", func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		handled.Add(1)
		return nil
	}))
	down := bus.Fault(bustest.Fault{Do: bustest.Refuse()})
	require.Eventually(t, func() bool { return bus.Health(context.Background()).Status != "healthy" }, bustest.Timeout, 5*time.Millisecond)
	published := make(chan error, 1)
	go func() { published <- bus.Publish(context.Background(), user("u-1")) }()
	select {
	case err := <-published:
		t.Fatalf("a broker that is down answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	down.Remove()
	require.NoError(t, <-published)
	require.Eventually(t, func() bool { return handled.Load() == 1 }, bustest.Timeout, 5*time.Millisecond)
	require.Zero(t, down.Hits())
}

func TestFaultsThatCannotWorkFailTheTest(t *testing.T) {
	fail := bustest.Fail(kerr.NotEnoughReplicas)
	for want, faults := range map[string][]bustest.Fault{
		"Fault: none is given":             nil,
		"Fault 0: Do: required":            {{Request: bustest.Produce}},
		"Do: Fail: the error is required":  {{Do: bustest.Fail(nil)}},
		"Do: the delay -1ns is not above":  {{Do: bustest.Delay(-1)}},
		"Do: the delay 0s is not above":    {{Do: bustest.DelayAnswer(0)}},
		"Request: 99 is no kind":           {{Request: 99, Do: fail}},
		"Request: -1 is no kind":           {{Request: -1, Do: fail}},
		"neither may be negative":          {{After: -1, Do: fail}},
		"After, Times: 0, -1":              {{Times: -1, Do: fail}},
		"kind Heartbeat names no topic":    {{Request: bustest.Heartbeat, Topic: eventbus.TopicUserCreated, Do: fail}},
		"kind Produce names no group":      {{Request: bustest.Produce, Group: "group", Do: fail}},
		"Refuse is about connections":      {{Request: bustest.Produce, Do: bustest.Refuse()}},
		"Refuse has no Times":              {{Times: 1, Do: fail}, {Do: bustest.Refuse()}},
		"Fault 0: Times: required where":   {{Do: fail}, {Do: fail}},
		"Fault 1: Do: required: Fail, Del": {{Times: 1, Do: fail}, {}},
	} {
		require.Contains(t, inTest(func(t testing.TB) { bustest.New(t).Fault(faults...) }), want)
	}
}

func TestWaitFailsTheTest(t *testing.T) {
	require.Contains(t, inTest(func(t testing.TB) {
		bus := bustest.NewWith(t, bustest.Options{Timeout: 50 * time.Millisecond})
		bus.Fault(bustest.Fault{Request: bustest.EndTxn, Do: bustest.Cut()}).Wait(2)
	}), "the faults met 0 of 2 requests within 50ms")
}

func TestFaultsThatSeeNoRequestsFailTheTest(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{Port: 9092, Kfake: []kfake.Opt{kfake.ListenFn(new(kfake.VirtualNetwork).Listen)}})
	require.NoError(t, err)
	defer broker.Close()
	require.Contains(t, inTest(func(t testing.TB) {
		bustest.NewWith(t, bustest.Options{Broker: broker}).Fault(bustest.Fault{Do: bustest.Cut()})
	}), "give it as Options.Listen")
}

// A request that cannot be marked is said to be so, and goes on as it is.
func TestFailNeedsTaggedFields(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{Kfake: []kfake.Opt{kfake.MaxVersions(kversion.V2_3_0())}})
	require.NoError(t, err)
	defer broker.Close()
	require.Contains(t, inTest(func(t testing.TB) {
		bus := bustest.NewWith(t, bustest.Options{Broker: broker})
		bus.Fault(bustest.Fault{Request: bustest.Produce, Do: bustest.Fail(kerr.NotEnoughReplicas)})
		publish(t, bus, user("u-1"))
	}), "bustest: Fail: a client sends Produce in a version that is too old for it: 7")
}

// Any is every kind of request that the other filters fit.
func TestAnyRequest(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
		bus.Fault(bustest.Fault{Group: "group", Do: bustest.Cut()})
		publish(t, bus, user("u-1"))
		faults := bus.Fault(bustest.Fault{Topic: eventbus.TopicUserCreated, Times: 1, Do: bustest.CutAnswer()})
		publish(t, bus, user("u-2"))
		require.Equal(t, 1, faults.Hits())
		require.Equal(t, 2, stored(bus, ""))
	})
}

// Faults end with the test that made them, on a broker that outlives it.
func TestFaultsEndWithTheTest(t *testing.T) {
	outer := bustest.New(t)
	require.Empty(t, inTest(func(t testing.TB) {
		bustest.NewWith(t, bustest.Options{Broker: outer.Broker}).Fault(bustest.Fault{Request: bustest.Produce, Do: bustest.Cut()})
	}))
	publish(t, outer, user("u-1"))
}

// A lost answer to another request: what it asked for is done.
func TestFaultsOfTheAdminClient(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, bus *bustest.Bus) {
		faults := bus.Fault(bustest.Fault{Request: bustest.CreateTopics, Topic: "acme.orders", Times: 1, Do: bustest.CutAnswer()})
		topic := eventbus.NewTopic[map[string]string]("acme.orders", nil)
		require.Error(t, bus.EnsureTopics(context.Background(), topic))
		require.Equal(t, 1, faults.Hits())
		require.NotNil(t, bus.Broker.Cluster().TopicInfo("acme.orders"))
		require.NoError(t, bus.EnsureTopics(context.Background(), topic))
	})
}
