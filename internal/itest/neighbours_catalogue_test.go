package itest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/schemas"
)

// ours is an event of a Go service.
type ours struct {
	id    string
	event eventbus.AnyEvent
}

func made[T any](topic *eventbus.Topic[T], payloads ...T) []ours {
	var events []ours
	for _, p := range payloads {
		e := topic.New(p)
		events = append(events, ours{e.EventID, e})
	}
	return events
}

// ourEvents are events of all 27 topics, made anew: with the optional fields and without, with what JSON, JavaScript and the schemas
// find hard.
func ourEvents() []ours {
	at := time.Date(2026, 1, 7, 10, 0, 0, 123456789, time.FixedZone("", 2*3600))
	text := "Zoë 👩‍🚀 \u2028\u2029\t\"\\/<script>\u0000\uFFFD"
	object := map[string]any{
		"": nil, "ключ": []any{}, "n": json.Number("0.10"), "big": json.Number("-1.5e300"),
		text: map[string]any{"deep": []any{[]any{[]any{true}}}},
	}
	amount := func(s string) *eventbus.Decimal { return new(eventbus.MustDecimal(s)) }
	var all []ours
	for _, events := range [][]ours{
		made(eventbus.AuthLogin, eventbus.AuthLoginPayload{UserID: "u-1", Timestamp: at, IPAddress: "2001:db8::1", UserAgent: ""},
			eventbus.AuthLoginPayload{UserID: text, Timestamp: at.UTC().Truncate(time.Second), IPAddress: "203.0.113.7", UserAgent: text}),
		made(eventbus.AuthLogout, eventbus.AuthLogoutPayload{UserID: "u-1", SessionID: "s-1", Timestamp: at}),
		made(eventbus.AuthTokenRefreshed, eventbus.AuthTokenRefreshedPayload{UserID: "u-1", OldTokenID: "t-1", NewTokenID: text}),
		made(eventbus.AuthPasswordChanged, eventbus.AuthPasswordChangedPayload{UserID: "u-1", Timestamp: at}),
		made(eventbus.AuthPasswordResetRequested,
			eventbus.AuthPasswordResetRequestedPayload{Email: "ada+tag@mail.example.co.uk", ResetToken: "r-1", ExpiresAt: at}),
		made(eventbus.AuthAccountLocked, eventbus.AuthAccountLockedPayload{UserID: "u-1", Reason: text, LockedUntil: at.AddDate(100, 0, 0)}),
		made(eventbus.UserCreated, eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com", FirstName: "Ada", LastName: "Lovelace"},
			eventbus.UserCreatedPayload{UserID: "ü-😀", Email: "zoe@example.com", FirstName: text, LastName: ""}),
		made(eventbus.UserUpdated, eventbus.UserUpdatedPayload{UserID: "u-1", Changes: object}, eventbus.UserUpdatedPayload{UserID: "u-1"}),
		made(eventbus.UserDeleted, eventbus.UserDeletedPayload{UserID: "u-1", DeletedAt: at}),
		made(eventbus.UserProfileUpdated, eventbus.UserProfileUpdatedPayload{UserID: "u-1", ProfileData: object}),
		made(eventbus.UserPreferencesUpdated, eventbus.UserPreferencesUpdatedPayload{UserID: "u-1", Preferences: object}),
		made(eventbus.VoyageSearchPerformed, eventbus.VoyageSearchPerformedPayload{UserID: "u-1", SearchCriteria: object, ResultCount: 0},
			eventbus.VoyageSearchPerformedPayload{UserID: "u-1", ResultCount: 1<<53 - 1}),
		made(eventbus.VoyageBookingCreated,
			eventbus.VoyageBookingCreatedPayload{BookingID: "b-1", UserID: "u-1", FlightID: "f-1", HotelID: "h-1"},
			eventbus.VoyageBookingCreatedPayload{
				BookingID: "b-1", UserID: "u-1", FlightID: "f-1", HotelID: "h-1", Amount: amount("19.90"), Currency: "EUR",
			}),
		made(eventbus.VoyageBookingConfirmed, eventbus.VoyageBookingConfirmedPayload{BookingID: "b-1", ConfirmationCode: "XK7P"}),
		made(eventbus.VoyageBookingCancelled, eventbus.VoyageBookingCancelledPayload{BookingID: "b-1", Reason: text}),
		made(eventbus.VoyageBookingUpdated, eventbus.VoyageBookingUpdatedPayload{BookingID: "b-1", Changes: object}),
		made(eventbus.VoyageFlightSelected, eventbus.VoyageFlightSelectedPayload{UserID: "u-1", FlightID: "f-1", FlightData: object}),
		made(eventbus.VoyageHotelSelected, eventbus.VoyageHotelSelectedPayload{UserID: "u-1", HotelID: "h-1", HotelData: object}),
		made(eventbus.PaymentInitiated,
			eventbus.PaymentInitiatedPayload{TransactionID: "t-1", UserID: "u-1", Amount: *amount("0.1"), Currency: "EUR"},
			eventbus.PaymentInitiatedPayload{
				TransactionID: "t-1", UserID: "u-1", Amount: *amount("12345678901234567890.123456789"), Currency: "JPY", BookingID: "b-1",
			}),
		made(eventbus.PaymentCompleted, eventbus.PaymentCompletedPayload{TransactionID: "t-1", StripePaymentID: "pi_1"},
			eventbus.PaymentCompletedPayload{
				TransactionID: "t-1", StripePaymentID: "pi_1", UserID: "u-1", BookingID: "b-1", Amount: amount("19.90"), Currency: "EUR",
			}),
		made(eventbus.PaymentFailed, eventbus.PaymentFailedPayload{TransactionID: "t-1", ErrorCode: "card_declined", Reason: text},
			eventbus.PaymentFailedPayload{TransactionID: "t-1", ErrorCode: "card_declined", Reason: "no", UserID: "u-1", BookingID: "b-1"}),
		made(eventbus.PaymentRefunded, eventbus.PaymentRefundedPayload{TransactionID: "t-1", RefundID: "re_1", Amount: *amount("0")},
			eventbus.PaymentRefundedPayload{TransactionID: "t-1", RefundID: "re_1", Amount: *amount("0.00000010"), BookingID: "b-1"}),
		made(eventbus.PaymentPartialRefund, eventbus.PaymentPartialRefundPayload{TransactionID: "t-1", RefundID: "re_1", Amount: *amount("4.50")},
			eventbus.PaymentPartialRefundPayload{TransactionID: "t-1", RefundID: "re_1", Amount: *amount("1e2"), BookingID: "b-1"}),
		made(eventbus.AIRecommendationRequested, eventbus.AIRecommendationRequestedPayload{UserID: "u-1", Context: object}),
		made(eventbus.AIRecommendationGenerated, eventbus.AIRecommendationGeneratedPayload{UserID: "u-1"},
			eventbus.AIRecommendationGeneratedPayload{UserID: "u-1", Recommendations: []any{object, "x", json.Number("0.97"), nil}}),
		made(eventbus.AIPredictionMade, eventbus.AIPredictionMadePayload{UserID: "u-1", PredictionType: "churn", Data: object}),
		made(eventbus.AIUserBehaviorAnalyzed, eventbus.AIUserBehaviorAnalyzedPayload{UserID: "u-1", Insights: object}),
	} {
		all = append(all, events...)
	}
	return all
}

