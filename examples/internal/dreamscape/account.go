package dreamscape

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/dreamscape/eventbus"
)

// traveller is a person on the journey.
type traveller struct{ id, email, password, token string }

// What the services answer, as far as the journey looks at it.
type (
	accountView struct {
		Status      string `json:"status"`
		HasPassword bool   `json:"hasPassword"`
		ValidTokens int    `json:"validTokens"`
		Sessions    []struct {
			OpenedBy string    `json:"openedBy"`
			ClosedAt time.Time `json:"closedAt"`
		} `json:"sessions"`
	}
	userView struct {
		UserID      string         `json:"userId"`
		FirstName   string         `json:"firstName"`
		Premium     bool           `json:"premium"`
		LastLogin   time.Time      `json:"lastLogin"`
		Preferences map[string]any `json:"preferences"`
	}
	historyView struct {
		Status    string `json:"status"`
		FirstName string `json:"firstName"`
		Logins    int    `json:"logins"`
		Events    []struct {
			EventType string `json:"eventType"`
		} `json:"events"`
	}
	tokenView struct {
		Token string `json:"token"`
	}
	refusalView struct {
		Fields []struct {
			Field string `json:"field"`
		} `json:"fields"`
	}
)

const (
	getAccount  = "GET auth-service/auth/users/{userId}"
	putPassword = "PUT auth-service/auth/users/{userId}/password" // #nosec G101 -- a path
	postLogin   = "POST auth-service/auth/login"
	getUser     = "GET user-service/users/{userId}"
	getHistory  = "GET user-service/users/{userId}/history"
)

func (a accountView) openSessions() (n int) {
	for _, s := range a.Sessions {
		if s.ClosedAt.IsZero() {
			n++
		}
	}
	return n
}

// join signs a person up, under an address that no other run has used.
func (j *journey) join(ctx context.Context, firstName, lastName string) (traveller, error) {
	t := traveller{email: firstName + "-" + uuid.NewString() + "@example.com", password: "correct horse battery"}
	body := object{"email": t.email, "firstName": firstName, "lastName": lastName}
	user, err := ask[userView](ctx, j, "POST user-service/users", "", body, 201)
	t.id = user.UserID
	return t, err
}

func (j *journey) signUp(ctx context.Context) (err error) {
	if j.ada, err = j.join(ctx, "Ada", "King"); err != nil {
		return err
	}
	return see(ctx, j, "user.created", getAccount, j.ada.id, "a session opened by the registration", func(a accountView) bool {
		return a.Status == "active" && len(a.Sessions) == 1 && a.Sessions[0].OpenedBy == "registration"
	})
}

func (j *journey) wrongRequests(ctx context.Context) error {
	if err := j.settle(ctx); err != nil {
		return err
	}
	before := j.ledger.count()
	refusal, err := ask[refusalView](ctx, j, "POST user-service/users", "", object{"email": "ada", "firstName": "Ada", "lastName": ""}, 400)
	if err != nil {
		return err
	}
	if len(refusal.Fields) != 2 {
		return fmt.Errorf("a sign-up with two wrong fields: expected both to be named, saw %v", refusal.Fields)
	}
	for _, w := range j.wrong() {
		if err := j.command(ctx, w.route, w.id, w.body, w.status); err != nil {
			return err
		}
	}
	if n := j.ledger.count() - before; n > 0 {
		return fmt.Errorf("%d events were published for wrong requests", n)
	}
	return nil
}

// wrongRequest is a request that must be refused.
type wrongRequest struct {
	route, id string
	body      object
	status    int
}

func (j *journey) wrong() []wrongRequest {
	return []wrongRequest{
		{"POST user-service/users", "", object{"email": j.ada.email, "firstName": "Ada", "surname": "King"}, 400},
		{"POST user-service/users", "", object{"email": j.ada.email, "firstName": "Ada", "lastName": "King"}, 409},
		{"PATCH user-service/users/{userId}", "nobody", object{"firstName": "Ada"}, 404},
		{postLogin, "", object{"email": j.ada.email, "password": "not hers"}, 401},
		{putCard, j.ada.id, object{"cardNumber": "4111111111111111"}, 400},
		{"POST payment-service/payments/{transactionId}/refunds", "none", object{"amount": 1}, 404},
		{postBooking, "", object{"userId": j.ada.id, "flightId": "FL-MOON-1", "hotelId": "HO-PAR-1"}, 400},
		{postCancel, "none", object{"reason": "the weather"}, 404},
		{"POST ai-service/recommendations", "", object{"userId": j.ada.id, "context": "any"}, 400},
	}
}

func (j *journey) logIn(ctx context.Context) error {
	if err := j.command(ctx, putPassword, j.ada.id, object{"newPassword": j.ada.password}, 204); err != nil {
		return err
	}
	login, err := ask[tokenView](ctx, j, postLogin, "", object{"email": j.ada.email, "password": j.ada.password}, 200)
	if err != nil {
		return err
	}
	j.ada.token = login.Token
	return see(ctx, j, "auth.login", getUser, j.ada.id, "a last login", func(u userView) bool { return !u.LastLogin.IsZero() })
}

