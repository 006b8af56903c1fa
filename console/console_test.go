package console_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

// site is a console that is served, and a browser without JavaScript.
type site struct {
	t    *testing.T
	page *console.Console
	*httptest.Server
}

func open(t *testing.T, bus *eventbus.Bus, opts *console.Options) *site {
	t.Helper()
	page, err := console.New(bus, opts)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(page.Close)
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{t, page, server}
}

// get returns the page at an address below the prefix.
func (s *site) get(address string) (status int, body string) {
	s.t.Helper()
	return s.do(http.MethodGet, address, nil, nil)
}

func (s *site) do(method, address string, form url.Values, header http.Header) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+"/ops/"+address, strings.NewReader(form.Encode()))
	require.NoError(s.t, err)
	for name, values := range header {
		r.Header[name] = values
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := s.Client().Do(r)
	require.NoError(s.t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	s.check(answer, string(text))
	if answer.StatusCode == http.StatusSeeOther {
		return answer.StatusCode, answer.Header.Get("Location")
	}
	return answer.StatusCode, string(text)
}

// inPage is what a strict policy would not run, or would load from elsewhere.
var inPage = regexp.MustCompile(`(?i)<style|\sstyle=|<script>|<script [^>]*>[^<]|\son[a-z]+="|javascript:|(src|href|action)="(https?:)?//`)

// check is what holds for every answer.
func (s *site) check(answer *http.Response, body string) {
	s.t.Helper()
	policy := answer.Header.Get("Content-Security-Policy")
	assert.Contains(s.t, policy, "default-src 'none'")
	assert.NotContains(s.t, policy, "unsafe")
	assert.Equal(s.t, "nosniff", answer.Header.Get("X-Content-Type-Options"))
	assert.Equal(s.t, "no-referrer", answer.Header.Get("Referrer-Policy"))
	assert.NotEmpty(s.t, answer.Header.Get("Cache-Control"))
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
		assert.Empty(s.t, inPage.FindString(body))
	}
}

// section is a part of the page.
func section(t *testing.T, body, id string) string {
	t.Helper()
	_, behind, found := strings.Cut(body, `<section id="`+id+`"`)
	require.True(t, found, "section %s", id)
	text, _, _ := strings.Cut(behind, "</section>")
	return text
}

func publish(t testing.TB, b *bustest.Bus, ctx context.Context, source, userID string) *eventbus.BaseEvent[eventbus.UserCreatedPayload] {
	t.Helper()
	e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: userID, Email: userID + "@example.com", FirstName: "A", LastName: "B"})
	e.Source = source
	require.NoError(t, b.Publish(ctx, e))
	return e
}

// journey is a bus on which a sign-up caused a profile, and two others were given up.
func journey(t *testing.T) *bustest.Bus {
	t.Helper()
	b := bustest.New(t)
	handle := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		if strings.HasPrefix(e.Payload.UserID, "bad") {
			return eventbus.Permanent(errors.New("no tenant for it"))
		}
		next := eventbus.UserProfileUpdated.New(eventbus.UserProfileUpdatedPayload{UserID: e.Payload.UserID, ProfileData: map[string]any{"plan": "free"}})
		next.Source = "profile-service"
		return b.Publish(ctx, next)
	}
	b.Start(eventbus.Subscription{Group: "welcome", Routes: []eventbus.Route{eventbus.UserCreated.Handle(handle, nil)}})
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "journey-1"), "user-service", "ada")
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "journey-2"), "user-service", "bad-bob")
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "journey-3"), "user-service", "bad-eve")
	until(t, "all are through", func() bool { m := b.Metrics(); return m.DeadLettered == 2 && m.MessagesConsumed >= 1 })
	return b
}

func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, time.Minute, 5*time.Millisecond, what)
}

func TestAClusterThatDoesNotAnswerIsSaidInTime(t *testing.T) {
	login, err := kfake.NewCluster(kfake.EnableSASL())
	require.NoError(t, err)
	t.Cleanup(login.Close)
	login.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1, TopLevel: true})
	for name, c := range map[string]struct {
		config eventbus.Config
		says   string
	}{
		"wrong address":  {eventbus.Config{Brokers: []string{"127.0.0.1:1"}}, "127.0.0.1:1"},
		"wrong password": {eventbus.Config{Brokers: login.ListenAddrs(), SASL: scram.Auth{User: "ops", Pass: "wr0ng"}.AsSha512Mechanism()}, "SASL_AUTHENTICATION_FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Service = "ops"
			bus, err := eventbus.New(c.config)
			require.NoError(t, err)
			t.Cleanup(func() { _ = bus.Shutdown(context.Background()) })
			s := open(t, bus, nil)
			began := time.Now()
			status, body := s.get("?trail=x&letters=y&topic=z")
			assert.Less(t, time.Since(began), 5*time.Second)
			assert.Equal(t, http.StatusServiceUnavailable, status)
			assert.Contains(t, body, "The cluster does not answer.")
			assert.Contains(t, body, c.says)
			assert.NotContains(t, body, "wr0ng")
			assert.Contains(t, body, "unhealthy")
			assert.Contains(t, readStream(t, s, "", 1), c.says, "the stream says so too")
		})
	}
}

