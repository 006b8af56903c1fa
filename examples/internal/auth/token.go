package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

var errToken = service.Errorf(http.StatusUnauthorized, "the token is not valid")

// signer makes bearer tokens of the form <signature>.<token id>.<user id>. Events tell the token's id, which is no use without the
// signature. The key lives as long as the process.
type signer [sha256.Size]byte

func newSigner() signer {
	var s signer
	_, _ = rand.Read(s[:]) // never fails, as its documentation says
	return s
}

func (s signer) sign(userID, tokenID string) string {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte(tokenID + "." + userID))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) + "." + tokenID + "." + userID
}

// verify returns what a token of this signer says.
func (s signer) verify(token string) (userID, tokenID string, ok bool) {
	_, rest, _ := strings.Cut(token, ".")
	tokenID, userID, _ = strings.Cut(rest, ".")
	return userID, tokenID, hmac.Equal([]byte(token), []byte(s.sign(userID, tokenID)))
}

type bearer struct {
	Token string `json:"token"`
}

// Check implements [service.Body].
func (b bearer) Check(p *service.Problems) {
	p.Require(b.Token != "", "token", "the token of a login or a refresh")
}

// refresh replaces a session's token.
func (s *Service) refresh(r *http.Request, in bearer) (bearer, error) {
	a, i, unlock, err := s.authenticate(r.Context(), in.Token)
	if err != nil {
		return bearer{}, err
	}
	defer unlock()
	current := a.sessions[i]
	old := current.tokenID
	current.tokenID = service.NewID()
	err = s.publisher.Publish(r.Context(), eventbus.AuthTokenRefreshed.New(eventbus.AuthTokenRefreshedPayload{
		UserID: a.userID, OldTokenID: old, NewTokenID: current.tokenID,
	}))
	if err != nil {
		return bearer{}, err
	}
	s.accounts.Put(a.userID, a.withSession(i, current))
	return bearer{Token: s.signer.sign(a.userID, current.tokenID)}, nil
}

// logout closes the token's session.
func (s *Service) logout(r *http.Request, in bearer) (service.Nothing, error) {
	a, i, unlock, err := s.authenticate(r.Context(), in.Token)
	if err != nil {
		return nil, err
	}
	defer unlock()
	ended := a.sessions[i]
	ended.ClosedAt, ended.tokenID = service.Now(), ""
	err = s.publisher.Publish(r.Context(), eventbus.AuthLogout.New(eventbus.AuthLogoutPayload{
		UserID: a.userID, SessionID: ended.SessionID, Timestamp: ended.ClosedAt,
	}))
	if err != nil {
		return nil, err
	}
	s.accounts.Put(a.userID, a.withSession(i, ended))
	return nil, nil
}

// authenticate finds the account and the session that a token is valid for, and locks the account.
func (s *Service) authenticate(ctx context.Context, token string) (a account, i int, unlock func(), err error) {
	userID, tokenID, ok := s.signer.verify(token)
	if !ok {
		return account{}, 0, nil, errToken
	}
	if unlock, err = s.locks.Lock(ctx, userID); err != nil {
		return account{}, 0, nil, err
	}
	a, _ = s.accounts.Get(userID)
	i = slices.IndexFunc(a.sessions, func(s session) bool { return s.tokenID == tokenID })
	if i < 0 {
		unlock()
		return account{}, 0, nil, errToken
	}
	return a, i, unlock, nil
}
