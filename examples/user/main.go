// Command user runs the example user-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/user"
)

func main() { service.Main(user.App) }
