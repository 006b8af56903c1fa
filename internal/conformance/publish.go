package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

func publishIsAcknowledged(t *testing.T, f *fixture) {
	bus := f.ready()
	e := f.order("o-1", 1)
	require.NoError(t, bus.Publish(f.ctx, e))
	records := f.records(f.placed.Name())
	require.Len(t, records, 1)
	require.Equal(t, "o-1", string(records[0].Key))
	got, err := f.placed.Decode(records[0].Value)
	require.NoError(t, err)
	require.Equal(t, e.EventID, got.EventID)
	require.Equal(t, "19.90", got.Payload.Amount.String())
	require.EqualValues(t, 1, bus.Metrics().MessagesPublished)
}

func batchOfMixedTopics(t *testing.T, f *fixture) {
	bus := f.ready()
	var events []eventbus.AnyEvent
	for i := range 20 {
		events = append(events, f.order(fmt.Sprint("o-", i), i), f.shipped.New(order{ID: fmt.Sprint("o-", i), Number: i}))
	}
	require.NoError(t, bus.Publish(f.ctx, events...))
	require.Len(t, f.records(f.placed.Name()), 20)
	require.Len(t, f.records(f.shipped.Name()), 20)
	require.NoError(t, bus.Publish(f.ctx), "no events are no error")
}

func publishAsyncCallsBack(t *testing.T, f *fixture) {
	bus := f.ready()
	var done sync.WaitGroup
	errs := make(chan error, 101)
	for i := range 100 {
		done.Add(1)
		bus.PublishAsync(f.ctx, f.order(fmt.Sprint("o-", i%7), i), func(err error) {
			errs <- err
			done.Done()
		})
	}
	done.Add(1)
	bus.PublishAsync(f.ctx, f.order("", 1), func(err error) {
		errs <- err
		done.Done()
	})
	done.Wait()
	close(errs)
	failed := 0
	for err := range errs {
		if err != nil {
			failed++
			require.ErrorIs(t, err, eventbus.ErrNotSent)
		}
	}
	require.Equal(t, 1, failed)
	require.Len(t, f.records(f.placed.Name()), 100)
}

func nothingIsSentOfAnInvalidBatch(t *testing.T, f *fixture) {
	bus := f.ready()
	err := bus.Publish(f.ctx, f.order("o-1", 1), f.order("o-2", -987654321), f.order("o-3", 3))
	var result *eventbus.PublishError
	require.ErrorAs(t, err, &result)
	require.Len(t, result.Errors, 3)
	for _, err := range result.Errors {
		require.ErrorIs(t, err, eventbus.ErrNotSent)
	}
	var broken *eventbus.SchemaError
	require.ErrorAs(t, result.Errors[1], &broken)
	require.Equal(t, "payload.number", broken.Violations[0].Field)
	require.NotContains(t, err.Error(), "987654321", "no error shows a value")
	require.Empty(t, f.records(f.placed.Name()))
}

