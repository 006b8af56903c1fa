package service_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/voyage"
)

func startBroker(t *testing.T) eventbus.Config {
	t.Helper()
	broker, err := embedded.Start(embedded.Options{})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	return eventbus.Config{Brokers: broker.Brokers()}
}

func TestStartServesAndStopEnds(t *testing.T) {
	running, err := service.Start(t.Context(), voyage.App, startBroker(t), "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, running.WaitReady(t.Context()))
	for path, status := range map[string]int{"/health": 200, "/health/live": 200, "/health/ready": 200, "/offers": 200, "/nothing": 404} {
		answer, err := http.Get(running.URL() + path)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, status, answer.StatusCode, path)
	}

	require.NoError(t, running.Stop(t.Context()))
	require.NoError(t, running.Stop(t.Context()), "again")
	_, err = http.Get(running.URL() + "/health")
	require.Error(t, err)
	require.ErrorIs(t, running.Bus().Publish(t.Context(), eventbus.UserDeleted.New(eventbus.UserDeletedPayload{UserID: "u-1"})), eventbus.ErrClosed)
}

func TestRunEndsWithItsContext(t *testing.T) {
	cfg, addr := startBroker(t), freeAddr(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx, voyage.App, cfg, addr) }()
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + addr + "/health/ready")
		return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestStartNamesWhatIsWrong(t *testing.T) {
	cfg := startBroker(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	noBroker, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		cfg  eventbus.Config
		addr string
		want string
	}{
		{"address taken", t.Context(), cfg, taken.Addr().String(), "voyage-service: listen tcp"},
		{"bad address", t.Context(), cfg, "nowhere", "voyage-service: listen tcp"},
		{"bad config", t.Context(), eventbus.Config{Brokers: []string{"nowhere"}}, "127.0.0.1:0", "Brokers"},
		{"no broker", noBroker, eventbus.Config{Brokers: []string{"127.0.0.1:1"}}, "127.0.0.1:0", "voyage-service: eventbus: EnsureTopics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := service.Start(c.ctx, voyage.App, c.cfg, c.addr)
			require.ErrorContains(t, err, c.want)
		})
	}
}
