package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

func TestThePageShowsWhatHappens(t *testing.T) {
	s := open(t, journey(t).Bus, &console.Options{Title: "DreamScape"})
	status, body := s.get("")
	require.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "<h1>DreamScape</h1>")

	health := section(t, body, "health")
	assert.Contains(t, health, "<strong>healthy</strong>")
	assert.Contains(t, health, "welcome")
	drawing := section(t, body, "map")
	for _, line := range []string{`data-kind="publish" data-from="user-service" data-to="dreamscape.user.created"`,
		`data-from="profile-service" data-to="dreamscape.user.profile.updated"`, `data-kind="consume" data-from="dreamscape.user.created" data-to="welcome"`} {
		assert.Contains(t, drawing, line)
	}
	assert.Contains(t, drawing, `role="img"`)
	assert.Contains(t, drawing, "✗ 2")
	stream := section(t, body, "stream")
	assert.Contains(t, stream, "journey-1")
	assert.Contains(t, stream, "user.profile.updated")
	assert.Contains(t, stream, "ada@example.com")
	assert.Contains(t, section(t, body, "groups"), "welcome")
	assert.Contains(t, section(t, body, "groups"), "No key is blocked")
	letters := section(t, body, "letters")
	assert.Contains(t, letters, "dreamscape.user.created.dlq.welcome")
	assert.Contains(t, letters, "no tenant for it")
	assert.NotContains(t, letters, "<form", "nothing is allowed by default")
}

func TestTheStreamIsFiltered(t *testing.T) {
	s := open(t, journey(t).Bus, nil)
	for _, c := range []struct {
		query       string
		has, hasNot string
	}{
		{"topic=dreamscape.user.profile.*", "profile-service", "journey-2"},
		{"topic=dreamscape.user.created", "journey-2", "profile-service"},
		{"correlation=journey-3", "bad-eve", "journey-1"},
		{"key=ada", "journey-1", "bad-bob"},
		{"key=nobody", "passes this filter", "journey-1"},
	} {
		status, body := s.get("?" + c.query)
		require.Equal(t, http.StatusOK, status, c.query)
		stream := section(t, body, "stream")
		assert.Contains(t, stream, c.has, c.query)
		assert.NotContains(t, stream, c.hasNot, c.query)
	}
}

func TestWhatCannotBeAskedIsSaidBesideIt(t *testing.T) {
	s := open(t, journey(t).Bus, nil)
	for _, c := range []struct {
		query   string
		status  int
		section string
		says    string
	}{
		{"topic=dreamscape.[", http.StatusBadRequest, "stream", "close each bracket"},
		{"topic=no.such", http.StatusNotFound, "stream", "There is no topic no.such on this cluster: choose one"},
		{"key=" + strings.Repeat("k", 2000), http.StatusBadRequest, "stream", "at most 1024 characters"},
		{"trail=" + strings.Repeat("c", 2000), http.StatusBadRequest, "trail", "at most 1024 characters"},
		{"trail=nobody", http.StatusOK, "trail", "No event of the last 24h has this correlation id"},
		{"letters=no.such.dlq", http.StatusNotFound, "letters", "There is no dead-letter topic no.such.dlq"},
		{"letters=dreamscape.user.created", http.StatusNotFound, "letters", "There is no dead-letter topic"},
		{"fingerprint=abc", http.StatusBadRequest, "letters", "choose the topic first"},
		{"letters=dreamscape.user.created.dlq.welcome&fingerprint=abc", http.StatusNotFound, "letters", "has this fingerprint any longer"},
		{"letters=dreamscape.user.created.dlq.welcome&letter=x", http.StatusBadRequest, "letters", "PARTITION:OFFSET"},
		{"letters=dreamscape.user.created.dlq.welcome&letter=0:9999", http.StatusNotFound, "letters", "Choose one of the list"},
		{"letters=dreamscape.user.created.dlq.welcome&letter=99:1", http.StatusNotFound, "letters", "Choose one of the list"},
	} {
		status, body := s.get("?" + c.query)
		assert.Equal(t, c.status, status, c.query)
		part := section(t, body, c.section)
		assert.Contains(t, part, c.says, c.query)
		if c.status != http.StatusOK {
			assert.Contains(t, part, `role="alert"`, c.query)
		}
	}
}

func TestATrailIsATimeline(t *testing.T) {
	b := journey(t)
	s := open(t, b.Bus, nil)
	var trail string
	until(t, "the offset is committed", func() bool {
		_, body := s.get("?trail=journey-1")
		trail = section(t, body, "trail")
		return strings.Contains(trail, "✓ welcome")
	})
	assert.Contains(t, trail, "2 events of 2 services")
	assert.Contains(t, trail, "level-1", "what an event caused is behind it")
	_, body := s.get("?trail=journey-2")
	trail = section(t, body, "trail")
	assert.Contains(t, trail, "✗ dead letter of welcome, permanent: no tenant for it")
}

