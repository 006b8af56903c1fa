// Package ai is the example ai-service: it learns what users like from what they do, and recommends destinations.
package ai

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// App is the ai-service.
var App = service.App{
	Name: "ai-service",
	Addr: ":3005",
	Publishes: []eventbus.AnyTopic{
		eventbus.AIRecommendationRequested, eventbus.AIRecommendationGenerated, eventbus.AIPredictionMade,
		eventbus.AIUserBehaviorAnalyzed,
	},
	New: func(bus *eventbus.Bus) service.Service { return New(bus) },
}

// Service is the inside of the ai-service.
type Service struct {
	publisher service.Publisher
	memory    service.Memory
	locks     service.Keys // by user id
	profiles  service.Table[Profile]
}

// New makes the service.
func New(p service.Publisher) *Service {
	return &Service{publisher: p}
}

// Register adds the HTTP API to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("POST /recommendations", service.HandleBody(http.StatusCreated, s.request))
	mux.Handle("GET /users/{userId}/recommendations", service.Handle(http.StatusOK, s.getRecommendations))
	mux.Handle("GET /users/{userId}/profile", service.Handle(http.StatusOK, s.getProfile))
}

// Routes are the events that the service handles.
func (s *Service) Routes() []eventbus.Route {
	return []eventbus.Route{
		eventbus.VoyageSearchPerformed.Handle(service.Once(&s.memory, s.analyse), nil),
		eventbus.VoyageFlightSelected.Handle(service.Once(&s.memory, s.predict), nil),
		eventbus.VoyageHotelSelected.Handle(service.Once(&s.memory, s.refine), nil),
		eventbus.UserProfileUpdated.Handle(service.Once(&s.memory, s.recompute), nil),
	}
}

func (s *Service) getProfile(r *http.Request) (Profile, error) {
	p, ok := s.profiles.Get(r.PathValue("userId"))
	if !ok {
		return Profile{}, service.Errorf(http.StatusNotFound, "nothing is known of user %s", r.PathValue("userId"))
	}
	return p, nil
}

func (s *Service) getRecommendations(r *http.Request) (Recommendations, error) {
	p, _ := s.profiles.Get(r.PathValue("userId"))
	if p.latest.UserID == "" {
		return Recommendations{}, service.Errorf(http.StatusNotFound, "no recommendations for user %s", r.PathValue("userId"))
	}
	return p.latest, nil
}
