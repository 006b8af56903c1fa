// Command auth runs the example auth-service against KAFKA_BROKERS until it is interrupted.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/auth"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

func main() {
	addr := flag.String("addr", auth.App.Addr, "address of the HTTP API")
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
	cfg, err := eventbus.FromEnv(auth.App.Name)
	if err != nil {
		return err
	}
	return service.Run(ctx, auth.App, cfg, addr)
}
