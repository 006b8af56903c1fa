package itest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dreamscape/eventbus/internal/conformance"
)

// TestBrokers runs the conformance suite on brokers that already run: KAFKA_BROKERS=host:port,…
func TestBrokers(t *testing.T) {
	brokers := os.Getenv("KAFKA_BROKERS")
	if brokers == "" {
		t.Skip("KAFKA_BROKERS is not set: start a broker with scripts/kafka up")
	}
	conformance.Run(t, conformance.Backend{Brokers: strings.Split(brokers, ",")})
}
