package eventbus_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/sim"
)

// TestSimulation plays scripts in virtual time and judges what the group did. By the environment (make sim): EVENTBUS_SIM_SEEDS scripts, from
// EVENTBUS_SIM_SEED on, each EVENTBUS_SIM_COUNT times, because goroutines are scheduled anew each time. What failed is kept in EVENTBUS_SIM_DIR.
func TestSimulation(t *testing.T) {
	seeds, first, count := simNumber(t, "EVENTBUS_SIM_SEEDS", 200), simNumber(t, "EVENTBUS_SIM_SEED", 0), simNumber(t, "EVENTBUS_SIM_COUNT", 1)
	var sum ledger.Report
	var mu sync.Mutex
	if os.Getenv("EVENTBUS_SIM_SEEDS") != "" {
		t.Cleanup(func() { fmt.Printf("%d scripts from seed %d, %d times: %v\n", seeds, first, count, sum) })
	}
	for seed := first; seed < first+seeds; seed++ {
		for again := range count {
			t.Run(fmt.Sprintf("seed=%d/%d", seed, again), func(t *testing.T) {
				t.Parallel()
				report := judge(t, play(t, sim.New(uint64(seed)), nil))
				mu.Lock()
				defer mu.Unlock()
				sum = sum.Plus(report)
			})
		}
	}
}

func simNumber(t *testing.T, name string, standard int) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(standard)))
	require.NoError(t, err, name)
	return n
}

// play returns the history of a script. prepare, if not nil, gets every bus before it runs.
func play(t *testing.T, script sim.Script, prepare func(*eventbus.Bus)) []ledger.Entry {
	t.Helper()
	var entries []ledger.Entry
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, script, prepare)
		s.play()
		entries = s.history.Entries()
	})
	return entries
}

// judge fails where the history has a finding, and keeps it.
func judge(t *testing.T, entries []ledger.Entry) ledger.Report {
	t.Helper()
	report := ledger.Check(entries)
	if len(report.Findings) > 0 {
		t.Errorf("%v\njudge it again: make judge HISTORY=%s", report, keep(t, entries))
	}
	return report
}

// keep saves a history where it outlasts the test.
func keep(t *testing.T, entries []ledger.Entry) string {
	t.Helper()
	dir := cmp.Or(os.Getenv("EVENTBUS_SIM_DIR"), filepath.Join(os.TempDir(), "eventbus-sim"))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	f, err := os.CreateTemp(dir, strings.ReplaceAll(t.Name(), "/", "-")+"-*.jsonl")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, ledger.Save(f.Name(), entries))
	return f.Name()
}
