package eventbus_test

import (
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/internal/conformance"
)

// TestMain lets more tests wait at once than there are processors: the conformance suite waits more than it computes.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestConformance is the suite that a container and a real cluster run too (internal/itest).
func TestConformance(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{Topics: []string{}})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	conformance.Run(t, conformance.Backend{Brokers: broker.Brokers()})
}