func keysKeepTheirPartitionAndOrder(t *testing.T, f *fixture) {
	bus := f.ready()
	const keys, each = 13, 40
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for i := range each {
				if err := bus.Publish(f.ctx, f.order(fmt.Sprint("key-", k), i)); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	wg.Wait()
	partition, next := map[string]int32{}, map[string]int{}
	for _, r := range f.records(f.placed.Name()) {
		e, err := f.placed.Decode(r.Value)
		require.NoError(t, err)
		key := string(r.Key)
		if p, seen := partition[key]; seen {
			require.Equal(t, p, r.Partition, "key %s is in one partition", key)
		}
		partition[key] = r.Partition
		require.Equal(t, next[key], e.Payload.Number, "key %s is in order", key)
		next[key]++
	}
	require.Len(t, next, keys)
	// Of three partitions, by the murmur2 of Kafka's Java client and of kafkajs (its own test vectors, mod 3).
	for key, want := range javaPartitions {
		require.NoError(t, bus.Publish(f.ctx, f.shipped.New(order{ID: key})))
		records := f.records(f.shipped.Name())
		require.Equal(t, want, records[indexOfKey(records, key)].Partition, "key %s", key)
	}
}

// javaPartitions is toPositive(murmur2(key)) % 3 for the hashes in Kafka's UtilsTest.testMurmur2.
var javaPartitions = map[string]int32{
	"21":                         (-973932308 & 0x7fffffff) % 3,
	"foobar":                     (-790332482 & 0x7fffffff) % 3,
	"a-little-bit-long-string":   (-985981536 & 0x7fffffff) % 3,
	"a-little-bit-longer-string": (-1486304829 & 0x7fffffff) % 3,
	"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": (-58897971 & 0x7fffffff) % 3,
}

func indexOfKey(records []*kgo.Record, key string) int {
	for i, r := range records {
		if string(r.Key) == key {
			return i
		}
	}
	return -1
}

func unknownTopicIsNamed(t *testing.T, f *fixture) {
	bus := f.bus(nil)
	started := time.Now()
	err := bus.Publish(f.ctx, f.order("o-1", 1))
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
	require.Less(t, time.Since(started), 5*time.Second, "named within 5 s is a promise, not a measurement")
	if result := new(eventbus.PublishError); true {
		require.ErrorAs(t, err, &result)
		require.Len(t, result.Errors, 1)
	}
}

func publishingAgainKeepsTheID(t *testing.T, f *fixture) {
	bus := f.ready()
	e := f.order("o-1", 1)
	before := *e
	require.NoError(t, bus.Publish(f.ctx, e))
	require.NoError(t, bus.Publish(f.ctx, e))
	require.Equal(t, before.EventID, e.EventID, "the event is not changed")
	require.Empty(t, e.Source)
	require.Empty(t, e.CorrelationID)
	records := f.records(f.placed.Name())
	require.Len(t, records, 2)
	require.Equal(t, records[0].Value, records[1].Value)
}

func envelopeOnTheWire(t *testing.T, f *fixture) {
	bus := f.ready()
	ctx := eventbus.WithCorrelationID(f.ctx, "request-7")
	require.NoError(t, bus.Publish(ctx, f.order("o-1", 1)))
	var wire map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(f.records(f.placed.Name())[0].Value, &wire))
	require.Len(t, wire, 7)
	require.Regexp(t, regexp.MustCompile(`^"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"$`), string(wire["eventId"]))
	require.Regexp(t, regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$`), string(wire["timestamp"]))
	require.Equal(t, `"`+f.placed.Name()+`"`, string(wire["eventType"]))
	require.Equal(t, `"1.0"`, string(wire["version"]))
	require.Equal(t, `"conf-service"`, string(wire["source"]))
	require.Equal(t, `"request-7"`, string(wire["correlationId"]))
	require.JSONEq(t, `{"id":"o-1","number":1,"amount":19.90}`, string(wire["payload"]))
	require.Contains(t, string(wire["payload"]), "19.90", "an amount keeps its digits")
}

func pingRoundTrip(t *testing.T, f *fixture) {
	bus := f.bus(func(c *eventbus.Config) { c.TopicPrefix = "conf-" + f.run + "." })
	require.NoError(t, bus.EnsureTopics(f.ctx, eventbus.HealthCheck))
	require.NoError(t, bus.Ping(f.ctx))
	records := f.records("conf-" + f.run + ".dreamscape.health.check")
	require.Len(t, records, 1)
	require.Equal(t, "ping", string(records[0].Value))
	require.Equal(t, "conf-service", string(records[0].Key))
}

func namespaceKeepsFleetsApart(t *testing.T, f *fixture) {
	staging := f.bus(func(c *eventbus.Config) { c.TopicPrefix = "staging-" + f.run + "." })
	plain := f.ready()
	sub := f.subscription(nil)
	var seen log
	sub.Routes = []eventbus.Route{f.placed.Handle(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		seen.add("%s %s %s", d.Topic, d.Group, e.Payload.ID)
		return nil
	}, nil)}
	f.start(staging, sub)
	require.NoError(t, plain.Publish(f.ctx, f.order("plain", 1)))
	require.NoError(t, staging.Publish(f.ctx, f.order("staged", 1)))
	f.eventually("the staged event is handled", func() bool { return seen.len() > 0 })
	require.Equal(t, []string{f.placed.Name() + " " + f.group + " staged"}, seen.all(), "names without the prefix")
	require.Len(t, f.records("staging-"+f.run+"."+f.placed.Name()), 1)
}
