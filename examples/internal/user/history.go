package user

import (
	"context"
	"net/http"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// History is a user as the published events tell of it, from first to last.
type History struct {
	UserID      string         `json:"userId"`
	Status      string         `json:"status"`
	Email       string         `json:"email"`
	FirstName   string         `json:"firstName"`
	LastName    string         `json:"lastName"`
	Preferences map[string]any `json:"preferences"`
	ProfileData map[string]any `json:"profileData"`
	Logins      int            `json:"logins"`
	LastLogin   time.Time      `json:"lastLogin,omitzero"`
	Events      []Entry        `json:"events"`
	Problem     string         `json:"problem,omitzero"` // which events could not be read, and are left out
}

// Entry is an event of a [History].
type Entry struct {
	EventType string    `json:"eventType"`
	EventID   string    `json:"eventId"`
	Timestamp time.Time `json:"timestamp"`
	Source    string    `json:"source"`
}

func (s *Service) history(r *http.Request) (History, error) {
	h, err := s.log.History(r.Context(), r.PathValue("userId"))
	switch {
	case err != nil && len(h.Events) == 0:
		return History{}, service.Errorf(http.StatusServiceUnavailable, "the history cannot be read: %v", err)
	case len(h.Events) == 0:
		return History{}, noUser(r)
	case err != nil:
		h.Problem = err.Error()
	}
	return h, nil
}

// steps say what each kind of event does to a history.
var steps = []eventbus.FoldStep[History]{
	step(eventbus.UserCreated, func(h *History, p eventbus.UserCreatedPayload) {
		h.Status, h.Email, h.FirstName, h.LastName = "active", p.Email, p.FirstName, p.LastName
	}),
	step(eventbus.UserUpdated, func(h *History, p eventbus.UserUpdatedPayload) {
		replace(&h.Email, p.Changes["email"])
		replace(&h.FirstName, p.Changes["firstName"])
		replace(&h.LastName, p.Changes["lastName"])
	}),
	step(eventbus.UserPreferencesUpdated, func(h *History, p eventbus.UserPreferencesUpdatedPayload) { h.Preferences = p.Preferences }),
	step(eventbus.UserProfileUpdated, func(h *History, p eventbus.UserProfileUpdatedPayload) { h.ProfileData = p.ProfileData }),
	step(eventbus.AuthLogin, func(h *History, p eventbus.AuthLoginPayload) { h.Logins, h.LastLogin = h.Logins+1, p.Timestamp }),
	step(eventbus.AuthLogout, func(*History, eventbus.AuthLogoutPayload) {}),
	step(eventbus.UserDeleted, func(h *History, _ eventbus.UserDeletedPayload) { h.Status = "deleted" }),
}

// step notes each event once: one that was published again is on the topic twice, under one id.
func step[T any](t *eventbus.Topic[T], apply func(h *History, payload T)) eventbus.FoldStep[History] {
	return eventbus.On(t, func(h History, e *eventbus.BaseEvent[T]) History {
		if h.has(e.EventID) {
			return h
		}
		h.Events = append(h.Events, Entry{EventType: e.EventType, EventID: e.EventID, Timestamp: e.Timestamp, Source: e.Source})
		apply(&h, e.Payload)
		return h
	})
}

func (h History) has(eventID string) bool {
	for _, entry := range h.Events {
		if entry.EventID == eventID {
			return true
		}
	}
	return false
}

// replace sets a text to a changed one; a service may have published anything else there.
func replace(text *string, changed any) {
	if s, ok := changed.(string); ok {
		*text = s
	}
}

// busLog is the [Log] on Kafka: it reads the topics themselves.
type busLog struct{ bus *eventbus.Bus }

// History implements [Log].
func (l busLog) History(ctx context.Context, userID string) (History, error) {
	return eventbus.Fold(ctx, l.bus, userID, History{UserID: userID, Status: "unknown"}, steps...)
}

// Payer implements [Log].
func (l busLog) Payer(ctx context.Context, transactionID string) (string, error) {
	return eventbus.Fold(ctx, l.bus, transactionID, "",
		eventbus.On(eventbus.PaymentInitiated, func(_ string, e *eventbus.BaseEvent[eventbus.PaymentInitiatedPayload]) string {
			return e.Payload.UserID
		}))
}
