package itest_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// TestSequences has processes copy events from topic to topic, of which some are given up, so that their keys are parked, while keys are released all the time
// and members or brokers are hurt. A reader of what is committed must find each once and those of a key in order, but for those that were skipped.
func TestSequences(t *testing.T) {
	dir := os.Getenv("KAFKA_CLUSTER")
	if dir == "" {
		t.Skip("KAFKA_CLUSTER is not set: start a cluster with scripts/kafka up -n 3 -d DIR")
	}
	c := newCluster(t, dir)
	for _, f := range []fault{
		{"members killed, and joining and leaving every second", func(r *run) { r.killMembers(); r.churn() }, 0, true, true},
		{"leader and coordinator killed", (*run).killBroker, 0, true, false},
	} {
		for _, protocol := range []eventbus.GroupProtocol{eventbus.ProtocolClassic, eventbus.ProtocolConsumer} {
			if protocol == eventbus.ProtocolConsumer && !f.both {
				continue
			}
			t.Run(protocolName(protocol)+"/"+strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
				r := c.newRun(t, f, protocol)
				r.sequenced = true
				stop := r.release()
				defer stop()
				r.copyThrough()
				eventually(r.t, 5*time.Minute, "nothing is parked", func(context.Context) bool { return r.nothingParked() })
				stop()
				for _, m := range r.members {
					m.end()
				}
				r.judgeSequences()
			})
		}
	}
}

// releases is what has been seen of parked keys.
type releases struct {
	mu       sync.Mutex
	letters  *eventbus.DeadLetters
	released int // how often one was
	skipped  int // how often one was to be, without its first event
	none     bool
}

// release releases every parked key, again and again, until stop is called. One that was parked again twice is released without its first event.
func (r *run) release() (stop func()) {
	bus, err := eventbus.New(eventbus.Config{Service: "releaser", Brokers: r.brokers})
	require.NoError(r.t, err)
	r.parked.letters, err = bus.DeadLetters(jobTopic(r.topic), r.group)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			r.parked.once(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-over
		require.NoError(r.t, shutdown(bus))
	})
}

func (p *releases) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	found, err := p.letters.Sequences(ctx)
	if err != nil {
		return // the topic is not there yet, or a broker is hurt
	}
	released, skipped := 0, 0
	for _, s := range found {
		if s.Released {
			continue
		}
		opts := eventbus.ReleaseOptions{SkipFirst: s.Releases > 1}
		if opts.SkipFirst {
			skipped++ // also where the answer is lost
		}
		if p.letters.Release(ctx, s.Key, opts) == nil {
			released++
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released, p.skipped, p.none = p.released+released, p.skipped+skipped, len(found) == 0
}

func (r *run) nothingParked() bool {
	r.parked.mu.Lock()
	defer r.parked.mu.Unlock()
	return r.parked.none
}

func (r *run) judgeSequences() {
	times, last := map[int]int{}, map[string]int{}
	mixed, doubled := 0, 0
	for rec := range r.committed(copyTopic(r.topic)) {
		e, err := jobTopic(copyTopic(r.topic)).Decode(rec.Value)
		require.NoError(r.t, err)
		if times[e.Payload.N]++; times[e.Payload.N] > 1 {
			doubled++
		}
		if e.Payload.N < last[e.Payload.Key] {
			mixed++
		}
		last[e.Payload.Key] = e.Payload.N
	}
	letters, again := map[int]bool{}, 0
	for rec := range r.committed(r.topic + ".dlq." + r.group) {
		e, err := jobTopic(r.topic).Decode(rec.Value)
		require.NoError(r.t, err)
		if letters[e.Payload.N] {
			again++
		}
		letters[e.Payload.N] = true
	}
	lost, skipped := 0, 0
	for n := 1; n <= int(r.published.Load()); n++ {
		switch {
		case times[n] > 0:
		case letters[n]:
			skipped++
		default:
			lost++
		}
	}
	r.t.Logf("%d events, %d of them parked, %d releases, %d skipped; lost %d, doubled %d, out of order %d, dead-lettered twice %d", r.published.Load(), len(letters),
		r.parked.released, skipped, lost, doubled, mixed, again)
	require.Zero(r.t, lost, "lost")
	require.Zero(r.t, doubled, "doubled")
	require.Zero(r.t, mixed, "out of order")
	require.Zero(r.t, again, "dead-lettered twice")
	require.Positive(r.t, r.parked.released)
	require.LessOrEqual(r.t, skipped, r.parked.skipped, "only what was to be skipped")
}
