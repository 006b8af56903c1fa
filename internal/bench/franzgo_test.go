package bench_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// bare is a consumer on franz-go alone, as a careful service would write it: a goroutine a partition, tries in place, a dead letter,
// and a mark for the commit behind that. Its queues have no bound: a partition that waits holds no other back. It validates nothing.
type bare struct {
	*load
	watch  *watch
	client *kgo.Client
	queues map[int32]*queue
	wg     sync.WaitGroup
}

// queue is a partition's records that wait.
type queue struct {
	mu      sync.Mutex
	records []*kgo.Record
	more    chan struct{} // has one when there are records
}

func franzGoConsumes(b *testing.B, l *load, w *watch) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(l.broker.Brokers()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.topic.Name()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
	)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(b.Context())
	c := &bare{load: l, watch: w, client: client, queues: map[int32]*queue{}}
	c.wg.Go(func() { c.poll(ctx) })
	<-w.all
	cancel()
	c.wg.Wait()
}

func (c *bare) poll(ctx context.Context) {
	for ctx.Err() == nil {
		c.client.PollFetches(ctx).EachPartition(func(p kgo.FetchTopicPartition) {
			q := c.queues[p.Partition]
			if q == nil {
				q = &queue{more: make(chan struct{}, 1)}
				c.queues[p.Partition] = q
				c.wg.Go(func() { c.work(ctx, q) })
			}
			q.put(p.Records)
		})
	}
}

func (q *queue) put(records []*kgo.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records = append(q.records, records...)
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) take() []*kgo.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.records
	q.records = nil
	return taken
}

func (c *bare) work(ctx context.Context, q *queue) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.more:
		}
		for _, r := range q.take() {
			if c.settle(ctx, r) != nil {
				return
			}
		}
	}
}

// settle tries a record until it is done or dead-lettered; its error is that of the end.
func (c *bare) settle(ctx context.Context, r *kgo.Record) error {
	o, err := decode(r.Value)
	if err == nil {
		err = c.handle(c.watch, o)
	}
	for wait := 100 * time.Millisecond; err != nil && wait <= 400*time.Millisecond; wait *= 2 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		err = c.handle(c.watch, o)
	}
	if err != nil {
		letter := &kgo.Record{Topic: eventbus.DeadLetterTopic(r.Topic, group), Key: r.Key, Value: r.Value, Headers: []kgo.RecordHeader{{Key: "error", Value: []byte(err.Error())}}}
		if err := c.client.ProduceSync(ctx, letter).FirstErr(); err != nil {
			return err
		}
	}
	c.client.MarkCommitRecords(r)
	return ctx.Err()
}
