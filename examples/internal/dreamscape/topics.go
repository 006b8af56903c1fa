package dreamscape

import (
	"github.com/dreamscape/eventbus"
)

// eventTopic is a topic of any payload whose records can be decoded.
type eventTopic struct {
	name   string
	decode func(value []byte) (event, error)
}

// event is a decoded event of any payload; it can be published again as it is.
type event struct {
	eventbus.AnyEvent
	id, source string
}

func typed[T any](t *eventbus.Topic[T]) eventTopic {
	return eventTopic{name: t.Name(), decode: func(value []byte) (event, error) {
		e, err := t.Decode(value)
		if err != nil {
			return event{}, err
		}
		return event{AnyEvent: e, id: e.EventID, source: e.Source}, nil
	}}
}

// eventTopics are the topics of the 27 events.
var eventTopics = []eventTopic{
	typed(eventbus.AuthLogin), typed(eventbus.AuthLogout), typed(eventbus.AuthTokenRefreshed),
	typed(eventbus.AuthPasswordChanged), typed(eventbus.AuthPasswordResetRequested), typed(eventbus.AuthAccountLocked),
	typed(eventbus.UserCreated), typed(eventbus.UserUpdated), typed(eventbus.UserDeleted),
	typed(eventbus.UserProfileUpdated), typed(eventbus.UserPreferencesUpdated),
	typed(eventbus.VoyageSearchPerformed), typed(eventbus.VoyageBookingCreated), typed(eventbus.VoyageBookingConfirmed),
	typed(eventbus.VoyageBookingCancelled), typed(eventbus.VoyageBookingUpdated),
	typed(eventbus.VoyageFlightSelected), typed(eventbus.VoyageHotelSelected),
	typed(eventbus.PaymentInitiated), typed(eventbus.PaymentCompleted), typed(eventbus.PaymentFailed),
	typed(eventbus.PaymentRefunded), typed(eventbus.PaymentPartialRefund),
	typed(eventbus.AIRecommendationRequested), typed(eventbus.AIRecommendationGenerated),
	typed(eventbus.AIPredictionMade), typed(eventbus.AIUserBehaviorAnalyzed),
}

// consumption is an event that a service handles, and what it does then.
type consumption struct {
	event, service, does string
}

func (c consumption) topicName() string { return "dreamscape." + c.event }
func (c consumption) group() string     { return "dreamscape-" + c.service + "-group" }

// consumptions are the 12 that the domain asks for.
var consumptions = []consumption{
	{"user.created", "auth-service", "opens a session"},
	{"user.deleted", "auth-service", "voids all tokens"},
	{"auth.login", "user-service", "notes the last login"},
	{"payment.completed", "user-service", "makes the user premium"},
	{"voyage.booking.created", "payment-service", "starts the payment"},
	{"voyage.booking.cancelled", "payment-service", "refunds"},
	{"payment.completed", "voyage-service", "confirms the booking"},
	{"payment.failed", "voyage-service", "cancels the booking"},
	{"voyage.search.performed", "ai-service", "analyses preferences"},
	{"voyage.flight.selected", "ai-service", "updates the profile"},
	{"voyage.hotel.selected", "ai-service", "refines recommendations"},
	{"user.profile.updated", "ai-service", "recomputes recommendations"},
}

// deadLetterTopic is Kafka's name of the topic for what the service gives up.
func (c consumption) deadLetterTopic(prefix string) string {
	return eventbus.DeadLetterTopic(prefix+c.topicName(), prefix+c.group())
}
