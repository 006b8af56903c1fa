// Package servicetest tests the example services without a broker.
package servicetest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// ErrLost is what a [Publisher] returns while it loses acknowledgements.
var ErrLost = errors.New("the acknowledgement was lost")

// Publisher is a [service.Publisher] that keeps what is published. It refuses what a bus would refuse.
type Publisher struct {
	bus *eventbus.Bus // never connected; it encodes and checks

	mu     sync.Mutex
	losing bool
	events []eventbus.AnyEvent
}

// NewPublisher makes a Publisher for the time of the test.
func NewPublisher(t *testing.T) *Publisher {
	t.Helper()
	bus, err := eventbus.New(eventbus.Config{Service: "test", Brokers: []string{"127.0.0.1:1"}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.NoError(t, bus.Shutdown(ctx))
	})
	return &Publisher{bus: bus}
}

// Publish implements [service.Publisher].
func (p *Publisher) Publish(ctx context.Context, events ...eventbus.AnyEvent) error {
	for _, e := range events {
		if _, err := p.bus.Encode(ctx, e); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, events...)
	if p.losing {
		return ErrLost
	}
	return nil
}

// LoseAcks has every further publish write its events and fail with [ErrLost] all the same, until it is switched off.
func (p *Publisher) LoseAcks(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losing = on
}

// Published returns the events of a topic, in the order of their publishing.
func Published[T any](p *Publisher, _ *eventbus.Topic[T]) []*eventbus.BaseEvent[T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*eventbus.BaseEvent[T]
	for _, e := range p.events {
		if typed, ok := e.(*eventbus.BaseEvent[T]); ok {
			found = append(found, typed)
		}
	}
	return found
}

// Len is the number of events published.
func (p *Publisher) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.events)
}

// Answer is what a service answered.
type Answer struct {
	Status int
	Body   string
}

// Do sends a request to a service; body may be empty.
func Do(s service.Service, method, path, body string) Answer {
	mux := http.NewServeMux()
	s.Register(mux)
	recorder := httptest.NewRecorder()
	mux.ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
	return Answer{Status: recorder.Code, Body: recorder.Body.String()}
}

// Get is the answer to a GET, which must be there, as T.
func Get[T any](t *testing.T, s service.Service, path string) T {
	t.Helper()
	return As[T](t, http.StatusOK, Do(s, http.MethodGet, path, ""))
}

// As decodes an answer, whose status must be as wanted.
func As[T any](t *testing.T, status int, a Answer) T {
	t.Helper()
	require.Equal(t, status, a.Status, a.Body)
	var out T
	require.NoError(t, json.Unmarshal([]byte(a.Body), &out))
	return out
}

// Refusal is a request whose body is to be refused.
type Refusal struct {
	Method, Path, Body string
	Field              string // the field to be named
	Expected           string // a part of what is to be named as expected
}

// RequireRefused requires that every request is answered by 400 with the field and what was expected, and that nothing is published.
func RequireRefused(t *testing.T, s service.Service, p *Publisher, refusals []Refusal) {
	t.Helper()
	before := p.Len()
	for _, r := range refusals {
		t.Run(r.Method+" "+r.Path+" "+r.Body, func(t *testing.T) {
			a := As[service.Error](t, http.StatusBadRequest, Do(s, r.Method, r.Path, r.Body))
			require.Equal(t, "invalid request", a.Text)
			require.NotEmpty(t, a.Fields)
			require.Equal(t, r.Field, a.Fields[0].Field)
			require.Contains(t, a.Fields[0].Expected, r.Expected)
		})
	}
	require.Equal(t, before, p.Len())
}
