package browser_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

// fleet is five services on one broker, and a console beside them.
type fleet struct {
	t      *testing.T
	b      *bustest.Bus // of the broker, and the console's
	page   *console.Console
	server *httptest.Server
	users  *eventbus.Bus
	voyage *eventbus.Bus
	ended  func() // all that runs
}

const (
	letters  = "dreamscape.voyage.booking.created.dlq.payment-service"
	declined = "card declined by the issuer"
)

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, b: bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Service: "ops"}})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	f.ended = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(f.ended)
	start := func(service string, routes func(*eventbus.Bus) []eventbus.Route) *eventbus.Bus {
		bus, err := eventbus.New(eventbus.Config{Service: service, Brokers: f.b.Broker.Brokers(), Retry: eventbus.RetryPolicy{OutageHold: -1}})
		require.NoError(t, err)
		t.Cleanup(func() { f.ended(); _ = bus.Shutdown(context.Background()) })
		if routes == nil {
			return bus
		}
		sub := eventbus.Subscription{Group: service, Routes: routes(bus)}
		require.NoError(t, bus.EnsureTopics(ctx, sub.Topics()...))
		running.Go(func() { _ = bus.Run(ctx, sub) })
		require.NoError(t, bus.WaitReady(ctx))
		return bus
	}
	f.users = start("user-service", nil)
	f.voyage = start("voyage-service", confirm)
	start("auth-service", openSession)
	start("payment-service", pay)
	start("ai-service", recommend)

	var err error
	f.page, err = console.New(f.b.Bus, &console.Options{Title: "DreamScape", AllowRedrive: true, AllowPurge: true})
	require.NoError(t, err)
	t.Cleanup(f.page.Close)
	mux := http.NewServeMux()
	mux.Handle("/console/", http.StripPrefix("/console", f.page))
	f.server = httptest.NewServer(mux)
	t.Cleanup(func() { f.page.Close(); f.server.CloseClientConnections(); f.server.Close() })
	return f
}

func (f *fleet) address(query string) string { return f.server.URL + "/console/" + query }

// works takes as long as a handler's work does, so that a trail has something to show.
func works(n int) { time.Sleep(time.Duration(8+n*7%23) * time.Millisecond) }

func openSession(bus *eventbus.Bus) []eventbus.Route {
	return []eventbus.Route{eventbus.UserCreated.Handle(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		works(len(e.Payload.UserID))
		return bus.Publish(ctx, eventbus.AuthLogin.New(eventbus.AuthLoginPayload{UserID: e.Payload.UserID, Timestamp: time.Now(), IPAddress: "203.0.113.7", UserAgent: "Firefox"}))
	}, nil)}
}

func recommend(bus *eventbus.Bus) []eventbus.Route {
	return []eventbus.Route{
		eventbus.VoyageSearchPerformed.Handle(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageSearchPerformedPayload]) error {
			works(3)
			return bus.Publish(ctx, eventbus.AIRecommendationGenerated.New(eventbus.AIRecommendationGeneratedPayload{UserID: e.Payload.UserID, Recommendations: []any{"Lisbon", "Porto"}}))
		}, nil),
		eventbus.AuthLogin.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.AuthLoginPayload]) error { return nil }, nil),
	}
}

func pay(bus *eventbus.Bus) []eventbus.Route {
	return []eventbus.Route{eventbus.VoyageBookingCreated.Handle(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]) error {
		p := e.Payload
		works(9)
		switch p.HotelID {
		case "declined":
			return eventbus.Permanent(errors.New(declined))
		case "broken":
			return eventbus.Permanent(fmt.Errorf("no exchange rate for %s", p.Currency))
		}
		amount := eventbus.MustDecimal("420.00")
		if err := bus.Publish(ctx, eventbus.PaymentInitiated.New(eventbus.PaymentInitiatedPayload{TransactionID: "tx-" + p.BookingID, BookingID: p.BookingID, UserID: p.UserID, Amount: amount, Currency: "EUR"})); err != nil {
			return err
		}
		works(17)
		return bus.Publish(ctx, eventbus.PaymentCompleted.New(eventbus.PaymentCompletedPayload{TransactionID: "tx-" + p.BookingID, StripePaymentID: "pi_" + p.BookingID, BookingID: p.BookingID, UserID: p.UserID, Amount: &amount, Currency: "EUR"}))
	}, nil)}
}

