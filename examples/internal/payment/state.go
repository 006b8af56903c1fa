package payment

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// Payment is the payment of a booking.
type Payment struct {
	TransactionID   string           `json:"transactionId,omitzero"` // "": the booking was cancelled before it was heard of
	BookingID       string           `json:"bookingId"`
	UserID          string           `json:"userId,omitzero"`
	Amount          eventbus.Decimal `json:"amount"`
	Currency        string           `json:"currency,omitzero"`
	Status          Status           `json:"status"`
	StripePaymentID string           `json:"stripePaymentId,omitzero"`
	ErrorCode       string           `json:"errorCode,omitzero"`
	Reason          string           `json:"reason,omitzero"`
	Refunds         []Refund         `json:"refunds"`
	Left            eventbus.Decimal `json:"left"` // what is paid and not refunded

	startedAt     time.Time // of the event that started it
	correlationID string    // of the booking's saga
}

// Refund is a part of a payment that was given back.
type Refund struct {
	RefundID string           `json:"refundId"`
	Amount   eventbus.Decimal `json:"amount"`
}

// Status is how far a payment has come.
type Status string

// The ways of a payment: initiated → completed → partially refunded → refunded; initiated → failed or voided.
const (
	Initiated         Status = "initiated" // waits for a card
	Completed         Status = "completed"
	Failed            Status = "failed"
	Voided            Status = "voided" // given up before it was paid
	PartiallyRefunded Status = "partially refunded"
	Refunded          Status = "refunded"
)

// start is the payment that a booking begins with.
func start(e *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]) Payment {
	p := Payment{
		TransactionID: service.DerivedID(e.Timestamp, e.EventID, "transaction"),
		BookingID:     e.Payload.BookingID,
		UserID:        e.Payload.UserID,
		Currency:      e.Payload.Currency,
		Status:        Initiated,
		startedAt:     e.Timestamp,
		correlationID: e.CorrelationID,
	}
	if e.Payload.Amount != nil {
		p.Amount = *e.Payload.Amount
	}
	return p
}

// id derives the id of something that happens to a payment once, so that trying it again makes no second one.
func (p Payment) id(parts ...string) string {
	return service.DerivedID(p.startedAt, append(parts, p.TransactionID)...)
}

// completed is the payment once it is charged, and the event that tells.
func (p Payment) completed() (Payment, eventbus.AnyEvent) {
	p.Status, p.Left, p.StripePaymentID = Completed, p.Amount, "pi_"+p.id("charge")
	e := eventbus.PaymentCompleted.New(eventbus.PaymentCompletedPayload{
		TransactionID: p.TransactionID, StripePaymentID: p.StripePaymentID,
		UserID: p.UserID, BookingID: p.BookingID, Amount: &p.Amount, Currency: p.Currency,
	})
	e.EventID = p.id(e.EventType)
	return p, e
}

// ended is the payment as it ends unpaid, and the event that tells.
func (p Payment) ended(status Status, errorCode, reason string) (Payment, eventbus.AnyEvent) {
	p.Status, p.ErrorCode, p.Reason = status, errorCode, reason
	e := eventbus.PaymentFailed.New(eventbus.PaymentFailedPayload{
		TransactionID: p.TransactionID, ErrorCode: errorCode, Reason: reason, UserID: p.UserID, BookingID: p.BookingID,
	})
	e.EventID = p.id(e.EventType)
	return p, e
}

// refunded is the payment after amount, at most what is left, was given back, and the event that tells.
func (p Payment) refunded(amount eventbus.Decimal) (Payment, eventbus.AnyEvent) {
	nth := []string{strconv.Itoa(len(p.Refunds)), amount.String()}
	refund := Refund{RefundID: "re_" + p.id(append(nth, "refund")...), Amount: amount}
	p.Left = p.Left.Sub(amount)
	p.Refunds = append(slices.Clip(p.Refunds), refund)
	if p.Left.Sign() > 0 {
		p.Status = PartiallyRefunded
		e := eventbus.PaymentPartialRefund.New(eventbus.PaymentPartialRefundPayload{
			TransactionID: p.TransactionID, RefundID: refund.RefundID, Amount: amount, BookingID: p.BookingID,
		})
		e.EventID = p.id(append(nth, e.EventType)...)
		return p, e
	}
	p.Status = Refunded
	e := eventbus.PaymentRefunded.New(eventbus.PaymentRefundedPayload{
		TransactionID: p.TransactionID, RefundID: refund.RefundID, Amount: amount, BookingID: p.BookingID,
	})
	e.EventID = p.id(append(nth, e.EventType)...)
	return p, e
}

// save publishes what happened to a payment and makes p its state. The caller holds the booking's lock.
func (s *Service) save(ctx context.Context, p Payment, happened eventbus.AnyEvent) error {
	if err := s.publisher.Publish(ctx, happened); err != nil {
		return err
	}
	s.payments.Put(p.BookingID, p)
	s.bookingIDs.Put(p.TransactionID, p.BookingID)
	return nil
}

// saga is the context of a request in the saga of the payment's booking.
func saga(r *http.Request, p Payment) context.Context {
	return eventbus.WithCorrelationID(r.Context(), p.correlationID)
}
