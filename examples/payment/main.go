// Command payment runs the example payment-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"github.com/dreamscape/eventbus/examples/internal/payment"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

func main() { service.Main(payment.App) }
