package eventbus_test

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// needDurableLocks skips a test whose goroutines may wait for a lock of the Kafka client while another one has it and waits for an answer. A sync.Mutex
// keeps virtual time from passing meanwhile; the client has locks that do not, by its build tag synctests. TestWithDurableLocks runs these tests.
func needDurableLocks(t *testing.T) {
	t.Helper()
	require.Regexp(t, durableTests, t.Name())
	if !durableLocks {
		t.Skip("see TestWithDurableLocks")
	}
}

var durableTests = regexp.MustCompile(`^(TestTransactionSimulation|TestTransactionSimulationNoticesSeededBugs|TestSequenceSimulation|TestSequenceSimulationNoticesSeededBugs|TestARebalanceWhile.*)$`)

// TestWithDurableLocks runs the tests that need such locks, by a binary of its own.
func TestWithDurableLocks(t *testing.T) {
	if durableLocks {
		t.Skip("this is that binary")
	}
	t.Parallel()
	args := []string{"test", "-tags=synctests", "-count=1", "-timeout=15m", "-run=" + durableTests.String()}
	if underRace {
		args = append(args, "-race")
	}
	output, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput()
	require.NoError(t, err, "go %v\n%s", args, output)
	require.NotContains(t, string(output), "no tests to run")
}
