package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMain is the program itself where a test started it so.
func TestMain(m *testing.M) {
	if os.Getenv("EVENTBUS_TEST_BROKER") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// broker starts the program with args.
func broker(t *testing.T, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel) // kills what still runs
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "EVENTBUS_TEST_BROKER=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

func TestProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs SIGTERM")
	}
	cmd, out := broker(t, "-port", "0", "-prefix", "staging.")
	require.True(t, out.Scan())
	address, printed := strings.CutPrefix(out.Text(), "KAFKA_BROKERS=")
	require.True(t, printed, "a line to eval: %s", out.Text())

	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic("staging.dreamscape.user.created"))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, client.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(), "it has DreamScape's topics")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "it ends by itself, with 0")
}

// Nothing that was acknowledged is lost when the program is killed, however often: records, groups' offsets, topics. A client that
// outlives it goes on.
func TestProgramKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dir, port := t.TempDir(), "0"
	var outlives *kgo.Client
	var acknowledged []string
	for life := range int64(3) { // a life adds ten records and commits behind them
		cmd, out := broker(t, "-dir", dir, "-partitions", "1", "-port", port)
		require.True(t, out.Scan())
		address := strings.TrimPrefix(out.Text(), "KAFKA_BROKERS=")
		_, port, _ = net.SplitHostPort(address)
		if outlives == nil {
			outlives = client(t, address)
		}
		fresh := client(t, address)
		require.Equal(t, acknowledged, kept(ctx, t, address, len(acknowledged)), "life %d", life)
		admin := kadm.NewClient(fresh)
		if life > 0 {
			offsets, err := admin.FetchOffsets(ctx, "group")
			require.NoError(t, err)
			at, _ := offsets.Lookup(topic, 0)
			require.Equal(t, []any{life * 10, fmt.Sprint("committed in life ", life-1)}, []any{at.At, at.Metadata})
		}

		for i := range 10 {
			value := fmt.Sprintf("%d-%d", life, i)
			require.NoError(t, []*kgo.Client{fresh, outlives}[i%2].ProduceSync(ctx, kgo.StringRecord(value)).FirstErr())
			acknowledged = append(acknowledged, value)
		}
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: topic, At: life*10 + 10, Metadata: fmt.Sprint("committed in life ", life)})
		require.NoError(t, admin.CommitAllOffsets(ctx, "group", offsets))
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		fresh.Close()
	}
}

const topic = "dreamscape.user.created"

func client(t *testing.T, address string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	quick := kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond })
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address), kgo.DefaultProduceTopic(topic), kgo.MetadataMinAge(50*time.Millisecond), quick)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// kept reads n values of the topic from its beginning.
func kept(ctx context.Context, t *testing.T, address string, n int) []string {
	t.Helper()
	c := client(t, address, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	var values []string
	for len(values) < n && ctx.Err() == nil {
		for _, r := range c.PollRecords(ctx, 0).Records() {
			values = append(values, string(r.Value))
		}
	}
	return values
}

func TestProgramNamesAFolderInUse(t *testing.T) {
	dir := t.TempDir()
	_, out := broker(t, "-dir", dir, "-port", "0")
	require.True(t, out.Scan())
	cmd := exec.Command(os.Args[0], "-dir", dir, "-port", "0")
	cmd.Env = append(os.Environ(), "EVENTBUS_TEST_BROKER=1")
	text, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "Options.Dir: "+dir+": another broker uses it")
}

func TestProgramNamesATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command(os.Args[0], "-port", port)
	cmd.Env = append(os.Environ(), "EVENTBUS_TEST_BROKER=1")
	text, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "Options.Port 127.0.0.1:"+port)
}
