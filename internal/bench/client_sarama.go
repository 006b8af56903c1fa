package main

import (
	"context"
	"errors"

	"github.com/IBM/sarama"
)

// sarama is idempotent with one request in flight only, and batches what comes meanwhile; with five it is faster to some brokers, and may
// write twice and out of order. Both are measured.

func saramaConfig(idempotent bool) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.ClientID = service
	c.ChannelBufferSize = 4_096
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Compression = sarama.CompressionNone
	if idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	c.Consumer.Offsets.Initial = sarama.OffsetOldest // its commits are a second apart, as the others'
	return c
}

func saramaPublishes(t task) (publisher, error)      { return publishSarama(t, saramaConfig(true)) }
func saramaPublishesPlain(t task) (publisher, error) { return publishSarama(t, saramaConfig(false)) }

func publishSarama(t task, config *sarama.Config) (publisher, error) {
	if t.Work == awaited {
		return publishSaramaSync(t, config)
	}
	producer, err := sarama.NewAsyncProducer(t.Brokers, config)
	if err != nil {
		return publisher{}, err
	}
	go func() {
		for m := range producer.Successes() {
			m.Metadata.(func(error))(nil)
		}
	}()
	go func() {
		for failed := range producer.Errors() {
			failed.Msg.Metadata.(func(error))(failed.Err)
		}
	}()
	return publisher{
		send: func(p payment, done func(error)) {
			m, err := saramaMessage(t, p)
			if err != nil {
				done(err)
				return
			}
			m.Metadata = done
			producer.Input() <- m
		},
		close: producer.AsyncClose,
	}, nil
}

func publishSaramaSync(t task, config *sarama.Config) (publisher, error) {
	producer, err := sarama.NewSyncProducer(t.Brokers, config)
	if err != nil {
		return publisher{}, err
	}
	return publisher{
		await: func(p payment) error {
			m, err := saramaMessage(t, p)
			if err != nil {
				return err
			}
			_, _, err = producer.SendMessage(m)
			return err
		},
		close: func() { _ = producer.Close() },
	}, nil
}

func saramaMessage(t task, p payment) (*sarama.ProducerMessage, error) {
	key, value, err := encode(p)
	return &sarama.ProducerMessage{Topic: t.Topic, Key: sarama.ByteEncoder(key), Value: sarama.ByteEncoder(value)}, err
}

func saramaConsumes(ctx context.Context, t task, h *handler) error {
	group, err := sarama.NewConsumerGroup(t.Brokers, t.Group, saramaConfig(false))
	if err != nil {
		return err
	}
	for ctx.Err() == nil && err == nil {
		err = group.Consume(ctx, []string{t.Topic}, saramaClaims{h})
	}
	return errors.Join(err, group.Close())
}

// saramaClaims has a goroutine a partition: sarama calls ConsumeClaim on one.
type saramaClaims struct{ *handler }

func (saramaClaims) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaClaims) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c saramaClaims) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, open := <-claim.Messages():
			if !open {
				return nil
			}
			if err := c.handleJSON(m.Value); err != nil {
				return err
			}
			session.MarkMessage(m, "")
		case <-session.Context().Done():
			return nil
		}
	}
}
