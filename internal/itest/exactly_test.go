package itest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

const (
	copied       = 100_000
	copyKeys     = 1000
	copyInterval = 100 * time.Millisecond // of a try, on average: so the copying outlasts the fault
)

// TestExactlyOnce has processes copy 100,000 events from topic to topic in transactions, while members or brokers are hurt. A reader of what is committed
// must find each once: copied, or as a dead letter, and those of a key in order.
func TestExactlyOnce(t *testing.T) {
	dir := os.Getenv("KAFKA_CLUSTER")
	if dir == "" {
		t.Skip("KAFKA_CLUSTER is not set: start a cluster with scripts/kafka up -n 3 -d DIR")
	}
	c := newCluster(t, dir)
	for _, f := range []fault{
		{"members killed, and joining and leaving every second", func(r *run) { r.killMembers(); r.churn() }, 0, true, true},
		{"leader and coordinator killed", (*run).killBroker, 0, true, false},
		{"leader and coordinator frozen for 50 s", (*run).freezeBroker, 0, true, false},
		{"rolling restart", (*run).roll, 0, true, false},
	} {
		for _, protocol := range []eventbus.GroupProtocol{eventbus.ProtocolClassic, eventbus.ProtocolConsumer} {
			if protocol == eventbus.ProtocolConsumer && !f.both {
				continue
			}
			t.Run(protocolName(protocol)+"/"+strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
				c.newRun(t, f, protocol).copy()
			})
		}
	}
}

func copyTopic(of string) string { return of + ".copies" }

// least is how many events are there at the beginning.
func (r *run) least() int {
	if r.sequenced {
		return copied / 4 // what is parked is written one by one
	}
	return copied
}

// copy has the run's members copy, hurts them, and judges.
func (r *run) copy() {
	r.copyThrough()
	for _, m := range r.members {
		m.end()
	}
	r.judgeCopies()
}

// copyThrough has the run's members copy, and hurts them. They go on.
func (r *run) copyThrough() {
	r.copies = true
	r.prepare()
	r.healed(r.t)
	filled := r.fill()
	for range members {
		r.members = append(r.members, r.start(true))
	}
	eventually(r.t, time.Minute, "something is copied", func(ctx context.Context) bool { return r.left(ctx) < int64(r.least()) })
	r.fault.hurt(r)
	filled()
	began := time.Now()
	eventually(r.t, 5*time.Minute, "everything is committed", func(ctx context.Context) bool { return r.left(ctx) == 0 })
	r.t.Logf("all are committed %v after the fault", time.Since(began).Round(time.Millisecond))
}

// fill publishes what is to be copied, and a little more all the time, so that there is something to copy for as long as the fault lasts. filled ends that.
func (r *run) fill() (filled func()) {
	bus, err := eventbus.New(eventbus.Config{Service: "cluster", Brokers: r.brokers, PublishTimeout: 5 * time.Minute})
	require.NoError(r.t, err)
	publish := func() {
		n := int(r.published.Add(1))
		e := jobTopic(r.topic).New(job{Key: fmt.Sprint("k-", (n-1)%copyKeys), N: n})
		bus.PublishAsync(context.Background(), e, func(err error) {
			if err != nil {
				r.t.Errorf("publishing %d: %v", n, err)
			}
		})
	}
	for range r.least() {
		publish()
	}
	every := 10 * time.Millisecond
	if r.sequenced {
		every = 50 * time.Millisecond
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.Tick(every); ; publish() {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
		}
	}()
	filled = sync.OnceFunc(func() {
		stop()
		<-ended
		require.NoError(r.t, shutdown(bus))
	})
	r.t.Cleanup(filled)
	return filled
}

// left is how many events are not committed as done yet.
func (r *run) left(ctx context.Context) int64 {
	committed, err := r.admin.FetchOffsets(kadm.RequireStable(ctx), r.group)
	if err != nil {
		return r.published.Load()
	}
	left := r.published.Load()
	committed.Each(func(o kadm.OffsetResponse) {
		if o.Topic == r.topic && o.Err == nil {
			left -= max(o.At, 0)
		}
	})
	return left
}

func (r *run) judgeCopies() {
	ends, last := map[string]int{}, map[string]int{}
	letters, mixed := 0, 0
	for rec := range r.committed(copyTopic(r.topic)) {
		e, err := jobTopic(copyTopic(r.topic)).Decode(rec.Value)
		require.NoError(r.t, err)
		ends[fmt.Sprint(e.Payload.N)]++
		if e.Payload.N < last[e.Payload.Key] {
			mixed++
		}
		last[e.Payload.Key] = e.Payload.N
	}
	for rec := range r.committed(r.topic + ".dlq." + r.group) {
		d, err := eventbus.ParseDeadLetter(rec)
		require.NoError(r.t, err)
		e, err := jobTopic(d.Topic).Decode(rec.Value)
		require.NoError(r.t, err)
		ends[fmt.Sprint(e.Payload.N)]++
		letters++
	}
	doubled := 0
	for _, n := range ends {
		if n > 1 {
			doubled++
		}
	}
	r.t.Logf("%d events, %d of them dead letters; lost %d, doubled %d, out of order %d", len(ends), letters, int(r.published.Load())-len(ends), doubled, mixed)
	require.Len(r.t, ends, int(r.published.Load()), "events that were copied, or dead-lettered")
	require.Zero(r.t, doubled, "doubled")
	require.Zero(r.t, mixed, "out of order")
	require.Positive(r.t, letters)
}

// committed yields the records that a reader of committed ones finds, once whatever a killed process has left open is aborted.
func (r *run) committed(topic string) func(yield func(*kgo.Record) bool) {
	return func(yield func(*kgo.Record) bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		ends, err := r.admin.ListEndOffsets(ctx, topic)
		require.NoError(r.t, err)
		eventually(r.t, time.Minute, "no transaction is open", func(ctx context.Context) bool {
			stable, err := r.admin.ListCommittedOffsets(ctx, topic)
			open := err != nil
			ends.Each(func(o kadm.ListedOffset) {
				at, ok := stable.Lookup(o.Topic, o.Partition)
				open = open || !ok || at.Offset < o.Offset
			})
			return !open
		})
		client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.KeepControlRecords(), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
		require.NoError(r.t, err)
		defer client.Close()
		at := map[int32]int64{}
		for behind := true; behind; {
			fetches := client.PollFetches(ctx)
			require.NoError(r.t, ctx.Err(), "%s is not read to its end", topic)
			fetches.EachRecord(func(rec *kgo.Record) {
				at[rec.Partition] = rec.Offset + 1
				if !rec.Attrs.IsControl() {
					yield(rec)
				}
			})
			behind = false
			ends.Each(func(o kadm.ListedOffset) { behind = behind || at[o.Partition] < o.Offset })
		}
	}
}