// eventTopics are the 27 topics that have events.
func eventTopics() []string {
	var names []string
	for _, topic := range eventbus.Catalogue() {
		if topic != eventbus.HealthCheck {
			names = append(names, topic.Name())
		}
	}
	return names
}

// wholeRow is an event with fields in its payload that its schema does not know, as Go services write it that publish whole rows.
func (s *street) wholeRow(bus *eventbus.Bus, of ours) ours {
	record, err := bus.Encode(s.ctx, of.event)
	require.NoError(s.t, err)
	_, payload := s.parts(record.Value)
	maps.Copy(payload, map[string]any{
		"id": 4711, "createdAt": "yesterday", "updatedAt": nil, "$schema": "users", "relations": map[string]any{"a": []any{}},
	})
	topic := eventbus.NewTopic(of.event.Topic().Name(), &eventbus.TopicOptions[map[string]any]{
		Key: func(map[string]any) string { return string(record.Key) }, Schema: schemas.Payload(eventType(of.event.Topic().Name())),
	})
	return made(topic, payload)[0]
}

func eventType(topic string) string { return topic[len("dreamscape."):] }

// parts are the envelope and the payload of a value.
func (s *street) parts(value []byte) (envelope, payload map[string]any) {
	require.NoError(s.t, json.Unmarshal(value, &envelope))
	payload, _ = envelope["payload"].(map[string]any)
	return envelope, payload
}

