package auth

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// password is a salted hash of one; its zero value is that of no password, which nothing matches.
type password struct{ salt, hash []byte }

// iterations is low, to keep the example quick: OWASP asks for 600,000.
const iterations = 10_000

func hashPassword(plain string) (password, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, as its documentation says
	hash, err := pbkdf2.Key(sha256.New, plain, salt, iterations, sha256.Size)
	return password{salt: salt, hash: hash}, err
}

func (p password) isSet() bool { return p.hash != nil }

func (p password) matches(plain string) bool {
	if !p.isSet() {
		return false
	}
	hash, err := pbkdf2.Key(sha256.New, plain, p.salt, iterations, sha256.Size)
	return err == nil && subtle.ConstantTimeCompare(hash, p.hash) == 1
}

// reset is the permission to set a new password once; its zero value is none.
type reset struct {
	hash      [sha256.Size]byte
	expiresAt time.Time
}

const resetTime = 30 * time.Minute

func (r reset) allows(token string, now time.Time) bool {
	hash := sha256.Sum256([]byte(token))
	return now.Before(r.expiresAt) && subtle.ConstantTimeCompare(hash[:], r.hash[:]) == 1
}

type newPassword struct {
	NewPassword     string `json:"newPassword"`
	CurrentPassword string `json:"currentPassword"`
	ResetToken      string `json:"resetToken"`
}

// Check implements [service.Body].
func (n newPassword) Check(p *service.Problems) {
	length := utf8.RuneCountInString(n.NewPassword)
	p.Require(length >= 8 && length <= 200, "newPassword", "a string of 8 to 200 characters")
	p.Require(n.CurrentPassword == "" || n.ResetToken == "", "resetToken", "either currentPassword or resetToken")
}

// mayChange says whether the request proves that it is the user's. The first password needs no proof: there is none yet.
func (a account) mayChange(n newPassword, now time.Time) bool {
	if n.ResetToken != "" {
		return a.reset.allows(n.ResetToken, now)
	}
	return !a.password.isSet() || a.password.matches(n.CurrentPassword)
}

// setPassword sets a password and lifts a lock: whoever has proved an identity need not wait.
func (s *Service) setPassword(r *http.Request, in newPassword) (service.Nothing, error) {
	userID, now := r.PathValue("userId"), service.Now()
	unlock, err := s.locks.Lock(r.Context(), userID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, ok := s.accounts.Get(userID)
	switch {
	case !ok || a.deleted:
		return nil, noAccount(r)
	case !a.mayChange(in, now):
		return nil, service.Errorf(http.StatusForbidden, "wrong currentPassword or resetToken")
	}
	if a.password, err = hashPassword(in.NewPassword); err != nil {
		return nil, err
	}
	a.reset, a.failedLogins, a.lockedUntil = reset{}, 0, time.Time{}
	err = s.publisher.Publish(r.Context(), eventbus.AuthPasswordChanged.New(eventbus.AuthPasswordChangedPayload{UserID: userID, Timestamp: now}))
	if err != nil {
		return nil, err
	}
	s.accounts.Put(userID, a)
	return nil, nil
}

type resetRequest struct {
	Email string `json:"email"`
}

// Check implements [service.Body].
func (q resetRequest) Check(p *service.Problems) { p.Email("email", q.Email) }

// requestReset publishes a reset token, for whoever sends e-mails. It answers the same for an address that it does not know: it would
// tell strangers who has an account.
func (s *Service) requestReset(r *http.Request, in resetRequest) (service.Nothing, error) {
	userID, ok := s.userIDs.Get(addressKey(in.Email))
	if !ok {
		return nil, nil
	}
	unlock, err := s.locks.Lock(r.Context(), userID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, _ := s.accounts.Get(userID)
	if a.deleted {
		return nil, nil
	}
	token, expiresAt := rand.Text(), service.Now().Add(resetTime)
	err = s.publisher.Publish(r.Context(), eventbus.AuthPasswordResetRequested.New(eventbus.AuthPasswordResetRequestedPayload{
		Email: a.email, ResetToken: eventbus.Secret(token), ExpiresAt: expiresAt,
	}))
	if err != nil {
		return nil, err
	}
	a.reset = reset{hash: sha256.Sum256([]byte(token)), expiresAt: expiresAt}
	s.accounts.Put(userID, a)
	return nil, nil
}