func confirm(bus *eventbus.Bus) []eventbus.Route {
	return []eventbus.Route{eventbus.PaymentCompleted.Handle(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.PaymentCompletedPayload]) error {
		works(5)
		return bus.Publish(ctx, eventbus.VoyageBookingConfirmed.New(eventbus.VoyageBookingConfirmedPayload{BookingID: e.Payload.BookingID, ConfirmationCode: "LX-" + e.Payload.BookingID}))
	}, nil)}
}

// signUp is a user who comes.
func (f *fleet) signUp(n int) {
	f.t.Helper()
	ctx := eventbus.WithCorrelationID(f.t.Context(), fmt.Sprintf("sign-up-%d", n))
	require.NoError(f.t, f.users.Publish(ctx, eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: fmt.Sprint("u-", n), Email: fmt.Sprintf("u%d@example.com", n), FirstName: "Ada", LastName: "L"})))
}

// book is a voyage that is looked for and booked; hotel says what becomes of its payment.
func (f *fleet) book(n int, hotel string) (correlation string) {
	f.t.Helper()
	correlation = fmt.Sprintf("booking-%04d", n)
	ctx := eventbus.WithCorrelationID(f.t.Context(), correlation)
	user := fmt.Sprint("u-", n)
	amount := eventbus.MustDecimal("420.00")
	require.NoError(f.t, f.voyage.Publish(ctx, eventbus.VoyageSearchPerformed.New(eventbus.VoyageSearchPerformedPayload{UserID: user, SearchCriteria: map[string]any{"to": "LIS", "nights": 3}, ResultCount: 12})))
	require.NoError(f.t, f.voyage.Publish(ctx, eventbus.VoyageBookingCreated.New(eventbus.VoyageBookingCreatedPayload{
		BookingID: fmt.Sprintf("b-%04d", n), UserID: user, FlightID: "TP-571", HotelID: hotel, Amount: &amount, Currency: "EUR",
	})))
	return correlation
}

// lived gives the fleet a past: journeys, and payments that were given up for two reasons.
func (f *fleet) lived() {
	f.t.Helper()
	for i := range 6 {
		f.signUp(i)
		f.book(i, "h-1")
	}
	for i := range 4 {
		f.book(100+i, "declined")
	}
	f.book(200, "broken")
	f.untilLetters(5)
}

func (f *fleet) untilLetters(n int) {
	f.t.Helper()
	d, err := f.b.DeadLetters(eventbus.VoyageBookingCreated, "payment-service")
	require.NoError(f.t, err)
	require.Eventually(f.t, func() bool {
		found := 0
		for _, err := range d.List(f.t.Context(), eventbus.LetterFilter{}) {
			if err == nil {
				found++
			}
		}
		return found >= n
	}, time.Minute, 50*time.Millisecond)
}

// letterPlace is where the first letter is, as the page's address has it.
func (f *fleet) letterPlace() string {
	f.t.Helper()
	d, err := f.b.DeadLetters(eventbus.VoyageBookingCreated, "payment-service")
	require.NoError(f.t, err)
	for l, err := range d.List(f.t.Context(), eventbus.LetterFilter{Error: declined}) {
		require.NoError(f.t, err)
		return fmt.Sprintf("%d:%d", l.Partition, l.Offset)
	}
	require.Fail(f.t, "there is no letter")
	return ""
}

// lives has the fleet go on until the test ends, with so many journeys a second.
func (f *fleet) lives(perSecond int) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 1000; ctx.Err() == nil; n++ {
			user := fmt.Sprint("u-", n)
			journey := eventbus.WithCorrelationID(ctx, fmt.Sprintf("booking-%04d", n))
			amount := eventbus.MustDecimal("99.90")
			_ = f.users.Publish(ctx, eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: user, Email: user + "@example.com", FirstName: "Bo", LastName: "M"}))
			_ = f.voyage.Publish(journey,
				eventbus.VoyageSearchPerformed.New(eventbus.VoyageSearchPerformedPayload{UserID: user, SearchCriteria: map[string]any{"to": "OPO"}, ResultCount: 4}),
				eventbus.VoyageBookingCreated.New(eventbus.VoyageBookingCreatedPayload{BookingID: fmt.Sprint("b-", n), UserID: user, FlightID: "TP-571", HotelID: "h-2", Amount: &amount, Currency: "EUR"}))
			select {
			case <-ctx.Done():
			case <-time.After(time.Second / time.Duration(perSecond)):
			}
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	f.t.Cleanup(stop)
	return stop
}
