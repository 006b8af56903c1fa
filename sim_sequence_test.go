package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/sim"
)

// TestSequenceSimulation plays the simulation's scripts with a sequenced route, while keys are released at any time. Whoever reads what is committed has
// to find the events of a key done in their order, each once, and none that is not done, but for those that were skipped.
func TestSequenceSimulation(t *testing.T) {
	needDurableLocks(t)
	playAll(t, 50, playSequenced)
}

// Each mistake that is built into the engine is seen.
func TestSequenceSimulationNoticesSeededBugs(t *testing.T) {
	needDurableLocks(t)
	noticeBugs(t, playSequenced, engine.CommitHighest, engine.MarkBeforeHandle, engine.ForgetParked)
}

// playSequenced returns what a reader of committed records finds wrong.
func playSequenced(t *testing.T, script sim.Script, prepare func(*eventbus.Bus)) (findings []string) {
	t.Helper()
	script.Free = false
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, script, prepare)
		s.inTx, s.sequenced = true, true
		s.play()
		findings = s.judgeSequences()
	})
	return findings
}

// releaser is who looks after parked keys.
type releaser struct {
	*simulation
	letters *eventbus.DeadLetters
	skipped map[string]bool // places that it has had skipped
}

func (s *simulation) newReleaser() *releaser {
	bus, err := eventbus.New(eventbus.Config{
		Service: "releaser", Brokers: s.cluster.ListenAddrs(), Logger: slog.New(slog.DiscardHandler), Client: newLink(&s.net).options(),
	})
	require.NoError(s, err)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = bus.Shutdown(ctx)
	})
	r := &releaser{simulation: s, skipped: map[string]bool{}}
	r.letters, err = bus.DeadLetters(s.jobs, simGroup)
	require.NoError(s, err)
	return r
}

// during releases some keys from time to time, until the healing.
func (r *releaser) during() {
	dice := rand.New(rand.NewPCG(r.script.Seed, 1))
	for {
		select {
		case <-time.After(time.Duration(2+dice.IntN(15)) * time.Second):
		case <-r.healed:
			return
		}
		r.release(func(eventbus.Sequence) bool { return dice.IntN(2) == 0 })
	}
}

// release releases those parked keys that are chosen; a fault may keep it from that. It says how many it has found.
func (r *releaser) release(chosen func(eventbus.Sequence) bool) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	found, err := r.letters.Sequences(ctx)
	if err != nil {
		return 1
	}
	for _, q := range found {
		if q.Released || !chosen(q) {
			continue
		}
		opts := eventbus.ReleaseOptions{SkipFirst: q.Releases > 1} // it may be one that nobody can decode
		if err := r.letters.Release(ctx, q.Key, opts); err != nil && !errors.Is(err, eventbus.ErrNotParked) && ctx.Err() == nil {
			r.Logf("seed %d: %v", r.script.Seed, err)
		}
	}
	return len(found)
}

// all releases everything until nothing is parked, and says what still is when that does not come. Events that always fail take OutageHold for each release, where nothing else is left.
func (r *releaser) all() (stuck string) {
	for deadline := time.Now().Add(6 * patience); ; time.Sleep(10 * time.Second) {
		if r.release(func(eventbus.Sequence) bool { return true }) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			found, err := r.letters.Sequences(context.Background())
			return fmt.Sprintf("still parked %v after the healing: %+v %v\n%s", 6*patience, found, err, r.state())
		}
	}
}

func (s *simulation) judgeSequences() (findings []string) {
	find := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	if s.stuck != "" {
		find("%s", s.stuck)
	}
	type lane struct {
		partition int32
		key       string
	}
	logged := map[lane][]string{} // ids, in their order
	at := map[int32]map[int64]string{}
	for _, r := range s.read(jobs) {
		e := s.event(r)
		logged[lane{r.Partition, e.Key}] = append(logged[lane{r.Partition, e.Key}], e.ID)
		if at[r.Partition] == nil {
			at[r.Partition] = map[int64]string{}
		}
		at[r.Partition][r.Offset] = e.ID
	}
	letters, done, keys := map[string]int{}, map[string][]string{}, map[string]int{}
	for _, r := range s.readCommitted(jobLetters) {
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(s, err)
		letters[at[d.Partition][d.Offset]]++
	}
	for _, r := range s.readCommitted(jobsDone) {
		e := s.event(r)
		done[e.Key] = append(done[e.Key], e.ID)
		keys[e.ID]++
	}
	for id, n := range letters {
		if n > 1 {
			find("%s was dead-lettered %d times", id, n)
		}
	}
	for at, ids := range logged {
		var order []string // of what was done of the lane
		for _, id := range done[at.key] {
			if slices.Contains(ids, id) {
				order = append(order, id)
			}
		}
		next := 0
		for _, id := range order {
			i := slices.Index(ids, id)
			if i < next {
				find("%s of %v was done after a later one, or twice", id, at)
			}
			next = i + 1
		}
		for _, id := range ids {
			if keys[id] == 0 && letters[id] == 0 {
				find("%s of %v was lost", id, at)
			}
		}
	}
	return append(findings, s.overlaps()...)
}
