package itest_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// flood publishes n events of all topics and returns their ids.
func (s *street) flood(bus *eventbus.Bus, n int) map[string]bool {
	ids := map[string]bool{}
	var failed atomic.Pointer[error]
	for len(ids) < n {
		for _, of := range ourEvents() {
			if len(ids) == n {
				break
			}
			ids[of.id] = true
			bus.PublishAsync(s.ctx, of.event, func(err error) {
				if err != nil {
					failed.Store(&err)
				}
			})
		}
	}
	s.eventually("all are acknowledged", func() (bool, string) {
		m := bus.Metrics()
		if err := failed.Load(); err != nil {
			require.NoError(s.t, *err)
		}
		return int(m.MessagesPublished) == n, fmt.Sprintf("%d of %d", m.MessagesPublished, n)
	})
	return ids
}

// theyBearOurLoad has the service's consumer take 100,000 events of a bus as it is, and 10,000 of one that compresses with gzip.
func theyBearOurLoad(t *testing.T, s *street) {
	const plain, zipped, group = 100_000, 10_000, "load"
	bus := s.bus(nil)
	gzip := s.bus(func(c *eventbus.Config) { c.Client = []kgo.Opt{kgo.ProducerBatchCompression(kgo.GzipCompression())} })
	require.NoError(t, bus.EnsureTopics(s.ctx, eventbus.Catalogue()...))
	service := s.neighbour()
	service.subscribe(group, nil, eventTopics()...)
	started := time.Now()
	sent := s.flood(bus, plain)
	for _, r := range s.read(10_000, eventTopics()...) {
		require.Zero(t, r.Attrs.CompressionType(), "nothing is compressed unless asked")
	}
	for id := range s.flood(gzip, zipped) {
		sent[id] = true
	}
	require.Len(t, sent, plain+zipped)
	service.await(group, plain+zipped)
	took := time.Since(started)

	handled := service.handled(group, 0)
	require.Len(t, handled, plain+zipped, "none twice")
	for _, e := range handled {
		require.True(t, sent[e.EventID], "unknown, or twice")
		delete(sent, e.EventID)
		require.Empty(t, e.Problems)
	}
	require.Empty(t, sent, "lost")
	require.Empty(t, service.count(group).Crashes)
	t.Logf("%d events handled once each, %v after the first was published", len(handled), took.Round(time.Second))
}

// snappyIsWhatTheyDoNotBear shows that the others' clients fail where ours would compress with snappy: what the tests above would see.
func snappyIsWhatTheyDoNotBear(t *testing.T, s *street) {
	const group = "snappy"
	bus := s.bus(func(c *eventbus.Config) { c.Client = []kgo.Opt{kgo.ProducerBatchCompression(kgo.SnappyCompression())} })
	require.NoError(t, bus.EnsureTopics(s.ctx, eventbus.UserCreated))
	service := s.neighbour()
	service.subscribe(group, nil, eventbus.TopicUserCreated)
	require.NoError(t, bus.Publish(s.ctx, eventbus.UserCreated.New(eventbus.UserCreatedPayload{
		UserID: "u-1", Email: "ada@example.com", FirstName: fmt.Sprintf("%01000d", 0), // worth compressing
	})))
	s.eventually("its consumer crashes", func() (bool, string) {
		c := service.count(group)
		return len(c.Crashes) > 0, fmt.Sprint(c)
	})
	c := service.count(group)
	require.Contains(t, c.Crashes[0], "Snappy compression not implemented")
	require.Zero(t, c.Handled)
}
