package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dreamscape/eventbus"
)

// The events are payments of the catalogue: about 340 bytes of envelope on the wire, of 1,000 keys, the same for all clients.
type payment = eventbus.PaymentInitiatedPayload

const (
	keys       = 1_000
	partitions = 12
	oneIn      = 1_000 // events, poison
	service    = "payment-service"

	poisonCurrency = "XXX" // ISO 4217's code for no currency: it passes the schema, and every handler fails on it
	sickPrefix     = "pi_sick"
)

// paymentOf is the i-th event. Keys come in turn, but that poison goes to the first sick ones alone.
func paymentOf(i, sick int) payment {
	key, currency := i%keys, "EUR"
	if sick > 0 && i%oneIn == 0 {
		key, currency = i/oneIn%sick, poisonCurrency
	}
	prefix := "pi_3OqXw"
	if key < sick {
		prefix = sickPrefix
	}
	return payment{
		TransactionID: fmt.Sprintf("%s2eZvKYlo2C%04d", prefix, key), UserID: fmt.Sprintf("user-%04d", key), Currency: currency,
		Amount: eventbus.MustDecimal(fmt.Sprintf("%d.%02d", key%900+10, key%100)), BookingID: fmt.Sprintf("booking-2026-%04d", key),
	}
}

// healthy says of a payment whether its key has no poison.
func healthy(p payment) bool { return !strings.HasPrefix(p.TransactionID, sickPrefix) }

// healthyOf is how many of n events are of healthy keys; n is a multiple of keys.
func healthyOf(n, sick int) int { return n / keys * (keys - sick) }

// payments are what publishers publish, over and over: making them is no client's cost.
var payments = func() (all [keys]payment) {
	for i := range all {
		all[i] = paymentOf(i, 0)
	}
	return all
}()

// envelope is what a service on another client writes and reads, by encoding/json and unvalidated.
type envelope struct {
	EventID       string    `json:"eventId"`
	EventType     string    `json:"eventType"`
	Timestamp     time.Time `json:"timestamp"`
	Version       string    `json:"version"`
	Source        string    `json:"source"`
	Payload       payment   `json:"payload"`
	CorrelationID string    `json:"correlationId"`
}

func init() { uuid.EnableRandPool() } // as who wants speed does

// encode makes a record's key and value.
func encode(p payment) (key, value []byte, err error) {
	id := uuid.Must(uuid.NewV7()).String()
	value, err = json.Marshal(envelope{
		EventID: id, EventType: "payment.initiated", Timestamp: time.Now().UTC().Truncate(time.Millisecond), Version: "1.0",
		Source: service, Payload: p, CorrelationID: id,
	})
	return []byte(p.TransactionID), value, err
}

func decode(value []byte) (payment, error) {
	var e envelope
	err := json.Unmarshal(value, &e)
	return e.Payload, err
}
