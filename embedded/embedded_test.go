package embedded_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

// topics asks a broker, as any client does, for its topics and their partitions.
func topics(t *testing.T, brokers []string) map[string]int {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	details, err := kadm.NewClient(client).ListTopics(ctx)
	require.NoError(t, err)
	found := map[string]int{}
	for name, d := range details {
		found[name] = len(d.Partitions)
	}
	return found
}

func catalogue(prefix string, partitions int) map[string]int {
	all := map[string]int{}
	for _, t := range eventbus.Catalogue() {
		all[prefix+t.Name()] = partitions
	}
	return all
}

func TestTopicsFromTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		opts embedded.Options
		want map[string]int
	}{
		"the zero value":   {embedded.Options{}, catalogue("", 3)},
		"a prefix":         {embedded.Options{TopicPrefix: "staging."}, catalogue("staging.", 3)},
		"partitions":       {embedded.Options{Partitions: 5}, catalogue("", 5)},
		"topics by name":   {embedded.Options{Topics: []string{"acme.orders"}, TopicPrefix: "staging."}, map[string]int{"acme.orders": 3}},
		"no topics at all": {embedded.Options{Topics: []string{}}, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			broker, err := embedded.Start(test.opts)
			require.NoError(t, err)
			defer broker.Close()
			require.Equal(t, test.want, topics(t, broker.Brokers()))
		})
	}
}

func TestStartNamesTheBadOption(t *testing.T) {
	taken := takenPort(t)
	for name, test := range map[string]struct {
		opts embedded.Options
		want string
	}{
		"port below":    {embedded.Options{Port: -1}, "Options.Port: -1"},
		"port above":    {embedded.Options{Port: 65536}, "Options.Port: 65536"},
		"partitions":    {embedded.Options{Partitions: -1}, "Options.Partitions: -1"},
		"too many":      {embedded.Options{Partitions: math.MaxInt32 + 1}, "Options.Partitions: 2147483648"},
		"a port in use": {embedded.Options{Port: taken}, fmt.Sprintf("Options.Port 127.0.0.1:%d", taken)},
	} {
		t.Run(name, func(t *testing.T) {
			broker, err := embedded.Start(test.opts)
			require.ErrorContains(t, err, test.want)
			require.Nil(t, broker)
		})
	}
}

func takenPort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	broker, err := embedded.Start(embedded.Options{Port: port})
	require.NoError(t, err)
	defer broker.Close()
	require.Equal(t, []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, broker.Brokers())
}

func TestBrokersAreApart(t *testing.T) {
	one, err := embedded.Start(embedded.Options{Topics: []string{"one"}})
	require.NoError(t, err)
	defer one.Close()
	two, err := embedded.Start(embedded.Options{Topics: []string{"two"}})
	require.NoError(t, err)
	defer two.Close()
	require.NotEqual(t, one.Brokers(), two.Brokers())
	require.Contains(t, topics(t, one.Brokers()), "one")
	require.NotContains(t, topics(t, one.Brokers()), "two")
}

func TestKfakeOptionsComeLast(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{Topics: []string{}, Kfake: []kfake.Opt{kfake.Ports(0, 0, 0), kfake.SeedTopics(7, "acme.orders")}})
	require.NoError(t, err)
	defer broker.Close()
	require.Len(t, broker.Brokers(), 3)
	require.Equal(t, 7, topics(t, broker.Brokers())["acme.orders"])
	require.NotNil(t, broker.Cluster().TopicInfo("acme.orders"))
}

func TestCloseEndsTheBroker(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{})
	require.NoError(t, err)
	at := broker.Brokers()[0]
	broker.Close()
	_, err = net.DialTimeout("tcp", at, time.Second)
	require.Error(t, err)
}

// What the package says it speaks: groups and transactions included.
func TestGroupsAndTransactions(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{Topics: []string{"acme.orders"}, Partitions: 1})
	require.NoError(t, err)
	defer broker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	writer, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("acme.orders"))
	require.NoError(t, err)
	defer writer.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		require.NoError(t, writer.BeginTransaction())
		require.NoError(t, writer.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(bool(end)))).FirstErr())
		require.NoError(t, writer.EndTransaction(ctx, end))
	}

	reader, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("acme.orders"),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.NoError(t, err)
	defer reader.Close()
	var values []string
	for _, r := range reader.PollFetches(ctx).Records() {
		values = append(values, string(r.Value))
	}
	require.Equal(t, []string{"true"}, values, "what was aborted is not read")
	require.NoError(t, reader.CommitUncommittedOffsets(ctx))
	offsets, err := kadm.NewClient(reader).FetchOffsets(ctx, "g")
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(offsets.Sorted(), func(o kadm.OffsetResponse) bool { return o.At > 0 }))
}
