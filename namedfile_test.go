//go:build unix

package eventbus_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/testca"
)

// hang makes path, which may be there, a link to what hangs when it is read, as on a mount that is gone, until the test ends.
func hang(t *testing.T, path string) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	t.Cleanup(func() {
		end, err := os.OpenFile(fifo, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, end.Close())
	})
	_ = os.Remove(path)
	require.NoError(t, os.Symlink(fifo, path))
}

// loginsOf are the ways to log in with a file.
func loginsOf(t *testing.T, file string) map[string]sasl.Mechanism {
	t.Setenv("KAFKA_SASL_USERNAME", "bob")
	t.Setenv("KAFKA_SASL_PASSWORD_FILE", file)
	logins := map[string]sasl.Mechanism{}
	for _, name := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"} {
		if name == "OAUTHBEARER" {
			t.Setenv("KAFKA_SASL_USERNAME", "")
			t.Setenv("KAFKA_SASL_PASSWORD_FILE", "")
			t.Setenv("KAFKA_SASL_TOKEN_FILE", file)
		}
		t.Setenv("KAFKA_SASL_MECHANISM", name)
		cfg, err := eventbus.FromEnv("s")
		require.NoError(t, err)
		logins[name] = cfg.SASL
	}
	return logins
}

// A file that hangs is named in time, holds few threads, and does not outlast the hanging. In real time: a bubble's stands still while a file is read.
func TestAFileThatHangsIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	hang(t, file)
	logins := loginsOf(t, file)
	var all sync.WaitGroup
	for name, login := range logins {
		for range 10 {
			all.Go(func() {
				began := time.Now()
				_, _, err := login.Authenticate(context.Background(), "kafka")
				assert.ErrorContains(t, err, "_FILE: the file cannot be read: context deadline exceeded", name)
				assert.Less(t, time.Since(began), 3*time.Second, name)
			})
		}
	}
	all.Wait()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	reading := strings.Count(string(stacks), ".(*namedFile).finish(")
	require.Positive(t, reading)
	require.LessOrEqual(t, reading, len(logins), "one for each file")

	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(file, []byte("hush"), 0o600))
	for name, login := range logins {
		require.Eventually(t, func() bool {
			_, _, err := login.Authenticate(context.Background(), "kafka")
			return err == nil
		}, 5*time.Second, 10*time.Millisecond, name)
	}
}

func TestACertificateThatHangsIsTheOneBefore(t *testing.T) {
	ca, err := testca.New("CA")
	require.NoError(t, err)
	pair, err := ca.Issue("kafka", time.Now().Add(time.Hour))
	require.NoError(t, err)
	cert, key, err := pair.Write(t.TempDir())
	require.NoError(t, err)
	cfg, err := eventbus.TLSFiles{Cert: cert, Key: key}.Config()
	require.NoError(t, err)
	cfg.RootCAs, cfg.ServerName = ca.Pool(), "localhost"
	hang(t, key)

	server, err := pair.TLS()
	require.NoError(t, err)
	near, far := net.Pipe()
	front := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12})
	var shaken sync.WaitGroup
	began := time.Now()
	shaken.Go(func() { _ = tls.Client(near, cfg).HandshakeContext(context.Background()) })
	require.NoError(t, front.HandshakeContext(context.Background()))
	require.Less(t, time.Since(began), 3*time.Second)
	require.Len(t, front.ConnectionState().PeerCertificates, 1)
	require.NoError(t, near.Close())
	shaken.Wait()

	for _, files := range []eventbus.TLSFiles{{Cert: cert, Key: key}, {CA: key}} {
		began = time.Now()
		_, err = files.Config()
		require.ErrorContains(t, err, "the file cannot be read: context deadline exceeded")
		require.Less(t, time.Since(began), 3*time.Second)
	}
}
