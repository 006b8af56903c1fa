package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// deadLettersGoBack has events fail, looks at their dead letters, sends them back once the handler is mended, and deletes them.
func deadLettersGoBack(t *testing.T, f *fixture) {
	bus := f.ready()
	var (
		mended atomic.Bool
		seen   log
	)
	f.start(bus, f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		if !mended.Load() {
			return eventbus.Permanent(errors.New("no stock of " + e.Payload.ID))
		}
		d, _ := eventbus.DeliveryFrom(ctx)
		seen.add("%s redrives %d", d.Topic, d.Redrives)
		return nil
	}))
	const n = 20
	for i := range n {
		require.NoError(t, bus.Publish(f.ctx, f.order(fmt.Sprint("o-", i), i)))
	}
	f.eventually("given up", func() bool { return bus.Metrics().DeadLettered == n })

	letters, err := bus.DeadLetters(f.placed, f.group)
	require.NoError(t, err)
	kinds, err := letters.Groups(f.ctx, eventbus.LetterFilter{})
	require.NoError(t, err)
	require.Len(t, kinds, 1)
	require.Equal(t, n, kinds[0].Count)
	filter := eventbus.LetterFilter{Fingerprint: kinds[0].Fingerprint}
	for l, err := range letters.List(f.ctx, filter) {
		require.NoError(t, err)
		require.Equal(t, l.Partition, l.DeadLetter.Partition)
		_, err = f.placed.Decode(l.Record.Value)
		require.NoError(t, err)
	}

	mended.Store(true)
	dry, err := letters.Redrive(f.ctx, eventbus.RedriveOptions{Filter: filter})
	require.NoError(t, err)
	require.Equal(t, n, dry.Sent)
	for _, sent := range []int{n, 0} { // the second call goes on behind the first
		report, err := letters.Redrive(f.ctx, eventbus.RedriveOptions{Filter: filter, Send: true})
		require.NoError(t, err)
		require.Equal(t, sent, report.Sent)
	}
	f.eventually("handled", func() bool { return seen.len() >= n })
	for _, what := range seen.all() {
		require.Equal(t, f.placed.Name()+" redrives 1", what)
	}
	require.Equal(t, n, seen.len())

	purged, err := letters.Purge(f.ctx, eventbus.PurgeOptions{All: true, Delete: true})
	require.NoError(t, err)
	require.EqualValues(t, n, purged.Letters)
	kinds, err = letters.Groups(f.ctx, eventbus.LetterFilter{})
	require.NoError(t, err)
	require.Empty(t, kinds)
}
