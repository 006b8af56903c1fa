package eventbus

import "github.com/dreamscape/eventbus/schemas"

// The names of DreamScape's topics, without [Config.TopicPrefix].
const (
	TopicAuthLogin                  = "dreamscape.auth.login"
	TopicAuthLogout                 = "dreamscape.auth.logout"
	TopicAuthTokenRefreshed         = "dreamscape.auth.token.refreshed"          // #nosec G101 -- a name
	TopicAuthPasswordChanged        = "dreamscape.auth.password.changed"         // #nosec G101 -- a name
	TopicAuthPasswordResetRequested = "dreamscape.auth.password.reset.requested" // #nosec G101 -- a name
	TopicAuthAccountLocked          = "dreamscape.auth.account.locked"

	TopicUserCreated            = "dreamscape.user.created"
	TopicUserUpdated            = "dreamscape.user.updated"
	TopicUserDeleted            = "dreamscape.user.deleted"
	TopicUserProfileUpdated     = "dreamscape.user.profile.updated"
	TopicUserPreferencesUpdated = "dreamscape.user.preferences.updated"

	TopicVoyageSearchPerformed  = "dreamscape.voyage.search.performed"
	TopicVoyageBookingCreated   = "dreamscape.voyage.booking.created"
	TopicVoyageBookingConfirmed = "dreamscape.voyage.booking.confirmed"
	TopicVoyageBookingCancelled = "dreamscape.voyage.booking.cancelled"
	TopicVoyageBookingUpdated   = "dreamscape.voyage.booking.updated"
	TopicVoyageFlightSelected   = "dreamscape.voyage.flight.selected"
	TopicVoyageHotelSelected    = "dreamscape.voyage.hotel.selected"

	TopicPaymentInitiated     = "dreamscape.payment.initiated"
	TopicPaymentCompleted     = "dreamscape.payment.completed"
	TopicPaymentFailed        = "dreamscape.payment.failed"
	TopicPaymentRefunded      = "dreamscape.payment.refunded"
	TopicPaymentPartialRefund = "dreamscape.payment.partial.refund"

	TopicAIRecommendationRequested = "dreamscape.ai.recommendation.requested"
	TopicAIRecommendationGenerated = "dreamscape.ai.recommendation.generated"
	TopicAIPredictionMade          = "dreamscape.ai.prediction.made"
	TopicAIUserBehaviorAnalyzed    = "dreamscape.ai.user.behavior.analyzed"

	TopicHealthCheck = "dreamscape.health.check"
)

// Published by auth-service.
var (
	// AuthLogin is published when a user has logged in. user-service notes the last login.
	AuthLogin = NewTopic(TopicAuthLogin, &TopicOptions[AuthLoginPayload]{
		Key:    func(p AuthLoginPayload) string { return p.UserID },
		Schema: schemas.Payload("auth.login"),
	})

	// AuthLogout is published when a user has ended a session.
	AuthLogout = NewTopic(TopicAuthLogout, &TopicOptions[AuthLogoutPayload]{
		Key:    func(p AuthLogoutPayload) string { return p.UserID },
		Schema: schemas.Payload("auth.logout"),
	})

	// AuthTokenRefreshed is published when a token has been exchanged for a new one.
	AuthTokenRefreshed = NewTopic(TopicAuthTokenRefreshed, &TopicOptions[AuthTokenRefreshedPayload]{
		Key:    func(p AuthTokenRefreshedPayload) string { return p.UserID },
		Schema: schemas.Payload("auth.token.refreshed"),
	})

	// AuthPasswordChanged is published when a password has been changed.
	AuthPasswordChanged = NewTopic(TopicAuthPasswordChanged, &TopicOptions[AuthPasswordChangedPayload]{
		Key:    func(p AuthPasswordChangedPayload) string { return p.UserID },
		Schema: schemas.Payload("auth.password.changed"),
	})

	// AuthPasswordResetRequested is published when somebody asks for a password to be reset. Its reset token is a [Secret].
	AuthPasswordResetRequested = NewTopic(TopicAuthPasswordResetRequested, &TopicOptions[AuthPasswordResetRequestedPayload]{
		Key:    func(p AuthPasswordResetRequestedPayload) string { return p.Email },
		Schema: schemas.Payload("auth.password.reset.requested"),
	})

	// AuthAccountLocked is published when an account has been locked.
	AuthAccountLocked = NewTopic(TopicAuthAccountLocked, &TopicOptions[AuthAccountLockedPayload]{
		Key:    func(p AuthAccountLockedPayload) string { return p.UserID },
		Schema: schemas.Payload("auth.account.locked"),
	})
)

