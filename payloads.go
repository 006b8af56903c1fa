package eventbus

import "time"

// The payloads of DreamScape's events, as the schemas in the folder schemas have them. A field that may be left out on the wire has
// omitzero: its zero value means that it was. In map[string]any and []any, numbers are decoded as encoding/json's Number, which
// keeps every digit; nested values are map[string]any, []any, string, bool or nil. A nil map is written as {}, a nil slice as [].

// AuthLoginPayload says that a user logged in.
type AuthLoginPayload struct {
	UserID    string    `json:"userId"`
	Timestamp time.Time `json:"timestamp"`
	IPAddress string    `json:"ipAddress"`
	UserAgent string    `json:"userAgent"`
}

// AuthLogoutPayload says that a user ended a session.
type AuthLogoutPayload struct {
	UserID    string    `json:"userId"`
	SessionID string    `json:"sessionId"`
	Timestamp time.Time `json:"timestamp"`
}

// AuthTokenRefreshedPayload says that a token was exchanged for a new one. It has their ids, never the tokens.
type AuthTokenRefreshedPayload struct {
	UserID     string `json:"userId"`
	OldTokenID string `json:"oldTokenId"`
	NewTokenID string `json:"newTokenId"`
}

// AuthPasswordChangedPayload says that a user changed the password.
type AuthPasswordChangedPayload struct {
	UserID    string    `json:"userId"`
	Timestamp time.Time `json:"timestamp"`
}

// AuthPasswordResetRequestedPayload says that somebody asked for the password of an address to be reset.
type AuthPasswordResetRequestedPayload struct {
	Email      string    `json:"email"`
	ResetToken Secret    `json:"resetToken"`
	ExpiresAt  time.Time `json:"expiresAt"`
}

// AuthAccountLockedPayload says that an account was locked.
type AuthAccountLockedPayload struct {
	UserID      string    `json:"userId"`
	Reason      string    `json:"reason"`
	LockedUntil time.Time `json:"lockedUntil"`
}

