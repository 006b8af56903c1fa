package console_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

// BenchmarkConsole publishes 5,000 events a second, b.N in all, with nobody watching and with three who do, and reports how long an event took to be acknowledged.
// Broker, publisher, console and watchers share the processors.
func BenchmarkConsole(b *testing.B) {
	for _, watchers := range []int{0, 3} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			bus := bustest.New(b)
			stop := watchedBy(b, bus, watchers)
			defer stop()
			took := make([]time.Duration, b.N)
			acknowledged := make(chan error, b.N)
			const batch, every = 50, 10 * time.Millisecond
			tick := time.NewTicker(every)
			defer tick.Stop()
			b.ResetTimer()
			for i := range b.N {
				if i%batch == 0 {
					<-tick.C
				}
				began := time.Now()
				e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: fmt.Sprint("u", i%1000), Email: "u@example.com"})
				bus.PublishAsync(context.Background(), e, func(err error) {
					took[i] = time.Since(began)
					acknowledged <- err
				})
			}
			for range b.N {
				require.NoError(b, <-acknowledged)
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(took[b.N/2].Microseconds()), "µs/median")
			b.ReportMetric(float64(took[b.N*99/100].Microseconds()), "µs/p99")
		})
	}
}

// watchedBy has browsers read the stream of a console, as fast as it comes.
func watchedBy(b *testing.B, bus *bustest.Bus, watchers int) (stop func()) {
	b.Helper()
	page, err := console.New(bus.Bus, nil)
	require.NoError(b, err)
	server := httptest.NewServer(page)
	for range watchers {
		answer, err := http.Get(server.URL + "/stream")
		require.NoError(b, err)
		go func() { _, _ = io.Copy(io.Discard, answer.Body) }()
	}
	return func() { page.Close(); server.Close() }
}
