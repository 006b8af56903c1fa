package user

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/servicetest"
)

// world is a user-service with a user.
type world struct {
	*Service
	t      *testing.T
	events *servicetest.Publisher
	path   string
	userID string
}

// payers is a [Log] that knows the users of payment transactions.
type payers map[string]string

func (payers) History(context.Context, string) (History, error) { return History{}, nil }

func (p payers) Payer(_ context.Context, transactionID string) (string, error) {
	return p[transactionID], nil
}

func newWorld(t *testing.T) world {
	events := servicetest.NewPublisher(t)
	w := world{Service: New(events, payers{}), t: t, events: events}
	w.userID = servicetest.As[User](t, http.StatusCreated, w.do("POST", "/users", ada)).UserID
	w.path = "/users/" + w.userID
	return w
}

const ada = `{"email":"ada@example.com","firstName":"Ada","lastName":"Lovelace"}`

func (w world) do(method, path, body string) servicetest.Answer {
	return servicetest.Do(w.Service, method, path, body)
}

func (w world) user() User {
	w.t.Helper()
	return servicetest.Get[User](w.t, w.Service, w.path)
}

func TestEveryChangeIsPublished(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, "ada@example.com", servicetest.Published(w.events, eventbus.UserCreated)[0].Payload.Email)

	u := servicetest.As[User](t, http.StatusOK, w.do("PATCH", w.path, `{"firstName":"Augusta"}`))
	require.Equal(t, "Augusta Lovelace", u.FirstName+" "+u.LastName)
	require.Equal(t, map[string]any{"firstName": "Augusta"}, servicetest.Published(w.events, eventbus.UserUpdated)[0].Payload.Changes)

	w.do("PUT", w.path+"/preferences", `{"preferences":{"currency":"EUR"}}`)
	w.do("PUT", w.path+"/profile", `{"profileData":{"interests":["beach"]}}`)
	u = w.user()
	require.Equal(t, u.Preferences, servicetest.Published(w.events, eventbus.UserPreferencesUpdated)[0].Payload.Preferences)
	require.Equal(t, u.ProfileData, servicetest.Published(w.events, eventbus.UserProfileUpdated)[0].Payload.ProfileData)

	require.Equal(t, http.StatusNoContent, w.do("DELETE", w.path, "").Status)
	require.Len(t, servicetest.Published(w.events, eventbus.UserDeleted), 1)
	for _, method := range []string{"GET", "DELETE"} {
		require.Equal(t, http.StatusNotFound, w.do(method, w.path, "").Status)
	}
	require.Equal(t, http.StatusCreated, w.do("POST", "/users", ada).Status, "the address is free again")
}

func TestNothingChangesUnlessPublished(t *testing.T) {
	w := newWorld(t)
	before := w.user()
	w.events.LoseAcks(true)
	require.Equal(t, http.StatusServiceUnavailable, w.do("PATCH", w.path, `{"firstName":"Augusta"}`).Status)
	require.Equal(t, http.StatusServiceUnavailable, w.do("DELETE", w.path, "").Status)
	w.events.LoseAcks(false)
	require.Equal(t, before, w.user())
}

func TestAddressesAreUnique(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, http.StatusConflict, w.do("POST", "/users", `{"email":"ADA@example.com","firstName":"A","lastName":"B"}`).Status)
	require.Len(t, servicetest.Published(w.events, eventbus.UserCreated), 1)
}

func TestLastLoginIsTheLatest(t *testing.T) {
	w := newWorld(t)
	handle := service.Once(&w.memory, w.noteLogin)
	late := service.Now()
	for _, at := range []time.Time{late.Add(-time.Hour), late, late.Add(-time.Minute)} {
		require.NoError(t, handle(t.Context(), eventbus.AuthLogin.New(eventbus.AuthLoginPayload{UserID: w.userID, Timestamp: at})))
	}
	require.Equal(t, late, w.user().LastLogin)
}

func TestPaymentMakesPremium(t *testing.T) {
	for _, c := range []struct {
		name    string
		payload func(userID string) eventbus.PaymentCompletedPayload
		log     func(userID string) payers
		err     string
	}{
		{name: "named", payload: func(userID string) eventbus.PaymentCompletedPayload {
			return eventbus.PaymentCompletedPayload{TransactionID: "t-1", UserID: userID}
		}},
		{name: "by its transaction", payload: func(string) eventbus.PaymentCompletedPayload {
			return eventbus.PaymentCompletedPayload{TransactionID: "t-1"}
		}, log: func(userID string) payers { return payers{"t-1": userID} }},
		{name: "by nothing", payload: func(string) eventbus.PaymentCompletedPayload {
			return eventbus.PaymentCompletedPayload{TransactionID: "t-1"}
		}, err: "transaction t-1 leads to no user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.log != nil {
				w.log = c.log(w.userID)
			}
			handle := service.Once(&w.memory, w.makePremium)
			e := eventbus.PaymentCompleted.New(c.payload(w.userID))
			for range 2 {
				if err := handle(t.Context(), e); c.err != "" {
					require.ErrorContains(t, err, c.err)
				} else {
					require.NoError(t, err)
				}
			}
			require.Equal(t, c.err == "", w.user().Premium)
		})
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	servicetest.RequireRefused(t, w.Service, w.events, []servicetest.Refusal{
		{Method: "POST", Path: "/users", Body: `{"firstName":"A","lastName":"B"}`, Field: "email", Expected: "an e-mail address"},
		{Method: "POST", Path: "/users", Body: `{"email":"Ada <ada@example.com>","firstName":"A","lastName":"B"}`, Field: "email", Expected: "an e-mail address"},
		{Method: "POST", Path: "/users", Body: `{"email":"b@example.com","lastName":"B"}`, Field: "firstName", Expected: "a string"},
		{Method: "POST", Path: "/users", Body: `{"email":"b@example.com","firstName":"A","lastName":7}`, Field: "lastName", Expected: "a string"},
		{Method: "PATCH", Path: w.path, Body: `{}`, Field: "body", Expected: "firstName, lastName or both"},
		{Method: "PATCH", Path: w.path, Body: `{"email":"b@example.com"}`, Field: "email", Expected: "no such field"},
		{Method: "PUT", Path: w.path + "/preferences", Body: `{"preferences":null}`, Field: "preferences", Expected: "an object"},
		{Method: "PUT", Path: w.path + "/preferences", Body: `{"preferences":"EUR"}`, Field: "preferences", Expected: "a JSON object"},
		{Method: "PUT", Path: w.path + "/profile", Body: `{}`, Field: "profileData", Expected: "an object"},
	})
}
