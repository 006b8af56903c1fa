// Package voyage is the example voyage-service: searches, selections and bookings.
package voyage

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// App is the voyage-service.
var App = service.App{
	Name: "voyage-service",
	Addr: ":3004",
	Publishes: []eventbus.AnyTopic{
		eventbus.VoyageSearchPerformed, eventbus.VoyageBookingCreated, eventbus.VoyageBookingConfirmed,
		eventbus.VoyageBookingCancelled, eventbus.VoyageBookingUpdated, eventbus.VoyageFlightSelected,
		eventbus.VoyageHotelSelected,
	},
	New: func(bus *eventbus.Bus) service.Service { return New(bus) },
}

// Service is the inside of the voyage-service.
type Service struct {
	publisher service.Publisher
	memory    service.Memory
	locks     service.Keys // by booking id
	bookings  service.Table[Booking]
}

// New makes the service.
func New(p service.Publisher) *Service {
	return &Service{publisher: p}
}

// Register adds the HTTP API to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("GET /offers", service.Handle(http.StatusOK, s.offers))
	mux.Handle("POST /searches", service.HandleBody(http.StatusOK, s.search))
	mux.Handle("POST /flight-selections", service.HandleBody(http.StatusCreated, s.selectFlight))
	mux.Handle("POST /hotel-selections", service.HandleBody(http.StatusCreated, s.selectHotel))
	mux.Handle("POST /bookings", service.HandleBody(http.StatusCreated, s.book))
	mux.Handle("PATCH /bookings/{bookingId}", service.HandleBody(http.StatusOK, s.update))
	mux.Handle("POST /bookings/{bookingId}/cancellation", service.HandleBody(http.StatusOK, s.cancel))
	mux.Handle("GET /bookings/{bookingId}", service.Handle(http.StatusOK, s.get))
	mux.Handle("GET /users/{userId}/bookings", service.Handle(http.StatusOK, s.listOfUser))
}

// Routes are the events that the service handles.
func (s *Service) Routes() []eventbus.Route {
	return []eventbus.Route{
		eventbus.PaymentCompleted.Handle(service.Once(&s.memory, s.confirm), nil),
		eventbus.PaymentFailed.Handle(service.Once(&s.memory, s.cancelUnpaid), nil),
	}
}
