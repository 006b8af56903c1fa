// Package user is the example user-service: who the users are, what they prefer, and their history.
package user

import (
	"context"
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// App is the user-service.
var App = service.App{
	Name: "user-service",
	Addr: ":3002",
	Publishes: []eventbus.AnyTopic{
		eventbus.UserCreated, eventbus.UserUpdated, eventbus.UserDeleted, eventbus.UserProfileUpdated,
		eventbus.UserPreferencesUpdated,
	},
	New: func(bus *eventbus.Bus) service.Service { return New(bus, busLog{bus}) },
}

// Service is the inside of the user-service.
type Service struct {
	publisher  service.Publisher
	log        Log
	memory     service.Memory
	locks      service.Keys // by user id, and by e-mail address in lower case; in this order where both are needed
	users      service.Table[User]
	userIDs    service.Table[string] // by e-mail address in lower case
	activities service.Table[activity]
}

// Log reads back what was published.
type Log interface {
	// History folds the events of a user. An error that comes with a history is about events that it leaves out.
	History(ctx context.Context, userID string) (History, error)
	// Payer finds the user of a payment transaction, "" for none.
	Payer(ctx context.Context, transactionID string) (string, error)
}

// New makes the service.
func New(p service.Publisher, l Log) *Service {
	return &Service{publisher: p, log: l}
}

// Register adds the HTTP API to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("POST /users", service.HandleBody(http.StatusCreated, s.create))
	mux.Handle("GET /users/{userId}", service.Handle(http.StatusOK, s.get))
	mux.Handle("PATCH /users/{userId}", service.HandleBody(http.StatusOK, s.rename))
	mux.Handle("PUT /users/{userId}/preferences", service.HandleBody(http.StatusOK, s.setPreferences))
	mux.Handle("PUT /users/{userId}/profile", service.HandleBody(http.StatusOK, s.setProfile))
	mux.Handle("DELETE /users/{userId}", service.Handle(http.StatusNoContent, s.remove))
	mux.Handle("GET /users/{userId}/history", service.Handle(http.StatusOK, s.history))
}

// Routes are the events that the service handles.
func (s *Service) Routes() []eventbus.Route {
	return []eventbus.Route{
		eventbus.AuthLogin.Handle(service.Once(&s.memory, s.noteLogin), nil),
		eventbus.PaymentCompleted.Handle(service.Once(&s.memory, s.makePremium), nil),
	}
}
