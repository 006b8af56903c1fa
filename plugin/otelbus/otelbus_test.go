package otelbus_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/plugin/otelbus"
)

// traced is a bus, and what its tracing has recorded.
type traced struct {
	*bustest.Bus
	t        *testing.T
	provider *sdktrace.TracerProvider
	spans    *tracetest.SpanRecorder
	metrics  *sdkmetric.ManualReader
}

func newTraced(t *testing.T, options otelbus.Options) *traced {
	x := &traced{t: t, spans: tracetest.NewSpanRecorder(), metrics: sdkmetric.NewManualReader()}
	x.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(x.spans))
	options.TracerProvider, options.MeterProvider = x.provider, sdkmetric.NewMeterProvider(sdkmetric.WithReader(x.metrics))
	tracing, err := otelbus.New(&options)
	require.NoError(t, err)
	x.Bus = bustest.NewWith(t, bustest.Options{Config: eventbus.Config{
		TopicPrefix: options.TopicPrefix, Instance: "test-0",
		Hooks: []eventbus.Hooks{tracing.Hooks()}, Middleware: []eventbus.Middleware{tracing.Middleware()},
		Retry: eventbus.RetryPolicy{Attempts: 2, Initial: time.Millisecond},
	}})
	return x
}

// ended waits for n ended spans of a name and returns them, oldest first.
func (x *traced) ended(name string, n int) []sdktrace.ReadOnlySpan {
	x.t.Helper()
	var found []sdktrace.ReadOnlySpan
	require.Eventually(x.t, func() bool {
		found = nil
		for _, s := range x.spans.Ended() {
			if s.Name() == name {
				found = append(found, s)
			}
		}
		return len(found) == n
	}, 10*time.Second, 5*time.Millisecond, "%d spans %q", n, name)
	return found
}

func attributes(s sdktrace.ReadOnlySpan) map[attribute.Key]any {
	all := map[attribute.Key]any{}
	for _, a := range s.Attributes() {
		all[a.Key] = a.Value.AsInterface()
	}
	return all
}

func user(id string) *eventbus.BaseEvent[eventbus.UserCreatedPayload] {
	return eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: id, Email: id + "@example.com", FirstName: "Ada", LastName: "Lovelace"})
}

// start handles UserCreated.
func (x *traced) start(h eventbus.Handler[eventbus.UserCreatedPayload]) {
	x.Start(eventbus.Subscription{Group: "auth-group", Routes: []eventbus.Route{eventbus.UserCreated.Handle(h, nil)}})
}

const (
	send    = "send dreamscape.user.created"
	process = "process dreamscape.user.created"
)

// A handler's tries link to the publish, also when the event has been dead-lettered and sent back.
func TestLinksAcrossRetriesDeadLettersAndRedriving(t *testing.T) {
	x := newTraced(t, otelbus.Options{})
	var mu sync.Mutex
	var bags []string
	tries := 0
	x.start(func(ctx context.Context, _ *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		mu.Lock()
		defer mu.Unlock()
		bags = append(bags, baggage.FromContext(ctx).Member(otelbus.CorrelationKey).Value())
		if tries++; tries <= 2 {
			return errors.New("secret-text")
		}
		return nil
	})
	ctx, request := x.provider.Tracer("test").Start(t.Context(), "request")
	e := user("u-secret")
	require.NoError(t, x.Publish(ctx, e))
	request.End()

	x.ended(process, 2)
	letters, err := x.DeadLetters(eventbus.UserCreated, "auth-group")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		report, err := letters.Redrive(t.Context(), eventbus.RedriveOptions{Send: true})
		return err == nil && report.Sent == 1
	}, 10*time.Second, 10*time.Millisecond)

	sent := x.ended(send, 1)[0]
	require.Equal(t, request.SpanContext().SpanID(), sent.Parent().SpanID())
	require.Equal(t, trace.SpanKindProducer, sent.SpanKind())
	require.Equal(t, codes.Unset, sent.Status().Code)
	a := attributes(sent)
	require.NotZero(t, a["messaging.message.body.size"])
	require.Contains(t, a, attribute.Key("messaging.destination.partition.id"))
	delete(a, "messaging.message.body.size")
	delete(a, "messaging.destination.partition.id")
	require.Equal(t, map[attribute.Key]any{
		"messaging.system": "kafka", "messaging.operation.type": "send", "messaging.operation.name": "send",
		"messaging.destination.name": "dreamscape.user.created", "messaging.kafka.offset": int64(0),
		"messaging.client.id": "test", "messaging.message.id": e.EventID, "messaging.message.conversation_id": e.EventID,
	}, a)

	for i, s := range x.ended(process, 3) {
		require.Equal(t, trace.SpanKindConsumer, s.SpanKind())
		require.False(t, s.Parent().IsValid(), "the root of its own trace")
		require.NotEqual(t, sent.SpanContext().TraceID(), s.SpanContext().TraceID())
		require.Len(t, s.Links(), 1)
		require.Equal(t, sent.SpanContext().SpanID(), s.Links()[0].SpanContext.SpanID())
		require.Equal(t, sent.SpanContext().TraceID(), s.Links()[0].SpanContext.TraceID())
		a := attributes(s)
		require.Equal(t, []any{int64(i%2 + 1), int64(i / 2)}, []any{a["eventbus.attempt"], a["eventbus.redrives"]})
		require.Equal(t, "auth-group", a["messaging.consumer.group.name"])
		require.Equal(t, i < 2, s.Status().Code == codes.Error)
		require.Equal(t, i < 2, a["error.type"] == "*errors.errorString")
	}
	require.Equal(t, []string{e.EventID, e.EventID, e.EventID}, bags)
	for _, s := range x.spans.Ended() {
		for _, a := range s.Attributes() {
			require.NotContains(t, a.Value.String(), "secret")
		}
		require.NotContains(t, s.Status().Description, "secret")
		require.Empty(t, s.Events())
	}
}

