package service_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

type order struct {
	Name   string           `json:"name"`
	Amount eventbus.Decimal `json:"amount"`
	Extras map[string]any   `json:"extras"`
}

func (o order) Check(p *service.Problems) { p.Text("name", o.Name) }

func post(body string) *httptest.ResponseRecorder {
	echo := service.HandleBody(http.StatusCreated, func(_ *http.Request, in order) (order, error) { return in, nil })
	answer := httptest.NewRecorder()
	echo.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	return answer
}

func TestHandleBodyKeepsEveryDigit(t *testing.T) {
	body := `{"name":"a","amount":19.90,"extras":{"deep":[{"budget":12345678901234567890.10}]}}`
	answer := post(body)
	require.Equal(t, http.StatusCreated, answer.Code)
	require.Equal(t, body, answer.Body.String())
}

func TestHandleBodyNamesTheField(t *testing.T) {
	for _, c := range []struct{ name, body, field, expected string }{
		{"empty", "", "body", "a JSON object"},
		{"cut off", `{"name":"a"`, "body", "a JSON object"},
		{"no object", `[1]`, "body", "a JSON object"},
		{"more than one", `{"name":"a"} {}`, "body", "a JSON object"},
		{"null", `null`, "name", "a string of 1 to 200 characters"},
		{"missing", `{}`, "name", "a string of 1 to 200 characters"},
		{"too long", `{"name":"` + strings.Repeat("ä", 201) + `"}`, "name", "a string of 1 to 200 characters"},
		{"wrong type", `{"name":1}`, "name", "a string"},
		{"wrong type of amount", `{"name":"a","amount":"19.90"}`, "amount", "a number such as 19.90"},
		{"wrong type of object", `{"name":"a","extras":[]}`, "extras", "a JSON object"},
		{"number beyond an event's", `{"name":"a","extras":{"x":{"y":1e999}}}`, "extras.x.y", "a number of at most 64 characters, with an exponent from -400 to 400"},
		{"unknown", `{"name":"a","nmae":"b"}`, "nmae", "no such field"},
		{"twice", `{"name":"a","name":"b"}`, "name", "the field once"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := post(c.body)
			require.Equal(t, http.StatusBadRequest, answer.Code)
			require.Equal(t, `{"error":"invalid request","fields":[{"field":"`+c.field+`","expected":"`+c.expected+`"}]}`, answer.Body.String())
		})
	}
}

func TestHandleBodyLimitsTheBody(t *testing.T) {
	answer := post(`{"name":"` + strings.Repeat("a", 1<<20) + `"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, answer.Code)
	require.Equal(t, `{"error":"the body has more than 1048576 bytes"}`, answer.Body.String())
}

func TestHandleAnswersErrors(t *testing.T) {
	broken := &eventbus.SchemaError{Violations: []eventbus.Violation{{Field: "payload.email", Rule: `format "email"`}}}
	for _, c := range []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"own", service.Errorf(http.StatusNotFound, "no user %s", "u-1"), http.StatusNotFound, `{"error":"no user u-1"}`},
		{"an event's schema", broken, http.StatusBadRequest, `{"error":"invalid request","fields":[{"field":"email","expected":"format \"email\""}]}`},
		{"an undecodable event", &eventbus.DecodeError{Reason: "nested deeper than 64"}, http.StatusBadRequest,
			`{"error":"invalid request","fields":[{"field":"body","expected":"nested deeper than 64"}]}`},
		{"not published", eventbus.ErrNotSent, http.StatusServiceUnavailable, `{"error":"not done, repeat the request: not sent"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			failing := service.Handle(http.StatusOK, func(*http.Request) (service.Nothing, error) { return nil, c.err })
			failing.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
			require.Equal(t, c.status, answer.Code)
			require.Equal(t, c.body, answer.Body.String())
		})
	}
}
