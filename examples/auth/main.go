// Command auth runs the example auth-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"github.com/dreamscape/eventbus/examples/internal/auth"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

func main() { service.Main(auth.App) }
