package eventbus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/sim"
)

// A simulation that cannot fail proves nothing: each mistake that is built into the engine breaks the promise that it should, within a few of
// the scripts that TestSimulation plays without one.
func TestSimulationNoticesSeededBugs(t *testing.T) {
	const scripts = 100
	for bug, promises := range map[engine.Bug][]ledger.Promise{
		engine.CommitHighest:    {ledger.CommitsDone},
		engine.NoOwnership:      {ledger.CommitsOwned, ledger.CommitsGrow, ledger.CommitsDone},
		engine.MarkBeforeHandle: {ledger.CommitsDone},
		engine.ForgetLetter:     {ledger.InOrder, ledger.CommitsDone, ledger.NotLost},
	} {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(scripts) {
				report := ledger.Check(play(t, sim.New(seed), func(bus *eventbus.Bus) { bus.SeedBugForTest(string(bug)) }))
				if len(report.Findings) == 0 {
					continue
				}
				require.Contains(t, promises, report.Findings[0].Promise, "seed %d: %v", seed, report)
				t.Logf("seed %d: %s", seed, report.Findings[0].Promise)
				return
			}
			t.Errorf("not noticed in %d scripts", scripts)
		})
	}
}
