package payment

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/servicetest"
)

// world is a payment-service and a booking of user u-1 that costs 100.10 EUR.
type world struct {
	*Service
	t         *testing.T
	events    *servicetest.Publisher
	created   *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]
	cancelled *eventbus.BaseEvent[eventbus.VoyageBookingCancelledPayload]
}

func newWorld(t *testing.T) world {
	events := servicetest.NewPublisher(t)
	amount := eventbus.MustDecimal("100.10")
	return world{
		Service: New(events), t: t, events: events,
		created: eventbus.VoyageBookingCreated.New(eventbus.VoyageBookingCreatedPayload{
			BookingID: "b-1", UserID: "u-1", FlightID: "f-1", HotelID: "h-1", Amount: &amount, Currency: "EUR",
		}),
		cancelled: eventbus.VoyageBookingCancelled.New(eventbus.VoyageBookingCancelledPayload{BookingID: "b-1", Reason: "ill"}),
	}
}

func (w world) create() error {
	return service.Once(&w.memory, w.startPayment)(w.t.Context(), w.created)
}

func (w world) cancel() error {
	return service.Once(&w.memory, w.undoPayment)(w.t.Context(), w.cancelled)
}

func (w world) putCard(number string) {
	w.t.Helper()
	a := servicetest.Do(w.Service, http.MethodPut, "/cards/u-1", `{"cardNumber":"`+number+`"}`)
	require.Equal(w.t, http.StatusOK, a.Status, a.Body)
}

func (w world) accept()  { w.putCard("4242424242424242") }
func (w world) decline() { w.putCard("4000000000000002") }

func (w world) payment() Payment {
	w.t.Helper()
	return servicetest.Get[Payment](w.t, w.Service, "/bookings/b-1/payment")
}

// outline is how many events of each kind were published.
type outline struct{ initiated, completed, failed, refunded, partial int }

func (w world) outline() outline {
	return outline{
		initiated: len(servicetest.Published(w.events, eventbus.PaymentInitiated)),
		completed: len(servicetest.Published(w.events, eventbus.PaymentCompleted)),
		failed:    len(servicetest.Published(w.events, eventbus.PaymentFailed)),
		refunded:  len(servicetest.Published(w.events, eventbus.PaymentRefunded)),
		partial:   len(servicetest.Published(w.events, eventbus.PaymentPartialRefund)),
	}
}

// What happens to a booking reaches payment-service in any order, and more than once.
func TestSagaInAnyOrder(t *testing.T) {
	const (
		create  = "created"
		cancel  = "cancelled"
		accept  = "accepted card"
		decline = "declined card"
	)
	for _, c := range []struct {
		name   string
		steps  []string
		status Status
		left   string
		events outline
	}{
		{"paid at once", []string{accept, create}, Completed, "100.10", outline{initiated: 1, completed: 1}},
		{"paid later", []string{create, accept}, Completed, "100.10", outline{initiated: 1, completed: 1}},
		{"waits for a card", []string{create}, Initiated, "0", outline{initiated: 1}},
		{"declined", []string{decline, create}, Failed, "0", outline{initiated: 1, failed: 1}},
		{"declined is final", []string{decline, create, accept}, Failed, "0", outline{initiated: 1, failed: 1}},
		{"declined, its booking cancelled", []string{decline, create, cancel}, Failed, "0", outline{initiated: 1, failed: 1}},
		{"cancelled after it was paid", []string{accept, create, cancel}, Refunded, "0", outline{initiated: 1, completed: 1, refunded: 1}},
		{"cancelled before it was paid", []string{create, cancel, accept}, Voided, "0", outline{initiated: 1, failed: 1}},
		{"cancelled before it was heard of", []string{accept, cancel, create}, Voided, "0", outline{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for range 2 { // everything is delivered twice
				for _, step := range c.steps {
					switch step {
					case create:
						require.NoError(t, w.create())
					case cancel:
						require.NoError(t, w.cancel())
					case accept:
						w.accept()
					case decline:
						w.decline()
					}
				}
			}
			p := w.payment()
			require.Equal(t, c.status, p.Status)
			require.Zero(t, p.Left.Cmp(eventbus.MustDecimal(c.left)), p.Left.String())
			require.Equal(t, c.events, w.outline())
		})
	}
}

func TestBookingWithoutAmountFails(t *testing.T) {
	w := newWorld(t)
	w.accept()
	w.created.Payload.Amount = nil
	require.NoError(t, w.create())
	require.Equal(t, "amount_missing", w.payment().ErrorCode)
	require.Equal(t, outline{failed: 1}, w.outline())
}

