// Package conformance is the suite that every backend passes: each promise of the bus, tried against a real wire. It knows no
// virtual time and no fake's faults, so that the same tests run on the embedded broker, on a container and on a cluster.
package conformance

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/dreamscape/eventbus"
)

// Backend is a running Kafka, or what speaks its protocol.
type Backend struct {
	Brokers []string
	// Client are further options of every connection, such as a dialer.
	Client []kgo.Opt
	// TLS and SASL are those of the bus, and of the clients beside it. nil: none.
	TLS  *tls.Config
	SASL sasl.Mechanism
}

// Run runs the suite twice: with groups whose members share out (classic), and with groups whose broker does (consumer, KIP-848). Its topics and
// groups have names of their own, so a shared cluster may serve; it does not delete them.
func Run(t *testing.T, b Backend) {
	t.Run("classic", func(t *testing.T) { runBy(t, b, eventbus.ProtocolClassic) })
	t.Run("consumer", func(t *testing.T) { runBy(t, b, eventbus.ProtocolConsumer) })
}

func runBy(t *testing.T, b Backend, protocol eventbus.GroupProtocol) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"PublishIsAcknowledged", publishIsAcknowledged},
		{"BatchOfMixedTopics", batchOfMixedTopics},
		{"PublishAsyncCallsBack", publishAsyncCallsBack},
		{"NothingIsSentOfAnInvalidBatch", nothingIsSentOfAnInvalidBatch},
		{"KeysKeepTheirPartitionAndOrder", keysKeepTheirPartitionAndOrder},
		{"UnknownTopicIsNamed", unknownTopicIsNamed},
		{"PublishingAgainKeepsTheId", publishingAgainKeepsTheID},
		{"EnvelopeOnTheWire", envelopeOnTheWire},
		{"ReadsOlderWriters", readsOlderWriters},
		{"NewGroupStartsAtTheEarliest", newGroupStartsAtTheEarliest},
		{"EveryGroupGetsEveryEvent", everyGroupGetsEveryEvent},
		{"GroupSharesTheWork", groupSharesTheWork},
		{"CommittedEventsDoNotComeAgain", committedEventsDoNotComeAgain},
		{"CorrelationAndCausation", correlationAndCausation},
		{"RetriesInPlaceAndInOrder", retriesInPlaceAndInOrder},
		{"DeadLettersOfEveryClass", deadLettersOfEveryClass},
		{"MissingDeadLetterTopicHoldsTheOffset", missingDeadLetterTopicHoldsTheOffset},
		{"DeadLettersGoBack", deadLettersGoBack},
		{"ParkedKeysOutliveTheirMember", parkedKeysOutliveTheirMember},
		{"HostileRecordsAreDeadLettered", hostileRecordsAreDeadLettered},
		{"ATombstoneIsDeadLettered", aTombstoneIsDeadLettered},
		{"ManyHeadersGoRound", manyHeadersGoRound},
		{"LargeKeysGoRound", largeKeysGoRound},
		{"AKeyTooLargeIsNamed", aKeyTooLargeIsNamed},
		{"ABombStopsNobody", aBombStopsNobody},
		{"ABombAmongDeadLettersStopsNobody", aBombAmongDeadLettersStopsNobody},
		{"ShutdownDrains", shutdownDrains},
		{"ShutdownIsNoFailure", shutdownIsNoFailure},
		{"MemberJoinsAndLeaves", memberJoinsAndLeaves},
		{"KeysOfAPartitionRunAtOnce", keysOfAPartitionRunAtOnce},
		{"ARestartSkipsWhatIsDone", aRestartSkipsWhatIsDone},
		{"StaticMembersKeepTheirPartitions", staticMembersKeepTheirPartitions},
		{"MissingTopicIsNamedAndRecovers", missingTopicIsNamedAndRecovers},
		{"FailFastNamesTheTopic", failFastNamesTheTopic},
		{"TopicMadeAgainIsFollowed", topicMadeAgainIsFollowed},
		{"TopicMadeAgainWhileNobodyRuns", topicMadeAgainWhileNobodyRuns},
		{"PublishersFollowATopicMadeAgain", publishersFollowATopicMadeAgain},
		{"FoldReadsOneKey", foldReadsOneKey},
		{"HealthAndMetrics", healthAndMetrics},
		{"PingRoundTrip", pingRoundTrip},
		{"NamespaceKeepsFleetsApart", namespaceKeepsFleetsApart},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newFixture(t, b, protocol))
		})
	}
}

