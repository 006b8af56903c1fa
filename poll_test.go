package eventbus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// Handlers that keep up with what is fetched never see their partition paused: it would be fetched on only when the fetch of all others is over, which
// takes FetchMaxWait where nothing comes of those, as of the retry topic.
func TestQuickHandlersAreNotHeldUpByPauses(t *testing.T) {
	const n, keys = 60_000, 1000
	for name, test := range map[string]struct {
		codec       kgo.CompressionCodec
		concurrency int
		most        time.Duration
	}{
		"64 at once, 1 ms each, take 938 ms":         {kgo.NoCompression(), 64, 1200 * time.Millisecond},
		"all keys at once, of which none waits then": {kgo.NoCompression(), keys, 300 * time.Millisecond},
		"after a pause, less is fetched at once":     {kgo.GzipCompression(), 64, 1700 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { c.Client = append(c.Client, kgo.ProducerBatchCompression(test.codec)) })
				w.ordered(bus, n, keys)
				var begun, done atomic.Int32
				var first, last time.Time
				w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
					if begun.Add(1) == 1 {
						first = time.Now()
					}
					time.Sleep(time.Millisecond)
					if done.Add(1) == n {
						last = time.Now()
					}
					return nil
				}, nil, func(s *eventbus.Subscription) { s.Concurrency = test.concurrency })
				w.until("all handled", func() bool { return w.committed() == n })
				t.Logf("in %v", last.Sub(first))
				require.Less(t, last.Sub(first), test.most)
			}, kfake.SeedTopics(1, eventbus.RetryTopic(orders, "group")))
		})
	}
}

// A partition that has plenty is waited for only where the others have next to nothing to do.
func TestAPartitionThatHasPlentyHoldsUpNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		const n, slow, quick = 60_000, 0, 1
		put, flush := w.placing(bus, 2*n)
		for i := range n {
			for partition, keys := range []int{slow: 100, quick: 500} {
				put(int32(partition), fmt.Sprintf("%d-%d", partition, i%keys), i)
			}
		}
		flush()
		var begin sync.Once
		var first time.Time
		var done atomic.Int32
		w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
			begin.Do(func() { first = time.Now() })
			time.Sleep(time.Millisecond)
			if strings.HasPrefix(e.Payload.ID, fmt.Sprint(quick)) {
				done.Add(1)
			}
			return nil
		}, nil, func(s *eventbus.Subscription) { s.Concurrency = 1000 })
		w.until("those of the quick one are handled", func() bool { return done.Load() == n })
		require.Less(t, time.Since(first), 400*time.Millisecond, "500 keys at once take 120 ms")
	}, kfake.SeedTopics(2, orders), kfake.SeedTopics(1, eventbus.RetryTopic(orders, "group")))
}

// A backlog is read ahead of its handlers, and the client asks a broker for nothing else before that is polled. What comes to other partitions meanwhile
// does not wait for all of it.
func TestABacklogHoldsUpNoOtherPartition(t *testing.T) {
	const n, idle, backlog = 120_000, 0, 1
	for name, test := range map[string]struct {
		codec       kgo.CompressionCodec
		concurrency int
		work, most  time.Duration
	}{
		"64 at once":                            {kgo.NoCompression(), 64, 4 * time.Millisecond, 100 * time.Millisecond},
		"64 at once, of compressed ones":        {kgo.GzipCompression(), 64, 4 * time.Millisecond, 100 * time.Millisecond},
		"quick ones, of compressed ones":        {kgo.GzipCompression(), 60, time.Millisecond, 800 * time.Millisecond},
		"those that are too quick to be paused": {kgo.GzipCompression(), 200, time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				put, flush := w.placing(bus, 2*n, kgo.ProducerBatchCompression(test.codec))
				for i := range n {
					put(backlog, fmt.Sprint("backlog", i%500), i)
				}
				flush()
				var late delays
				var done atomic.Int32
				w.run(bus, func(_ context.Context, e *eventbus.BaseEvent[order]) error {
					if strings.HasPrefix(e.Payload.ID, "idle") {
						late.handles(e.Payload.Number)
						return nil
					}
					time.Sleep(test.work)
					done.Add(1)
					return nil
				}, nil, func(s *eventbus.Subscription) { s.Concurrency = test.concurrency })
				w.until("it has begun", func() bool { return done.Load() > 0 })
				for i := 0; done.Load() < n*3/4 && w.took() < time.Minute; i++ {
					late.sends(i)
					put(idle, fmt.Sprint("idle", i), i)
					time.Sleep(20 * time.Millisecond)
				}
				w.until("all that came to the other partition is handled", late.over)
				t.Logf("%d events, at most %v later", late.handled, late.worst)
				require.Greater(t, late.handled, 10)
				require.LessOrEqual(t, late.worst, test.most)
			}, kfake.SeedTopics(2, orders), kfake.SeedTopics(1, eventbus.RetryTopic(orders, "group")))
		})
	}
}

// Many partitions fill the bus together, and have no more than their shares on top.
func TestTheBusHoldsNoMoreThanItMayAndShares(t *testing.T) {
	const n, partitions, limit, share = 100_000, 30, 5000, 100
	for name, work := range map[string]time.Duration{"slow": 10 * time.Millisecond, "quick": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { c.MaxInFlight = limit })
				put, flush := w.placing(bus, 2*n)
				for i := range n {
					put(int32(i%partitions), fmt.Sprint("k", i%6000), i)
				}
				flush()
				var done, most atomic.Int64
				w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error {
					most.Store(max(most.Load(), bus.Metrics().InFlight))
					time.Sleep(work)
					done.Add(1)
					return nil
				}, nil, nil)
				w.until("all handled", func() bool { return done.Load() == n })
				t.Logf("at most %d in flight", most.Load())
				require.Greater(t, most.Load(), int64(limit)/4)
				require.LessOrEqual(t, most.Load(), int64(limit+2*partitions*share))
			}, kfake.SeedTopics(partitions, orders), kfake.SeedTopics(1, eventbus.RetryTopic(orders, "group")))
		})
	}
}