// A broker that answers some questions only does not keep the page.
func TestABrokerThatHangsDoesNotKeepThePage(t *testing.T) {
	b := journey(t)
	s := open(t, b.Bus, nil)
	b.Fault(bustest.Fault{Request: bustest.Fetch, Do: bustest.Silence()})
	began := time.Now()
	status, body := s.get("?trail=journey-1&letters=" + letterTopic)
	assert.Less(t, time.Since(began), 8*time.Second)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, section(t, body, "stream"), "Only what was read in time is shown")
	assert.Contains(t, section(t, body, "trail"), "Only what was read in time is shown")
	assert.Contains(t, section(t, body, "letters"), "not all of it was read in time")
	assert.Contains(t, section(t, body, "groups"), "welcome")
}

func TestWhatIsNotThePage(t *testing.T) {
	s := open(t, bustest.New(t).Bus, nil)
	for _, c := range []struct {
		method, address string
		status          int
	}{
		{http.MethodGet, "nothing", http.StatusNotFound},
		{http.MethodGet, "web/page.tmpl", http.StatusNotFound},
		{http.MethodPost, "", http.StatusMethodNotAllowed},
		{http.MethodPut, "", http.StatusMethodNotAllowed},
		{http.MethodDelete, "stream", http.StatusMethodNotAllowed},
		{http.MethodGet, "redrive", http.StatusMethodNotAllowed},
		{http.MethodGet, "purge", http.StatusMethodNotAllowed},
		{http.MethodHead, "", http.StatusOK},
		{http.MethodHead, "stream", http.StatusOK},
		{http.MethodGet, "stream?topic=[", http.StatusBadRequest},
		{http.MethodGet, "console.css", http.StatusOK},
		{http.MethodGet, "console.js", http.StatusOK},
		{http.MethodGet, "icon.svg", http.StatusOK},
	} {
		status, _ := s.do(c.method, c.address, nil, nil)
		assert.Equal(t, c.status, status, "%s %s", c.method, c.address)
	}
}

func TestFilesAreKeptByBrowsers(t *testing.T) {
	s := open(t, bustest.New(t).Bus, nil)
	_, body := s.get("")
	address := regexp.MustCompile(`src="(console\.js\?v=[0-9a-f]+)"`).FindStringSubmatch(body)
	require.NotNil(t, address)
	answer, err := s.Client().Get(s.URL + "/ops/" + address[1])
	require.NoError(t, err)
	_ = answer.Body.Close()
	assert.Contains(t, answer.Header.Get("Content-Type"), "javascript")
	tag := answer.Header.Get("ETag")
	require.NotEmpty(t, tag)
	status, _ := s.do(http.MethodGet, address[1], nil, http.Header{"If-None-Match": {tag}})
	assert.Equal(t, http.StatusNotModified, status)
}

func TestItIsMountedAnywhere(t *testing.T) {
	b := bustest.New(t)
	page, err := console.New(b.Bus, nil)
	require.NoError(t, err)
	defer page.Close()
	for _, mount := range []struct {
		handler http.Handler
		address string
		status  int
	}{
		{page, "/", http.StatusOK},
		{page, "/console.css", http.StatusOK},
		{http.StripPrefix("/a/b", page), "/a/b/", http.StatusOK},
		{http.StripPrefix("/a/b", page), "/a/b", http.StatusPermanentRedirect},
		{http.StripPrefix("/a/b/", page), "/a/b/", http.StatusOK},
		{http.StripPrefix("/a/b/", page), "/a/b/console.js", http.StatusOK},
	} {
		w := httptest.NewRecorder()
		mount.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, mount.address, nil))
		assert.Equal(t, mount.status, w.Code, mount.address)
		if mount.status == http.StatusPermanentRedirect {
			assert.Equal(t, "./b/", w.Header().Get("Location"))
		}
	}
}

func TestOptions(t *testing.T) {
	_, err := console.New(nil, nil)
	assert.ErrorContains(t, err, "bus is nil")
	b := bustest.New(t)
	_, err = console.New(b.Bus, &console.Options{Since: -time.Hour})
	assert.ErrorContains(t, err, "field Since: -1h0m0s is negative")
}

func TestAClosedConsoleSaysSo(t *testing.T) {
	s := open(t, bustest.New(t).Bus, nil)
	s.page.Close()
	s.page.Close()
	status, body := s.get("")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, body, "closed")
}