// UserCreatedPayload says that a user signed up.
type UserCreatedPayload struct {
	UserID    string `json:"userId"`
	Email     string `json:"email"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
}

// UserUpdatedPayload says which fields of a user changed, with their new values.
type UserUpdatedPayload struct {
	UserID  string         `json:"userId"`
	Changes map[string]any `json:"changes"`
}

// UserDeletedPayload says that a user was deleted.
type UserDeletedPayload struct {
	UserID    string    `json:"userId"`
	DeletedAt time.Time `json:"deletedAt"`
}

// UserProfileUpdatedPayload says that a user's profile changed, and what it is now.
type UserProfileUpdatedPayload struct {
	UserID      string         `json:"userId"`
	ProfileData map[string]any `json:"profileData"`
}

// UserPreferencesUpdatedPayload says that a user's preferences changed, and what they are now.
type UserPreferencesUpdatedPayload struct {
	UserID      string         `json:"userId"`
	Preferences map[string]any `json:"preferences"`
}

// VoyageSearchPerformedPayload says that a user searched for a voyage, and how many results there were.
type VoyageSearchPerformedPayload struct {
	UserID         string         `json:"userId"`
	SearchCriteria map[string]any `json:"searchCriteria"`
	ResultCount    int            `json:"resultCount"`
}

// VoyageBookingCreatedPayload says that a booking was made and is to be paid.
type VoyageBookingCreatedPayload struct {
	BookingID string   `json:"bookingId"`
	UserID    string   `json:"userId"`
	FlightID  string   `json:"flightId"`
	HotelID   string   `json:"hotelId"`
	Amount    *Decimal `json:"amount,omitzero"`
	Currency  string   `json:"currency,omitzero"`
}

// VoyageBookingConfirmedPayload says that a booking was paid and confirmed.
type VoyageBookingConfirmedPayload struct {
	BookingID        string `json:"bookingId"`
	ConfirmationCode string `json:"confirmationCode"`
}

// VoyageBookingCancelledPayload says that a booking was cancelled.
type VoyageBookingCancelledPayload struct {
	BookingID string `json:"bookingId"`
	Reason    string `json:"reason"`
}

// VoyageBookingUpdatedPayload says which fields of a booking changed, with their new values.
type VoyageBookingUpdatedPayload struct {
	BookingID string         `json:"bookingId"`
	Changes   map[string]any `json:"changes"`
}

// VoyageFlightSelectedPayload says that a user selected a flight, and how it was shown.
type VoyageFlightSelectedPayload struct {
	UserID     string         `json:"userId"`
	FlightID   string         `json:"flightId"`
	FlightData map[string]any `json:"flightData"`
}

// VoyageHotelSelectedPayload says that a user selected a hotel, and how it was shown.
type VoyageHotelSelectedPayload struct {
	UserID    string         `json:"userId"`
	HotelID   string         `json:"hotelId"`
	HotelData map[string]any `json:"hotelData"`
}

// PaymentInitiatedPayload says that a payment was started. BookingID may be left out: find the booking by the correlation id then.
type PaymentInitiatedPayload struct {
	TransactionID string  `json:"transactionId"`
	UserID        string  `json:"userId"`
	Amount        Decimal `json:"amount"`
	Currency      string  `json:"currency"`
	BookingID     string  `json:"bookingId,omitzero"`
}

// PaymentCompletedPayload says that a payment succeeded. Today's TypeScript services leave out all but the two ids: find the booking
// by the correlation id then.
type PaymentCompletedPayload struct {
	TransactionID   string   `json:"transactionId"`
	StripePaymentID string   `json:"stripePaymentId"`
	UserID          string   `json:"userId,omitzero"`
	BookingID       string   `json:"bookingId,omitzero"`
	Amount          *Decimal `json:"amount,omitzero"`
	Currency        string   `json:"currency,omitzero"`
}

// PaymentFailedPayload says that a payment failed for good. Without BookingID, find the booking by the correlation id.
type PaymentFailedPayload struct {
	TransactionID string `json:"transactionId"`
	ErrorCode     string `json:"errorCode"`
	Reason        string `json:"reason"`
	UserID        string `json:"userId,omitzero"`
	BookingID     string `json:"bookingId,omitzero"`
}

// PaymentRefundedPayload says that all of a payment was given back. The amount is in the payment's currency.
type PaymentRefundedPayload struct {
	TransactionID string  `json:"transactionId"`
	RefundID      string  `json:"refundId"`
	Amount        Decimal `json:"amount"`
	BookingID     string  `json:"bookingId,omitzero"`
}

// PaymentPartialRefundPayload says that a part of a payment was given back. The amount is that part, in the payment's currency.
type PaymentPartialRefundPayload struct {
	TransactionID string  `json:"transactionId"`
	RefundID      string  `json:"refundId"`
	Amount        Decimal `json:"amount"`
	BookingID     string  `json:"bookingId,omitzero"`
}

// AIRecommendationRequestedPayload says that recommendations for a user were asked for, and what for.
type AIRecommendationRequestedPayload struct {
	UserID  string         `json:"userId"`
	Context map[string]any `json:"context"`
}

// AIRecommendationGeneratedPayload says that recommendations for a user are ready.
type AIRecommendationGeneratedPayload struct {
	UserID          string `json:"userId"`
	Recommendations []any  `json:"recommendations"`
}

// AIPredictionMadePayload says that something was predicted about a user.
type AIPredictionMadePayload struct {
	UserID         string         `json:"userId"`
	PredictionType string         `json:"predictionType"`
	Data           map[string]any `json:"data"`
}

// AIUserBehaviorAnalyzedPayload says what an analysis of a user's behaviour found.
type AIUserBehaviorAnalyzedPayload struct {
	UserID   string         `json:"userId"`
	Insights map[string]any `json:"insights"`
}

// HealthCheckPayload is the bare text that is on [HealthCheck]; it is no event.
type HealthCheckPayload string

// Ping is the one value of [HealthCheckPayload].
const Ping HealthCheckPayload = "ping"
