package main

import (
	"context"
	"sync"
)

// byPartition handles records with one goroutine a partition, as most services do. It is for one goroutine that reads.
type byPartition[R any] struct {
	handle  func(R)
	queues  map[int32]*queue[R]
	running sync.WaitGroup
}

// queue is a partition's records that wait.
type queue[R any] struct {
	mu      sync.Mutex
	changed *sync.Cond
	records []R
	closed  bool
}

// waiting is how many records of a partition may wait: more than a goroutine gets through in a run at 1 ms each, so that in the poison runs no
// partition holds another back. Without a bound, a client would be charged for fetching all of the topic.
const waiting = 20_000

func newByPartition[R any](handle func(R)) *byPartition[R] {
	return &byPartition[R]{handle: handle, queues: map[int32]*queue[R]{}}
}

// put blocks while the partition has too many.
func (b *byPartition[R]) put(ctx context.Context, partition int32, records ...R) {
	q := b.queues[partition]
	if q == nil {
		q = &queue[R]{}
		q.changed = sync.NewCond(&q.mu)
		b.queues[partition] = q
		b.running.Go(func() { b.work(ctx, q) })
		context.AfterFunc(ctx, q.close)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.records) > waiting && !q.closed {
		q.changed.Wait()
	}
	q.records = append(q.records, records...)
	q.changed.Broadcast()
}

func (b *byPartition[R]) work(ctx context.Context, q *queue[R]) {
	for {
		taken := q.take()
		if taken == nil {
			return
		}
		for _, r := range taken {
			if ctx.Err() != nil {
				return
			}
			b.handle(r)
		}
	}
}

// take returns all that waits, or nil at the end.
func (q *queue[R]) take() []R {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.records) == 0 && !q.closed {
		q.changed.Wait()
	}
	taken := q.records
	q.records = nil
	q.changed.Broadcast()
	if q.closed {
		return nil
	}
	return taken
}

func (q *queue[R]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}
