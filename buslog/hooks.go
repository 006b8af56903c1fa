package buslog

import (
	"context"
	"log/slog"
	"time"

	"github.com/dreamscape/eventbus"
)

// Hooks log what becomes of every event, a line each, for [eventbus.Config.Hooks]: "published" and "handled" at level Info, "not published" and "waits for
// another try" at Warn. A bus logs by itself what it gives up; what follows a parked key is "dead-lettered behind its key". Keys are hashed: see [eventbus.KeyHash]. At thousands of events a second, a logger of a
// higher level costs next to nothing.
func Hooks(logger *slog.Logger) eventbus.Hooks {
	return eventbus.Hooks{
		Published: func(i eventbus.PublishedInfo) { published(logger, i) },
		Handled:   func(i eventbus.HandledInfo) { handled(logger, i) },
		Parked:    func(k eventbus.ParkedKey) { parked(logger, k) },
	}
}

func published(logger *slog.Logger, i eventbus.PublishedInfo) {
	level, message := slog.LevelInfo, "published"
	if i.Err != nil {
		level, message = slog.LevelWarn, "not published"
	}
	if !logger.Enabled(context.Background(), level) {
		return
	}
	attrs := event(i.Topic, i.Partition, i.Offset, i.EventID, i.CorrelationID, i.KeyHash)
	attrs = append(attrs, slog.Duration("took", i.Took))
	if i.Err != nil {
		attrs = append(attrs, slog.Any("error", i.Err))
	}
	logger.LogAttrs(context.Background(), level, message, attrs...)
}

func handled(logger *slog.Logger, i eventbus.HandledInfo) {
	message := "handled"
	switch i.DeadLetter {
	case "":
	case eventbus.ClassSequence:
		message = "dead-lettered behind its key"
	default: // the bus has logged it
		return
	}
	if !logger.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	attrs := append(event(i.Topic, i.Partition, i.Offset, i.EventID, i.CorrelationID, i.KeyHash),
		slog.String("group", i.Group), slog.String("source", i.Source), slog.Int("attempts", i.Attempts), slog.Duration("took", i.Took), slog.Duration("age", i.Age))
	logger.LogAttrs(context.Background(), slog.LevelInfo, message, attrs...)
}

func parked(logger *slog.Logger, k eventbus.ParkedKey) {
	logger.LogAttrs(context.Background(), slog.LevelWarn, "waits for another try",
		slog.String("topic", k.Topic), slog.Int("partition", int(k.Partition)), slog.Int64("offset", k.Offset), slog.String("key_hash", k.KeyHash),
		slog.String("class", string(k.Class)), slog.Int("attempts", k.Attempts), slog.Duration("next", time.Until(k.NextTry)), slog.Int("behind", k.Behind))
}

func event(topic string, partition int32, offset int64, id, correlation, keyHash string) []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("topic", topic))
	if offset >= 0 {
		attrs = append(attrs, slog.Int("partition", int(partition)), slog.Int64("offset", offset))
	}
	attrs = append(attrs, slog.String("event_id", id))
	if correlation != id {
		attrs = append(attrs, slog.String("correlation_id", correlation))
	}
	return append(attrs, slog.String("key_hash", keyHash))
}
