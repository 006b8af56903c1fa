package user

import (
	"context"
	"fmt"
	"time"

	"github.com/dreamscape/eventbus"
)

// activity is what other services' events tell of a user. It is kept apart from the user: an event may come before the user is known
// here, and after it was removed.
type activity struct {
	lastLogin time.Time
	premium   bool
}

// noteLogin keeps the latest login.
func (s *Service) noteLogin(ctx context.Context, e *eventbus.BaseEvent[eventbus.AuthLoginPayload]) error {
	return s.noteActivity(ctx, e.Payload.UserID, func(a *activity) {
		if e.Payload.Timestamp.After(a.lastLogin) {
			a.lastLogin = e.Payload.Timestamp
		}
	})
}

// makePremium makes a premium user of whoever has paid. A TypeScript payment-service does not say in payment.completed who that is,
// but it did in payment.initiated.
func (s *Service) makePremium(ctx context.Context, e *eventbus.BaseEvent[eventbus.PaymentCompletedPayload]) error {
	userID := e.Payload.UserID
	if userID == "" {
		var err error
		if userID, err = s.log.Payer(ctx, e.Payload.TransactionID); err != nil {
			return err
		}
	}
	if userID == "" {
		return eventbus.Permanent(fmt.Errorf("transaction %s leads to no user", e.Payload.TransactionID))
	}
	return s.noteActivity(ctx, userID, func(a *activity) { a.premium = true })
}

func (s *Service) noteActivity(ctx context.Context, userID string, note func(*activity)) error {
	unlock, err := s.locks.Lock(ctx, userID)
	if err != nil {
		return err
	}
	defer unlock()
	a, _ := s.activities.Get(userID)
	note(&a)
	s.activities.Put(userID, a)
	return nil
}
