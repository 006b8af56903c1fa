package itest_test

import (
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests or, where a test has started this binary again for it, one process of a cluster's clients.
func TestMain(m *testing.M) {
	text, child := os.LookupEnv(roleVariable)
	if !child {
		os.Exit(m.Run())
	}
	if err := playRole(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
