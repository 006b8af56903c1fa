package engine

// Bug is a mistake that others have made, built in on purpose so that a test can show that it would be seen. Only tests set one.
type Bug string

// The mistakes.
const (
	NoBug            Bug = ""
	CommitHighest    Bug = "commit-highest"     // commit the highest offset seen, not the lowest undone
	NoOwnership      Bug = "no-ownership"       // no end of ownership: late results count, and are committed
	MarkBeforeHandle Bug = "mark-before-handle" // an event counts as done before its handler has run
	ForgetLetter     Bug = "forget-letter"      // a dead letter is not waited for; the caller's part
	ForgetParked     Bug = "forget-parked"      // whoever takes over does not know which keys are parked; the caller's part
)

// Seed builds a mistake in.
func (e *Engine[T]) Seed(b Bug) { e.bug = b }
