package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

// message is a server-sent event.
type message struct{ name, id, data string }

// watch reads a stream until the test ends.
func watch(t *testing.T, s *site, query string, header http.Header) <-chan message {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/ops/stream?"+query, nil)
	require.NoError(t, err)
	for name, values := range header {
		r.Header[name] = values
	}
	answer, err := s.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.Equal(t, "no", answer.Header.Get("X-Accel-Buffering"))
	messages := make(chan message, 1000)
	go func() {
		defer close(messages)
		defer func() { _ = answer.Body.Close() }()
		var m message
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "event":
				m.name = value
			case "id":
				m.id = value
			case "data":
				m.data += value + "\n"
			case "":
				if m.name != "" {
					messages <- m
				}
				m = message{}
			}
		}
	}()
	return messages
}

// readStream reads until n events of rows, or of trouble, have come.
func readStream(t *testing.T, s *site, query string, n int) (text string) {
	t.Helper()
	for messages := watch(t, s, query, nil); n > 0; {
		m := next(t, messages, "", "")
		if text += m.data; m.name == "rows" || m.name == "trouble" {
			n--
		}
	}
	return text
}

// next is the next message of a name that has a text.
func next(t *testing.T, messages <-chan message, name, text string) message {
	t.Helper()
	for {
		select {
		case m, ok := <-messages:
			require.True(t, ok, "the stream ended")
			if (m.name == name || name == "") && strings.Contains(m.data, text) {
				return m
			}
		case <-time.After(time.Minute):
			require.Fail(t, "nothing came", "%s: %s", name, text)
		}
	}
}

// nextOfAll reads until a message of each name with its text has come, in any order.
func nextOfAll(t *testing.T, messages <-chan message, texts map[string]string) {
	t.Helper()
	for len(texts) > 0 {
		m := next(t, messages, "", "")
		if text, wanted := texts[m.name]; wanted && strings.Contains(m.data, text) {
			delete(texts, m.name)
		}
	}
}

func TestTheStreamIsLive(t *testing.T) {
	b := bustest.New(t)
	s := open(t, b.Bus, nil)
	messages := watch(t, s, "", nil)
	next(t, messages, "health", "healthy")
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "live-1"), "user-service", "ada")
	row := next(t, messages, "rows", "live-1")
	assert.Contains(t, row.data, `<tr id="e:dreamscape.user.created:`)
	publish(t, b, t.Context(), "user-service", "bob")
	flow := next(t, messages, "flow", "user-service")
	assert.Contains(t, flow.data, `{"kind":"publish","from":"user-service","to":"dreamscape.user.created","n":1}`)
	next(t, messages, "map", `data-from="user-service"`)

	b.Start(eventbus.Subscription{Group: "late", Routes: []eventbus.Route{eventbus.UserCreated.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }, nil)}})
	nextOfAll(t, messages, map[string]string{"groups": "late", "map": `data-to="late"`})
	stop := make(chan struct{})
	defer close(stop)
	go func() { // what a group commits moves too
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_ = b.Publish(context.Background(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: fmt.Sprint(i), Email: "u@example.com"}))
			}
		}
	}()
	next(t, messages, "flow", `{"kind":"consume","from":"dreamscape.user.created","to":"late"`)
}

func TestAStreamIsFiltered(t *testing.T) {
	b := bustest.New(t)
	s := open(t, b.Bus, nil)
	messages := watch(t, s, "correlation=mine&topic=dreamscape.user.*", nil)
	for i := range 10 {
		publish(t, b, eventbus.WithCorrelationID(t.Context(), "other"), "user-service", fmt.Sprint("o", i))
	}
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "mine"), "user-service", "ada")
	rows := next(t, messages, "rows", "")
	assert.NotContains(t, rows.data, "other")
	assert.Contains(t, rows.data, "mine")
}

