//go:build cgo

package main

import (
	"context"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// confluent-kafka-go is librdkafka by cgo: idempotent, all acks. Delivery reports leave out what nobody reads, which its guide advises.
// Offsets are stored when a message is handed to the program, before it is handled: its default, and to its advantage.

const confluentMissing = ""

func confluentPublishes(t task) (publisher, error) {
	linger := 5
	if t.Work == awaited {
		linger = 0
	}
	producer, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": strings.Join(t.Brokers, ","), "client.id": service, "acks": "all", "enable.idempotence": true, "linger.ms": linger,
		"compression.type": "none", "partitioner": "murmur2_random", "go.delivery.report.fields": "none", "go.logs.channel.enable": true,
	})
	if err != nil {
		return publisher{}, err
	}
	go discardLogs(producer.Logs())
	go func() {
		for e := range producer.Events() {
			if m, ok := e.(*kafka.Message); ok {
				m.Opaque.(func(error))(m.TopicPartition.Error)
			}
		}
	}()
	send := func(p payment, done func(error)) {
		key, value, err := encode(p)
		if err != nil {
			done(err)
			return
		}
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &t.Topic, Partition: kafka.PartitionAny}, Key: key, Value: value, Opaque: done}
		err = producer.Produce(m, nil)
		for full(err) {
			time.Sleep(time.Millisecond)
			err = producer.Produce(m, nil)
		}
		if err != nil {
			done(err)
		}
	}
	return publisher{
		send: send,
		await: func(p payment) error {
			acknowledged := make(chan error, 1)
			send(p, func(err error) { acknowledged <- err })
			return <-acknowledged
		},
		close: producer.Close,
	}, nil
}

func full(err error) bool {
	failed, ok := err.(kafka.Error)
	return ok && failed.Code() == kafka.ErrQueueFull
}

func discardLogs(logs chan kafka.LogEvent) {
	for range logs {
	}
}

func confluentConsumes(ctx context.Context, t task, h *handler) error {
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": strings.Join(t.Brokers, ","), "client.id": service, "group.id": t.Group, "auto.offset.reset": "earliest",
		"auto.commit.interval.ms": 1_000, "go.logs.channel.enable": true,
	})
	if err != nil {
		return err
	}
	defer func() { _ = consumer.Close() }()
	go discardLogs(consumer.Logs())
	if err := consumer.Subscribe(t.Topic, nil); err != nil {
		return err
	}
	lanes := newByPartition(func(m *kafka.Message) { _ = h.handleJSON(m.Value) })
	for ctx.Err() == nil {
		switch m := consumer.Poll(100).(type) {
		case *kafka.Message:
			if h.work == 0 {
				_ = h.handleJSON(m.Value) // an event that does not decode is not counted, and the run fails by it
				continue
			}
			lanes.put(ctx, m.TopicPartition.Partition, m)
		case kafka.Error:
			if m.IsFatal() {
				return m
			}
		}
	}
	lanes.running.Wait()
	return ctx.Err()
}