func TestATrailSaysWhatCannotBeRead(t *testing.T) {
	b := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Client: []kgo.Opt{kgo.MaxDecompressBatchBytes(64 << 10)}}})
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "journey-1"), "user-service", "ada")
	client, err := kgo.NewClient(append(b.ClientOptions(), kgo.ProducerBatchCompression(kgo.GzipCompression()))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	bomb := &kgo.Record{Topic: b.TopicPrefix() + eventbus.TopicPaymentInitiated, Value: make([]byte, 128<<10)}
	require.NoError(t, client.ProduceSync(t.Context(), bomb).FirstErr())
	_, body := open(t, b.Bus, nil).get("?trail=journey-1")
	trail := section(t, body, "trail")
	assert.Contains(t, trail, "Not all of it could be read: topic "+eventbus.TopicPaymentInitiated)
	assert.Contains(t, trail, "ada@")
}

func TestSecretsAreMasked(t *testing.T) {
	b := bustest.New(t)
	fail := func(context.Context, *eventbus.BaseEvent[eventbus.AuthPasswordResetRequestedPayload]) error {
		return eventbus.Permanent(errors.New("no"))
	}
	b.Start(eventbus.Subscription{Group: "mail", Routes: []eventbus.Route{eventbus.AuthPasswordResetRequested.Handle(fail, nil)}})
	require.NoError(t, b.Publish(eventbus.WithCorrelationID(t.Context(), "reset"), eventbus.AuthPasswordResetRequested.New(eventbus.AuthPasswordResetRequestedPayload{
		Email: "a@example.com", ResetToken: "s3cr3t", ExpiresAt: time.Now().Add(time.Hour),
	})))
	until(t, "given up", func() bool { return b.Metrics().DeadLettered == 1 })
	s := open(t, b.Bus, nil)
	topic := "dreamscape.auth.password.reset.requested.dlq.mail"
	_, body := s.get("?letters=" + topic)
	fingerprint := fingerprintIn(t, body)
	for _, query := range []string{"", "?trail=reset", "?letters=" + topic + "&fingerprint=" + fingerprint, "?letters=" + topic + "&letter=" + letterPlace(t, s, topic, fingerprint)} {
		_, body := s.get(query)
		assert.NotContains(t, body, "s3cr3t", query)
		assert.Contains(t, body, "a@example.com", query)
	}
	assert.NotContains(t, readStream(t, s, "", 1), "s3cr3t")
}

var fingerprints = regexp.MustCompile(`fingerprint=([0-9a-f]{16})`)

func fingerprintIn(t *testing.T, body string) string {
	t.Helper()
	found := fingerprints.FindStringSubmatch(body)
	require.NotNil(t, found)
	return found[1]
}

var places = regexp.MustCompile(`aria-label="Letter (\d+:\d+)"`)

func letterPlace(t *testing.T, s *site, topic, fingerprint string) string {
	t.Helper()
	_, body := s.get("?letters=" + topic + "&fingerprint=" + fingerprint)
	found := places.FindStringSubmatch(body)
	require.NotNil(t, found)
	return found[1]
}

func TestLettersAreBesideTheirEvents(t *testing.T) {
	s := open(t, journey(t).Bus, nil)
	const topic = "dreamscape.user.created.dlq.welcome"
	_, body := s.get("?letters=" + topic)
	fingerprint := fingerprintIn(t, body)
	_, body = s.get("?letters=" + topic + "&fingerprint=" + fingerprint)
	letters := section(t, body, "letters")
	assert.Equal(t, 2, strings.Count(letters, `<article class="card letter"`))
	for _, text := range []string{"bad-bob@example.com", "bad-eve", "no tenant for it", "The event", "The error", "user-service", "?trail=journey-2#trail", "eb-group"} {
		assert.Contains(t, letters, text)
	}
	place := letterPlace(t, s, topic, fingerprint)
	_, body = s.get("?letters=" + topic + "&letter=" + place)
	assert.Equal(t, 1, strings.Count(body, `<article class="card letter"`))
}

func TestHostileEventsAreText(t *testing.T) {
	b := bustest.New(t)
	topic := eventbus.NewTopic[map[string]any]("acme.hostile", nil)
	require.NoError(t, b.EnsureTopics(t.Context(), topic))
	e := topic.New(map[string]any{"x": `</pre><script>alert(1)</script>`})
	e.Source = `"><img src=x onerror=alert(1)>`
	require.NoError(t, b.Publish(eventbus.WithCorrelationID(t.Context(), `' onclick="alert(1)`), e))
	s := open(t, b.Bus, nil)
	for _, query := range []string{"", "?trail=" + url.QueryEscape(`' onclick="alert(1)`), "?topic=" + url.QueryEscape(`"><script>alert(1)</script>`)} {
		_, body := s.get(query)
		assert.NotContains(t, body, "<script>")
		assert.NotContains(t, body, "<img")
		assert.NotContains(t, body, ` onclick="`)
	}
	assert.NotContains(t, readStream(t, s, "", 1), "<img")
}

func TestManyTopicsAreDrawnOnlyAsFarAsAPersonSees(t *testing.T) {
	b := bustest.New(t)
	for i := range 60 {
		topic := eventbus.NewTopic[map[string]any](fmt.Sprintf("acme.topic.%02d", i), nil)
		require.NoError(t, b.EnsureTopics(t.Context(), topic))
		require.NoError(t, b.Publish(t.Context(), topic.New(map[string]any{"n": i})))
	}
	s := open(t, b.Bus, nil)
	_, body := s.get("")
	drawing := section(t, body, "map")
	assert.Contains(t, drawing, "20 that are less busy have no room here")
	assert.Equal(t, 40, strings.Count(drawing, `<li data-topic=`))
}
