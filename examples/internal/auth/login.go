package auth

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

const (
	maxFailedLogins = 5
	lockTime        = 15 * time.Minute
)

var errCredentials = service.Errorf(http.StatusUnauthorized, "wrong e-mail address or password")

type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Check implements [service.Body].
func (c credentials) Check(p *service.Problems) {
	p.Email("email", c.Email)
	p.Text("password", c.Password)
}

// grant is what a login gives.
type grant struct {
	UserID    string `json:"userId"`
	SessionID string `json:"sessionId"`
	Token     string `json:"token"`
}

func (s *Service) login(r *http.Request, in credentials) (grant, error) {
	userID, ok := s.userIDs.Get(addressKey(in.Email))
	if !ok {
		return grant{}, errCredentials
	}
	unlock, err := s.locks.Lock(r.Context(), userID)
	if err != nil {
		return grant{}, err
	}
	defer unlock()
	a, _ := s.accounts.Get(userID)
	switch {
	case a.deleted:
		return grant{}, errCredentials
	case a.lockedAt(time.Now()):
		return grant{}, locked(a.lockedUntil)
	case !a.password.matches(in.Password):
		return grant{}, s.refuseLogin(r.Context(), a)
	}
	return s.openSession(r, a)
}

func (s *Service) openSession(r *http.Request, a account) (grant, error) {
	now := service.Now()
	err := s.publisher.Publish(r.Context(), eventbus.AuthLogin.New(eventbus.AuthLoginPayload{
		UserID: a.userID, Timestamp: now, IPAddress: clientIP(r), UserAgent: cmp.Or(r.UserAgent(), "unknown"),
	}))
	if err != nil {
		return grant{}, err
	}
	opened := session{SessionID: service.NewID(), OpenedBy: byLogin, OpenedAt: now, tokenID: service.NewID()}
	a.failedLogins = 0
	s.accounts.Put(a.userID, a.withSession(len(a.sessions), opened))
	return grant{UserID: a.userID, SessionID: opened.SessionID, Token: s.signer.sign(a.userID, opened.tokenID)}, nil
}

// refuseLogin counts a wrong password, locks the account when they are too many, and returns the answer.
func (s *Service) refuseLogin(ctx context.Context, a account) error {
	a.failedLogins++
	if a.failedLogins < maxFailedLogins {
		s.accounts.Put(a.userID, a)
		return errCredentials
	}
	a.failedLogins, a.lockedUntil = 0, service.Now().Add(lockTime)
	err := s.publisher.Publish(ctx, eventbus.AuthAccountLocked.New(eventbus.AuthAccountLockedPayload{
		UserID: a.userID, Reason: "too many wrong passwords", LockedUntil: a.lockedUntil,
	}))
	if err != nil {
		return err
	}
	s.accounts.Put(a.userID, a)
	return locked(a.lockedUntil)
}

func locked(until time.Time) error {
	return service.Errorf(http.StatusLocked, "the account is locked until %s", until.Format(time.RFC3339))
}

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
