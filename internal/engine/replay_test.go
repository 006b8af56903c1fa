package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/engine"
)

// script decides a run, a byte a choice; with its last one the run comes to an end.
type script []byte

// scriptOf returns the script of a seed.
func scriptOf(seed uint64) script {
	source := rand.New(rand.NewPCG(seed, 0))
	s := make(script, 1500)
	for i := range s {
		s[i] = byte(source.Uint32())
	}
	return s
}

// verdict is a test that only notes why it failed.
type verdict struct{ failure string }

type failed struct{}

func (v *verdict) Errorf(format string, args ...any) { v.failure = fmt.Sprintf(format, args...) }

func (v *verdict) FailNow() { panic(failed{}) }

// run plays a script, and returns what was decided and what was wrong with it, "" if nothing was.
func run(s script, bug engine.Bug) (trace []string, failure string) {
	v, at := &verdict{}, 0
	var m *model
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(failed); !ok {
				v.failure = fmt.Sprint("panic: ", r)
			}
			trace, failure = m.trace, v.failure
		}
	}()
	m = newModel(v, func(n int) int {
		if at == len(s) {
			return 0
		}
		at++
		return int(s[at-1]) % n
	}, bug)
	for as := actions(); at < len(s); m.check() {
		as[m.choose(len(as))].do(m)
	}
	m.settleAll()
	return m.trace, v.failure
}

// scripts is how many are played in a test.
const scripts = 200

func TestReplayIsExact(t *testing.T) {
	for seed := range uint64(scripts) {
		s := scriptOf(seed)
		first, failure := run(s, engine.NoBug)
		require.Empty(t, failure, "seed %d", seed)
		again, _ := run(s, engine.NoBug)
		require.Equal(t, first, again, "seed %d", seed)
		require.NotEmpty(t, first)
	}
}

// The same scripts that find nothing find each mistake soon.
func TestModelSeesEveryBug(t *testing.T) {
	for bug, sees := range map[engine.Bug]string{
		engine.CommitHighest:    "which is not handled",
		engine.NoOwnership:      "which is not ours any longer",
		engine.MarkBeforeHandle: "which is not handled",
		engine.ForgetLetter:     "which is not handled",
	} {
		t.Run(string(bug), func(t *testing.T) {
			found, seen := uint64(0), ""
			for ; found < 20 && seen == ""; found++ {
				_, seen = run(scriptOf(found), bug)
			}
			t.Logf("%d scripts", found)
			require.Contains(t, seen, sees)
		})
	}
}

// FuzzEngine looks for scripts on which the engine and the model differ.
func FuzzEngine(f *testing.F) {
	for seed := range uint64(4) {
		f.Add([]byte(scriptOf(seed)))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		_, failure := run(s, engine.NoBug)
		require.Empty(t, failure)
	})
}
