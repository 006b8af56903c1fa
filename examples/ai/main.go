// Command ai runs the example ai-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"github.com/dreamscape/eventbus/examples/internal/ai"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

func main() { service.Main(ai.App) }
