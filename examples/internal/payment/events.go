package payment

import (
	"context"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// startPayment starts a booking's payment and charges the user's card, if there is one. Where the booking's cancellation came first,
// which its topic's own order allows, there is nothing to charge.
func (s *Service) startPayment(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]) error {
	unlock, err := s.locks.Lock(ctx, e.Payload.BookingID)
	if err != nil {
		return err
	}
	defer unlock()
	p, known := s.payments.Get(e.Payload.BookingID)
	if !known {
		if p, err = s.initiate(ctx, e); err != nil {
			return err
		}
	}
	return s.charge(ctx, p)
}

func (s *Service) initiate(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageBookingCreatedPayload]) (Payment, error) {
	p := start(e)
	if e.Payload.Amount == nil || e.Payload.Currency == "" {
		p, failed := p.ended(Failed, "amount_missing", "the booking does not say what it costs")
		return p, s.save(ctx, p, failed)
	}
	return p, s.save(ctx, p, service.FollowUp(e, eventbus.PaymentInitiated.New(eventbus.PaymentInitiatedPayload{
		TransactionID: p.TransactionID, UserID: p.UserID, Amount: p.Amount, Currency: p.Currency, BookingID: p.BookingID,
	})))
}

// charge charges the card on file, if the payment waits for one and there is one. A real gateway would be given the transaction id as
// its idempotency key. The caller holds the booking's lock.
func (s *Service) charge(ctx context.Context, p Payment) error {
	c, ok := s.cards.Get(p.UserID)
	if !ok || p.Status != Initiated {
		return nil
	}
	charged, happened := p.completed()
	if c.errorCode != "" {
		charged, happened = p.ended(Failed, c.errorCode, c.reason)
	}
	return s.save(ctx, charged, happened)
}

// undoPayment gives a cancelled booking's money back: all that is left of it, which is nothing the second time. The decision is in the
// payment's state alone, in whatever order the booking's events come.
func (s *Service) undoPayment(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageBookingCancelledPayload]) error {
	unlock, err := s.locks.Lock(ctx, e.Payload.BookingID)
	if err != nil {
		return err
	}
	defer unlock()
	p, known := s.payments.Get(e.Payload.BookingID)
	switch {
	case !known:
		s.payments.Put(e.Payload.BookingID, Payment{BookingID: e.Payload.BookingID, Status: Voided, Reason: e.Payload.Reason})
		return nil
	case p.Status == Initiated:
		voided, happened := p.ended(Voided, "booking_cancelled", e.Payload.Reason)
		return s.save(ctx, voided, happened)
	case p.Left.Sign() > 0:
		refunded, happened := p.refunded(p.Left)
		return s.save(ctx, refunded, happened)
	}
	return nil
}
