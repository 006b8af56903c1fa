package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/user"
	"github.com/dreamscape/eventbus/examples/internal/voyage"
)

// fleet is user-service and voyage-service, beside a payment-service in TypeScript, which writes no optional fields.
type fleet struct {
	t            *testing.T
	user, voyage *service.Running
	typescript   *kgo.Client
}

func startFleet(t *testing.T) fleet {
	t.Helper()
	broker, err := embedded.Start(embedded.Options{})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	typescript, err := kgo.NewClient(
		kgo.SeedBrokers(broker.Brokers()...),
		kgo.ConsumeTopics(eventbus.TopicVoyageBookingCreated),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	require.NoError(t, err)
	t.Cleanup(typescript.Close)
	start := func(app service.App) *service.Running {
		running, err := service.Start(t.Context(), app, eventbus.Config{Brokers: broker.Brokers()}, "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, running.Stop(context.Background())) })
		require.NoError(t, running.WaitReady(t.Context()))
		return running
	}
	return fleet{t: t, user: start(user.App), voyage: start(voyage.App), typescript: typescript}
}

// publish writes what the TypeScript package writes.
func (f fleet) publish(topic, key, correlationID, payload string) {
	f.t.Helper()
	value := fmt.Sprintf(`{"eventId":"%s","eventType":"%s","timestamp":"2026-01-07T10:00:00.000Z","version":"1.0","source":"payment-service","payload":%s,"correlationId":"%s"}`,
		service.NewID(), strings.TrimPrefix(topic, "dreamscape."), payload, correlationID)
	record := &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}
	require.NoError(f.t, f.typescript.ProduceSync(f.t.Context(), record).FirstErr())
}

// booked reads the next voyage.booking.created and returns its correlation id, which is all that payment events tell of the booking.
func (f fleet) booked() (correlationID string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) == 0 { // a poll may bring none
		require.NoError(f.t, ctx.Err())
		records = f.typescript.PollRecords(ctx, 1).Records()
	}
	var envelope struct{ CorrelationID string }
	require.NoError(f.t, json.Unmarshal(records[0].Value, &envelope))
	return envelope.CorrelationID
}

// post returns the named field of the answer.
func (f fleet) post(s *service.Running, path, body, field string) string {
	f.t.Helper()
	answer, err := http.Post(s.URL()+path, "application/json", strings.NewReader(body))
	require.NoError(f.t, err)
	return f.read(answer)[field].(string)
}

func (f fleet) read(answer *http.Response) map[string]any {
	f.t.Helper()
	defer answer.Body.Close()
	var fields map[string]any
	require.NoError(f.t, json.NewDecoder(answer.Body).Decode(&fields))
	return fields
}

// await waits until a GET shows the value.
func (f fleet) await(s *service.Running, path, field string, value any) map[string]any {
	f.t.Helper()
	var shown map[string]any
	require.Eventually(f.t, func() bool {
		answer, err := http.Get(s.URL() + path)
		require.NoError(f.t, err)
		shown = f.read(answer)
		return shown[field] == value
	}, 5*time.Second, 10*time.Millisecond, path)
	return shown
}

func TestBesideTypeScript(t *testing.T) {
	f := startFleet(t)
	userID := f.post(f.user, "/users", `{"email":"ada@example.com","firstName":"Ada","lastName":"Lovelace"}`, "userId")
	book := func() string {
		return f.post(f.voyage, "/bookings", `{"userId":"`+userID+`","flightId":"FL-PAR-1","hotelId":"HO-PAR-1"}`, "bookingId")
	}

	paid := book()
	saga := f.booked()
	f.publish(eventbus.TopicPaymentInitiated, "t-1", saga, `{"transactionId":"t-1","userId":"`+userID+`","amount":360.00,"currency":"EUR"}`)
	f.publish(eventbus.TopicPaymentCompleted, "t-1", saga, `{"transactionId":"t-1","stripePaymentId":"pi-1"}`)
	f.await(f.voyage, "/bookings/"+paid, "status", "confirmed")
	f.await(f.user, "/users/"+userID, "premium", true)

	unpaid := book()
	f.publish(eventbus.TopicPaymentFailed, "t-2", f.booked(), `{"transactionId":"t-2","errorCode":"card_declined","reason":"no"}`)
	f.await(f.voyage, "/bookings/"+unpaid, "status", "cancelled")

	f.publish(eventbus.TopicUserUpdated, userID, "c-1", `{"userId":7}`)
	history := f.await(f.user, "/users/"+userID+"/history", "status", "active")
	require.Equal(t, "ada@example.com", history["email"])
	require.Len(t, history["events"], 1)
	require.Contains(t, history["problem"], "user.updated")
}

// What no service can make sense of is set aside, and what comes after it is handled.
func TestPaymentThatLeadsNowhereIsDeadLettered(t *testing.T) {
	f := startFleet(t)
	f.publish(eventbus.TopicPaymentCompleted, "t-1", "c-1", `{"transactionId":"t-1","stripePaymentId":"pi-1"}`)
	for _, s := range []*service.Running{f.user, f.voyage} {
		require.Eventually(t, func() bool { return s.Bus().Metrics().DeadLettered == 1 }, 5*time.Second, 10*time.Millisecond, s.Name())
	}
	f.publish(eventbus.TopicPaymentCompleted, "t-1", "c-1", `{"transactionId":"t-1","stripePaymentId":"pi-1","userId":"u-1","bookingId":"b-1"}`)
	f.await(f.voyage, "/bookings/b-1", "reason", "no such booking")
}
