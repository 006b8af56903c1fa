package main

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Watermill-Kafka waits for every event, by sarama's SyncProducer: many goroutines publish in place of a pipeline. Its subscriber hands out
// an event a partition at a time.

const watermillKey = "key"

var watermillMarshaler = kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) { return m.Metadata.Get(watermillKey), nil })

func watermillPublishes(t task) (publisher, error) {
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: t.Brokers, Marshaler: watermillMarshaler, OverwriteSaramaConfig: saramaConfig(true)}, watermill.NopLogger{})
	if err != nil {
		return publisher{}, err
	}
	return publisher{
		await: func(e payment) error {
			key, value, err := encode(e)
			if err != nil {
				return err
			}
			m := message.NewMessage(watermill.NewUUID(), value)
			m.Metadata.Set(watermillKey, string(key))
			return p.Publish(t.Topic, m)
		},
		close: func() { _ = p.Close() },
	}, nil
}

func watermillConsumes(ctx context.Context, t task, h *handler) error {
	config := saramaConfig(false)
	config.Consumer.Return.Errors = true // the subscriber reads them
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: t.Brokers, Unmarshaler: watermillMarshaler, OverwriteSaramaConfig: config, ConsumerGroup: t.Group,
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	messages, err := s.Subscribe(ctx, t.Topic)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	settle := func(m *message.Message) {
		if h.handleJSON(m.Payload) == nil {
			m.Ack()
			return
		}
		m.Nack()
	}
	for m := range messages {
		if h.work == 0 {
			settle(m)
			continue
		}
		go settle(m) // at most one a partition: the next comes behind its ack
	}
	return s.Close()
}
