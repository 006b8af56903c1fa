package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
