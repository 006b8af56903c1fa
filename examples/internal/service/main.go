package service

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dreamscape/eventbus"
)

// Main is the main function of a service: it runs app against KAFKA_BROKERS, on its address or that of the flag -addr, and drains
// at SIGINT or SIGTERM. A second signal ends the process at once. It exits with 1 and a reason when the service fails.
func Main(app App) {
	addr := flag.String("addr", app.Addr, "address of the HTTP API")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	cfg, err := eventbus.FromEnv(app.Name)
	if err == nil {
		err = Run(ctx, app, cfg, *addr)
	}
	if err != nil {
		slog.Error("service failed", "error", err)
		os.Exit(1)
	}
}
