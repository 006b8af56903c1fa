package service_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/examples/internal/service"
)

func TestKeysLockOneAtATime(t *testing.T) {
	var (
		keys    service.Keys
		workers sync.WaitGroup
		count   int // the race detector watches it
	)
	for range 50 {
		workers.Go(func() {
			unlock, err := keys.Lock(t.Context(), "b-1")
			if err != nil {
				return
			}
			defer unlock()
			count++
		})
	}
	workers.Wait()
	require.Equal(t, 50, count)
}

func TestKeysWaitUntilTheContextEnds(t *testing.T) {
	var keys service.Keys
	unlock, err := keys.Lock(t.Context(), "b-1")
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = keys.Lock(ctx, "b-1")
	require.ErrorIs(t, err, context.Canceled)

	other, err := keys.Lock(t.Context(), "b-2")
	require.NoError(t, err, "another key is free")
	other()
	unlock()
	unlock, err = keys.Lock(t.Context(), "b-1")
	require.NoError(t, err)
	unlock()
}
