package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// site is a broker, a bus on it, and the command beside it.
type site struct {
	*testing.T
	brokers string
	bus     *eventbus.Bus
}

func newSite(t *testing.T) *site {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "KAFKA_") {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
	broker, err := embedded.Start(embedded.Options{})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	s := &site{T: t, brokers: strings.Join(broker.Brokers(), ",")}
	s.bus, err = eventbus.New(eventbus.Config{Service: "user-service", Brokers: broker.Brokers(), Retry: eventbus.RetryPolicy{OutageHold: -1}})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.bus.Shutdown(ctx) // the test is over
	})
	return s
}

// result is what a command did.
type result struct {
	code      int
	out, errs string
}

func (s *site) run(args ...string) result { s.Helper(); return s.runWith("", 0, args...) }

func (s *site) runWith(in string, width int, args ...string) result {
	s.Helper()
	s.Setenv("KAFKA_BROKERS", s.brokers)
	return command(s.Context(), in, width, args...)
}

func command(ctx context.Context, in string, width int, args ...string) result {
	var out, errs bytes.Buffer
	code := run(ctx, args, streams{in: strings.NewReader(in), out: &out, errs: &errs, width: width})
	return result{code, out.String(), errs.String()}
}

// ok runs what has to work.
func (s *site) ok(args ...string) string {
	s.Helper()
	r := s.run(args...)
	require.Equal(s, exitDone, r.code, r.errs)
	require.Empty(s, r.errs)
	return r.out
}

// line runs a command that prints one line of JSON.
func (s *site) line(args ...string) map[string]any {
	s.Helper()
	var fields map[string]any
	require.NoError(s, json.Unmarshal([]byte(s.ok(args...)), &fields))
	return fields
}

func (s *site) publish(correlation string, users ...string) {
	s.Helper()
	ctx := eventbus.WithCorrelationID(s.Context(), correlation)
	for _, u := range users {
		require.NoError(s, s.bus.Publish(ctx, eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: u, Email: "a@example.com"})))
	}
}

// welcome handles user.created with h until the test's end, or stop; its topics are there then.
func (s *site) welcome(h eventbus.Handler[eventbus.UserCreatedPayload]) (stop func()) {
	s.Helper()
	sub := eventbus.Subscription{Group: "welcome", Routes: []eventbus.Route{eventbus.UserCreated.Handle(h, nil)}}
	require.NoError(s, s.bus.EnsureTopics(s.Context(), sub.Topics()...))
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.bus.Run(ctx, sub) }()
	ready, done := context.WithTimeout(s.Context(), 20*time.Second)
	defer done()
	require.NoError(s, s.bus.WaitReady(ready))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(s, <-ended)
		}
	}
	s.Cleanup(stop)
	return stop
}

func (s *site) until(what string, condition func() bool) {
	s.Helper()
	require.Eventually(s, condition, 20*time.Second, 5*time.Millisecond, what)
}

const letters = "dreamscape.user.created.dlq.welcome"

