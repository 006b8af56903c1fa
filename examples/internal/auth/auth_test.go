package auth

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/servicetest"
)

// world is an auth-service and the two events of user u-1's life.
type world struct {
	*Service
	t       *testing.T
	events  *servicetest.Publisher
	created *eventbus.BaseEvent[eventbus.UserCreatedPayload]
	deleted *eventbus.BaseEvent[eventbus.UserDeletedPayload]
}

func newWorld(t *testing.T) world {
	events := servicetest.NewPublisher(t)
	return world{
		Service: New(events), t: t, events: events,
		created: eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"}),
		deleted: eventbus.UserDeleted.New(eventbus.UserDeletedPayload{UserID: "u-1", DeletedAt: service.Now()}),
	}
}

// signUp is a world in which u-1 has the password "correct horse".
func signUp(t *testing.T) world {
	w := newWorld(t)
	w.create()
	require.Equal(t, http.StatusNoContent, w.setPassword(`{"newPassword":"correct horse"}`))
	return w
}

func (w world) create() {
	w.t.Helper()
	require.NoError(w.t, service.Once(&w.memory, w.openAccount)(w.t.Context(), w.created))
}

func (w world) delete() {
	w.t.Helper()
	require.NoError(w.t, service.Once(&w.memory, w.closeAccount)(w.t.Context(), w.deleted))
}

func (w world) do(method, path, body string) servicetest.Answer {
	return servicetest.Do(w.Service, method, path, body)
}

func (w world) setPassword(body string) int {
	return w.do("PUT", "/auth/users/u-1/password", body).Status
}

func (w world) login(password string) servicetest.Answer {
	return w.do("POST", "/auth/login", `{"email":"Ada@example.com","password":"`+password+`"}`)
}

func (w world) token() string {
	w.t.Helper()
	return servicetest.As[grant](w.t, http.StatusOK, w.login("correct horse")).Token
}

func (w world) use(path, token string) servicetest.Answer {
	return w.do("POST", path, `{"token":"`+token+`"}`)
}

func (w world) account() accountView {
	w.t.Helper()
	return servicetest.Get[accountView](w.t, w.Service, "/auth/users/u-1")
}

func TestUserCreatedOpensOneSession(t *testing.T) {
	w := newWorld(t)
	w.create()
	w.create()
	a := w.account()
	require.Equal(t, "active", a.Status)
	require.Len(t, a.Sessions, 1)
	require.Equal(t, byRegistration, a.Sessions[0].OpenedBy)
	require.Zero(t, a.ValidTokens)
}

func TestUserDeletedVoidsAllTokens(t *testing.T) {
	w := signUp(t)
	first, second := w.token(), w.token()
	require.Equal(t, 2, w.account().ValidTokens)
	w.delete()
	w.delete()
	a := w.account()
	require.Equal(t, "deleted", a.Status)
	require.Zero(t, a.ValidTokens)
	for _, s := range a.Sessions {
		require.NotZero(t, s.ClosedAt)
	}
	for _, token := range []string{first, second} {
		require.Equal(t, http.StatusUnauthorized, w.use("/auth/token/refresh", token).Status)
	}
	require.Equal(t, http.StatusUnauthorized, w.login("correct horse").Status)
	require.Equal(t, http.StatusNotFound, w.setPassword(`{"newPassword":"another horse"}`))
}

func TestUserDeletedMayComeFirst(t *testing.T) {
	w := newWorld(t)
	w.delete()
	w.create()
	a := w.account()
	require.Equal(t, "deleted", a.Status)
	require.Empty(t, a.Sessions)
}

