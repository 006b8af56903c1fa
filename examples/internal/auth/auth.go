// Package auth is the example auth-service: passwords, sessions and tokens. Accounts come into being by user.created and end by
// user.deleted.
package auth

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// App is the auth-service.
var App = service.App{
	Name: "auth-service",
	Addr: ":3001",
	Publishes: []eventbus.AnyTopic{
		eventbus.AuthLogin, eventbus.AuthLogout, eventbus.AuthTokenRefreshed, eventbus.AuthPasswordChanged,
		eventbus.AuthPasswordResetRequested, eventbus.AuthAccountLocked,
	},
	New: func(bus *eventbus.Bus) service.Service { return New(bus) },
}

// Service is the inside of the auth-service.
type Service struct {
	publisher service.Publisher
	memory    service.Memory
	locks     service.Keys // by user id
	accounts  service.Table[account]
	userIDs   service.Table[string] // by e-mail address, see addressKey
	signer    signer
}

// New makes the service.
func New(p service.Publisher) *Service {
	return &Service{publisher: p, signer: newSigner()}
}

// Register adds the HTTP API to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("GET /auth/users/{userId}", service.Handle(http.StatusOK, s.getUser))
	mux.Handle("PUT /auth/users/{userId}/password", service.HandleBody(http.StatusNoContent, s.setPassword))
	mux.Handle("POST /auth/password-resets", service.HandleBody(http.StatusAccepted, s.requestReset))
	mux.Handle("POST /auth/login", service.HandleBody(http.StatusOK, s.login))
	mux.Handle("POST /auth/token/refresh", service.HandleBody(http.StatusOK, s.refresh))
	mux.Handle("POST /auth/logout", service.HandleBody(http.StatusNoContent, s.logout))
}

// Routes are the events that the service handles.
func (s *Service) Routes() []eventbus.Route {
	return []eventbus.Route{
		eventbus.UserCreated.Handle(service.Once(&s.memory, s.openAccount), nil),
		eventbus.UserDeleted.Handle(service.Once(&s.memory, s.closeAccount), nil),
	}
}