func (j *journey) refreshToken(ctx context.Context) error {
	const refresh = "POST auth-service/auth/token/refresh"
	old := object{"token": j.ada.token}
	fresh, err := ask[tokenView](ctx, j, refresh, "", old, 200)
	if err != nil {
		return err
	}
	j.ada.token = fresh.Token
	return j.command(ctx, refresh, "", old, 401)
}

func (j *journey) changeUser(ctx context.Context) error {
	if err := j.command(ctx, "PATCH user-service/users/{userId}", j.ada.id, object{"lastName": "Lovelace"}, 200); err != nil {
		return err
	}
	preferences := object{"preferences": object{"language": "en", "currency": "EUR"}}
	user, err := ask[userView](ctx, j, "PUT user-service/users/{userId}/preferences", j.ada.id, preferences, 200)
	if err == nil && user.Preferences["currency"] != "EUR" {
		err = fmt.Errorf("the answer lacks the preferences")
	}
	return err
}

func (j *journey) lockAccount(ctx context.Context) error {
	_, err := await(ctx, j, getAccount, j.grace.id, "an account", func(a accountView) bool { return a.Status == "active" })
	if err != nil {
		return err
	}
	if err := j.command(ctx, putPassword, j.grace.id, object{"newPassword": j.grace.password}, 204); err != nil {
		return err
	}
	wrong := object{"email": j.grace.email, "password": "mistaken"}
	for _, status := range []int{401, 401, 401, 401, 423} {
		if err := j.command(ctx, postLogin, "", wrong, status); err != nil {
			return err
		}
	}
	right := object{"email": j.grace.email, "password": j.grace.password}
	if err := j.command(ctx, postLogin, "", right, 423); err != nil {
		return err
	}
	_, err = await(ctx, j, getAccount, j.grace.id, "a locked account", func(a accountView) bool { return a.Status == "locked" })
	return err
}

// resetPassword takes the token from the event, as the service that writes the e-mail would.
func (j *journey) resetPassword(ctx context.Context) error {
	if err := j.command(ctx, "POST auth-service/auth/password-resets", "", object{"email": j.ada.email}, 202); err != nil {
		return err
	}
	var token string
	err := j.poll(ctx, func() (string, error) {
		e, found := find(j.reader, eventbus.AuthPasswordResetRequested, func(p eventbus.AuthPasswordResetRequestedPayload) bool {
			return p.Email == j.ada.email
		})
		if !found {
			return "the reader has not read auth.password.reset.requested", nil
		}
		token = string(e.Payload.ResetToken)
		return "", nil
	})
	if err != nil {
		return err
	}
	j.ada.password = "staple battery horse"
	if err := j.command(ctx, putPassword, j.ada.id, object{"newPassword": j.ada.password, "resetToken": token}, 204); err != nil {
		return err
	}
	login, err := ask[tokenView](ctx, j, postLogin, "", object{"email": j.ada.email, "password": j.ada.password}, 200)
	j.ada.token = login.Token
	return err
}

func (j *journey) logOut(ctx context.Context) error {
	const logout = "POST auth-service/auth/logout"
	before, err := ask[accountView](ctx, j, getAccount, j.ada.id, nil, 200)
	if err != nil {
		return err
	}
	if err := j.command(ctx, logout, "", object{"token": j.ada.token}, 204); err != nil {
		return err
	}
	if err := j.command(ctx, logout, "", object{"token": j.ada.token}, 401); err != nil {
		return err
	}
	_, err = await(ctx, j, getAccount, j.ada.id, "one open session less", func(a accountView) bool {
		return a.openSessions() == before.openSessions()-1
	})
	return err
}

func (j *journey) readHistory(ctx context.Context) error {
	_, err := await(ctx, j, getHistory, j.ada.id, "active, two logins, a profile", func(h historyView) bool {
		return h.Status == "active" && h.Logins == 2 && h.tells("user.created") && h.tells("user.profile.updated") && h.tells("auth.login")
	})
	return err
}

func (h historyView) tells(eventType string) bool {
	for _, e := range h.Events {
		if e.EventType == eventType {
			return true
		}
	}
	return false
}

func (j *journey) deleteUser(ctx context.Context) error {
	if err := j.command(ctx, "DELETE user-service/users/{userId}", j.ada.id, nil, 204); err != nil {
		return err
	}
	if err := j.command(ctx, getUser, j.ada.id, nil, 404); err != nil {
		return err
	}
	err := see(ctx, j, "user.deleted", getAccount, j.ada.id, "a deleted account without tokens", func(a accountView) bool {
		return a.Status == "deleted" && a.ValidTokens == 0 && a.openSessions() == 0
	})
	if err != nil {
		return err
	}
	_, err = await(ctx, j, getHistory, j.ada.id, "deleted", func(h historyView) bool { return h.Status == "deleted" })
	return err
}
