// Command voyage runs the example voyage-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/voyage"
)

func main() { service.Main(voyage.App) }
