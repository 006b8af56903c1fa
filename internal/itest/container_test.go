package itest_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/conformance"
)

// TestContainer runs the conformance suite on Kafka in a container. Without Docker it is skipped, or it fails if
// EVENTBUS_REQUIRE_DOCKER=1: CI must notice that it did not run. KAFKA_IMAGE names another image.
func TestContainer(t *testing.T) {
	if _, set := os.LookupEnv("TESTCONTAINERS_RYUK_DISABLED"); !set {
		// Ryuk removes what a killed test leaves, but it is an image of its own, and not every machine reaches a registry.
		t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	}
	if err := dockerHealth(t); err != nil {
		if os.Getenv("EVENTBUS_REQUIRE_DOCKER") == "1" {
			t.Fatalf("EVENTBUS_REQUIRE_DOCKER=1, but Docker does not answer: %v", err)
		}
		t.Skipf("Docker does not answer: %v", err)
	}
	conformance.Run(t, conformance.Backend{Brokers: []string{startKafka(t)}})
}

func dockerHealth(t *testing.T) error {
	provider, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(tclog.TestLogger(t)))
	if err != nil {
		return err
	}
	defer provider.Close()
	return provider.Health(t.Context())
}

// startKafka returns the address of a broker that answers; the container ends with the test.
func startKafka(t *testing.T) string {
	addr := freeAddr(t)
	started := time.Now()
	c, err := testcontainers.Run(t.Context(), image(),
		testcontainers.WithLogger(tclog.TestLogger(t)),
		testcontainers.WithExposedPorts("9092/tcp"),
		testcontainers.WithHostConfigModifier(func(hc *container.HostConfig) {
			hc.PortBindings = network.PortMap{network.MustParsePort("9092/tcp"): {
				{HostIP: addr.Addr(), HostPort: fmt.Sprint(addr.Port())},
			}}
		}),
		testcontainers.WithEnv(kafkaEnv(addr)),
		testcontainers.WithWaitStrategy(answers(addr.String())),
	)
	testcontainers.CleanupContainer(t, c, testcontainers.StopTimeout(0)) // its data goes too: no need for a clean shutdown
	require.NoErrorf(t, err, "start %s (where no image registry is reachable, scripts/kafka-image builds it)", image())
	t.Logf("%s ready at %s after %v", image(), addr, time.Since(started).Round(time.Millisecond))
	return addr.String()
}

func image() string {
	if s := os.Getenv("KAFKA_IMAGE"); s != "" {
		return s
	}
	return "apache/kafka:4.3.1"
}

// freeAddr picks the port before the container exists: Kafka must know at its start under which address clients reach it.
func freeAddr(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return netip.MustParseAddrPort(l.Addr().String())
}

// kafkaEnv configures one combined node: clients come in on 9092, the other listeners stay inside the container.
// Any further KAFKA_ variable would become a broker property.
func kafkaEnv(addr netip.AddrPort) map[string]string {
	return map[string]string{
		"KAFKA_NODE_ID":                        "1",
		"KAFKA_PROCESS_ROLES":                  "broker,controller",
		"KAFKA_LISTENERS":                      "PLAINTEXT://0.0.0.0:9092,BROKER://localhost:9093,CONTROLLER://localhost:9094",
		"KAFKA_ADVERTISED_LISTENERS":           fmt.Sprintf("PLAINTEXT://%s,BROKER://localhost:9093", addr),
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"KAFKA_INTER_BROKER_LISTENER_NAME":     "BROKER",
		"KAFKA_CONTROLLER_LISTENER_NAMES":      "CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":       "1@localhost:9094",
		// Few partitions in the internal topics: the first group and the first transaction start sooner.
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                 "1",
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":                     "4",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                    "1",
		"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":             "4",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "1",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_NUM_PARTITIONS":     "4",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":                 "0",
	}
}

// answers waits until the broker at this address answers a request: a log line says less, and says it too early.
type answers string

func (addr answers) WaitUntilReady(ctx context.Context, target wait.StrategyTarget) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := addr.ping(ctx)
		if err == nil {
			return nil
		}
		if state, serr := target.State(ctx); serr == nil && !state.Running {
			return fmt.Errorf("the container ended with exit code %d", state.ExitCode)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka at %s: %w", string(addr), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ping uses a new client each time: one that failed waits before it dials again.
func (addr answers) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(string(addr)), kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Ping(ctx)
}
