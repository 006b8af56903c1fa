package engine_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dreamscape/eventbus/internal/engine"
)

func TestEngineDoesWhatListsAndSetsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }, engine.NoBug)
		steps := map[string]func(*rapid.T){"": func(*rapid.T) { m.check() }}
		for _, a := range actions() {
			steps[a.name] = func(t *rapid.T) {
				if !a.do(m) {
					t.Skip("not now")
				}
			}
		}
		for range 6 { // some thirty steps each
			t.Repeat(steps)
		}
		m.settleAll()
	})
}