// Published by user-service.
var (
	// UserCreated is published when a user has signed up. auth-service opens an authentication session.
	UserCreated = NewTopic(TopicUserCreated, &TopicOptions[UserCreatedPayload]{
		Key:    func(p UserCreatedPayload) string { return p.UserID },
		Schema: schemas.Payload("user.created"),
	})

	// UserUpdated is published when fields of a user have been changed.
	UserUpdated = NewTopic(TopicUserUpdated, &TopicOptions[UserUpdatedPayload]{
		Key:    func(p UserUpdatedPayload) string { return p.UserID },
		Schema: schemas.Payload("user.updated"),
	})

	// UserDeleted is published when a user has been deleted. auth-service invalidates all the user's tokens.
	UserDeleted = NewTopic(TopicUserDeleted, &TopicOptions[UserDeletedPayload]{
		Key:    func(p UserDeletedPayload) string { return p.UserID },
		Schema: schemas.Payload("user.deleted"),
	})

	// UserProfileUpdated is published when a profile has been changed. ai-service recomputes the recommendations.
	UserProfileUpdated = NewTopic(TopicUserProfileUpdated, &TopicOptions[UserProfileUpdatedPayload]{
		Key:    func(p UserProfileUpdatedPayload) string { return p.UserID },
		Schema: schemas.Payload("user.profile.updated"),
	})

	// UserPreferencesUpdated is published when preferences have been changed.
	UserPreferencesUpdated = NewTopic(TopicUserPreferencesUpdated, &TopicOptions[UserPreferencesUpdatedPayload]{
		Key:    func(p UserPreferencesUpdatedPayload) string { return p.UserID },
		Schema: schemas.Payload("user.preferences.updated"),
	})
)

// Published by voyage-service.
var (
	// VoyageSearchPerformed is published when a search has been answered. ai-service analyses the preferences.
	VoyageSearchPerformed = NewTopic(TopicVoyageSearchPerformed, &TopicOptions[VoyageSearchPerformedPayload]{
		Key:    func(p VoyageSearchPerformedPayload) string { return p.UserID },
		Schema: schemas.Payload("voyage.search.performed"),
	})

	// VoyageBookingCreated is published when a booking has been made. payment-service starts its payment.
	VoyageBookingCreated = NewTopic(TopicVoyageBookingCreated, &TopicOptions[VoyageBookingCreatedPayload]{
		Key:    func(p VoyageBookingCreatedPayload) string { return p.BookingID },
		Schema: schemas.Payload("voyage.booking.created"),
	})

	// VoyageBookingConfirmed is published when a booking has been paid and confirmed.
	VoyageBookingConfirmed = NewTopic(TopicVoyageBookingConfirmed, &TopicOptions[VoyageBookingConfirmedPayload]{
		Key:    func(p VoyageBookingConfirmedPayload) string { return p.BookingID },
		Schema: schemas.Payload("voyage.booking.confirmed"),
	})

	// VoyageBookingCancelled is published when a booking has been cancelled. payment-service refunds what was paid.
	VoyageBookingCancelled = NewTopic(TopicVoyageBookingCancelled, &TopicOptions[VoyageBookingCancelledPayload]{
		Key:    func(p VoyageBookingCancelledPayload) string { return p.BookingID },
		Schema: schemas.Payload("voyage.booking.cancelled"),
	})

	// VoyageBookingUpdated is published when fields of a booking have been changed.
	VoyageBookingUpdated = NewTopic(TopicVoyageBookingUpdated, &TopicOptions[VoyageBookingUpdatedPayload]{
		Key:    func(p VoyageBookingUpdatedPayload) string { return p.BookingID },
		Schema: schemas.Payload("voyage.booking.updated"),
	})

	// VoyageFlightSelected is published when a user selects a flight. ai-service updates the user's profile.
	VoyageFlightSelected = NewTopic(TopicVoyageFlightSelected, &TopicOptions[VoyageFlightSelectedPayload]{
		Key:    func(p VoyageFlightSelectedPayload) string { return p.UserID },
		Schema: schemas.Payload("voyage.flight.selected"),
	})

	// VoyageHotelSelected is published when a user selects a hotel. ai-service refines the recommendations.
	VoyageHotelSelected = NewTopic(TopicVoyageHotelSelected, &TopicOptions[VoyageHotelSelectedPayload]{
		Key:    func(p VoyageHotelSelectedPayload) string { return p.UserID },
		Schema: schemas.Payload("voyage.hotel.selected"),
	})
)