// A browser that connects again gives the last id that it has seen, and gets what came since.
func TestAStreamGoesOnWhereItBroke(t *testing.T) {
	b := bustest.New(t)
	s := open(t, b.Bus, nil)
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "before"), "user-service", "ada")
	first := next(t, watch(t, s, "", nil), "rows", "before")
	require.NotEmpty(t, first.id)
	publish(t, b, eventbus.WithCorrelationID(t.Context(), "meanwhile"), "user-service", "bob")
	again := next(t, watch(t, s, "", http.Header{"Last-Event-Id": {first.id}}), "rows", "")
	assert.Contains(t, again.data, "meanwhile")
	assert.NotContains(t, again.data, "before")
	foreign := next(t, watch(t, s, "", http.Header{"Last-Event-Id": {"elsewhere-99"}}), "rows", "before")
	assert.Contains(t, foreign.data, "meanwhile")
}

func TestClosingEndsStreams(t *testing.T) {
	s := open(t, bustest.New(t).Bus, nil)
	messages := watch(t, s, "", nil)
	next(t, messages, "health", "")
	s.page.Close()
	until(t, "it ends", func() bool {
		select {
		case _, more := <-messages:
			return !more
		default:
			return false
		}
	})
}

// What no watcher takes is counted and forgotten: neither the reading nor memory waits for it.
func TestWatchersThatDoNotReadHoldUpNothing(t *testing.T) {
	const n = 20_000
	b := bustest.New(t)
	s := open(t, b.Bus, nil)
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/ops/stream", nil)
		require.NoError(t, err)
		answer, err := s.Client().Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { _ = answer.Body.Close() }) // which nobody reads
	}
	reader := watch(t, s, "", nil)
	next(t, reader, "health", "")
	before := heap()
	published := make(chan error, n)
	for i := range n {
		b.PublishAsync(t.Context(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: fmt.Sprint("u", i), Email: "u@example.com"}), func(err error) { published <- err })
	}
	for range n {
		require.NoError(t, <-published)
	}
	var flowed, shown, skipped int64
	for flowed < n {
		m := next(t, reader, "", "")
		switch m.name {
		case "flow":
			var f struct{ Total int64 }
			require.NoError(t, json.Unmarshal([]byte(m.data), &f))
			flowed += f.Total
		case "rows":
			shown += int64(strings.Count(m.data, "<tr id="))
			skipped += skippedIn(t, m.data)
		}
	}
	assert.EqualValues(t, n, flowed, "each event is counted once")
	for shown+skipped < n {
		m := next(t, reader, "rows", "")
		shown, skipped = shown+int64(strings.Count(m.data, "<tr id=")), skipped+skippedIn(t, m.data)
	}
	assert.EqualValues(t, n, shown+skipped)
	assert.Positive(t, skipped)
	assert.Less(t, heap(), before+64<<20)
}

func skippedIn(t *testing.T, rows string) int64 {
	t.Helper()
	_, behind, found := strings.Cut(rows, `<td colspan="5">`)
	if !found {
		return 0
	}
	digits, _, _ := strings.Cut(behind, " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(digits, ",", ""), 10, 64)
	require.NoError(t, err)
	return n
}

// heap is what is in use; the broker of the test keeps its records in it too.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestOnlySoManyWatch(t *testing.T) {
	s := open(t, bustest.New(t).Bus, nil)
	for range 64 {
		watch(t, s, "", nil)
	}
	status, body := s.get("stream")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, body, "64 browsers watch already")
}

// deadlines is a ResponseWriter of a connection on which a deadline ends more than a write, as on HTTP/2.
type deadlines struct {
	http.ResponseWriter
	last    chan time.Time
	flushed chan struct{}
}

func (d *deadlines) SetWriteDeadline(at time.Time) error { d.last <- at; return nil }

func (d *deadlines) Flush() { d.flushed <- struct{}{} }

func TestADeadlineIsOfOneWrite(t *testing.T) {
	b := bustest.New(t)
	page, err := console.New(b.Bus, nil)
	require.NoError(t, err)
	defer page.Close()
	d := &deadlines{httptest.NewRecorder(), make(chan time.Time), make(chan struct{})}
	go page.ServeHTTP(d, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/stream", http.NoBody))
	assert.WithinDuration(t, time.Now(), <-d.last, time.Minute)
	<-d.flushed
	assert.Zero(t, <-d.last)
	go func() { // the rest, until it is closed
		for {
			select {
			case <-d.last:
			case <-d.flushed:
			case <-t.Context().Done():
				return
			}
		}
	}()
}
