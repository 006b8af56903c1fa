// Command ai runs the example ai-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/ai"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

func main() {
	addr := flag.String("addr", ai.App.Addr, "address of the HTTP API")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := run(ctx, *addr); err != nil {
		slog.Error("service failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string) error {
	cfg, err := eventbus.FromEnv(ai.App.Name)
	if err != nil {
		return err
	}
	return service.Run(ctx, ai.App, cfg, addr)
}
