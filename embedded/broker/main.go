// Command broker runs the embedded broker as a program, so that several processes can share it:
//
//	go run ./embedded/broker [-port 9092] [-partitions 3] [-dir data]
//
// It has DreamScape's topics and ends at SIGINT or SIGTERM, with everything that it kept in memory; what is in the folder -dir is there
// at the next start, also after a kill -9.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dreamscape/eventbus/embedded"
)

func main() {
	port := flag.Int("port", 9092, "port of 127.0.0.1 to listen on; 0 for any")
	partitions := flag.Int("partitions", 3, "partitions of each topic")
	dir := flag.String("dir", "", "folder that keeps everything across starts; empty: in memory")
	prefix := flag.String("prefix", os.Getenv("KAFKA_TOPIC_PREFIX"), "prefix of the topics' names")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	broker, err := embedded.Start(embedded.Options{Port: *port, Partitions: *partitions, TopicPrefix: *prefix, Dir: *dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer broker.Close()
	fmt.Printf("KAFKA_BROKERS=%s\n", strings.Join(broker.Brokers(), ","))
	<-ctx.Done()
}
