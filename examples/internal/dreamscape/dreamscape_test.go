package dreamscape_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/examples/internal/dreamscape"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/voyage"
)

// quiet takes Kafka's variables out of the environment: every test starts a broker of its own.
func quiet(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "KAFKA_") {
			t.Setenv(name, "")
		}
	}
}

// shared starts a broker that several runs may share.
func shared(t *testing.T) *embedded.Broker {
	quiet(t)
	broker, err := embedded.Start(embedded.Options{})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	t.Setenv("KAFKA_BROKERS", broker.Brokers()[0])
	return broker
}

func TestJourneyIsAsItShouldBe(t *testing.T) {
	quiet(t)
	var out bytes.Buffer
	err := dreamscape.Once(t.Context(), dreamscape.Options{Out: &out})
	require.NoError(t, err, out.String())
	require.Len(t, rows(out.String()), 27)
	require.NotContains(t, out.String(), "✗")
	require.NotContains(t, out.String(), "@example.com")
	require.Contains(t, out.String(), "deadLettered 0")
}

// What others have left on the topics is neither counted nor taken for an event of the journey.
func TestJourneyOnUsedTopicsCountsOnlyItsOwnEvents(t *testing.T) {
	shared(t)
	var first, second bytes.Buffer
	require.NoError(t, dreamscape.Once(t.Context(), dreamscape.Options{Out: &first}), &first)
	require.NoError(t, dreamscape.Once(t.Context(), dreamscape.Options{Out: &second}), &second)
	require.Equal(t, rows(first.String()), rows(second.String()))
}

func TestJourneyFailsWhereARecordIsDeadLettered(t *testing.T) {
	broker := shared(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...))
	require.NoError(t, err)
	defer client.Close()
	garbage := &kgo.Record{Topic: eventbus.TopicUserCreated, Value: []byte("no event")}
	require.NoError(t, client.ProduceSync(t.Context(), garbage).FirstErr())

	err = dreamscape.Once(t.Context(), dreamscape.Options{})
	require.ErrorContains(t, err, "dreamscape.user.created.dlq.dreamscape-auth-service-group has 1")
}

func TestJourneyRefusesToShareItsGroups(t *testing.T) {
	broker := shared(t)
	other, err := service.Start(t.Context(), voyage.App, eventbus.Config{Brokers: broker.Brokers()}, "localhost:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Stop(context.Background())) }()
	require.NoError(t, other.WaitReady(t.Context()))

	err = dreamscape.Once(t.Context(), dreamscape.Options{})
	require.ErrorContains(t, err, "group dreamscape-voyage-service-group has other members")
	require.ErrorContains(t, err, "KAFKA_TOPIC_PREFIX")

	t.Setenv("KAFKA_TOPIC_PREFIX", "mine.")
	require.NoError(t, dreamscape.Once(t.Context(), dreamscape.Options{}))
}

func TestJourneyThatIsInterruptedSaysWhereAndDrains(t *testing.T) {
	quiet(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &watcher{text: "booking confirmed", found: cancel}
	err := dreamscape.Once(ctx, dreamscape.Options{Out: out})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "step 13, she changes the booking")
}

func TestEventLogShowsNeitherPayloadsNorKeys(t *testing.T) {
	quiet(t)
	var out bytes.Buffer
	require.NoError(t, dreamscape.Once(t.Context(), dreamscape.Options{Out: &out, Verbose: true}))
	line := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3} ([a-z]+)-service +→ ([a-z.]+)( +→ [a-z]+-service-group)? +key [0-9a-f]{8}  corr [0-9a-f]{4}…[0-9a-f]{4}$`)
	handled, widths := 0, map[int]bool{}
	for l := range strings.Lines(out.String()) {
		if regexp.MustCompile(`^\d\d:`).MatchString(l) {
			m := line.FindStringSubmatch(l)
			require.NotNil(t, m, l)
			widths[len([]rune(l))] = true
			if m[3] != "" {
				handled++
			}
		}
	}
	require.Len(t, widths, 1, "the columns are aligned")
	require.Contains(t, out.String(), fmt.Sprintf("messagesConsumed %d ", handled))
	require.NotContains(t, out.String(), "@example.com")
}

func TestServeNamesAPortThatIsTaken(t *testing.T) {
	quiet(t)
	if l, err := net.Listen("tcp", ":3004"); err == nil { // else somebody else has it, which does as well
		defer l.Close()
	}
	err := dreamscape.Serve(t.Context(), dreamscape.Options{})
	require.ErrorContains(t, err, "voyage-service: port 3004 is taken")
}

func TestServeRunsUntilItIsToldToStop(t *testing.T) {
	quiet(t)
	for _, addr := range []string{"localhost:3000", ":3001", ":3002", ":3003", ":3004", ":3005"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Skipf("another program has a documented port: %v", err)
		}
		l.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := &watcher{text: "Ctrl-C", found: func() {
		answer, err := http.Get("http://localhost:3000/")
		if assert.NoError(t, err) {
			assert.Equal(t, http.StatusOK, answer.StatusCode)
			assert.NoError(t, answer.Body.Close())
		}
		cancel()
	}}
	require.NoError(t, dreamscape.Serve(ctx, dreamscape.Options{Out: out}))
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

func TestServeNamesTheConsolesPortThatIsTaken(t *testing.T) {
	quiet(t)
	l, err := net.Listen("tcp", "localhost:3000")
	if err != nil {
		t.Skipf("another program has the console's port: %v", err)
	}
	defer l.Close()
	err = dreamscape.Serve(t.Context(), dreamscape.Options{})
	require.ErrorContains(t, err, "3000")
	require.ErrorContains(t, err, "address already in use")
}

// rows are the lines of the printed table that tell of an event, without the saga's.
func rows(out string) []string {
	return regexp.MustCompile(`(?m)^[a-z]+(?:\.[a-z]+)+ +\d+ +\d+ +(?:\d+|·).*$`).FindAllString(out, -1)
}

// watcher calls found when text is written.
type watcher struct {
	text  string
	found func()
	once  sync.Once
}

func (w *watcher) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.once.Do(w.found)
	}
	return len(p), nil
}
