package prombus_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/plugin/prombus"
)

// scraped is a bus whose collector is registered, and what a scrape of it shows.
type scraped struct {
	*bustest.Bus
	registry *prometheus.Registry
}

func newScraped(t *testing.T, cfg eventbus.Config, options *prombus.Options) *scraped {
	metrics := prombus.New(options)
	cfg.Hooks = append(cfg.Hooks, metrics.Hooks())
	s := &scraped{bustest.NewWith(t, bustest.Options{Config: cfg}), prometheus.NewPedanticRegistry()}
	require.NoError(t, s.registry.Register(metrics))
	metrics.Watch(s.Bus.Bus)
	return s
}

// series are the lines of a scrape that begin so, sorted.
func (s *scraped) series(prefix string) (lines []string) {
	for line := range strings.Lines(s.text()) {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return lines
}

func (s *scraped) text() string {
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	return answer.Body.String()
}

func user(id string) *eventbus.BaseEvent[eventbus.UserCreatedPayload] {
	return eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: id, Email: id + "@example.com", FirstName: "Ada", LastName: "Lovelace"})
}

func TestWhatAScrapeShows(t *testing.T) {
	s := newScraped(t, eventbus.Config{TopicPrefix: "staging."}, nil)
	s.Start(eventbus.Subscription{Group: "auth-group", Routes: []eventbus.Route{eventbus.UserCreated.Handle(
		func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			switch e.Payload.UserID {
			case "u-secret-bad":
				return eventbus.Permanent(errors.New("no"))
			case "u-secret-late":
				return eventbus.RetryAfter(errors.New("not yet"), time.Hour)
			}
			return nil
		}, nil)}})
	require.NoError(t, s.Publish(t.Context(), user("u-secret-good"), user("u-secret-bad"), user("u-secret-late")))
	invalid := user("u-1")
	invalid.Payload.Email = "none"
	require.Error(t, s.Publish(t.Context(), invalid))
	has := func(line string) {
		t.Helper()
		name, _, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		require.Eventually(t, func() bool { return slices.Contains(s.series(name), line) }, 10*time.Second, 10*time.Millisecond, "%s: %s", line, strings.Join(s.series(name), "; "))
	}
	for _, line := range []string{
		`eventbus_messages_published_total 3`,
		`eventbus_messages_consumed_total 1`,
		`eventbus_publish_errors_total 1`,
		`eventbus_consumer_lag 1`,
		`eventbus_dead_letters_total 1`,
		`eventbus_in_flight_records 1`,
		`eventbus_publish_duration_seconds_count{outcome="ok",topic="dreamscape.user.created"} 3`,
		`eventbus_handle_duration_seconds_count{group="auth-group",outcome="handled",topic="dreamscape.user.created"} 1`,
		`eventbus_handle_duration_seconds_count{group="auth-group",outcome="permanent",topic="dreamscape.user.created"} 1`,
		`eventbus_event_age_seconds_count{group="auth-group",topic="dreamscape.user.created"} 1`,
		`eventbus_outcomes_total{group="auth-group",outcome="handled",topic="dreamscape.user.created"} 1`,
		`eventbus_outcomes_total{group="auth-group",outcome="permanent",topic="dreamscape.user.created"} 1`,
		`eventbus_failed_tries_total{outcome="transient",topic="dreamscape.user.created"} 1`,
		`eventbus_blocked_keys{group="auth-group",topic="dreamscape.user.created"} 1`,
		`eventbus_lag_records{group="auth-group",topic="dreamscape.user.created"} 1`,
		`eventbus_parked_keys{group="auth-group",topic="dreamscape.user.created"} 0`,
		`eventbus_paused_partitions{group="auth-group",topic="dreamscape.user.created"} 0`,
		`eventbus_assigned_partitions{group="auth-group",topic="dreamscape.user.created"} 2`,
		`eventbus_group_joined{group="auth-group"} 1`,
		`eventbus_group_paused{group="auth-group"} 0`,
		`eventbus_rebalances_total 1`,
		`eventbus_live 1`, `eventbus_ready 1`, `eventbus_connected 1`,
	} {
		has(line)
	}
	require.NotContains(t, s.text(), "staging")
	require.NotContains(t, s.text(), "secret", "no key, id or payload")
	require.Regexp(t, `eventbus_oldest_in_flight_seconds\{group="auth-group",topic="dreamscape.user.created"\} (0\.\d*[1-9]|[1-9])`, s.text())
}

func TestNamesFollowPrometheus(t *testing.T) {
	s := newScraped(t, eventbus.Config{}, nil)
	require.NoError(t, s.Publish(t.Context(), user("u-1")))
	problems, err := testutil.GatherAndLint(s.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// A publisher that makes topics up, one a tenant, does not fill Prometheus.
func TestTopicsAreBounded(t *testing.T) {
	hooks := prombus.New(&prombus.Options{MaxTopics: 3})
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(hooks))
	for i := range 10 {
		hooks.Hooks().Published(eventbus.PublishedInfo{Topic: fmt.Sprint("tenant.", i)})
		hooks.Hooks().Published(eventbus.PublishedInfo{Topic: "tenant.0", Err: eventbus.ErrOutcomeUnknown})
	}
	n, err := testutil.GatherAndCount(registry, "eventbus_publish_duration_seconds")
	require.NoError(t, err)
	require.Equal(t, 5, n, "three topics, the others, and an outcome unknown")
}

func TestBucketsOfOnesOwn(t *testing.T) {
	s := newScraped(t, eventbus.Config{}, &prombus.Options{Buckets: []float64{1, 2}})
	require.NoError(t, s.Publish(t.Context(), user("u-1")))
	require.Len(t, s.series("eventbus_publish_duration_seconds_bucket"), 3)
	require.Panics(t, func() {
		prombus.New(&prombus.Options{Buckets: []float64{2, 1}}).Hooks().Published(eventbus.PublishedInfo{})
	})
}

func BenchmarkHooks(b *testing.B) {
	hooks := prombus.New(nil).Hooks()
	published := eventbus.PublishedInfo{Topic: "dreamscape.user.created", Took: time.Millisecond}
	handled := eventbus.HandledInfo{Topic: "dreamscape.user.created", Group: "auth-group", Attempts: 1, Took: time.Millisecond, Age: time.Second}
	b.Run("Published", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hooks.Published(published)
		}
	})
	b.Run("Handled", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hooks.Handled(handled)
		}
	})
}
