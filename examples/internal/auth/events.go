package auth

import (
	"context"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// openAccount opens a new user's account and first session, which has no token yet. Topics have no order among each other: where the
// user's deletion came first, it stays.
func (s *Service) openAccount(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
	unlock, err := s.locks.Lock(ctx, e.Payload.UserID)
	if err != nil {
		return err
	}
	defer unlock()
	if _, known := s.accounts.Get(e.Payload.UserID); known {
		return nil
	}
	a := account{userID: e.Payload.UserID, email: e.Payload.Email}
	first := session{SessionID: service.DerivedID(e.Timestamp, e.EventID, "session"), OpenedBy: byRegistration, OpenedAt: e.Timestamp}
	s.accounts.Put(a.userID, a.withSession(0, first))
	s.userIDs.Put(addressKey(a.email), a.userID)
	return nil
}

// closeAccount voids all of a deleted user's tokens, and what could get new ones.
func (s *Service) closeAccount(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserDeletedPayload]) error {
	unlock, err := s.locks.Lock(ctx, e.Payload.UserID)
	if err != nil {
		return err
	}
	defer unlock()
	a, _ := s.accounts.Get(e.Payload.UserID)
	a = a.closed(e.Payload.DeletedAt)
	a.userID, a.deleted = e.Payload.UserID, true
	a.password, a.reset = password{}, reset{}
	s.accounts.Put(a.userID, a)
	return nil
}
