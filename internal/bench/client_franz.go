package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// Bare franz-go: idempotent, all acks. Its own linger of 10 ms is best for pipelined publishing; one who waits wants none.

func franzOptions(t task) []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(t.Brokers...), kgo.ClientID(service), kgo.DefaultProduceTopic(t.Topic), kgo.ProducerBatchCompression(kgo.NoCompression())}
	if t.Work == awaited {
		opts = append(opts, kgo.ProducerLinger(0))
	}
	return append(opts, t.Settings.options()...)
}

func franzPublishes(t task) (publisher, error) {
	client, err := kgo.NewClient(franzOptions(t)...)
	if err != nil {
		return publisher{}, err
	}
	ctx := context.Background()
	return publisher{
		await: func(p payment) error {
			key, value, err := encode(p)
			if err != nil {
				return err
			}
			return client.ProduceSync(ctx, &kgo.Record{Key: key, Value: value}).FirstErr()
		},
		send: func(p payment, done func(error)) {
			key, value, err := encode(p)
			if err != nil {
				done(err)
				return
			}
			client.Produce(ctx, &kgo.Record{Key: key, Value: value}, func(_ *kgo.Record, err error) { done(err) })
		},
		close: client.Close,
	}, nil
}

func franzConsumes(ctx context.Context, t task, h *handler) error {
	return consumeFranz(ctx, t, h, decode, h.work > 0)
}

// partitionsConsume is the yardstick of what lanes cost: the same decoding, and a goroutine a partition in their place.
func partitionsConsume(ctx context.Context, t task, h *handler) error {
	return consumeFranz(ctx, t, h, decodeEvent, true)
}

// consumeFranz marks what is done for a commit a second.
func consumeFranz(ctx context.Context, t task, h *handler, decode func([]byte) (payment, error), parallel bool) error {
	client, err := kgo.NewClient(append(franzOptions(t),
		kgo.ConsumerGroup(t.Group), kgo.ConsumeTopics(t.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
	)...)
	if err != nil {
		return err
	}
	defer client.Close()
	c := careful{handler: h, client: client, decode: decode, letters: eventbus.DeadLetterTopic(t.Topic, t.Group)}
	lanes := newByPartition(func(r *kgo.Record) { c.settle(ctx, r) })
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachPartition(func(p kgo.FetchTopicPartition) {
			if parallel {
				lanes.put(ctx, p.Partition, p.Records...)
				return
			}
			for _, r := range p.Records {
				c.settle(ctx, r)
			}
		})
	}
	lanes.running.Wait()
	return ctx.Err()
}

// careful is how a careful service handles a record: tries in place, a dead letter, and a mark for the commit behind that.
type careful struct {
	*handler
	client  *kgo.Client
	decode  func([]byte) (payment, error)
	letters string
}

func (c *careful) settle(ctx context.Context, r *kgo.Record) {
	p, err := c.decode(r.Value)
	if err == nil {
		err = c.handle(p)
	}
	for i := 0; err != nil && i < len(waits); i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(waits[i]):
		}
		err = c.handle(p)
	}
	if err != nil {
		letter := &kgo.Record{Topic: c.letters, Key: r.Key, Value: r.Value, Headers: []kgo.RecordHeader{{Key: "error", Value: []byte(err.Error())}}}
		if c.client.ProduceSync(ctx, letter).FirstErr() != nil {
			return
		}
	}
	c.client.MarkCommitRecords(r)
}
