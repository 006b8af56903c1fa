package voyage

import (
	"cmp"
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// extras are what may be changed of a booking; "" stays as it is.
type extras struct {
	Seat string `json:"seat,omitzero"`
	Meal string `json:"meal,omitzero"`
	Note string `json:"note,omitzero"`
}

// Check implements [service.Body].
func (x extras) Check(p *service.Problems) {
	p.Require(x != extras{}, "body", "at least one of seat, meal, note")
	p.OptionalText("seat", x.Seat)
	p.OptionalText("meal", x.Meal)
	p.OptionalText("note", x.Note)
}

func (x extras) given() map[string]any {
	given := map[string]any{}
	for field, value := range map[string]string{"seat": x.Seat, "meal": x.Meal, "note": x.Note} {
		if value != "" {
			given[field] = value
		}
	}
	return given
}

func (s *Service) update(r *http.Request, in extras) (Booking, error) {
	return s.change(r, func(b Booking) (Booking, eventbus.AnyEvent) {
		b.Extras = extras{Seat: cmp.Or(in.Seat, b.Extras.Seat), Meal: cmp.Or(in.Meal, b.Extras.Meal), Note: cmp.Or(in.Note, b.Extras.Note)}
		return b, eventbus.VoyageBookingUpdated.New(eventbus.VoyageBookingUpdatedPayload{BookingID: b.BookingID, Changes: in.given()})
	})
}

type cancellation struct {
	Reason string `json:"reason"`
}

// Check implements [service.Body].
func (c cancellation) Check(p *service.Problems) { p.Text("reason", c.Reason) }

// cancel cancels a booking, paid or not. The money is payment-service's business.
func (s *Service) cancel(r *http.Request, in cancellation) (Booking, error) {
	return s.change(r, func(b Booking) (Booking, eventbus.AnyEvent) { return b.cancelled(in.Reason) })
}

// change makes the next state of a booking that is not cancelled.
func (s *Service) change(r *http.Request, next func(Booking) (Booking, eventbus.AnyEvent)) (Booking, error) {
	unlock, err := s.locks.Lock(r.Context(), r.PathValue("bookingId"))
	if err != nil {
		return Booking{}, err
	}
	defer unlock()
	b, err := s.get(r)
	if err != nil {
		return Booking{}, err
	}
	if b.Status == Cancelled {
		return Booking{}, service.Errorf(http.StatusConflict, "the booking is cancelled: %s", b.Reason)
	}
	b, happened := next(b)
	return b, s.save(saga(r, b), b, happened)
}
