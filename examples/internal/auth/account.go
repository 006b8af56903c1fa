package auth

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dreamscape/eventbus/examples/internal/service"
)

// account is what auth-service knows of a user.
type account struct {
	userID, email string
	deleted       bool
	password      password
	failedLogins  int // in a row
	lockedUntil   time.Time
	reset         reset
	sessions      []session // the oldest first
}

// session lasts from a registration or a login to a logout or the user's deletion. Its token is the one that is valid for it.
type session struct {
	SessionID string    `json:"sessionId"`
	OpenedBy  string    `json:"openedBy"`
	OpenedAt  time.Time `json:"openedAt"`
	ClosedAt  time.Time `json:"closedAt,omitzero"`

	tokenID string // "": none was issued, or it is void
}

// Ways to open a session.
const (
	byRegistration = "registration"
	byLogin        = "login"
)

// addressKey is what two spellings of an e-mail address have in common.
func addressKey(email string) string { return strings.ToLower(email) }

func (a account) lockedAt(now time.Time) bool { return now.Before(a.lockedUntil) }

// withSession returns the account with its i-th session replaced, or one more.
func (a account) withSession(i int, s session) account {
	a.sessions = slices.Clone(a.sessions)
	if i == len(a.sessions) {
		a.sessions = append(a.sessions, s)
	}
	a.sessions[i] = s
	return a
}

// closed returns the account with every session closed and every token void.
func (a account) closed(at time.Time) account {
	for i, s := range a.sessions {
		if s.ClosedAt.IsZero() {
			s.ClosedAt = at
		}
		s.tokenID = ""
		a = a.withSession(i, s)
	}
	return a
}

// accountView is the account as GET shows it: without what proves an identity.
type accountView struct {
	UserID      string    `json:"userId"`
	Email       string    `json:"email"`
	Status      string    `json:"status"`
	HasPassword bool      `json:"hasPassword"`
	LockedUntil time.Time `json:"lockedUntil,omitzero"`
	ValidTokens int       `json:"validTokens"`
	Sessions    []session `json:"sessions"`
}

func (a account) view(now time.Time) accountView {
	v := accountView{UserID: a.userID, Email: a.email, Status: "active", HasPassword: a.password.isSet(), Sessions: a.sessions}
	switch {
	case a.deleted:
		v.Status = "deleted"
	case a.lockedAt(now):
		v.Status, v.LockedUntil = "locked", a.lockedUntil
	}
	for _, s := range a.sessions {
		if s.tokenID != "" {
			v.ValidTokens++
		}
	}
	return v
}

func (s *Service) getUser(r *http.Request) (accountView, error) {
	a, ok := s.accounts.Get(r.PathValue("userId"))
	if !ok {
		return accountView{}, noAccount(r)
	}
	return a.view(time.Now()), nil
}

func noAccount(r *http.Request) error {
	return service.Errorf(http.StatusNotFound, "no account of user %s", r.PathValue("userId"))
}
