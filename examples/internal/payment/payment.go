// Package payment is the example payment-service: it charges what is booked and refunds what is cancelled.
package payment

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// App is the payment-service.
var App = service.App{
	Name: "payment-service",
	Addr: ":3003",
	Publishes: []eventbus.AnyTopic{
		eventbus.PaymentInitiated, eventbus.PaymentCompleted, eventbus.PaymentFailed, eventbus.PaymentRefunded,
		eventbus.PaymentPartialRefund,
	},
	New: func(bus *eventbus.Bus) service.Service { return New(bus) },
}

// Service is the inside of the payment-service.
type Service struct {
	publisher  service.Publisher
	memory     service.Memory
	locks      service.Keys // by booking id: whatever happens to a booking's payment happens one after the other
	payments   service.Table[Payment]
	bookingIDs service.Table[string] // by transaction id
	cards      service.Table[card]   // by user id
}

// New makes the service.
func New(p service.Publisher) *Service {
	return &Service{publisher: p}
}

// Register adds the HTTP API to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("PUT /cards/{userId}", service.HandleBody(http.StatusOK, s.setCard))
	mux.Handle("POST /payments/{transactionId}/refunds", service.HandleBody(http.StatusCreated, s.refundPart))
	mux.Handle("GET /payments/{transactionId}", service.Handle(http.StatusOK, s.getPayment))
	mux.Handle("GET /bookings/{bookingId}/payment", service.Handle(http.StatusOK, s.getOfBooking))
	mux.Handle("GET /users/{userId}/payments", service.Handle(http.StatusOK, s.listOfUser))
}

// Routes are the events that the service handles.
func (s *Service) Routes() []eventbus.Route {
	return []eventbus.Route{
		eventbus.VoyageBookingCreated.Handle(service.Once(&s.memory, s.startPayment), nil),
		eventbus.VoyageBookingCancelled.Handle(service.Once(&s.memory, s.undoPayment), nil),
	}
}

func (s *Service) getPayment(r *http.Request) (Payment, error) {
	bookingID, _ := s.bookingIDs.Get(r.PathValue("transactionId"))
	p, ok := s.payments.Get(bookingID)
	if !ok {
		return Payment{}, noPayment(r)
	}
	return p, nil
}

func noPayment(r *http.Request) error {
	return service.Errorf(http.StatusNotFound, "no payment %s", r.PathValue("transactionId"))
}

func (s *Service) getOfBooking(r *http.Request) (Payment, error) {
	p, ok := s.payments.Get(r.PathValue("bookingId"))
	if !ok {
		return Payment{}, service.Errorf(http.StatusNotFound, "no payment of booking %s", r.PathValue("bookingId"))
	}
	return p, nil
}

func (s *Service) listOfUser(r *http.Request) ([]Payment, error) {
	return s.payments.Select(func(p Payment) bool { return p.UserID == r.PathValue("userId") }), nil
}
