package conformance

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

// keysOfAPartitionRunAtOnce holds every handler until as many run as there are keys.
func keysOfAPartitionRunAtOnce(t *testing.T, f *fixture) {
	const keys = 40
	bus := f.ready()
	var running atomic.Int32
	all := make(chan struct{})
	var seen log
	f.start(bus, f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		if e.Payload.Number == 0 && running.Add(1) == keys {
			close(all)
		}
		select {
		case <-all:
		case <-ctx.Done():
			return eventbus.Permanent(ctx.Err())
		}
		seen.add("%s %d", e.Payload.ID, e.Payload.Number)
		return nil
	}))
	for i := range 5 {
		for k := range keys {
			bus.PublishAsync(f.ctx, f.order(fmt.Sprint("key-", k), i), nil)
		}
	}
	f.eventually("all committed", func() bool { return f.committed() == 5*keys })
	for k := range keys {
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, seen.of(fmt.Sprintf("key-%d ", k)))
	}
}

// aRestartSkipsWhatIsDone leaves holes behind: events that wait to be tried again, between others that are done.
func aRestartSkipsWhatIsDone(t *testing.T, f *fixture) {
	one, two := f.ready(), f.bus(nil)
	var before, after log
	stop := f.start(one, f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		if e.Payload.ID == "bad" {
			return eventbus.RetryAfter(errors.New("no"), time.Hour)
		}
		return note(&before)(ctx, e)
	}))
	want := []string{"bad/0"}
	require.NoError(t, one.Publish(f.ctx, f.order("bad", 0)))
	for i := range 60 {
		require.NoError(t, one.Publish(f.ctx, f.order(fmt.Sprint("o-", i), i)))
	}
	f.eventually("all others", func() bool { return before.len() == 60 })
	stop()
	f.start(two, f.subscription(note(&after)))
	require.NoError(t, two.Publish(f.ctx, f.order("bad", 1)))
	f.eventually("all committed", func() bool { return f.committed() == 62 })
	require.Equal(t, append(want, "bad/1"), after.all(), "nothing that was done")
}

// owners are the partitions of each static member of the group. A broker that leaves the names of topics out has those of a number counted once.
func (f *fixture) owners() map[string]int {
	owners := map[string]int{}
	if f.protocol == eventbus.ProtocolConsumer {
		groups, err := f.admin.DescribeConsumerGroups(f.ctx, f.group)
		require.NoError(f.t, err)
		for _, m := range groups[f.group].Members {
			for _, ps := range m.Assignment {
				owners[*m.InstanceID] += len(ps)
			}
		}
		return owners
	}
	groups, err := f.admin.DescribeGroups(f.ctx, f.group)
	require.NoError(f.t, err)
	for _, m := range groups[f.group].Members {
		assigned, ok := m.Assigned.AsConsumer()
		if !ok || m.InstanceID == nil {
			continue
		}
		for _, topic := range assigned.Topics {
			owners[*m.InstanceID] += len(topic.Partitions)
		}
	}
	return owners
}

// staticMembersKeepTheirPartitions has one of two restart, and then go for good.
func staticMembersKeepTheirPartitions(t *testing.T, f *fixture) {
	buses := []*eventbus.Bus{f.ready(), f.bus(nil), f.bus(nil)}
	var seen log
	subscription := func(instance string) eventbus.Subscription {
		sub := f.subscription(note(&seen))
		sub.InstanceID = instance
		return sub
	}
	f.start(buses[0], subscription("pod-1"))
	f.start(buses[1], subscription("pod-2"))
	held := func(bus int) int { return len(buses[bus].Health(f.ctx).Groups[0].Partitions) }
	f.eventually("both have partitions", func() bool {
		return held(0) > 0 && held(1) > 0 && held(0)+held(1) == 4 // the retry topic has one
	})
	shared, kept := f.owners(), held(0)

	require.NoError(t, buses[1].Shutdown(f.ctx))
	require.Equal(t, shared, f.owners(), "its partitions wait for it")
	f.start(buses[2], subscription("pod-2"))
	require.Equal(t, shared, f.owners())
	for i := range 60 {
		require.NoError(t, buses[2].Publish(f.ctx, f.order(fmt.Sprint("o-", i), i)))
	}
	f.eventually("all handled", func() bool { return f.committed() == 60 })
	require.Equal(t, 60, seen.len())
	require.Equal(t, kept, held(0), "the other notices nothing")

	require.NoError(t, buses[2].ScaleDown(f.ctx))
	f.eventually("the other has all at once", func() bool { return held(0) == 4 })
}