// A payment whose acknowledgements were lost is published again as the same events.
func TestRetryRepeatsTheSameEvents(t *testing.T) {
	w := newWorld(t)
	w.accept()
	w.events.LoseAcks(true)
	require.ErrorIs(t, w.create(), servicetest.ErrLost)
	require.ErrorIs(t, w.create(), servicetest.ErrLost)
	w.events.LoseAcks(false)
	require.NoError(t, w.create())
	initiated := servicetest.Published(w.events, eventbus.PaymentInitiated)
	require.Len(t, initiated, 3)
	require.Equal(t, initiated[0].EventID, initiated[2].EventID)
	require.Equal(t, initiated[0].Payload, initiated[2].Payload)

	w.events.LoseAcks(true)
	require.ErrorIs(t, w.cancel(), servicetest.ErrLost)
	require.Equal(t, Completed, w.payment().Status, "nothing changed yet")
	w.events.LoseAcks(false)
	require.NoError(t, w.cancel())
	refunded := servicetest.Published(w.events, eventbus.PaymentRefunded)
	require.Len(t, refunded, 2)
	require.Equal(t, refunded[0].EventID, refunded[1].EventID)
	require.Equal(t, refunded[0].Payload, refunded[1].Payload)
	require.Len(t, w.payment().Refunds, 1)
}

func (w world) refund(amount string) servicetest.Answer {
	path := "/payments/" + w.payment().TransactionID + "/refunds"
	return servicetest.Do(w.Service, http.MethodPost, path, `{"amount":`+amount+`}`)
}

func TestRefundsAreExact(t *testing.T) {
	w := newWorld(t)
	w.accept()
	require.NoError(t, w.create())

	p := servicetest.As[Payment](t, http.StatusCreated, w.refund("0.10"))
	require.Equal(t, PartiallyRefunded, p.Status)
	require.Equal(t, "100.00", p.Left.String())
	servicetest.As[Payment](t, http.StatusCreated, w.refund("0.10"))
	require.Equal(t, http.StatusBadRequest, w.refund("99.91").Status, "more than is left")

	require.NoError(t, w.cancel())
	p = w.payment()
	require.Equal(t, Refunded, p.Status)
	require.Len(t, p.Refunds, 3)
	require.Equal(t, "99.90", p.Refunds[2].Amount.String())
	require.NotEqual(t, p.Refunds[0].RefundID, p.Refunds[1].RefundID, "two refunds of one amount")
	require.Equal(t, outline{initiated: 1, completed: 1, partial: 2, refunded: 1}, w.outline())
	require.Equal(t, http.StatusConflict, w.refund("1").Status, "nothing is left")
}

func TestRefundOfTheRestIsWhole(t *testing.T) {
	w := newWorld(t)
	w.accept()
	require.NoError(t, w.create())
	p := servicetest.As[Payment](t, http.StatusCreated, w.refund("100.1"))
	require.Equal(t, Refunded, p.Status)
	require.NoError(t, w.cancel())
	require.Equal(t, outline{initiated: 1, completed: 1, refunded: 1}, w.outline())
}

func TestPaymentsCanBeFound(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.create())
	p := w.payment()
	require.Equal(t, p, servicetest.Get[Payment](t, w.Service, "/payments/"+p.TransactionID))
	require.Equal(t, []Payment{p}, servicetest.Get[[]Payment](t, w.Service, "/users/u-1/payments"))
	for _, path := range []string{"/payments/x", "/bookings/x/payment"} {
		require.Equal(t, http.StatusNotFound, servicetest.Do(w.Service, http.MethodGet, path, "").Status)
	}
	require.Empty(t, servicetest.Get[[]Payment](t, w.Service, "/users/x/payments"))
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.accept()
	require.NoError(t, w.create())
	refunds := "/payments/" + w.payment().TransactionID + "/refunds"
	servicetest.RequireRefused(t, w.Service, w.events, []servicetest.Refusal{
		{Method: "PUT", Path: "/cards/u-1", Body: `{}`, Field: "cardNumber", Expected: "a test card"},
		{Method: "PUT", Path: "/cards/u-1", Body: `{"cardNumber":"1"}`, Field: "cardNumber", Expected: "a test card"},
		{Method: "PUT", Path: "/cards/u-1", Body: `{"cardNumber":4242424242424242}`, Field: "cardNumber", Expected: "a string"},
		{Method: "POST", Path: refunds, Body: `{}`, Field: "amount", Expected: "greater than 0"},
		{Method: "POST", Path: refunds, Body: `{"amount":-1}`, Field: "amount", Expected: "greater than 0"},
		{Method: "POST", Path: refunds, Body: `{"amount":"1"}`, Field: "amount", Expected: "a number"},
		{Method: "POST", Path: refunds, Body: `{"amount":100.11}`, Field: "amount", Expected: "at most 100.10"},
	})
}
