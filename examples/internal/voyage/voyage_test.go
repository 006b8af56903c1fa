package voyage

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/servicetest"
)

// world is a voyage-service.
type world struct {
	*Service
	t      *testing.T
	events *servicetest.Publisher
}

func newWorld(t *testing.T) world {
	events := servicetest.NewPublisher(t)
	return world{Service: New(events), t: t, events: events}
}

func (w world) do(method, path, body string) servicetest.Answer {
	return servicetest.Do(w.Service, method, path, body)
}

func (w world) newBooking() Booking {
	w.t.Helper()
	return servicetest.As[Booking](w.t, http.StatusCreated, w.do("POST", "/bookings", `{"userId":"u-1","flightId":"FL-PAR-1","hotelId":"HO-PAR-1"}`))
}

func (w world) booking(id string) Booking {
	w.t.Helper()
	return servicetest.Get[Booking](w.t, w.Service, "/bookings/"+id)
}

func (w world) paid(e *eventbus.BaseEvent[eventbus.PaymentCompletedPayload]) error {
	return service.Once(&w.memory, w.confirm)(w.t.Context(), e)
}

func (w world) unpaid(e *eventbus.BaseEvent[eventbus.PaymentFailedPayload]) error {
	return service.Once(&w.memory, w.cancelUnpaid)(w.t.Context(), e)
}

func completed(bookingID string) *eventbus.BaseEvent[eventbus.PaymentCompletedPayload] {
	return eventbus.PaymentCompleted.New(eventbus.PaymentCompletedPayload{TransactionID: "t-1", StripePaymentID: "pi-1", BookingID: bookingID})
}

func failed(bookingID string) *eventbus.BaseEvent[eventbus.PaymentFailedPayload] {
	return eventbus.PaymentFailed.New(eventbus.PaymentFailedPayload{
		TransactionID: "t-1", ErrorCode: "card_declined", Reason: "the card was declined", BookingID: bookingID,
	})
}

func TestBookingCostsFlightAndHotel(t *testing.T) {
	w := newWorld(t)
	b := w.newBooking()
	require.Equal(t, "360.00", b.Amount.String())
	require.Equal(t, Pending, b.Status)
	created := servicetest.Published(w.events, eventbus.VoyageBookingCreated)
	require.Len(t, created, 1)
	require.Equal(t, "360.00", created[0].Payload.Amount.String())
	require.Equal(t, []Booking{w.booking(b.BookingID)}, servicetest.Get[[]Booking](t, w.Service, "/users/u-1/bookings"))
}

func TestPaymentConfirmsOnce(t *testing.T) {
	w := newWorld(t)
	b := w.newBooking()
	e := completed(b.BookingID)
	require.NoError(t, w.paid(e))
	confirmed := w.booking(b.BookingID)
	require.Equal(t, Confirmed, confirmed.Status)

	require.NoError(t, w.paid(e), "delivered again")
	require.NoError(t, w.paid(completed(b.BookingID)), "published again under another id")
	require.NoError(t, w.unpaid(failed(b.BookingID)), "too late")
	require.Equal(t, confirmed, w.booking(b.BookingID))
	events := servicetest.Published(w.events, eventbus.VoyageBookingConfirmed)
	require.Len(t, events, 1)
	require.Equal(t, confirmed.ConfirmationCode, events[0].Payload.ConfirmationCode)
}

func TestFailedPaymentCancelsOnce(t *testing.T) {
	w := newWorld(t)
	b := w.newBooking()
	require.NoError(t, w.unpaid(failed(b.BookingID)))
	require.NoError(t, w.unpaid(failed(b.BookingID)))
	require.NoError(t, w.paid(completed(b.BookingID)), "the cancellation has been published: payment-service refunds")
	b = w.booking(b.BookingID)
	require.Equal(t, Cancelled, b.Status)
	require.Equal(t, "payment failed: the card was declined", b.Reason)
	require.Len(t, servicetest.Published(w.events, eventbus.VoyageBookingCancelled), 1)
	require.Empty(t, servicetest.Published(w.events, eventbus.VoyageBookingConfirmed))
}

// Today's TypeScript payment-service leaves bookingId out.
func TestCorrelationLeadsToTheBooking(t *testing.T) {
	w := newWorld(t)
	b := w.newBooking()
	e := completed("")
	e.CorrelationID = b.BookingID
	require.NoError(t, w.paid(e))
	require.Equal(t, Confirmed, w.booking(b.BookingID).Status)

	other := w.newBooking()
	f := failed("")
	f.CorrelationID = other.BookingID
	require.NoError(t, w.unpaid(f))
	require.Equal(t, Cancelled, w.booking(other.BookingID).Status)
}

func TestPaymentOfNoBooking(t *testing.T) {
	w := newWorld(t)
	lost := completed("")
	lost.CorrelationID = "c-1"
	require.ErrorContains(t, w.paid(lost), "transaction t-1 leads to no booking")
	require.NoError(t, w.unpaid(failed("b-x")))
	require.Zero(t, w.events.Len())

	require.NoError(t, w.paid(completed("b-x")), "its creation was never acknowledged")
	require.Equal(t, Cancelled, w.booking("b-x").Status)
	require.Len(t, servicetest.Published(w.events, eventbus.VoyageBookingCancelled), 1)
}

