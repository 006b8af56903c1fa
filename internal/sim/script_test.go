package sim_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/sim"
)

func TestASeedIsAScript(t *testing.T) {
	for seed := range uint64(50) {
		require.Equal(t, sim.New(seed), sim.New(seed))
	}
	require.NotEqual(t, sim.New(4).Events, sim.New(8).Events)
}

func TestScriptsCanBePlayed(t *testing.T) {
	seen := map[sim.Action]int{}
	for seed := range uint64(400) {
		s := sim.New(seed)
		require.True(t, slices.IsSortedFunc(s.Events, func(a, b sim.Event) int { return int(a.At - b.At) }))
		require.True(t, slices.IsSortedFunc(s.Steps, func(a, b sim.Step) int { return int(a.At - b.At) }))
		require.GreaterOrEqual(t, len(s.Events), 50)
		ids, alive := map[string]bool{}, map[int]bool{}
		for _, e := range s.Events {
			require.False(t, ids[e.ID])
			ids[e.ID] = true
			require.LessOrEqual(t, e.At, s.Heal)
			require.True(t, e.Key != "" || e.Form == sim.Unkeyed)
		}
		for _, step := range s.Steps {
			seen[step.Do]++
			require.LessOrEqual(t, step.At, s.Heal)
			switch step.Do {
			case sim.Join:
				alive[step.Member] = true
			case sim.Leave, sim.Retire, sim.Crash:
				require.True(t, alive[step.Member])
				delete(alive, step.Member)
			case sim.Cut, sim.Drop, sim.Pause:
				require.True(t, alive[step.Member])
			}
		}
		require.NotEmpty(t, alive, "somebody has to do the rest")
	}
	for _, action := range []sim.Action{sim.Join, sim.Leave, sim.Retire, sim.Crash, sim.Cut, sim.Drop, sim.Pause, sim.Outage, sim.Fault, sim.Break, sim.Swallow, sim.Move, sim.Shuffle, sim.Rehash} {
		require.Greater(t, seen[action], 50, action)
	}
}
