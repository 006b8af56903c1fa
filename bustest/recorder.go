package bustest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// recorderID is the recorder's client id: faults leave it alone.
const recorderID = "bustest-recorder"

// recorder reads topics beside the bus, from their beginning, without a group.
type recorder struct {
	prefix string

	mu      sync.Mutex // guards what follows; held while polling
	client  *kgo.Client
	watched map[string]bool
	records map[string][]*kgo.Record // by Kafka's topic name
}

func newRecorder(t testing.TB, cfg eventbus.Config) *recorder {
	t.Helper()
	opts := append(slices.Clone(cfg.Client),
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(recorderID),
		kgo.MetadataMinAge(50*time.Millisecond), // else a second topic waits 5 s
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg.TLS))
	}
	if cfg.SASL != nil {
		opts = append(opts, kgo.SASL(cfg.SASL))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	t.Cleanup(client.Close)
	return &recorder{prefix: cfg.TopicPrefix, client: client, watched: map[string]bool{}, records: map[string][]*kgo.Record{}}
}

// until reads the topic until enough says so of the records so far, or ctx ends. It returns the records.
func (r *recorder) until(ctx context.Context, topic string, enough func([]*kgo.Record) bool) ([]*kgo.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.watched[topic] {
		r.watched[topic] = true
		r.client.AddConsumeTopics(topic)
	}
	for !enough(r.records[topic]) {
		fetches := r.client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return r.records[topic], err
		}
		fetches.EachRecord(func(rec *kgo.Record) { r.records[rec.Topic] = append(r.records[rec.Topic], rec) })
	}
	return r.records[topic], nil
}

// RequirePublished waits until an event was published on the topic that match accepts (nil accepts any) and returns the first such.
// After [Options.Timeout] it fails the test and lists the ids and sources of what was published instead, never a payload.
func RequirePublished[T any](t testing.TB, b *Bus, topic *eventbus.Topic[T], match func(*eventbus.BaseEvent[T]) bool) *eventbus.BaseEvent[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	var found *eventbus.BaseEvent[T]
	records, err := b.recorder.until(ctx, b.recorder.prefix+topic.Name(), func(records []*kgo.Record) bool {
		for _, e := range decodeAll(topic, records) {
			if match == nil || match(e) {
				found = e
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("bustest: no matching event on %s within %v; published there: %s", topic.Name(), b.timeout, list(decodeAll(topic, records)))
	}
	return found
}

// Published returns every event that is on the topic now, in the order of its partitions' offsets. What does not decode is left out.
func Published[T any](t testing.TB, b *Bus, topic *eventbus.Topic[T]) []*eventbus.BaseEvent[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	name := b.recorder.prefix + topic.Name()
	ends, err := kadm.NewClient(b.recorder.client).ListCommittedOffsets(ctx, name)
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	want := 0
	ends.Each(func(o kadm.ListedOffset) { want += int(o.Offset) })
	records, err := b.recorder.until(ctx, name, func(records []*kgo.Record) bool { return len(records) >= want })
	if err != nil {
		t.Fatalf("bustest: %s: %d of %d records read: %v", name, len(records), want, err)
	}
	return decodeAll(topic, records)
}

func decodeAll[T any](topic *eventbus.Topic[T], records []*kgo.Record) []*eventbus.BaseEvent[T] {
	var events []*eventbus.BaseEvent[T]
	for _, r := range records {
		if e, err := topic.Decode(r.Value); err == nil {
			events = append(events, e)
		}
	}
	return events
}

func list[T any](events []*eventbus.BaseEvent[T]) string {
	if len(events) == 0 {
		return "nothing"
	}
	texts := make([]string, len(events))
	for i, e := range events {
		texts[i] = fmt.Sprint(e)
	}
	return strings.Join(texts, ", ")
}
