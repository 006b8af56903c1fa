package buslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/buslog"
	"github.com/dreamscape/eventbus/bustest"
)

// buffer is one that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSuffix(b.b.String(), "\n"), "\n")
}

// TestReadableIsAHandler has slog's own suite judge it, by what a line says.
func TestReadableIsAHandler(t *testing.T) {
	var out *buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out = &buffer{}
		return buslog.NewHandler(out, &buslog.Options{Format: buslog.FormatReadable})
	}, func(t *testing.T) map[string]any {
		require.Len(t, out.lines(), 1)
		return parsed(t, out.lines()[0])
	})
}

var lineForm = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d{3} )?([A-Z]+)\s+(.*?)((?: [\w.]+=(?:"(?:[^"\\]|\\.)*"|[^" ]*))*)$`)

func parsed(t *testing.T, line string) map[string]any {
	parts := lineForm.FindStringSubmatch(line)
	require.NotNil(t, parts, line)
	all := map[string]any{slog.LevelKey: parts[2], slog.MessageKey: parts[3]}
	if parts[1] != "" {
		all[slog.TimeKey] = parts[1]
	}
	for _, a := range regexp.MustCompile(`([\w.]+)=("(?:[^"\\]|\\.)*"|[^" ]*)`).FindAllStringSubmatch(parts[4], -1) {
		at, path := all, strings.Split(a[1], ".")
		for _, group := range path[:len(path)-1] {
			if at[group] == nil {
				at[group] = map[string]any{}
			}
			at = at[group].(map[string]any)
		}
		value := a[2]
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		at[path[len(path)-1]] = value
	}
	return all
}

func TestALineStaysOneAndSafe(t *testing.T) {
	var out buffer
	log := slog.New(buslog.NewHandler(&out, &buslog.Options{Format: buslog.FormatReadable}))
	log.Info("an \x1b[2J event\nof two lines", "name with = and space", "a\x1b[31mb\nc", "empty", "", "took", 1234567*time.Nanosecond, "long", 83*time.Second)
	require.Len(t, out.lines(), 1)
	require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3} INFO  "an \\x1b\[2J event\\nof two lines" "name with = and space"="a\\x1b\[31mb\\nc" empty="" took=1.23ms long=1m23s$`, out.lines()[0])
}

func TestSecretsAreMasked(t *testing.T) {
	for name, format := range map[string]buslog.Format{"readable": buslog.FormatReadable, "json": buslog.FormatJSON} {
		t.Run(name, func(t *testing.T) {
			var out buffer
			log := slog.New(buslog.NewHandler(&out, &buslog.Options{Format: format}))
			log.With("Authorization", "hush").WithGroup("client_secret").Info("login", "value", "hush")
			log.Info("login", "kafka_password", "hush", "X-Api-Key", "hush", "privateKey", "hush", slog.Group("oauth", "access_token", "hush", "scope", "all"), "config", eventbus.Secret("hush"))
			require.NotContains(t, strings.Join(out.lines(), "\n"), "hush")
			require.Contains(t, out.lines()[1], "all")
		})
	}
}

func TestLevelsAndColors(t *testing.T) {
	var out buffer
	log := slog.New(buslog.NewHandler(&out, &buslog.Options{Format: buslog.FormatReadable, Level: slog.LevelWarn, Color: true}))
	log.Info("not this")
	log.Error("this", "a", 1)
	require.Len(t, out.lines(), 1)
	require.Contains(t, out.lines()[0], "\x1b[31mERROR\x1b[0m this a=1")
}

// What is no terminal gets JSON, also a file.
func TestJSONIsTheDefaultElsewhere(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/log")
	require.NoError(t, err)
	defer file.Close()
	slog.New(buslog.NewHandler(file, nil)).Info("handled", "took", 1500*time.Millisecond)
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	var line struct {
		Msg  string
		Took float64
	}
	require.NoError(t, json.Unmarshal(text, &line))
	require.Equal(t, "handled", line.Msg)
	require.InDelta(t, 1.5, line.Took, 0)
}

func TestALineAnEvent(t *testing.T) {
	var out buffer
	log := slog.New(buslog.NewHandler(&out, &buslog.Options{Format: buslog.FormatReadable}))
	bus := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{
		Logger: log, Hooks: []eventbus.Hooks{buslog.Hooks(log)}, Retry: eventbus.RetryPolicy{Initial: time.Millisecond},
	}})
	bus.Start(eventbus.Subscription{Group: "auth-group", Routes: []eventbus.Route{eventbus.UserCreated.Handle(
		func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			switch {
			case e.Payload.UserID == "u-secret-bad":
				return eventbus.Permanent(errors.New("no"))
			case d.Attempt == 1:
				return errors.New("not yet")
			}
			return nil
		}, nil)}})
	user := func(id string) *eventbus.BaseEvent[eventbus.UserCreatedPayload] {
		return eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: id, Email: "secret@example.com", FirstName: "Ada", LastName: "Lovelace"})
	}
	good, bad := user("u-secret"), user("u-secret-bad")
	good.CorrelationID = "c-1"
	require.NoError(t, bus.Publish(t.Context(), good, bad))
	require.Eventually(t, func() bool { m := bus.Metrics(); return m.MessagesConsumed == 1 && m.DeadLettered == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, bus.Shutdown(t.Context()))
	require.Error(t, bus.Publish(t.Context(), user("u-1")))

	of := func(id string) (messages []string) {
		for _, line := range out.lines() {
			if strings.Contains(line, id) {
				messages = append(messages, parsed(t, line)[slog.MessageKey].(string))
			}
		}
		return messages
	}
	text := strings.Join(out.lines(), "\n")
	require.ElementsMatch(t, []string{"published", "handled"}, of(good.EventID), text)
	require.ElementsMatch(t, []string{"published", "event dead-lettered"}, of(bad.EventID), text)
	require.Contains(t, text, "waits for another try topic=dreamscape.user.created")
	require.Contains(t, text, "WARN  not published topic=dreamscape.user.created")
	require.Contains(t, text, "correlation_id=c-1")
	require.NotContains(t, text, "secret")
}

// withoutTime is a handler whose lines are the same each time.
type withoutTime struct{ slog.Handler }

func (h withoutTime) Handle(ctx context.Context, r slog.Record) error {
	r.Time = time.Time{}
	return h.Handler.Handle(ctx, r)
}
