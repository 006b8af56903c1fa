package bustest_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// fakeT is a test that may fail without failing this one.
type fakeT struct {
	testing.TB // nil: what is not overridden is not expected to be called

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

// inTest runs f as a test and returns how it failed, "" if it passed.
func inTest(f func(t testing.TB)) string {
	t := &fakeT{}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer t.cleanUp()
		f(t)
	}()
	<-over
	return strings.Join(t.failures, "\n")
}

func (t *fakeT) cleanUp() {
	for len(t.cleanups) > 0 {
		last := t.cleanups[len(t.cleanups)-1]
		t.cleanups = t.cleanups[:len(t.cleanups)-1]
		last()
	}
}

func (t *fakeT) Helper() {}

func (t *fakeT) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *fakeT) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

// Fatalf ends the test's goroutine, as a real one does.
func (t *fakeT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}