// broken are values of a topic that its schema, or the envelope's, does not allow: each required field of the payload is missing once.
func (s *street) broken(value []byte) map[string][]byte {
	envelope, payload := s.parts(value)
	var schema struct{ Required []string }
	require.NoError(s.t, json.Unmarshal(schemas.Payload(envelope["eventType"].(string)), &schema))
	require.NotEmpty(s.t, schema.Required)
	bad := map[string][]byte{}
	write := func(what string) {
		text, err := json.Marshal(envelope)
		require.NoError(s.t, err)
		bad[what] = text
	}
	for _, field := range schema.Required {
		without := maps.Clone(payload)
		delete(without, field)
		envelope["payload"] = without
		write("without " + field)
	}
	envelope["payload"] = payload
	for field, wrong := range map[string]any{
		"eventId": "4711", "timestamp": "yesterday", "version": "one", "payload": []any{}, "eventType": "user.renamed",
	} {
		right := envelope[field]
		envelope[field] = wrong
		write("with the " + field + " " + fmt.Sprint(wrong))
		envelope[field] = right
	}
	return bad
}

// arrival is an event that a Go handler got.
type arrival struct {
	delivery eventbus.Delivery
	event    eventbus.BaseEvent[map[string]any] // its payload as encoding/json writes it
}

// arrivals collects them; it is safe for concurrent use.
type arrivals struct {
	mu  sync.Mutex
	all []arrival
}

func (a *arrivals) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.all)
}

// list is what came so far.
func (a *arrivals) list() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]arrival(nil), a.all...)
}

func arriving[T any](topic *eventbus.Topic[T], a *arrivals) eventbus.Route {
	return topic.Handle(func(ctx context.Context, e *eventbus.BaseEvent[T]) error { return arrived(ctx, a, e) }, nil)
}

func arrived[T any](ctx context.Context, a *arrivals, e *eventbus.BaseEvent[T]) error {
	d, _ := eventbus.DeliveryFrom(ctx)
	got := arrival{delivery: d, event: eventbus.BaseEvent[map[string]any]{
		EventID: e.EventID, EventType: e.EventType, Timestamp: e.Timestamp, Version: e.Version, Source: e.Source, CorrelationID: e.CorrelationID,
	}}
	text, err := json.Marshal(e.Payload)
	if err == nil {
		err = json.Unmarshal(text, &got.event.Payload)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, got)
	return err
}

// allRoutes are the 27 topics'.
func allRoutes(a *arrivals) []eventbus.Route {
	return []eventbus.Route{
		arriving(eventbus.AuthLogin, a), arriving(eventbus.AuthLogout, a), arriving(eventbus.AuthTokenRefreshed, a),
		arriving(eventbus.AuthPasswordChanged, a), arriving(eventbus.AuthPasswordResetRequested, a), arriving(eventbus.AuthAccountLocked, a),
		arriving(eventbus.UserCreated, a), arriving(eventbus.UserUpdated, a), arriving(eventbus.UserDeleted, a),
		arriving(eventbus.UserProfileUpdated, a), arriving(eventbus.UserPreferencesUpdated, a),
		arriving(eventbus.VoyageSearchPerformed, a), arriving(eventbus.VoyageBookingCreated, a), arriving(eventbus.VoyageBookingConfirmed, a),
		arriving(eventbus.VoyageBookingCancelled, a), arriving(eventbus.VoyageBookingUpdated, a), arriving(eventbus.VoyageFlightSelected, a),
		arriving(eventbus.VoyageHotelSelected, a),
		arriving(eventbus.PaymentInitiated, a), arriving(eventbus.PaymentCompleted, a), arriving(eventbus.PaymentFailed, a),
		arriving(eventbus.PaymentRefunded, a), arriving(eventbus.PaymentPartialRefund, a),
		arriving(eventbus.AIRecommendationRequested, a), arriving(eventbus.AIRecommendationGenerated, a),
		arriving(eventbus.AIPredictionMade, a), arriving(eventbus.AIUserBehaviorAnalyzed, a),
	}
}