func TestTopicsAndTail(t *testing.T) {
	s := newSite(t)
	s.publish("c-1", "ada", "bob")
	s.publish("c-2", "cyd")
	out := s.ok("topics")
	require.Regexp(t, `(?m)^dreamscape\.user\.created\s+3\s+1\s+3\s+user\.created$`, out)
	out = s.ok("topics", "dreamscape.user.*", "-o", "json")
	require.Equal(t, 5, strings.Count(out, "\n"), out)

	out = s.ok("tail", "dreamscape.user.created")
	require.Equal(t, 3, strings.Count(out, "\n"), out)
	require.Contains(t, out, `user.created user-service key=ada correlation=c-1 {"userId":"ada"`)
	require.Equal(t, 1, strings.Count(s.ok("tail", "--correlation", "c-2"), "\n"))
	require.Equal(t, 1, strings.Count(s.ok("tail", "--since", "1h", "-f", "payload.userId=bob"), "\n"))
	require.Equal(t, 2, strings.Count(s.ok("tail", "--since", "beginning", "--limit", "2"), "\n"))
	var e struct {
		EventID string          `json:"eventId"`
		Payload json.RawMessage `json:"payload"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.ok("tail", "--key", "cyd", "-o", "json")), &e))
	require.NotEmpty(t, e.EventID)
	require.JSONEq(t, `{"userId":"cyd","email":"a@example.com","firstName":"","lastName":""}`, string(e.Payload))
}

func TestTailFollowsUntilCtrlC(t *testing.T) {
	s := newSite(t)
	t.Setenv("KAFKA_BROKERS", s.brokers)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"tail", "--follow"}, streams{in: strings.NewReader(""), out: &out, errs: &out})
	}()
	s.until("shown", func() bool {
		s.publish("c", "ada")
		return strings.Contains(out.String(), "user.created")
	})
	interrupt()
	require.Equal(t, exitInterrupted, <-ended)
	require.NotContains(t, out.String(), "context canceled")
}

func TestSecretsAreMasked(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.bus.Publish(t.Context(), eventbus.AuthPasswordResetRequested.New(eventbus.AuthPasswordResetRequestedPayload{
		Email: "a@example.com", ResetToken: "s3cr3t", ExpiresAt: time.Now().Add(time.Hour),
	})))
	for _, args := range [][]string{{"tail"}, {"tail", "-o", "json"}} {
		out := s.ok(args...)
		require.Contains(t, out, "***")
		require.NotContains(t, out, "s3cr3t")
	}
}

func TestPublish(t *testing.T) {
	s := newSite(t)
	out := s.ok("publish", "dreamscape.user.created", "--payload", `{"userId":"u-1","email":"ada@example.com"}`, "--correlation", "c-9", "--source", "ops")
	require.Regexp(t, `^published [0-9a-f-]{36} to dreamscape.user.created\n$`, out)
	require.Contains(t, s.ok("tail", "dreamscape.user.created"), `user.created ops key=u-1 correlation=c-9`)

	out = s.ok("publish", "dreamscape.user.created", "--payload", `{"userId":"u-2","email":"ada@example.com"}`, "--dry-run")
	require.Contains(t, out, `"userId":"u-2"`)
	require.Equal(t, 1, strings.Count(s.ok("tail", "dreamscape.user.created"), "\n"), "a dry run writes nothing")

	for says, args := range map[string][]string{
		`payload.email`: {"--payload", `{"userId":"u-1"}`},
		"has a field that its type does not have": {"--payload", `{"userId":"u-1","email":"a@b.example","shoe":42}`},
		"malformed JSON":                             {"--payload", `{`},
		"have their key from the payload":            {"--payload", `{}`, "--key", "k"},
		"no such file":                               {"--file", "/nowhere/at-all.json"},
		"[payload file prompt] are set none of the ": {"--payload", `{}`, "--prompt"},
	} {
		r := s.run(append([]string{"publish", "dreamscape.user.created"}, args...)...)
		require.NotEqual(t, exitDone, r.code, says)
		require.Contains(t, r.errs, says)
		require.Equal(t, 1, strings.Count(r.errs, "\n"), r.errs)
	}

	answers := "\nada\nada@example.com\nAda\n\n" + strings.Repeat("\n", 9) // userId must not be empty, lastName may
	r := s.runWith(answers, 80, "publish", "dreamscape.user.created", "--prompt")
	require.Equal(t, exitDone, r.code, r.errs)
	require.Equal(t, 2, strings.Count(r.errs, "userId (string): "), r.errs)
	require.Contains(t, s.ok("tail", "dreamscape.user.created"), "key=ada")

	r = s.runWith(`{"any":true}`, 0, "publish", letters)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.errs, "there is no such topic; `eventbus topics` lists those that are there")
}

func TestTrailAcrossServices(t *testing.T) {
	s := newSite(t)
	s.welcome(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		if e.Payload.UserID == "bad" {
			return eventbus.Permanent(errors.New("no such user"))
		}
		return s.bus.Publish(ctx, eventbus.UserProfileUpdated.New(eventbus.UserProfileUpdatedPayload{
			UserID: e.Payload.UserID, ProfileData: map[string]any{"a": 1},
		}))
	})
	s.publish("journey", "ada", "bad")
	s.until("handled", func() bool {
		m := s.bus.Metrics()
		return m.MessagesConsumed == 1 && m.DeadLettered == 1 && m.Commits > 0
	})
	var out string
	s.until("committed", func() bool { out = s.ok("trail", "journey"); return strings.Count(out, "✓ welcome") == 2 })
	require.Regexp(t, `(?m)^ +\+0s  user\.created  user-service$`, out)
	require.Regexp(t, `(?m)^ .*  └ user\.profile\.updated  user-service$`, out)
	require.Contains(t, out, "given up by welcome: no such user")
	require.Equal(t, 4, strings.Count(s.ok("trail", "journey", "-o", "json"), "\n"))
	r := s.run("trail", "nobody")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "eventbus: no event has the correlation id \"nobody\" since 24h: check the id, or look further back with --since\n", r.errs)
}

func TestGroupsAndLag(t *testing.T) {
	s := newSite(t)
	stop := s.welcome(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil })
	s.publish("c", "ada")
	s.until("handled", func() bool { return s.bus.Metrics().MessagesConsumed == 1 })
	up := regexp.MustCompile(`(?m)^welcome\s+Stable\s+classic\s+1\s+\d\s+0\s*$`)
	s.until("committed", func() bool { return up.MatchString(s.ok("groups")) })
	stop()
	s.publish("c", "bob", "cyd")
	require.Regexp(t, `(?m)^welcome\s+dreamscape\.user\.created/\d\s+(\d+|none)\s+\d+\s+\d+\s+no member$`, s.ok("lag", "welcome"))
	r := s.run("lag", "--max", "1")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "eventbus: more than 1 records behind: welcome (2)\n", r.errs)
	require.Zero(t, s.run("lag", "--max", "2").code)
	var g struct{ Lag int64 }
	require.NoError(t, json.Unmarshal([]byte(s.ok("lag", "-o", "json")), &g))
	require.EqualValues(t, 2, g.Lag)
	r = s.run("groups", "nobody")
	require.Equal(t, "eventbus: group nobody: there is no such group; `eventbus groups` lists those that are there\n", r.errs)
}

func TestDeadLettersGoBackAndAway(t *testing.T) {
	s := newSite(t)
	mended := make(chan struct{})
	s.welcome(func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		select {
		case <-mended:
			return nil
		default:
			return eventbus.Permanent(errors.New("no stock"))
		}
	})
	require.Equal(t, "no dead letters\n", s.ok("dlq", "ls"))
	s.publish("c", "ada", "bob", "cyd")
	s.until("dead-lettered", func() bool { return s.bus.Metrics().DeadLettered == 3 })
	require.Regexp(t, `(?m)^dreamscape\.user\.created\.dlq\.welcome\s+3\s+dreamscape\.user\.created\s+welcome$`, s.ok("dlq", "ls"))
	out := s.ok("dlq", "groups", letters)
	kind := regexp.MustCompile(`(?m)^([0-9a-f]+)\s+3\s+\S+\s+permanent\s+(\d:\d)\s+no stock$`).FindStringSubmatch(out)
	require.NotNil(t, kind, out)
	out = s.ok("dlq", "show", letters, kind[2])
	for _, want := range []string{"no stock", "permanent", "welcome", kind[1], "user.created", "@example.com"} {
		require.Contains(t, out, want)
	}
	require.Equal(t, 3, strings.Count(s.ok("dlq", "show", letters, "-o", "json"), "\n"))
	require.Subset(t, s.line("dlq", "ls", "-o", "json"), map[string]any{
		"topic": letters, "records": 3.0, "source": "dreamscape.user.created", "group": "welcome",
	})
	require.Subset(t, s.line("dlq", "groups", letters, "-o", "json"), map[string]any{
		"fingerprint": kind[1], "letters": 3.0, "class": "permanent", "family": "eventbus", "error": "no stock", "sample": kind[2],
	})

	require.Equal(t, "3 to be sent of 3\n", s.ok("dlq", "redrive", letters, "--dry-run"))
	r := s.run("dlq", "redrive", letters)
	require.Equal(t, exitUsage, r.code, "nobody can be asked")
	require.Contains(t, r.errs, "--yes does it, --dry-run only counts")
	r = s.runWith("n\n", 80, "dlq", "redrive", letters)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.errs, "nothing was done")
	r = s.runWith("", 80, "dlq", "redrive", letters)
	require.Equal(t, "eventbus: nothing was done\n", r.errs[strings.LastIndex(r.errs, "eventbus:"):], "Ctrl-D")
	close(mended)
	r = s.runWith("y\n", 80, "dlq", "redrive", letters, "--fingerprint", kind[1])
	require.Equal(t, exitDone, r.code, r.errs)
	require.Equal(t, "3 to be sent of 3\n3 sent of 3\n", r.out)
	s.until("handled", func() bool { return s.bus.Metrics().MessagesConsumed == 3 })

	require.Equal(t, "3 letters to be deleted\n", s.ok("dlq", "purge", letters, "--all", "--dry-run"))
	require.Equal(t, "3 letters to be deleted\n3 letters deleted\n", s.ok("dlq", "purge", letters, "--all", "--yes"))
	require.Equal(t, "no dead letters\n", s.ok("dlq", "ls"))

	require.Equal(t, "3 events to be sent to welcome\n", s.ok("replay", "dreamscape.user.created", "welcome", "--since", "beginning", "--dry-run"))
	require.Equal(t, "3 events to be sent to welcome\n3 events sent\n", s.ok("replay", "dreamscape.user.created", "welcome", "--since", "1h", "--yes"))
	s.until("handled once more", func() bool { return s.bus.Metrics().MessagesConsumed == 6 })

	for says, args := range map[string][]string{
		"is a pattern: expected the name of": {"dlq", "show", "dreamscape.*"},
		"--until: is not after --since":      {"replay", "dreamscape.user.created", "welcome", "--since", "1h", "--until", "2h"},
		"--rate: expected 1 or more":         {"replay", "dreamscape.user.created", "welcome", "--since", "1h", "--rate", "0"},
		"--rate and --max-redrives":          {"dlq", "redrive", letters, "--max-redrives", "0"},
		"expected PARTITION:OFFSET":          {"dlq", "show", letters, "7"},
		"at least one of the flags":          {"dlq", "purge", letters},
		"is no class of failures":            {"dlq", "groups", letters, "--class", "bad luck"},
		"--before: \"soon\" is no time":      {"dlq", "purge", letters, "--before", "soon"},
		"--since: expected from when on":     {"replay", "dreamscape.user.created", "welcome"},
		"EnsureTopics makes it":              {"replay", "dreamscape.user.created", "nobody", "--since", "1h"},
		"there is no such topic":             {"replay", "no.such", "welcome", "--since", "1h"},
		"eventbus dlq has no command \"rm\"": {"dlq", "rm"},
	} {
		r := s.run(args...)
		require.NotEqual(t, exitDone, r.code, says)
		require.Contains(t, r.errs, says)
		require.Equal(t, 1, strings.Count(r.errs, "\n"), r.errs)
	}
}

func TestParkedKeysAreReleased(t *testing.T) {
	s := newSite(t)
	var mended = make(chan struct{})
	cfg := eventbus.Config{Service: "user-service", Instance: "1", Brokers: strings.Split(s.brokers, ","), Retry: eventbus.RetryPolicy{OutageHold: -1}}
	bus, err := eventbus.New(cfg)
	require.NoError(t, err)
	h := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		select {
		case <-mended:
			return nil
		default:
			return eventbus.Permanent(errors.New("no stock"))
		}
	}
	sub := eventbus.Subscription{Group: "welcome", Routes: []eventbus.Route{
		eventbus.UserCreated.Handle(h, &eventbus.HandleOptions{Order: eventbus.OrderSequenced}),
	}}
	require.NoError(t, bus.EnsureTopics(t.Context(), sub.Topics()...))
	go func() { _ = bus.Run(t.Context(), sub) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = bus.Shutdown(ctx) // the test is over
	})
	s.publish("c", "ada")
	s.until("parked", func() bool { return bus.Metrics().DeadLettered == 1 })
	s.publish("c", "ada")
	s.until("followed", func() bool { return bus.Metrics().DeadLettered == 2 })
	s.until("written", func() bool { return strings.Contains(s.ok("dlq", "parked", letters), "no stock") })
	require.Regexp(t, `(?m)^ada\s+\d:0\s+\S+\s+0\s+no stock$`, s.ok("dlq", "parked", letters))
	require.Subset(t, s.line("dlq", "parked", letters, "-o", "json"), map[string]any{"key": "ada", "next": 0.0, "releases": 0.0, "released": false, "error": "no stock"})
	require.Contains(t, s.ok("dlq", "release", letters, "ada", "--dry-run"), "to be released: from letter")
	close(mended)
	require.Equal(t, "released\n", s.ok("dlq", "release", letters, "ada", "--yes"))
	s.until("handled", func() bool { return bus.Metrics().MessagesConsumed == 2 })
	s.until("no longer parked", func() bool { return s.ok("dlq", "parked", letters) == "no key is parked\n" })
	r := s.run("dlq", "release", letters, "bob", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.errs, "not parked")
}

func TestDoctor(t *testing.T) {
	s := newSite(t)
	s.welcome(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil })
	s.publish("c", "ada")
	s.until("committed", func() bool { return s.bus.Metrics().Commits > 0 })
	r := s.run("doctor")
	require.Equal(t, exitDone, r.code, r.out+r.errs)
	for _, want := range []string{"ok    connected: 1 brokers", "ok    all 28 declared topics are there", "0 to mend", "warn  1 brokers"} {
		require.Contains(t, r.out, want)
	}
	for line := range strings.Lines(s.ok("doctor", "-o", "json")) {
		var found struct{ Result, Text string }
		require.NoError(t, json.Unmarshal([]byte(line), &found))
		require.Contains(t, []string{"ok", "warn"}, found.Result)
		require.NotEmpty(t, found.Text)
	}
	require.Contains(t, s.ok("doctor", "--group", "welcome"), "ok    topic dreamscape.user.created.retry.welcome")
	cluster, done, err := (&app{brokers: s.brokers}).open(t.Context())
	require.NoError(t, err)
	defer done()
	_, err = cluster.Admin().DeleteTopics(t.Context(), "dreamscape.ai.prediction.made", "dreamscape.user.created.retry.welcome")
	require.NoError(t, err)
	r = s.run("doctor", "--group", "welcome")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "wrong topics are missing: dreamscape.ai.prediction.made; Bus.EnsureTopics makes them")
	require.Contains(t, r.out, "wrong topic dreamscape.user.created.retry.welcome is missing")
	require.Equal(t, "eventbus: there is something to mend, see above\n", r.errs)
}

func TestSchemaCheckNeedsNoBroker(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	orders := write("acme.orders.json", `{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}`)
	r := command(t.Context(), "", 0, "schema", "check", dir)
	require.Equal(t, result{exitDone, "ok    " + orders + "\n", ""}, r)
	event := func(payload string) string {
		return `{"eventId":"0198c3f2-7d11-7aaf-9a58-5b2f1c0e7d42","eventType":"acme.orders","timestamp":"2026-01-01T00:00:00.000Z","version":"1.0","source":"s","correlationId":"c","payload":` + payload + `}` + "\n"
	}
	r = command(t.Context(), event(`{"n":1}`)+event(`{"n":"x"}`)+"{\n", 0, "schema", "check", dir, "--events", "-")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "wrong line 2: ")
	require.Contains(t, r.out, "payload.n")
	require.Contains(t, r.out, "wrong line 3: not JSON")
	require.Contains(t, r.out, "1 events keep to their schemas, 2 do not")
	write("bad.json", `{"type":"objekt"}`)
	r = command(t.Context(), "", 0, "schema", "check", dir)
	require.Equal(t, exitFailed, r.code)
	require.Regexp(t, `(?m)^wrong .*bad\.json: .*/type`, r.out)
	require.Contains(t, command(t.Context(), "", 0, "schema", "show", "dreamscape.user.created").out, "2020-12")
	require.Equal(t, exitUsage, command(t.Context(), "", 0, "schema", "check", "/nowhere/at/all").code)
}

// Further topics are decoded by schemas that a folder has.
func TestSchemasOfOthers(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "acme.orders.json"),
		[]byte(`{"type":"object","required":["n"],"properties":{"n":{"type":"integer"},"pin":{"type":"string","writeOnly":true}}}`), 0o600))
	require.NoError(t, s.bus.EnsureTopics(t.Context(), eventbus.NewTopic[map[string]any]("acme.orders", nil)))
	r := s.run("publish", "acme.orders", "--schemas", dir, "--payload", `{"n":"one"}`)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errs, "payload.n")
	s.ok("publish", "acme.orders", "--schemas", dir, "--payload", `{"n":1,"pin":"1234"}`)
	out := s.ok("tail", "acme.orders", "--schemas", dir)
	require.Contains(t, out, `"pin":"***"`)
	out = s.ok("publish", "acme.orders", "--schemas", dir, "--payload", `{"n":1,"pin":"1234","password":"hunter2"}`, "--key", "k-1", "--dry-run")
	require.Contains(t, out, `"key":"k-1"`)
	require.NotContains(t, out, "1234")
	require.NotContains(t, out, "hunter2", "the schema does not say that it is secret, its name does")
	r = s.run("publish", "acme.*", "--payload", `{}`)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errs, "is a pattern: expected the name of one topic")
}

// Hostile values move no cursor, and secrets in what is no JSON stay hidden.
func TestHostileValues(t *testing.T) {
	s := newSite(t)
	producer, err := kgo.NewClient(s.bus.ClientOptions()...)
	require.NoError(t, err)
	defer producer.Close()
	for _, value := range []string{
		`{"password":"hunter2","password":"hunter3"}`, `{"password":"hunter4"`, "{\"a\":\"\u009b2J\u202eevil\"}", "\x1b[2J", `"` + strings.Repeat("x", 100_000) + `"`,
	} {
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: "dreamscape.user.created", Key: []byte("\x1b]0;x\a"), Value: []byte(value)}).FirstErr())
	}
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: "dreamscape.user.created", Key: []byte("k")}).FirstErr())
	for _, args := range [][]string{{"tail"}, {"tail", "-o", "json"}} {
		out := s.ok(args...)
		require.Equal(t, 6, strings.Count(out, "\n"))
		require.NotContains(t, out, "hunter")
		require.False(t, strings.ContainsFunc(strings.ReplaceAll(out, "\n", ""), moves), "%q", out)
	}
}

// What cannot be printed is an error, not silence.
func TestAFullDisk(t *testing.T) {
	s := newSite(t)
	s.publish("c", "ada")
	t.Setenv("KAFKA_BROKERS", s.brokers)
	for _, args := range [][]string{{"topics"}, {"tail"}, {"tail", "-o", "json"}, {"groups"}, {"schema", "check"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skipf("no /dev/full here: %v", err)
		}
		var errs bytes.Buffer
		code := run(t.Context(), args, streams{in: strings.NewReader(""), out: full, errs: &errs})
		require.NoError(t, full.Close())
		require.Equal(t, exitFailed, code, "%v", args)
		require.Contains(t, errs.String(), "could not be printed", "%v", args)
	}
}

// Ctrl-C ends a command that waits for its input.
func TestCtrlCWhileReading(t *testing.T) {
	s := newSite(t)
	t.Setenv("KAFKA_BROKERS", s.brokers)
	for _, args := range [][]string{{"publish", "dreamscape.user.created", "--file", "-"}, {"schema", "check", "--events", "-"}} {
		in, writer, err := os.Pipe()
		require.NoError(t, err)
		ctx, interrupt := context.WithTimeout(t.Context(), 300*time.Millisecond)
		var out lockedBuffer
		require.Equal(t, exitInterrupted, run(ctx, args, streams{in: in, out: &out, errs: &out}), "%v: %s", args, out.String())
		interrupt()
		require.NoError(t, errors.Join(writer.Close(), in.Close()))
	}
}

// A terminal of 40 columns gets lines of 40 columns, without a colour that is left on.
func TestANarrowTerminal(t *testing.T) {
	s := newSite(t)
	s.welcome(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("a long error that says a lot about what went wrong and even more than that"))
	})
	s.publish("c-1", "ada", strings.Repeat("long", 30), "esc\x1b[2Jape")
	s.until("dead-lettered", func() bool { return s.bus.Metrics().DeadLettered == 3 })
	codes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for _, args := range [][]string{
		{"topics"}, {"tail"}, {"trail", "c-1"}, {"groups"}, {"lag", "--all"}, {"dlq", "ls"}, {"dlq", "groups", letters}, {"dlq", "show", letters}, {"doctor"},
	} {
		r := s.runWith("", 40, args...)
		require.Equal(t, exitDone, r.code, r.errs)
		require.NotEmpty(t, r.out)
		for line := range strings.SplitSeq(r.out, "\n") {
			plain := codes.ReplaceAllString(line, "")
			assert.LessOrEqual(t, utf8.RuneCountInString(plain), 40, "%v: %q", args, plain)
			assert.NotContains(t, plain, "\x1b", "%v", args)
			if found := codes.FindAllString(line, -1); len(found) > 0 {
				assert.Equal(t, "\x1b[0m", found[len(found)-1], "%v: %q", args, line)
			}
		}
	}
}

func TestWhatIsWrongIsSaidInASentence(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"topics", "--brokers", "127.0.0.1:1"}, exitUnreachable, "127.0.0.1:1"},
		{[]string{"topics", "--brokers", "127.0.0.1:1"}, exitUnreachable, "check --brokers or KAFKA_BROKERS"},
		{[]string{"topics", "--brokers", "nonsense"}, exitUsage, "KAFKA_BROKERS"},
		{[]string{"topics", "no.such"}, exitFailed, "topic no.such: there is no such topic; `eventbus topics` lists those that are there"},
		{[]string{"tail", "no.such"}, exitFailed, "there is no such topic"},
		{[]string{"tail", "-f", "payload.amount"}, exitUsage, "expected FIELD OPERATOR VALUE, such as payload.amount>100"},
		{[]string{"tail", "-f", "payload.a~("}, exitUsage, "not a regular expression"},
		{[]string{"tail", "--type", "[a"}, exitUsage, "not a name or a pattern"},
		{[]string{"tail", "--since", "yesterday"}, exitUsage, "is no time: expected an age such as 90m"},
		{[]string{"tail", "-o", "xml"}, exitUsage, "-o: expected text or json"},
		{[]string{"tail", "--lst", "3"}, exitUsage, "unknown flag: --lst; `eventbus tail --help` lists the flags"},
		{[]string{"tial"}, exitUsage, `eventbus has no command "tial"; ` + "`eventbus --help` lists them"},
		{[]string{"trail"}, exitUsage, "usage: eventbus trail CORRELATION"},
		{[]string{"topics", "--color", "pink"}, exitUsage, "--color: expected auto, always or never"},
		{[]string{"topics", "--schemas", "/nowhere"}, exitUsage, "--schemas: no file"},
		{[]string{"dlq", "purge", "x"}, exitUsage, "at least one of the flags"},
		{[]string{"completion", "foo"}, exitUsage, "foo"},
		{[]string{"lag", "--watch", "--max", "1"}, exitUsage, "watch"},
		{[]string{"lag", "--interval", "1ms"}, exitUsage, "--interval: expected 100ms or more"},
		{[]string{"dev", "--port", "1", "--dir", "/proc/nowhere"}, exitUsage, "/proc/nowhere"},
		{[]string{"console", "--listen", "nowhere:at:all"}, exitUsage, "console: listen tcp"},
	} {
		began := time.Now()
		r := s.run(c.args...)
		assert.Equal(t, c.code, r.code, "%v: %s", c.args, r.errs)
		assert.Contains(t, r.errs, c.says, "%v", c.args)
		assert.Equal(t, 1, strings.Count(r.errs, "\n"), "%v: one sentence: %q", c.args, r.errs)
		assert.Empty(t, r.out, "%v", c.args)
		assert.Less(t, time.Since(began), 10*time.Second, "%v", c.args)
	}
}

// A login that is refused is named, with what to look at, and without the password.
func TestAWrongPasswordIsNamed(t *testing.T) {
	newSite(t)
	broker, err := embedded.Start(embedded.Options{Kfake: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "ops", "right")}})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	t.Setenv("KAFKA_BROKERS", strings.Join(broker.Brokers(), ","))
	t.Setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
	t.Setenv("KAFKA_SASL_USERNAME", "ops")
	t.Setenv("KAFKA_SASL_PASSWORD", "right")
	require.Zero(t, command(t.Context(), "", 0, "topics").code)
	t.Setenv("KAFKA_SASL_PASSWORD", "hunter2")
	r := command(t.Context(), "", 0, "topics")
	require.Equal(t, exitUnreachable, r.code)
	require.Contains(t, r.errs, "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")
	require.Equal(t, 1, strings.Count(r.errs, "\n"), r.errs)
	require.NotContains(t, r.errs, "hunter2")
	broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1, TopLevel: true}) // as Kafka says it
	r = command(t.Context(), "", 0, "topics")
	require.Equal(t, exitUnreachable, r.code)
	require.Contains(t, r.errs, "SASL_AUTHENTICATION_FAILED")
	for _, name := range []string{"KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"} {
		require.NoError(t, os.Unsetenv(name))
	}
	r = command(t.Context(), "", 0, "topics")
	require.Equal(t, exitUnreachable, r.code, r.errs)
}

// Ctrl-C in the middle of long work: it says what was done, and takes its bar away.
func TestCtrlCInTheMiddleOfARedrive(t *testing.T) {
	s := newSite(t)
	s.welcome(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("no"))
	})
	users := make([]string, 60)
	for i := range users {
		users[i] = "u" + strconv.Itoa(i)
	}
	s.publish("c", users...)
	s.until("dead-lettered", func() bool { return s.bus.Metrics().DeadLettered == 60 })
	t.Setenv("KAFKA_BROKERS", s.brokers)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"dlq", "redrive", letters, "--yes", "--rate", "10"}, streams{in: strings.NewReader(""), out: &out, errs: &errs, width: 80})
	}()
	s.until("on its way", func() bool { return strings.Contains(errs.String(), "sending") })
	interrupt()
	require.Equal(t, exitInterrupted, <-ended)
	require.Regexp(t, `\n\d+ of 60 sent, then it was stopped; the same call goes on from there\n$`, out.String())
	require.True(t, strings.HasSuffix(errs.String(), "\r\x1b[Keventbus: interrupted\n"), "%q", errs.String())
}

func TestCompletionAndManPages(t *testing.T) {
	s := newSite(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, s.ok("completion", shell), "eventbus")
	}
	r := s.run("__complete", "tail", "dreamscape.user.cr")
	require.Contains(t, r.out, "dreamscape.user.created\n")
	dir := t.TempDir()
	require.Regexp(t, `^\d+ pages in `, s.ok("man", dir))
	root, err := os.ReadFile(filepath.Join(dir, "eventbus.1"))
	require.NoError(t, err)
	require.Contains(t, string(root), "interrupted by Ctrl-C")
	page, err := os.ReadFile(filepath.Join(dir, "eventbus-dlq-redrive.1"))
	require.NoError(t, err)
	require.Contains(t, string(page), "retry topic")
	require.Equal(t, exitUsage, s.run("man", "/proc/nowhere").code)
	require.Contains(t, s.ok("help", "exit-codes"), "130")
}

func TestDevServesBrokerAndConsole(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	for _, name := range []string{"ada", "bob"} { // the second finds what the first has left
		ctx, interrupt := context.WithCancel(t.Context())
		var out, errs lockedBuffer
		ended := make(chan int, 1)
		go func() {
			ended <- run(ctx, []string{"dev", "--port", "0", "--dir", dir, "--console", "127.0.0.1:0"}, streams{in: strings.NewReader(""), out: &out, errs: &errs})
		}()
		s.until("started", func() bool { return strings.Contains(out.String(), "Ctrl-C") })
		found := regexp.MustCompile(`broker:  (\S+), kept in .*\nconsole: http://(\S+)/`).FindStringSubmatch(out.String())
		require.NotNil(t, found, out.String())
		conn, err := net.Dial("tcp", found[2])
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		r := command(t.Context(), "", 0, "publish", "--brokers", found[1], "dreamscape.user.created", "--payload", `{"userId":"`+name+`","email":"a@example.com"}`)
		require.Equal(t, exitDone, r.code, r.errs)
		r = command(t.Context(), "", 0, "tail", "--brokers", found[1], "dreamscape.user.created")
		require.Contains(t, r.out, "key=ada")
		require.Contains(t, r.out, "key="+name)
		interrupt()
		require.Equal(t, exitInterrupted, <-ended, errs.String())
		require.Equal(t, "eventbus: interrupted\n", errs.String())
	}
}
