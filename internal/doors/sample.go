package doors

import (
	"context"
	"fmt"
	"time"

	"github.com/dreamscape/eventbus"
)

// samples are of each of DreamScape's topics, by the topic's name.
type samples map[string]topicSample

// topicSample makes an event of a topic, and counts those of a key that it has.
type topicSample struct {
	event func(correlationID string) eventbus.AnyEvent
	count func(ctx context.Context, bus *eventbus.Bus, key string) (int, error)
}

func sample[T any](s samples, topic *eventbus.Topic[T], payload T) {
	s[topic.Name()] = topicSample{
		event: func(correlationID string) eventbus.AnyEvent {
			e := topic.New(payload)
			e.CorrelationID = correlationID
			return e
		},
		count: func(ctx context.Context, bus *eventbus.Bus, key string) (int, error) {
			return eventbus.Fold(ctx, bus, key, 0, eventbus.On(topic, func(n int, _ *eventbus.BaseEvent[T]) int { return n + 1 }))
		},
	}
}

// event is a sample of a topic.
func (s samples) event(topic eventbus.AnyTopic, correlationID string) (eventbus.AnyEvent, error) {
	build := s[topic.Name()].event
	if build == nil {
		return nil, fmt.Errorf("there is no sample for topic %s", topic.Name())
	}
	return build(correlationID), nil
}

func newSamples() samples {
	s := samples{}
	at, amount, object := time.Date(2026, 1, 7, 10, 0, 0, 0, time.UTC), eventbus.MustDecimal("19.90"), map[string]any{"a": "b"}
	sample(s, eventbus.AuthLogin, eventbus.AuthLoginPayload{UserID: "u", Timestamp: at, IPAddress: "::1", UserAgent: "curl"})
	sample(s, eventbus.AuthLogout, eventbus.AuthLogoutPayload{UserID: "u", SessionID: "s", Timestamp: at})
	sample(s, eventbus.AuthTokenRefreshed, eventbus.AuthTokenRefreshedPayload{UserID: "u", OldTokenID: "1", NewTokenID: "2"})
	sample(s, eventbus.AuthPasswordChanged, eventbus.AuthPasswordChangedPayload{UserID: "u", Timestamp: at})
	sample(s, eventbus.AuthPasswordResetRequested, eventbus.AuthPasswordResetRequestedPayload{Email: "a@example.com", ResetToken: "r", ExpiresAt: at})
	sample(s, eventbus.AuthAccountLocked, eventbus.AuthAccountLockedPayload{UserID: "u", Reason: "r", LockedUntil: at})
	sample(s, eventbus.UserCreated, eventbus.UserCreatedPayload{UserID: "u", Email: "a@example.com", FirstName: "A", LastName: "L"})
	sample(s, eventbus.UserUpdated, eventbus.UserUpdatedPayload{UserID: "u", Changes: object})
	sample(s, eventbus.UserDeleted, eventbus.UserDeletedPayload{UserID: "u", DeletedAt: at})
	sample(s, eventbus.UserProfileUpdated, eventbus.UserProfileUpdatedPayload{UserID: "u", ProfileData: object})
	sample(s, eventbus.UserPreferencesUpdated, eventbus.UserPreferencesUpdatedPayload{UserID: "u", Preferences: object})
	sample(s, eventbus.VoyageSearchPerformed, eventbus.VoyageSearchPerformedPayload{UserID: "u", SearchCriteria: object, ResultCount: 1})
	sample(s, eventbus.VoyageBookingCreated, eventbus.VoyageBookingCreatedPayload{BookingID: "b", UserID: "u", FlightID: "f", HotelID: "h"})
	sample(s, eventbus.VoyageBookingConfirmed, eventbus.VoyageBookingConfirmedPayload{BookingID: "b", ConfirmationCode: "c"})
	sample(s, eventbus.VoyageBookingCancelled, eventbus.VoyageBookingCancelledPayload{BookingID: "b", Reason: "r"})
	sample(s, eventbus.VoyageBookingUpdated, eventbus.VoyageBookingUpdatedPayload{BookingID: "b", Changes: object})
	sample(s, eventbus.VoyageFlightSelected, eventbus.VoyageFlightSelectedPayload{UserID: "u", FlightID: "f", FlightData: object})
	sample(s, eventbus.VoyageHotelSelected, eventbus.VoyageHotelSelectedPayload{UserID: "u", HotelID: "h", HotelData: object})
	sample(s, eventbus.PaymentInitiated, eventbus.PaymentInitiatedPayload{TransactionID: "t", UserID: "u", Amount: amount, Currency: "EUR"})
	sample(s, eventbus.PaymentCompleted, eventbus.PaymentCompletedPayload{TransactionID: "t", StripePaymentID: "p"})
	sample(s, eventbus.PaymentFailed, eventbus.PaymentFailedPayload{TransactionID: "t", ErrorCode: "e", Reason: "r"})
	sample(s, eventbus.PaymentRefunded, eventbus.PaymentRefundedPayload{TransactionID: "t", RefundID: "r", Amount: amount})
	sample(s, eventbus.PaymentPartialRefund, eventbus.PaymentPartialRefundPayload{TransactionID: "t", RefundID: "r", Amount: amount})
	sample(s, eventbus.AIRecommendationRequested, eventbus.AIRecommendationRequestedPayload{UserID: "u", Context: object})
	sample(s, eventbus.AIRecommendationGenerated, eventbus.AIRecommendationGeneratedPayload{UserID: "u", Recommendations: []any{"x"}})
	sample(s, eventbus.AIPredictionMade, eventbus.AIPredictionMadePayload{UserID: "u", PredictionType: "p", Data: object})
	sample(s, eventbus.AIUserBehaviorAnalyzed, eventbus.AIUserBehaviorAnalyzedPayload{UserID: "u", Insights: object})
	return s
}
