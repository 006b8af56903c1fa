package embedded_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/embedded"
)

func start(t *testing.T, opts embedded.Options) *embedded.Broker {
	t.Helper()
	broker, err := embedded.Start(opts)
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	return broker
}

func client(t *testing.T, b *embedded.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	quick := kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond })
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Brokers()...), kgo.MetadataMinAge(50*time.Millisecond), quick)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func produce(t *testing.T, c *kgo.Client, values ...string) {
	t.Helper()
	for _, v := range values {
		require.NoError(t, c.ProduceSync(soon(t), kgo.StringRecord(v)).FirstErr())
	}
}

// values reads n committed values of a topic from its beginning.
func values(t *testing.T, b *embedded.Broker, topic string, n int) []string {
	t.Helper()
	c := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer c.Close()
	var found []string
	for ctx := soon(t); len(found) < n && ctx.Err() == nil; {
		for _, r := range c.PollFetches(ctx).Records() {
			found = append(found, string(r.Value))
		}
	}
	return found
}

func TestAFolderKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by it")
	first := start(t, embedded.Options{Dir: dir, Topics: []string{"acme.orders"}, Partitions: 1})
	orders := kgo.DefaultProduceTopic("acme.orders")
	plain, tx := client(t, first, orders), client(t, first, orders, kgo.TransactionalID("t"))
	admin := kadm.NewClient(plain)
	_, err := admin.CreateTopics(soon(t), 2, 1, map[string]*string{"retention.ms": kadm.StringPtr("86400000")}, "acme.later")
	require.NoError(t, err)
	produce(t, plain, "one", "two")
	for value, end := range map[string]kgo.TransactionEndTry{"aborted": kgo.TryAbort, "committed": kgo.TryCommit} {
		require.NoError(t, tx.BeginTransaction())
		produce(t, tx, value)
		require.NoError(t, tx.EndTransaction(soon(t), end))
	}
	var committed kadm.Offsets
	committed.Add(kadm.Offset{Topic: "acme.orders", Partition: 0, At: 2, Metadata: "ahead: 7, 9"})
	require.NoError(t, admin.CommitAllOffsets(soon(t), "group", committed))
	plain.Close()
	tx.Close()
	first.Close()

	second := start(t, embedded.Options{Dir: dir, Topics: []string{"acme.orders", "acme.added"}, Partitions: 5})
	require.Equal(t, map[string]int{"acme.orders": 1, "acme.later": 2, "acme.added": 5}, topics(t, second.Brokers()), "partitions are for new topics")
	require.ElementsMatch(t, []string{"one", "two", "committed"}, values(t, second, "acme.orders", 3))
	admin = kadm.NewClient(client(t, second))
	offsets, err := admin.FetchOffsets(soon(t), "group")
	require.NoError(t, err)
	at, _ := offsets.Lookup("acme.orders", 0)
	require.EqualValues(t, 2, at.At)
	require.Equal(t, "ahead: 7, 9", at.Metadata)
	configs, err := admin.DescribeTopicConfigs(soon(t), "acme.later")
	require.NoError(t, err)
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" {
			require.Equal(t, "86400000", c.MaybeValue())
		}
	}
}

// A producer that outlives the broker goes on with its sequence of batches.
func TestAProducerOutlivesTheBroker(t *testing.T) {
	dir := t.TempDir()
	broker := start(t, embedded.Options{Dir: dir, Topics: []string{"acme.orders"}, Partitions: 1})
	port := portOf(t, broker)
	producer := client(t, broker, kgo.DefaultProduceTopic("acme.orders"))
	produce(t, producer, "1", "2")
	broker.Close()
	broker = start(t, embedded.Options{Dir: dir, Port: port})
	produce(t, producer, "3")
	require.Equal(t, []string{"1", "2", "3"}, values(t, broker, "acme.orders", 3))
}

