package itest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// TestNeighbours runs the bus beside a TypeScript service of kafkajs and Ajv (the folder neighbours), on a broker that already runs:
// KAFKA_BROKERS. Where the broker, Node or the built service is missing it is skipped, or it fails if EVENTBUS_REQUIRE_NEIGHBOURS=1: CI
// must notice that it did not run.
func TestNeighbours(t *testing.T) {
	if err := neighboursMissing(); err != nil {
		if os.Getenv("EVENTBUS_REQUIRE_NEIGHBOURS") == "1" {
			t.Fatalf("EVENTBUS_REQUIRE_NEIGHBOURS=1, but %v", err)
		}
		t.Skip(err)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *street)
	}{
		{"OursAreValidToTheirs", oursAreValidToTheirs},
		{"TheirsAreValidToOurs", theirsAreValidToOurs},
		{"AKeyHasOnePartition", aKeyHasOnePartition},
		{"TheirDeadLettersAreRead", theirDeadLettersAreRead},
		{"TheyBearOurLoad", theyBearOurLoad},
		{"SnappyIsWhatTheyDoNotBear", snappyIsWhatTheyDoNotBear},
		{"AGroupMovesAndComesBack", aGroupMovesAndComesBack},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStreet(t)) })
	}
}

// neighbourProgram is what scripts/neighbours builds.
const neighbourProgram = "neighbours/dist/main.js"

func neighboursMissing() error {
	if os.Getenv("KAFKA_BROKERS") == "" {
		return errors.New("KAFKA_BROKERS is not set: start a broker with scripts/kafka up")
	}
	if _, err := os.Stat(neighbourProgram); err != nil {
		return errors.New("the TypeScript service is not built: run scripts/neighbours")
	}
	_, err := exec.LookPath("node")
	return err
}

// neighbourPatience bounds every wait: two cores may have much else to do, and the race detector takes its time.
const neighbourPatience = 8 * time.Minute

// street is where the neighbours live: topics and groups with a prefix of their own, on a broker that others may use.
type street struct {
	t       *testing.T
	ctx     context.Context
	brokers []string
	prefix  string
	admin   *kadm.Client
}

func newStreet(t *testing.T) *street {
	ctx, cancel := context.WithTimeout(context.Background(), 2*neighbourPatience)
	t.Cleanup(cancel)
	s := &street{
		t: t, ctx: ctx, brokers: strings.Split(os.Getenv("KAFKA_BROKERS"), ","),
		prefix: "street-" + strings.ToLower(rand.Text()[:8]) + ".",
	}
	s.admin = kadm.NewClient(s.client())
	return s
}

// client is a connection beside every bus.
func (s *street) client(opts ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{
		kgo.SeedBrokers(s.brokers...), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // franz-go's own default is snappy, on which kafkajs dies
	}
	client, err := kgo.NewClient(append(base, opts...)...)
	require.NoError(s.t, err)
	s.t.Cleanup(client.Close)
	return client
}

// bus is a Go service's; it is shut down at the end.
func (s *street) bus(change func(*eventbus.Config)) *eventbus.Bus {
	cfg := eventbus.Config{
		Service: "go-service", Brokers: s.brokers, TopicPrefix: s.prefix, Logger: slog.New(slog.DiscardHandler),
		NewTopics: eventbus.TopicDefaults{Partitions: 2},
	}
	if change != nil {
		change(&cfg)
	}
	bus, err := eventbus.New(cfg)
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), neighbourPatience)
		defer cancel()
		require.NoError(s.t, bus.Shutdown(ctx))
	})
	return bus
}

// topics makes topics by the fleet's names.
func (s *street) topics(partitions int32, names ...string) {
	for _, name := range names {
		made, err := s.admin.CreateTopics(s.ctx, partitions, 1, nil, s.prefix+name)
		require.NoError(s.t, err)
		require.NoError(s.t, made.Error())
	}
}

// run has a bus run a subscription until end is called, which returns what Run did.
func (s *street) run(bus *eventbus.Bus, sub eventbus.Subscription) (end func() error) {
	ctx, cancel := context.WithCancel(s.ctx)
	var result error
	over := make(chan struct{})
	go func() {
		defer close(over)
		result = bus.Run(ctx, sub)
	}()
	end = sync.OnceValue(func() error {
		cancel()
		<-over
		return result
	})
	s.t.Cleanup(func() { _ = end() })
	return end
}

// read reads n records of topics, by the fleet's names, waiting for them.
func (s *street) read(n int, topics ...string) []*kgo.Record {
	for i, name := range topics {
		topics[i] = s.prefix + name
	}
	client := s.client(kgo.ConsumeTopics(topics...), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	var records []*kgo.Record
	for len(records) < n {
		records = append(records, client.PollFetches(s.ctx).Records()...)
		require.NoError(s.t, s.ctx.Err(), "%d of %d records read", len(records), n)
	}
	return records
}

// eventually waits for what another process brings about. condition runs on the test's own goroutine, so it may fail the test.
func (s *street) eventually(what string, condition func() (bool, string)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, neighbourPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		reached, state := condition()
		if reached {
			return
		}
		select {
		case <-ctx.Done():
			require.FailNow(s.t, fmt.Sprintf("%s: %s", what, state))
		case <-tick.C:
		}
	}
}
