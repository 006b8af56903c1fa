package voyage

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// Booking is a flight and a hotel, booked together.
type Booking struct {
	BookingID        string           `json:"bookingId"`
	UserID           string           `json:"userId"`
	FlightID         string           `json:"flightId"`
	HotelID          string           `json:"hotelId"`
	Amount           eventbus.Decimal `json:"amount"`
	Currency         string           `json:"currency"`
	Status           Status           `json:"status"`
	ConfirmationCode string           `json:"confirmationCode,omitzero"`
	Reason           string           `json:"reason,omitzero"` // why it was cancelled
	Extras           extras           `json:"extras"`

	createdAt time.Time
}

// Status is how far a booking has come.
type Status string

// The ways of a booking: pending → confirmed → cancelled, or pending → cancelled.
const (
	Pending   Status = "pending" // waits for the payment
	Confirmed Status = "confirmed"
	Cancelled Status = "cancelled"
)

type newBooking struct {
	UserID   string `json:"userId"`
	FlightID string `json:"flightId"`
	HotelID  string `json:"hotelId"`
}

// Check implements [service.Body].
func (n newBooking) Check(p *service.Problems) {
	p.Text("userId", n.UserID)
	checkFlight(p, n.FlightID)
	checkHotel(p, n.HotelID)
}

// book begins the saga. It holds the booking's lock until the booking is known here: the payment may be quicker.
func (s *Service) book(r *http.Request, in newBooking) (Booking, error) {
	flight, _ := findFlight(in.FlightID)
	hotel, _ := findHotel(in.HotelID)
	b := Booking{
		BookingID: service.NewID(), UserID: in.UserID, FlightID: in.FlightID, HotelID: in.HotelID,
		Amount: flight.Price.Add(hotel.Price), Currency: Currency, Status: Pending, createdAt: time.Now(),
	}
	unlock, err := s.locks.Lock(r.Context(), b.BookingID)
	if err != nil {
		return Booking{}, err
	}
	defer unlock()
	return b, s.save(saga(r, b), b, eventbus.VoyageBookingCreated.New(eventbus.VoyageBookingCreatedPayload{
		BookingID: b.BookingID, UserID: b.UserID, FlightID: b.FlightID, HotelID: b.HotelID, Amount: &b.Amount, Currency: b.Currency,
	}))
}

// save publishes what happened to a booking and makes b its state. The caller holds the booking's lock.
func (s *Service) save(ctx context.Context, b Booking, happened eventbus.AnyEvent) error {
	if err := s.publisher.Publish(ctx, happened); err != nil {
		return err
	}
	s.bookings.Put(b.BookingID, b)
	return nil
}

// saga is the context of a request in a booking's saga. The saga's correlation id is the booking's own id, and every event that follows
// inherits it: a payment event that does not name its booking leads to it all the same, see bookingOf.
func saga(r *http.Request, b Booking) context.Context {
	return eventbus.WithCorrelationID(r.Context(), b.BookingID)
}

// bookingOf is the id of the booking that a payment event is about; today's TypeScript services leave bookingId out.
func bookingOf(bookingID, correlationID string) string {
	return cmp.Or(bookingID, correlationID)
}

// confirmed is the booking once it is paid, and the event that tells.
func (b Booking) confirmed() (Booking, eventbus.AnyEvent) {
	id := service.DerivedID(b.createdAt, b.BookingID, "confirmation")
	b.Status, b.ConfirmationCode = Confirmed, "DS-"+strings.ToUpper(id[len(id)-6:])
	e := eventbus.VoyageBookingConfirmed.New(eventbus.VoyageBookingConfirmedPayload{BookingID: b.BookingID, ConfirmationCode: b.ConfirmationCode})
	e.EventID = service.DerivedID(b.createdAt, b.BookingID, e.EventType)
	return b, e
}

// cancelled is the booking once it is cancelled, and the event that tells.
func (b Booking) cancelled(reason string) (Booking, eventbus.AnyEvent) {
	b.Status, b.Reason = Cancelled, reason
	e := eventbus.VoyageBookingCancelled.New(eventbus.VoyageBookingCancelledPayload{BookingID: b.BookingID, Reason: reason})
	e.EventID = service.DerivedID(b.createdAt, b.BookingID, e.EventType)
	return b, e
}

func (s *Service) get(r *http.Request) (Booking, error) {
	b, ok := s.bookings.Get(r.PathValue("bookingId"))
	if !ok {
		return Booking{}, service.Errorf(http.StatusNotFound, "no booking %s", r.PathValue("bookingId"))
	}
	return b, nil
}

func (s *Service) listOfUser(r *http.Request) ([]Booking, error) {
	return s.bookings.Select(func(b Booking) bool { return b.UserID == r.PathValue("userId") }), nil
}
