package voyage

import (
	"context"
	"fmt"

	"github.com/dreamscape/eventbus"
)

// confirm confirms a booking that was paid. One that was cancelled meanwhile stays so: payment-service hears of it and refunds.
func (s *Service) confirm(ctx context.Context, e *eventbus.BaseEvent[eventbus.PaymentCompletedPayload]) error {
	id := bookingOf(e.Payload.BookingID, e.CorrelationID)
	unlock, err := s.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	b, known := s.bookings.Get(id)
	if !known {
		return s.cancelUnknown(ctx, e)
	}
	if b.Status != Pending {
		return nil
	}
	confirmed, happened := b.confirmed()
	return s.save(ctx, confirmed, happened)
}

// cancelUnknown has the money given back for a booking that does not exist here: its creation was published and never acknowledged,
// and the user told that it had failed. A payment that leads to no booking at all is for a person to look at.
func (s *Service) cancelUnknown(ctx context.Context, e *eventbus.BaseEvent[eventbus.PaymentCompletedPayload]) error {
	if e.Payload.BookingID == "" {
		return eventbus.Permanent(fmt.Errorf("transaction %s leads to no booking", e.Payload.TransactionID))
	}
	b := Booking{BookingID: e.Payload.BookingID, UserID: e.Payload.UserID, Currency: e.Payload.Currency, createdAt: e.Timestamp}
	if e.Payload.Amount != nil {
		b.Amount = *e.Payload.Amount
	}
	cancelled, happened := b.cancelled("no such booking")
	return s.save(ctx, cancelled, happened)
}

// cancelUnpaid cancels a booking whose payment failed. Nothing was paid for one that is not known here.
func (s *Service) cancelUnpaid(ctx context.Context, e *eventbus.BaseEvent[eventbus.PaymentFailedPayload]) error {
	id := bookingOf(e.Payload.BookingID, e.CorrelationID)
	unlock, err := s.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	b, _ := s.bookings.Get(id)
	if b.Status != Pending {
		return nil
	}
	cancelled, happened := b.cancelled("payment failed: " + e.Payload.Reason)
	return s.save(ctx, cancelled, happened)
}
