package eventbus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/internal/conformance"
)

// TestConformance is the suite that a container and a real cluster run too (internal/itest).
func TestConformance(t *testing.T) {
	broker, err := embedded.Start(embedded.Options{Topics: []string{}})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	conformance.Run(t, conformance.Backend{Brokers: broker.Brokers()})
}
