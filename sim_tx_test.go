package eventbus_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/sim"
)

// TestTransactionSimulation plays the simulation's scripts with transactional handlers, which publish each event that they have handled. Whoever reads
// what is committed has to find each event once: done, or as a dead letter.
func TestTransactionSimulation(t *testing.T) {
	needDurableLocks(t)
	playAll(t, 100, playInTx)
}

// player plays a script, and returns what it finds wrong. prepare, if not nil, gets every bus before it runs.
type player func(t *testing.T, script sim.Script, prepare func(*eventbus.Bus)) (findings []string)

// playAll plays so many scripts, or those that the environment says.
func playAll(t *testing.T, standard int, play player) {
	seeds, first := simNumber(t, "EVENTBUS_SIM_SEEDS", standard), simNumber(t, "EVENTBUS_SIM_SEED", 0)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			for _, f := range play(t, sim.New(uint64(seed)), nil) {
				t.Errorf("seed %d: %s", seed, f)
			}
		})
	}
}

// noticeBugs fails for a mistake that is built in and that none of a hundred scripts shows.
func noticeBugs(t *testing.T, play player, bugs ...engine.Bug) {
	const scripts = 100
	for _, bug := range bugs {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(scripts) {
				if findings := play(t, sim.New(seed), func(bus *eventbus.Bus) { bus.SeedBugForTest(string(bug)) }); len(findings) > 0 {
					t.Logf("seed %d: %s", seed, findings[0])
					return
				}
			}
			t.Errorf("not noticed in %d scripts", scripts)
		})
	}
}

// playInTx returns what a reader of committed records finds wrong.
func playInTx(t *testing.T, script sim.Script, prepare func(*eventbus.Bus)) (findings []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, script, prepare)
		s.inTx = true
		s.play()
		findings = s.judgeCommitted()
	})
	return findings
}

// Each mistake that is built into the engine is seen.
func TestTransactionSimulationNoticesSeededBugs(t *testing.T) {
	needDurableLocks(t)
	noticeBugs(t, playInTx, engine.CommitHighest, engine.MarkBeforeHandle)
}

// simDone is what has been handled; some jobs have no key.
var simDone = eventbus.NewTopic(jobsDone, &eventbus.TopicOptions[job]{Key: func(j job) string { return "k" + j.Key }})

// handleTx is handle, and publishes.
func (s *simulation) handleTx(m *member) eventbus.TxHandler[job] {
	handle := s.handle(m)
	return func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[job]) error {
		if err := tx.Publish(ctx, simDone.New(e.Payload)); err != nil {
			return err
		}
		return handle(ctx, e)
	}
}

// request is what a fault befalls: where commits are made in transactions, those, and every other time their end.
func (s *simulation) request(step sim.Step) kmsg.Key {
	key := kmsg.Key(step.Request)
	if !s.inTx || key != kmsg.OffsetCommit {
		return key
	}
	if step.Count%2 == 0 && slices.Contains([]int16{
		kerr.NotCoordinator.Code, kerr.CoordinatorLoadInProgress.Code, kerr.CoordinatorNotAvailable.Code, kerr.UnknownServerError.Code,
	}, step.Code) {
		return kmsg.EndTxn
	}
	return kmsg.TxnOffsetCommit
}

func (s *simulation) judgeCommitted() (findings []string) {
	find := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	logged := map[int32]map[int64]string{} // events of acme.jobs
	for _, r := range s.read(jobs) {
		if logged[r.Partition] == nil {
			logged[r.Partition] = map[int64]string{}
		}
		logged[r.Partition][r.Offset] = s.event(r).ID
	}
	type place struct {
		partition int32
		offset    int64
	}
	type lane struct {
		partition int32
		key       string
	}
	ends, places := map[string][]string{}, map[string]place{}
	for partition, events := range logged {
		for offset, id := range events {
			ends[id], places[id] = nil, place{partition, offset}
		}
	}
	last := map[lane]string{} // what was done of it
	for _, r := range s.readCommitted(jobsDone) {
		e := s.event(r)
		ends[e.ID] = append(ends[e.ID], "done")
		at := lane{places[e.ID].partition, e.Key}
		if before, ok := last[at]; ok && !s.script.Free && places[before].offset > places[e.ID].offset {
			find("%s is done before %s, and is the later one of %v", before, e.ID, at)
		}
		last[at] = e.ID
	}
	for _, r := range s.readCommitted(jobLetters) {
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(s, err)
		id := logged[d.Partition][d.Offset]
		ends[id] = append(ends[id], "dead-lettered")
	}
	for id, end := range ends {
		if len(end) != 1 {
			find("%s of %d events ended %d times: %v", id, len(ends), len(end), end)
		}
	}
	return append(findings, s.overlaps()...)
}

// overlaps are handlings of a key at once.
func (s *simulation) overlaps() (findings []string) {
	for _, f := range ledger.Check(s.history.Entries()).Findings {
		if f.Promise == ledger.OneAtATime {
			findings = append(findings, fmt.Sprint(f))
		}
	}
	return findings
}

// readCommitted waits for the end of what a member that crashed has left open.
func (s *simulation) readCommitted(topic string) (records []*kgo.Record) {
	cl, err := kgo.NewClient(append(newLink(&s.net).options(), kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(s, err)
	defer cl.Close()
	for quiet := time.Duration(0); quiet < 30*time.Second; {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		fetched := cl.PollFetches(ctx).Records()
		cancel()
		records = append(records, fetched...)
		if quiet += 5 * time.Second; len(fetched) > 0 {
			quiet = 0
		}
	}
	return records
}
