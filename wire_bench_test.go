package eventbus_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// offline returns a bus that has no broker: it encodes, which asks nobody.
func offline(b *testing.B) *eventbus.Bus {
	bus, err := eventbus.New(eventbus.Config{Service: "voyage-service", Brokers: []string{"127.0.0.1:1"}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	b.Cleanup(func() { _ = bus.Shutdown(context.Background()) })
	return bus
}

func booking() *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload] {
	amount := eventbus.MustDecimal("19.90")
	return eventbus.VoyageBookingCreated.New(eventbus.VoyageBookingCreatedPayload{
		BookingID: "booking-12345", UserID: "user-67890", FlightID: "flight-LH-456", HotelID: "hotel-adlon-1", Amount: &amount, Currency: "EUR",
	})
}

// BenchmarkNew makes an event.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		booking()
	}
}

// BenchmarkEncode is what publishing does before an event is handed over: encode, check, and the record.
func BenchmarkEncode(b *testing.B) {
	bus, e := offline(b), booking()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bus.Encode(context.Background(), e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecode is what happens before a handler: check, and decode into the payload's type.
func BenchmarkDecode(b *testing.B) {
	r, err := offline(b).Encode(context.Background(), booking())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := eventbus.VoyageBookingCreated.Decode(r.Value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStd is what a service without this package does: encoding/json, and no check.
func BenchmarkStd(b *testing.B) {
	type envelope struct {
		EventID       string     `json:"eventId"`
		EventType     string     `json:"eventType"`
		Timestamp     string     `json:"timestamp"`
		Version       string     `json:"version"`
		Source        string     `json:"source"`
		Payload       stdBooking `json:"payload"`
		CorrelationID string     `json:"correlationId"`
	}
	r, err := offline(b).Encode(context.Background(), booking())
	require.NoError(b, err)
	var e envelope
	require.NoError(b, json.Unmarshal(r.Value, &e))
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var e envelope
			if err := json.Unmarshal(r.Value, &e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type stdBooking struct {
	BookingID string  `json:"bookingId"`
	UserID    string  `json:"userId"`
	FlightID  string  `json:"flightId"`
	HotelID   string  `json:"hotelId"`
	Amount    float64 `json:"amount"`
	Currency  string  `json:"currency"`
}
