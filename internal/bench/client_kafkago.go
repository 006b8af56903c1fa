package main

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// kafka-go has no idempotent writer. A batch waits for its timeout unless it is full, a second by default: none would wait so long on
// purpose. A reader asks for each partition by itself.

const kafkaGoBuffer = 10_000 // events; its writer has no bound of its own

func kafkaGoPublishes(t task) (publisher, error) {
	w := &kafka.Writer{
		Addr: kafka.TCP(t.Brokers...), Topic: t.Topic, Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll,
		BatchSize: 10_000, BatchBytes: 1 << 20, BatchTimeout: 10 * time.Millisecond, Async: t.Work == pipelined,
	}
	if t.Work == awaited { // a batch of one goes at once, of two or more after the timeout, which cannot be none
		w.BatchTimeout = time.Millisecond
		w.BatchSize = min(t.Goroutines, 8)
	}
	room := make(chan struct{}, kafkaGoBuffer)
	w.Completion = func(messages []kafka.Message, err error) {
		for _, m := range messages {
			if done, ok := m.WriterData.(func(error)); ok {
				<-room
				done(err)
			}
		}
	}
	ctx := context.Background()
	return publisher{
		await: func(p payment) error {
			key, value, err := encode(p)
			if err != nil {
				return err
			}
			return w.WriteMessages(ctx, kafka.Message{Key: key, Value: value})
		},
		send: func(p payment, done func(error)) {
			key, value, err := encode(p)
			if err != nil {
				done(err)
				return
			}
			room <- struct{}{}
			if err := w.WriteMessages(ctx, kafka.Message{Key: key, Value: value, WriterData: done}); err != nil {
				<-room
				done(err)
			}
		},
		close: func() { _ = w.Close() },
	}, nil
}

func kafkaGoConsumes(ctx context.Context, t task, h *handler) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: t.Brokers, GroupID: t.Group, Topic: t.Topic, StartOffset: kafka.FirstOffset, CommitInterval: time.Second,
		QueueCapacity: 10_000, MaxBytes: 10 << 20,
	})
	settle := func(m kafka.Message) {
		if h.handleJSON(m.Value) == nil {
			_ = reader.CommitMessages(ctx, m) // it fails at the end of ctx only: the commit is made later
		}
	}
	lanes := newByPartition(settle)
	for {
		m, err := reader.FetchMessage(ctx)
		if err != nil {
			lanes.running.Wait()
			return errors.Join(err, reader.Close())
		}
		if h.work == 0 {
			settle(m)
			continue
		}
		lanes.put(ctx, int32(m.Partition), m) // #nosec G115 -- Kafka's own number, an int32
	}
}
