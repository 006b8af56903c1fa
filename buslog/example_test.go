package buslog_test

import (
	"log/slog"
	"os"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/buslog"
)

// On a terminal a line an event is for people; elsewhere it is JSON.
func ExampleNewHandler() {
	logger := slog.New(buslog.NewHandler(os.Stderr, nil))
	cfg := eventbus.Config{Service: "auth-service", Logger: logger, Hooks: []eventbus.Hooks{buslog.Hooks(logger)}}
	_ = cfg // goes to eventbus.New

	readable := slog.New(withoutTime{buslog.NewHandler(os.Stdout, &buslog.Options{Format: buslog.FormatReadable})})
	buslog.Hooks(readable).Published(eventbus.PublishedInfo{Topic: "dreamscape.user.created", Partition: 2, Offset: 41, EventID: "e-1", CorrelationID: "c-7", KeyHash: "b134d41f", Took: 2_345_678})
	// Output: INFO  published topic=dreamscape.user.created partition=2 offset=41 event_id=e-1 correlation_id=c-7 key_hash=b134d41f took=2.35ms
}