func TestTokensAreReplacedAndEnded(t *testing.T) {
	w := signUp(t)
	old := w.token()
	fresh := servicetest.As[bearer](t, http.StatusOK, w.use("/auth/token/refresh", old)).Token
	refreshed := servicetest.Published(w.events, eventbus.AuthTokenRefreshed)[0].Payload
	require.Contains(t, old, refreshed.OldTokenID)
	require.Contains(t, fresh, refreshed.NewTokenID)
	require.Equal(t, http.StatusUnauthorized, w.use("/auth/token/refresh", old).Status, "the old one is void")
	require.Equal(t, http.StatusUnauthorized, w.use("/auth/logout", refreshed.NewTokenID).Status, "an id is no token")

	require.Equal(t, http.StatusNoContent, w.use("/auth/logout", fresh).Status)
	require.Equal(t, http.StatusUnauthorized, w.use("/auth/logout", fresh).Status)
	require.Len(t, servicetest.Published(w.events, eventbus.AuthLogout), 1)
	require.Zero(t, w.account().ValidTokens)
}

func TestFiveWrongPasswordsLock(t *testing.T) {
	w := signUp(t)
	for range maxFailedLogins - 1 {
		require.Equal(t, http.StatusUnauthorized, w.login("wrong").Status)
	}
	require.Equal(t, http.StatusLocked, w.login("wrong").Status)
	require.Equal(t, http.StatusLocked, w.login("correct horse").Status)
	require.Equal(t, "locked", w.account().Status)
	require.Len(t, servicetest.Published(w.events, eventbus.AuthAccountLocked), 1)
	require.Empty(t, servicetest.Published(w.events, eventbus.AuthLogin))
}

func TestResetLiftsTheLock(t *testing.T) {
	w := signUp(t)
	for range maxFailedLogins {
		w.login("wrong")
	}
	require.Equal(t, http.StatusAccepted, w.do("POST", "/auth/password-resets", `{"email":"ada@example.com"}`).Status)
	require.Equal(t, http.StatusAccepted, w.do("POST", "/auth/password-resets", `{"email":"nobody@example.com"}`).Status)
	requested := servicetest.Published(w.events, eventbus.AuthPasswordResetRequested)
	require.Len(t, requested, 1)

	reset := `{"newPassword":"another horse","resetToken":"` + string(requested[0].Payload.ResetToken) + `"}`
	require.Equal(t, http.StatusForbidden, w.setPassword(`{"newPassword":"another horse","resetToken":"guess"}`))
	require.Equal(t, http.StatusNoContent, w.setPassword(reset))
	require.Equal(t, http.StatusForbidden, w.setPassword(reset), "it is good once")
	require.Equal(t, http.StatusOK, w.login("another horse").Status)
}

func TestPasswordNeedsTheCurrentOne(t *testing.T) {
	w := signUp(t)
	require.Equal(t, http.StatusForbidden, w.setPassword(`{"newPassword":"another horse"}`))
	require.Equal(t, http.StatusForbidden, w.setPassword(`{"newPassword":"another horse","currentPassword":"wrong"}`))
	require.Equal(t, http.StatusNoContent, w.setPassword(`{"newPassword":"another horse","currentPassword":"correct horse"}`))
	require.Len(t, servicetest.Published(w.events, eventbus.AuthPasswordChanged), 2)
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := signUp(t)
	servicetest.RequireRefused(t, w.Service, w.events, []servicetest.Refusal{
		{Method: "PUT", Path: "/auth/users/u-1/password", Body: `{"newPassword":"short"}`, Field: "newPassword", Expected: "8 to 200 characters"},
		{Method: "PUT", Path: "/auth/users/u-1/password", Body: `{"newPassword":"long enough","currentPassword":"a","resetToken":"b"}`, Field: "resetToken", Expected: "either"},
		{Method: "POST", Path: "/auth/login", Body: `{"password":"x"}`, Field: "email", Expected: "an e-mail address"},
		{Method: "POST", Path: "/auth/login", Body: `{"email":"ada@example.com"}`, Field: "password", Expected: "a string"},
		{Method: "POST", Path: "/auth/token/refresh", Body: `{}`, Field: "token", Expected: "the token of a login"},
		{Method: "POST", Path: "/auth/logout", Body: `{"token":1}`, Field: "token", Expected: "a string"},
		{Method: "POST", Path: "/auth/password-resets", Body: `{"email":"ada"}`, Field: "email", Expected: "an e-mail address"},
	})
}
