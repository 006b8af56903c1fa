package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// parkedKeysOutliveTheirMember has a key be parked, its member end, more of it follow at another member, and the key be released, with more of it coming.
func parkedKeysOutliveTheirMember(t *testing.T, f *fixture) {
	var (
		mended atomic.Bool
		seen   log
	)
	sub := f.subscription(nil)
	sub.Routes = []eventbus.Route{f.placed.Handle(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		if e.Payload.ID == "bad" && e.Payload.Number == 1 && !mended.Load() {
			return eventbus.Permanent(errors.New("not yet"))
		}
		return note(&seen)(ctx, e)
	}, &eventbus.HandleOptions{Order: eventbus.OrderSequenced})}
	member := func(name string) *eventbus.Bus {
		return f.bus(func(c *eventbus.Config) { c.Instance = f.run + name })
	}
	one := member("one")
	stop := f.start(one, sub)
	// done is what was handled; an aborted transaction's events are handled once more.
	done := func() (first []string) {
		for _, what := range seen.all() {
			if !slices.Contains(first, what) {
				first = append(first, what)
			}
		}
		return first
	}
	publish := func(bus *eventbus.Bus, from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, bus.Publish(f.ctx, f.order("bad", i), f.order(fmt.Sprint("o-", i), i)))
		}
	}
	publish(one, 0, 10)
	f.eventually("the first are done", func() bool { return len(done()) == 11 && one.Metrics().DeadLettered == 9 })
	stop()

	two := member("two")
	f.start(two, sub)
	publish(two, 10, 20)
	f.eventually("the rest follows", func() bool { return two.Metrics().Followed == 10 })
	letters, err := two.DeadLetters(f.placed, f.group)
	require.NoError(t, err)
	require.ErrorIs(t, letters.Release(f.ctx, "o-1", eventbus.ReleaseOptions{}), eventbus.ErrNotParked)
	keys, err := letters.Sequences(f.ctx)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, []string{"bad", "not yet"}, []string{keys[0].Key, keys[0].Error})

	mended.Store(true)
	require.NoError(t, letters.Release(f.ctx, "bad", eventbus.ReleaseOptions{}))
	publish(two, 20, 30)
	f.eventually("all are handled", func() bool { return len(done()) == 60 })
	publish(two, 30, 31)
	f.eventually("the key goes on", func() bool { return len(done()) == 62 })
	var want []string
	for i := range 31 {
		want = append(want, fmt.Sprint("bad/", i))
	}
	got := slices.DeleteFunc(done(), func(what string) bool { return what[:3] != "bad" })
	require.Equal(t, want, got)
	f.eventually("nothing is parked", func() bool {
		keys, err := letters.Sequences(f.ctx)
		return err == nil && len(keys) == 0
	})
}
