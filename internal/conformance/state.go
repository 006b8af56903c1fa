package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

func contains(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

func foldReadsOneKey(t *testing.T, f *fixture) {
	bus := f.ready()
	first, second, third := f.order("ada", 1), f.shipped.New(order{ID: "ada", Number: 2}), f.order("ada", 3)
	second.Timestamp = first.Timestamp.Add(1e6)
	third.Timestamp = first.Timestamp.Add(2e6)
	require.NoError(t, bus.Publish(f.ctx, third, second, first), "published in the wrong order")
	for i := range 20 {
		require.NoError(t, bus.Publish(f.ctx, f.order(fmt.Sprint("other-", i), 100)))
	}
	steps := []eventbus.FoldStep[[]string]{
		eventbus.On(f.placed, func(s []string, e *eventbus.BaseEvent[order]) []string {
			return append(s, fmt.Sprint("placed ", e.Payload.Number))
		}),
		eventbus.On(f.shipped, func(s []string, e *eventbus.BaseEvent[order]) []string {
			return append(s, fmt.Sprint("shipped ", e.Payload.Number))
		}),
	}
	history, err := eventbus.Fold(f.ctx, bus, "ada", nil, steps...)
	require.NoError(t, err)
	require.Equal(t, []string{"placed 1", "shipped 2", "placed 3"}, history)

	f.produce(&kgo.Record{Topic: f.placed.Name(), Key: []byte("ada"), Value: []byte("garbage")})
	history, err = eventbus.Fold(f.ctx, bus, "ada", nil, steps...)
	var broken *eventbus.DecodeError
	require.ErrorAs(t, err, &broken, "an event that cannot be read is named")
	require.Len(t, history, 3, "and the others are folded")

	history, err = eventbus.Fold(f.ctx, bus, "nobody", nil, steps...)
	require.NoError(t, err)
	require.Empty(t, history)
	_, err = eventbus.Fold(f.ctx, bus, "", nil, steps...)
	require.ErrorContains(t, err, "key")
}

func healthAndMetrics(t *testing.T, f *fixture) {
	bus := f.ready()
	hold := make(chan struct{})
	stop := f.start(bus, f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil
	}))
	for i := range 10 {
		require.NoError(t, bus.Publish(f.ctx, f.order("o", i)))
	}
	f.eventually("the lag is seen", func() bool { return bus.Metrics().ConsumerLag == 10 })
	h := bus.Health(f.ctx)
	require.Equal(t, "healthy", h.Status, "%+v", h)
	require.Equal(t, "connected", h.Kafka)
	require.EqualValues(t, 10, h.Groups[0].Lag)
	// Kafka's group coordinator (KIP-848) hears of a topic that was just made after the others have: its partition comes with a later heartbeat.
	f.eventually("all partitions, the retry topic's included", func() bool { return len(bus.Health(f.ctx).Groups[0].Partitions) == 4 })
	close(hold)
	f.eventually("all handled", func() bool { m := bus.Metrics(); return m.ConsumerLag == 0 && m.MessagesConsumed == 10 })
	require.Positive(t, bus.Metrics().AvgProcessingTime)

	get := func(path string) (int, map[string]any) {
		rec := httptest.NewRecorder()
		bus.HealthHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		var body map[string]any
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &body))
		return rec.Code, body
	}
	for path, field := range map[string]string{"/health": "status", "/health/live": "live", "/health/ready": "ready"} {
		code, body := get(path)
		require.Equal(t, http.StatusOK, code, path)
		require.Contains(t, body, field)
	}
	stop()
	text, err := json.Marshal(bus.Metrics())
	require.NoError(t, err)
	for _, name := range []string{"messagesPublished", "messagesConsumed", "publishErrors", "consumerLag", "avgProcessingTime"} {
		require.Contains(t, string(text), `"`+name+`":`)
	}
}
