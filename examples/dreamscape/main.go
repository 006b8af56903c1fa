// Command dreamscape runs all five services in one process, on an embedded broker or on the cluster that KAFKA_BROKERS names, and
// logs every event that passes:
//
//	go run ./examples/dreamscape            # until Ctrl-C, on the ports 3001 to 3005, the console on 3000; prints what to try
//	go run ./examples/dreamscape -once      # a traveller's whole journey, checked; exits 0 only if all of it went as it should
//	go run ./examples/dreamscape -once -v   # with the event log
//	go run ./examples/dreamscape -acls      # prints what Kafka must allow each of them, as arguments of kafka-acls.sh
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/dreamscape/eventbus/examples/acls"
	"github.com/dreamscape/eventbus/examples/internal/dreamscape"
)

func main() {
	once := flag.Bool("once", false, "drive a traveller's journey through the services, print what came of it, and exit")
	verbose := flag.Bool("v", false, "log every event with -once too")
	list := flag.Bool("acls", false, "print what Kafka must allow each service and their operator (KAFKA_TOPIC_PREFIX counts), and exit")
	flag.Parse()
	if *list {
		if err := acls.Print(os.Stdout, os.Getenv("KAFKA_TOPIC_PREFIX")); err != nil {
			fmt.Fprintln(os.Stderr, "dreamscape:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal does not wait for the drain
	run := dreamscape.Serve
	if *once {
		run = dreamscape.Once
	}
	if err := run(ctx, dreamscape.Options{Out: os.Stdout, Verbose: *verbose}); err != nil {
		fmt.Fprintln(os.Stderr, "dreamscape:", err)
		os.Exit(1)
	}
}