// order is the payload of the suite's own catalogue, declared from outside the package as any company's is.
type order struct {
	ID     string           `json:"id"`
	Number int              `json:"number"`
	Amount eventbus.Decimal `json:"amount"`
}

const orderSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["id", "number", "amount"],
  "properties": {
    "id": {"type": "string", "minLength": 1},
    "number": {"type": "integer", "minimum": 0},
    "amount": {"type": "number", "minimum": 0}
  }
}`

// fixture is what one test has: topics of its own and a connection beside the bus.
type fixture struct {
	t        *testing.T
	backend  Backend
	run      string
	ctx      context.Context
	placed   *eventbus.Topic[order]
	shipped  *eventbus.Topic[order]
	group    string
	protocol eventbus.GroupProtocol
	client   *kgo.Client
	admin    *kadm.Client
	logged   log // what its buses have logged
	buses    []*eventbus.Bus
	state    func() string // what else there is to know where a wait ends in vain; nil: nothing
}

// patience bounds every wait of the suite; a real cluster on a loaded machine takes its time.
const patience = 60 * time.Second

func newFixture(t *testing.T, b Backend, protocol eventbus.GroupProtocol) *fixture {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	run := uuid.NewString()[:8]
	f := &fixture{t: t, backend: b, run: run, ctx: ctx, group: "conf-" + run + "-group", protocol: protocol}
	f.placed, f.shipped = f.topic("placed"), f.topic("shipped")
	client, err := kgo.NewClient(f.clientOptions()...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	f.client, f.admin = client, kadm.NewClient(client)
	return f
}

func (f *fixture) clientOptions() []kgo.Opt {
	opts := append([]kgo.Opt{kgo.SeedBrokers(f.backend.Brokers...), kgo.MetadataMinAge(100 * time.Millisecond)}, f.backend.Client...)
	if f.backend.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(f.backend.TLS))
	}
	if f.backend.SASL != nil {
		opts = append(opts, kgo.SASL(f.backend.SASL))
	}
	return opts
}

func (f *fixture) topic(name string) *eventbus.Topic[order] {
	return eventbus.NewTopic(fmt.Sprintf("conf-%s.orders.%s", f.run, name), &eventbus.TopicOptions[order]{
		Key:    func(o order) string { return o.ID },
		Schema: []byte(orderSchema),
	})
}

// bus returns a bus that ends with the test; it fails the test where its shutdown gives events up.
func (f *fixture) bus(change func(*eventbus.Config)) *eventbus.Bus {
	cfg := eventbus.Config{
		Service: "conf-service", Brokers: f.backend.Brokers, Client: f.backend.Client, Logger: slog.New(slog.NewTextHandler(&f.logged, nil)),
		NewTopics: eventbus.TopicDefaults{Partitions: 3},
		TLS:       f.backend.TLS, SASL: f.backend.SASL,
		Retry: eventbus.RetryPolicy{Initial: time.Millisecond},
	}
	if change != nil {
		change(&cfg)
	}
	bus, err := eventbus.New(cfg)
	require.NoError(f.t, err)
	f.buses = append(f.buses, bus)
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(f.t, bus.Shutdown(ctx))
	})
	return bus
}

// ready returns a bus whose two topics exist.
func (f *fixture) ready() *eventbus.Bus {
	bus := f.bus(nil)
	require.NoError(f.t, bus.EnsureTopics(f.ctx, f.placed, f.shipped))
	return bus
}

func (f *fixture) order(id string, number int) *eventbus.BaseEvent[order] {
	return f.placed.New(order{ID: id, Number: number, Amount: eventbus.MustDecimal("19.90")})
}

// start runs subscriptions, their topics made first, until stop is called, which waits for the clean drain.
func (f *fixture) start(bus *eventbus.Bus, subs ...eventbus.Subscription) (stop func()) {
	for _, s := range subs {
		require.NoError(f.t, bus.EnsureTopics(f.ctx, s.Topics()...))
	}
	stop, _ = f.startAsIs(bus, subs...)
	require.NoError(f.t, bus.WaitReady(f.ctx))
	return stop
}

// startAsIs runs subscriptions on the topics that there are, and does not wait.
func (f *fixture) startAsIs(bus *eventbus.Bus, subs ...eventbus.Subscription) (stop func(), ended <-chan error) {
	ctx, cancel := context.WithCancel(f.ctx)
	result := make(chan error, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		result <- bus.Run(ctx, subs...)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-over
	})
	f.t.Cleanup(stop)
	return stop, result
}

// subscription handles placed by h.
func (f *fixture) subscription(h eventbus.Handler[order]) eventbus.Subscription {
	return eventbus.Subscription{Group: f.group, Protocol: f.protocol, Routes: []eventbus.Route{f.placed.Handle(h, nil)}}
}

// records reads what a topic holds at this moment, past the bus.
func (f *fixture) records(topic string) []*kgo.Record {
	ends, err := f.admin.ListEndOffsets(f.ctx, topic)
	require.NoError(f.t, err)
	require.NoError(f.t, ends.Error())
	want := 0
	ends.Each(func(o kadm.ListedOffset) { want += int(o.Offset) })
	return f.read(topic, want)
}

// read reads n records of a topic, waiting for them.
func (f *fixture) read(topic string, n int) []*kgo.Record {
	client, err := kgo.NewClient(append(f.clientOptions(), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(f.t, err)
	defer client.Close()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(f.ctx)
		require.NoError(f.t, f.ctx.Err(), "%d of %d records of %s read", len(records), n, topic)
		records = append(records, fetches.Records()...)
	}
	return records
}

// produce writes records past the bus.
func (f *fixture) produce(records ...*kgo.Record) {
	client, err := kgo.NewClient(append(f.clientOptions(), kgo.ProducerBatchMaxBytes(1<<20))...)
	require.NoError(f.t, err)
	defer client.Close()
	require.NoError(f.t, client.ProduceSync(f.ctx, records...).FirstErr())
}

// committed returns the sum of the group's committed offsets of placed.
func (f *fixture) committed() int64 {
	offsets, err := f.admin.FetchOffsets(f.ctx, f.group)
	require.NoError(f.t, err)
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == f.placed.Name() {
			sum += o.At
		}
	})
	return sum
}

// eventually waits for something that another goroutine or the cluster brings about.
func (f *fixture) eventually(what string, condition func() bool) {
	f.t.Helper()
	if assert.Eventually(f.t, condition, patience, 10*time.Millisecond, what) {
		return
	}
	for i, bus := range f.buses {
		state, err := json.Marshal(map[string]any{"health": bus.Health(f.ctx), "metrics": bus.Metrics()})
		f.t.Logf("bus %d: %s, %v", i, state, err)
	}
	f.t.Log(strings.Join(f.logged.all(), ""))
	if f.state != nil {
		f.t.Log(f.state())
	}
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	f.t.Log(stacks.String())
	f.t.FailNow()
}

// log collects what handlers saw; it is safe for concurrent use.
type log struct {
	mu   sync.Mutex
	seen []string
}

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, fmt.Sprintf(format, args...))
}

func (l *log) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.seen...)
}

func (l *log) len() int { return len(l.all()) }

// of returns the entries that start with prefix, without it.
func (l *log) of(prefix string) []string {
	var found []string
	for _, s := range l.all() {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			found = append(found, rest)
		}
	}
	return found
}