func TestWhatAHandlerPublishesBelongsToItsSpan(t *testing.T) {
	for name, child := range map[string]bool{"links": false, "child": true} {
		t.Run(name, func(t *testing.T) {
			x := newTraced(t, otelbus.Options{TopicPrefix: "staging.", Child: child})
			x.start(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
				return x.Publish(ctx, eventbus.UserDeleted.New(eventbus.UserDeletedPayload{UserID: e.Payload.UserID}))
			})
			require.NoError(t, x.Publish(t.Context(), user("u-1")))
			second := x.ended("send staging.dreamscape.user.deleted", 1)[0]
			first, handled := x.ended("send staging.dreamscape.user.created", 1)[0], x.ended("process staging.dreamscape.user.created", 1)[0]
			require.Equal(t, handled.SpanContext().SpanID(), second.Parent().SpanID())
			require.Equal(t, attributes(first)["messaging.message.conversation_id"], attributes(second)["messaging.message.conversation_id"])
			require.Equal(t, "staging.auth-group", attributes(handled)["messaging.consumer.group.name"])
			if child {
				require.Equal(t, first.SpanContext().SpanID(), handled.Parent().SpanID())
			}
			require.Equal(t, child, first.SpanContext().TraceID() == second.SpanContext().TraceID())
		})
	}
}

func TestAPanicEndsTheSpan(t *testing.T) {
	x := newTraced(t, otelbus.Options{})
	x.start(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { panic("secret") })
	require.NoError(t, x.Publish(t.Context(), user("u-1")))
	s := x.ended(process, 2)[0]
	require.Equal(t, "panic", attributes(s)["error.type"])
	require.Equal(t, codes.Error, s.Status().Code)
}

func TestWhatIsNotSent(t *testing.T) {
	x := newTraced(t, otelbus.Options{})
	r, err := x.Encode(t.Context(), user("u-1"))
	require.NoError(t, err)
	require.Equal(t, []string{"traceparent", "baggage"}, []string{r.Headers[0].Key, r.Headers[1].Key})
	created := x.ended("create dreamscape.user.created", 1)[0]
	require.Contains(t, string(r.Headers[0].Value), created.SpanContext().TraceID().String()+"-"+created.SpanContext().SpanID().String())

	failed := errors.New("no")
	require.ErrorIs(t, x.Transact(t.Context(), func(ctx context.Context, tx *eventbus.Tx) error {
		require.NoError(t, tx.Publish(ctx, user("u-1")))
		return failed
	}), failed)
	dropped := x.ended(send, 1)[0]
	require.Equal(t, "not_sent", attributes(dropped)["error.type"])
	require.NotContains(t, attributes(dropped), attribute.Key("messaging.kafka.offset"))

	require.NoError(t, x.Shutdown(t.Context()))
	require.ErrorIs(t, x.Publish(t.Context(), user("u-1")), eventbus.ErrClosed)
	require.Equal(t, "not_sent", attributes(x.ended(send, 2)[1])["error.type"])
}

// Baggage that takes no correlation id any more keeps what it has, and the trace goes on.
func TestFullBaggage(t *testing.T) {
	x := newTraced(t, otelbus.Options{})
	x.start(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil })
	full := baggage.Baggage{}
	for i := range 180 {
		m, err := baggage.NewMemberRaw("k"+string(rune('a'+i%26))+string(rune('a'+i/26)), "v")
		require.NoError(t, err)
		full, err = full.SetMember(m)
		require.NoError(t, err)
	}
	require.NoError(t, x.Publish(baggage.ContextWithBaggage(t.Context(), full), user("u-1")))
	require.Len(t, x.ended(process, 1)[0].Links(), 1)
}

func TestMetrics(t *testing.T) {
	x := newTraced(t, otelbus.Options{})
	x.start(func(_ context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		if e.Payload.UserID == "bad" {
			return errors.New("no")
		}
		return nil
	})
	require.NoError(t, x.Publish(t.Context(), user("good"), user("bad")))
	x.ended(process, 3)
	counts := func() map[string]int64 {
		var all metricdata.ResourceMetrics
		require.NoError(t, x.metrics.Collect(t.Context(), &all))
		found := map[string]int64{}
		for _, m := range all.ScopeMetrics[0].Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					outcome, _ := p.Attributes.Value("eventbus.outcome")
					found[m.Name+outcome.AsString()] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					failure, _ := p.Attributes.Value("error.type")
					found[m.Name+failure.AsString()] += int64(p.Count)
				}
			}
		}
		return found
	}
	want := map[string]int64{
		"messaging.client.sent.messages": 2, "messaging.client.operation.duration": 2, "messaging.client.consumed.messages": 2,
		"messaging.process.duration": 1, "messaging.process.duration*errors.errorString": 2, "eventbus.outcomeshandled": 1, "eventbus.outcomestransient": 1,
	}
	require.Eventually(t, func() bool {
		return counts()["eventbus.outcomestransient"] == 1 && counts()["eventbus.outcomeshandled"] == 1
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, want, counts())
}

func TestTheGlobalProvidersAreTheDefault(t *testing.T) {
	tracing, err := otelbus.New(nil)
	require.NoError(t, err)
	headers, ended := tracing.Hooks().Publishing(t.Context(), eventbus.PublishingInfo{Topic: "t", CorrelationID: "c-1"})
	ended(eventbus.PublishedInfo{Offset: -1})
	require.True(t, slices.ContainsFunc(headers, func(h eventbus.Header) bool { return h.Key == "baggage" && string(h.Value) == "correlation.id=c-1" }))
}