// Another port and more or fewer brokers change nothing of what is kept.
func TestAFolderIsIndependentOfTheBrokers(t *testing.T) {
	dir := t.TempDir()
	for i, brokers := range []int{3, 1, 2} {
		ports := kfake.Ports(make([]int, brokers)...)
		broker := start(t, embedded.Options{Dir: dir, Topics: []string{"acme.orders"}, Partitions: 4, Kfake: []kfake.Opt{ports}})
		require.Len(t, broker.Brokers(), brokers)
		require.Len(t, values(t, broker, "acme.orders", i), i)
		producer := client(t, broker, kgo.DefaultProduceTopic("acme.orders"))
		produce(t, producer, "x")
		producer.Close()
		broker.Close()
	}
}

func TestAFolderIsOneBrokers(t *testing.T) {
	dir := t.TempDir()
	first := start(t, embedded.Options{Dir: dir})
	_, err := embedded.Start(embedded.Options{Dir: dir})
	require.EqualError(t, err, "embedded: Options.Dir: "+dir+": another broker uses it")
	require.Len(t, topics(t, first.Brokers()), 28, "that one goes on")
	first.Close()
	start(t, embedded.Options{Dir: dir})
}

// It holds payloads.
func TestAFolderIsItsOwners(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such modes there")
	}
	dir := filepath.Join(t.TempDir(), "made")
	start(t, embedded.Options{Dir: dir})
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestAFailedStartGivesTheFolderUp(t *testing.T) {
	dir, port := t.TempDir(), takenPort(t)
	_, err := embedded.Start(embedded.Options{Dir: dir, Port: port})
	require.ErrorContains(t, err, "Options.Port 127.0.0.1:")
	start(t, embedded.Options{Dir: dir})
}

func TestAFolderThatCannotBeUsedIsNamed(t *testing.T) {
	used := t.TempDir()
	start(t, embedded.Options{Dir: used, Topics: []string{"acme.orders"}}).Close()
	for name, test := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string
	}{
		"a file":            {func(t *testing.T, dir string) { require.NoError(t, os.Remove(dir)); write(t, dir, "x") }, "not a directory"},
		"of something else": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "letter.txt"), "x") }, "such as letter.txt, and no meta.json"},
		"without its beginning": {func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(used)))
			require.NoError(t, os.Remove(filepath.Join(dir, "meta.json")))
		}, "no meta.json: it is not a broker's folder, or is damaged"},
		"damaged": {func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(used)))
			write(t, filepath.Join(dir, "topics.json"), "{")
		}, "topics.json"},
		"of a newer version": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "meta.json"), `{"version": 99}`) }, "newer than supported"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.prepare(t, dir)
			_, err := embedded.Start(embedded.Options{Dir: dir})
			require.ErrorContains(t, err, "embedded: Options.Dir")
			require.ErrorContains(t, err, dir)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// A first start that was killed before it wrote anything leaves the lock, or half a file beside it.
func TestAFolderOfAStartThatDidNotGetFar(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "eventbus.lock"), "")
	write(t, filepath.Join(dir, "meta.json.tmp"), "{")
	start(t, embedded.Options{Dir: dir})
}

// What cannot be written is refused, and the log says why: the answer cannot.
func TestWhatCannotBeWrittenIsNotAcknowledged(t *testing.T) {
	dir, told := t.TempDir(), &lines{}
	broker := start(t, embedded.Options{Dir: dir, Topics: []string{"acme.orders"}, Partitions: 1, Logger: slog.New(slog.NewTextHandler(told, nil))})
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "partitions")))
	write(t, filepath.Join(dir, "partitions"), "a file where a folder has to be")
	producer := client(t, broker, kgo.DefaultProduceTopic("acme.orders"))
	require.ErrorIs(t, producer.ProduceSync(soon(t), kgo.StringRecord("CANARY-4711")).FirstErr(), kerr.UnknownServerError)
	require.Contains(t, told.String(), "persist batch")
	require.NotContains(t, told.String(), "CANARY-4711")
}

// lines is a log; it is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func portOf(t *testing.T, b *embedded.Broker) int {
	t.Helper()
	_, port, err := net.SplitHostPort(b.Brokers()[0])
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return n
}