// Published by payment-service.
var (
	// PaymentInitiated is published when a payment has been started.
	PaymentInitiated = NewTopic(TopicPaymentInitiated, &TopicOptions[PaymentInitiatedPayload]{
		Key:    func(p PaymentInitiatedPayload) string { return p.TransactionID },
		Schema: schemas.Payload("payment.initiated"),
	})

	// PaymentCompleted is published when a payment has succeeded. voyage-service confirms the booking, user-service notes the
	// premium status.
	PaymentCompleted = NewTopic(TopicPaymentCompleted, &TopicOptions[PaymentCompletedPayload]{
		Key:    func(p PaymentCompletedPayload) string { return p.TransactionID },
		Schema: schemas.Payload("payment.completed"),
	})

	// PaymentFailed is published when a payment has failed for good. voyage-service cancels the booking.
	PaymentFailed = NewTopic(TopicPaymentFailed, &TopicOptions[PaymentFailedPayload]{
		Key:    func(p PaymentFailedPayload) string { return p.TransactionID },
		Schema: schemas.Payload("payment.failed"),
	})

	// PaymentRefunded is published when all of a payment has been given back.
	PaymentRefunded = NewTopic(TopicPaymentRefunded, &TopicOptions[PaymentRefundedPayload]{
		Key:    func(p PaymentRefundedPayload) string { return p.TransactionID },
		Schema: schemas.Payload("payment.refunded"),
	})

	// PaymentPartialRefund is published when a part of a payment has been given back.
	PaymentPartialRefund = NewTopic(TopicPaymentPartialRefund, &TopicOptions[PaymentPartialRefundPayload]{
		Key:    func(p PaymentPartialRefundPayload) string { return p.TransactionID },
		Schema: schemas.Payload("payment.partial.refund"),
	})
)

// Published by ai-service.
var (
	// AIRecommendationRequested is published when recommendations for a user have been asked for.
	AIRecommendationRequested = NewTopic(TopicAIRecommendationRequested, &TopicOptions[AIRecommendationRequestedPayload]{
		Key:    func(p AIRecommendationRequestedPayload) string { return p.UserID },
		Schema: schemas.Payload("ai.recommendation.requested"),
	})

	// AIRecommendationGenerated is published when recommendations for a user are ready.
	AIRecommendationGenerated = NewTopic(TopicAIRecommendationGenerated, &TopicOptions[AIRecommendationGeneratedPayload]{
		Key:    func(p AIRecommendationGeneratedPayload) string { return p.UserID },
		Schema: schemas.Payload("ai.recommendation.generated"),
	})

	// AIPredictionMade is published when something has been predicted about a user.
	AIPredictionMade = NewTopic(TopicAIPredictionMade, &TopicOptions[AIPredictionMadePayload]{
		Key:    func(p AIPredictionMadePayload) string { return p.UserID },
		Schema: schemas.Payload("ai.prediction.made"),
	})

	// AIUserBehaviorAnalyzed is published when a user's behaviour has been analysed.
	AIUserBehaviorAnalyzed = NewTopic(TopicAIUserBehaviorAnalyzed, &TopicOptions[AIUserBehaviorAnalyzedPayload]{
		Key:    func(p AIUserBehaviorAnalyzedPayload) string { return p.UserID },
		Schema: schemas.Payload("ai.user.behavior.analyzed"),
	})
)

// HealthCheck is the topic of [Bus.Ping]. Its records are no events: their value is the bare text of [Ping], their key the service's
// name. It cannot be in a [Subscription].
var HealthCheck AnyTopic = &topicSpec{name: TopicHealthCheck, eventType: "health.check"}

// Catalogue returns DreamScape's 28 topics, [HealthCheck] last; the slice is the caller's. Give it to [Bus.EnsureTopics].
func Catalogue() []AnyTopic {
	return []AnyTopic{
		AuthLogin, AuthLogout, AuthTokenRefreshed, AuthPasswordChanged, AuthPasswordResetRequested, AuthAccountLocked,
		UserCreated, UserUpdated, UserDeleted, UserProfileUpdated, UserPreferencesUpdated,
		VoyageSearchPerformed, VoyageBookingCreated, VoyageBookingConfirmed, VoyageBookingCancelled, VoyageBookingUpdated,
		VoyageFlightSelected, VoyageHotelSelected,
		PaymentInitiated, PaymentCompleted, PaymentFailed, PaymentRefunded, PaymentPartialRefund,
		AIRecommendationRequested, AIRecommendationGenerated, AIPredictionMade, AIUserBehaviorAnalyzed,
		HealthCheck,
	}
}