func TestCancellation(t *testing.T) {
	w := newWorld(t)
	b := w.newBooking()
	require.NoError(t, w.paid(completed(b.BookingID)))
	cancellation := "/bookings/" + b.BookingID + "/cancellation"

	w.events.LoseAcks(true)
	require.Equal(t, http.StatusServiceUnavailable, w.do("POST", cancellation, `{"reason":"ill"}`).Status)
	require.Equal(t, Confirmed, w.booking(b.BookingID).Status)
	w.events.LoseAcks(false)
	require.Equal(t, http.StatusOK, w.do("POST", cancellation, `{"reason":"ill"}`).Status)
	require.Equal(t, http.StatusConflict, w.do("POST", cancellation, `{"reason":"ill"}`).Status)
	require.Equal(t, http.StatusConflict, w.do("PATCH", "/bookings/"+b.BookingID, `{"seat":"12A"}`).Status)

	cancelled := servicetest.Published(w.events, eventbus.VoyageBookingCancelled)
	require.Len(t, cancelled, 2)
	require.Equal(t, cancelled[0].EventID, cancelled[1].EventID, "the repeated request publishes the same event")
}

func TestUpdateKeepsWhatIsNotGiven(t *testing.T) {
	w := newWorld(t)
	path := "/bookings/" + w.newBooking().BookingID
	servicetest.As[Booking](t, http.StatusOK, w.do("PATCH", path, `{"seat":"12A","meal":"vegan"}`))
	b := servicetest.As[Booking](t, http.StatusOK, w.do("PATCH", path, `{"seat":"14C"}`))
	require.Equal(t, extras{Seat: "14C", Meal: "vegan"}, b.Extras)
	updated := servicetest.Published(w.events, eventbus.VoyageBookingUpdated)
	require.Len(t, updated, 2)
	require.Equal(t, map[string]any{"seat": "14C"}, updated[1].Payload.Changes)
}

func TestSearchAndSelections(t *testing.T) {
	w := newWorld(t)
	found := servicetest.As[searchResult](t, http.StatusOK, w.do("POST", "/searches", `{"userId":"u-1","searchCriteria":{"destination":"paris"}}`))
	require.Equal(t, 4, found.ResultCount)
	none := servicetest.As[searchResult](t, http.StatusOK, w.do("POST", "/searches", `{"userId":"u-1","searchCriteria":{"destination":"Ys"}}`))
	require.Zero(t, none.ResultCount)
	require.Len(t, servicetest.Published(w.events, eventbus.VoyageSearchPerformed), 2)

	require.Equal(t, http.StatusCreated, w.do("POST", "/flight-selections", `{"userId":"u-1","flightId":"FL-ROM-1"}`).Status)
	require.Equal(t, http.StatusCreated, w.do("POST", "/hotel-selections", `{"userId":"u-1","hotelId":"HO-ROM-1"}`).Status)
	require.Equal(t, "Rome", servicetest.Published(w.events, eventbus.VoyageFlightSelected)[0].Payload.FlightData["destination"])
	require.Equal(t, "Rome", servicetest.Published(w.events, eventbus.VoyageHotelSelected)[0].Payload.HotelData["destination"])
	require.Len(t, servicetest.Get[offers](t, w.Service, "/offers").Flights, len(flights))
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	path := "/bookings/" + w.newBooking().BookingID
	servicetest.RequireRefused(t, w.Service, w.events, []servicetest.Refusal{
		{Method: "POST", Path: "/searches", Body: `{"userId":"u-1"}`, Field: "searchCriteria", Expected: "an object"},
		{Method: "POST", Path: "/searches", Body: `{"searchCriteria":{}}`, Field: "userId", Expected: "a string"},
		{Method: "POST", Path: "/searches", Body: `{"userId":"u-1","searchCriteria":{"destination":1}}`, Field: "searchCriteria.destination", Expected: "a string"},
		{Method: "POST", Path: "/flight-selections", Body: `{"userId":"u-1","flightId":"x"}`, Field: "flightId", Expected: "a flight on offer"},
		{Method: "POST", Path: "/hotel-selections", Body: `{"userId":"u-1"}`, Field: "hotelId", Expected: "a hotel on offer"},
		{Method: "POST", Path: "/bookings", Body: `{"userId":"","flightId":"FL-PAR-1","hotelId":"HO-PAR-1"}`, Field: "userId", Expected: "a string"},
		{Method: "POST", Path: "/bookings", Body: `{"userId":"u-1","flightId":"x","hotelId":"HO-PAR-1"}`, Field: "flightId", Expected: "a flight on offer"},
		{Method: "PATCH", Path: path, Body: `{}`, Field: "body", Expected: "at least one of seat, meal, note"},
		{Method: "PATCH", Path: path, Body: `{"flightId":"FL-PAR-2"}`, Field: "flightId", Expected: "no such field"},
		{Method: "POST", Path: path + "/cancellation", Body: `{}`, Field: "reason", Expected: "a string"},
	})
	require.Equal(t, http.StatusNotFound, w.do("GET", "/bookings/x", "").Status)
	require.Equal(t, http.StatusNotFound, w.do("PATCH", "/bookings/x", `{"seat":"1"}`).Status)
}
