package eventbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// assignment is one partition for as long as it is ours. When the partition comes back after a rebalance, that is a new assignment:
// every record and every result belongs to one, so that nothing of an old one can touch a new one.
type assignment struct {
	consumer  *consumer
	route     *route
	topic     string // Kafka's name
	partition int32

	// ctx is what handlers run in; it ends when the partition is lost, or the drain time over.
	ctx      context.Context
	cancel   context.CancelFunc
	stopping chan struct{} // closed: take no further record, start no further try
	stopOnce sync.Once
	done     chan struct{} // closed when the worker has returned

	mu        sync.Mutex
	arrived   sync.Cond // of mu: the queue has grown, or stopping was closed
	queue     []*kgo.Record
	bytes     int // of the queue
	paused    bool
	position  int64 // the first offset not done, -1 before the first record
	epoch     int32 // the leader epoch of the last record done, or unhandled
	committed int64 // the offset last committed for this assignment, -1 for none
	end       int64 // the partition's end as last seen
	waiting   string
	handling  time.Time // when the running try started; zero between tries

	owned bool // guarded by consumer.committing
}

// A partition whose queue has reached either of these is not fetched any further, until both have fallen by half.
const (
	maxQueued      = 1000
	maxQueuedBytes = 8 << 20
)

func newAssignment(ctx context.Context, c *consumer, topic string, partition int32) *assignment {
	a := &assignment{
		consumer: c, route: c.routes[topic], topic: topic, partition: partition,
		stopping: make(chan struct{}), done: make(chan struct{}),
		position: -1, committed: -1, epoch: unhandled, owned: true,
	}
	a.arrived.L = &a.mu
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// push queues fetched records, without waiting. Fetching pauses and resumes under the lock, so that neither can overtake the other.
func (a *assignment) push(records []*kgo.Record, end int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.position < 0 {
		a.position = records[0].Offset
	}
	for _, r := range records {
		a.queue = append(a.queue, r)
		a.bytes += recordBytes(r)
	}
	a.end = max(a.end, end)
	a.arrived.Signal()
	if !a.paused && (len(a.queue) >= maxQueued || a.bytes >= maxQueuedBytes) {
		a.paused = true
		a.consumer.client.PauseFetchPartitions(map[string][]int32{a.topic: {a.partition}})
	}
}

// next waits for a record; nil when the assignment is stopping.
func (a *assignment) next() *kgo.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) == 0 && !a.isStopping() {
		a.arrived.Wait()
	}
	if a.isStopping() {
		return nil
	}
	r := a.queue[0]
	a.queue[0] = nil
	a.queue = a.queue[1:]
	a.bytes -= recordBytes(r)
	if a.paused && len(a.queue) <= maxQueued/2 && a.bytes <= maxQueuedBytes/2 {
		a.paused = false
		a.consumer.client.ResumeFetchPartitions(map[string][]int32{a.topic: {a.partition}})
	}
	return r
}

// recordBytes is what a record weighs on the wire before compression.
func recordBytes(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

func (a *assignment) isStopping() bool {
	select {
	case <-a.stopping:
		return true
	default:
		return false
	}
}

// stop lets the running try end and nothing more begin. It does not wait.
func (a *assignment) stop() {
	a.stopOnce.Do(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		close(a.stopping)
		a.arrived.Broadcast()
	})
}

// sleep waits between tries; false when the assignment is stopping.
func (a *assignment) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.stopping:
		return false
	}
}

// work handles the records one after the other, until the assignment stops.
func (a *assignment) work() {
	defer close(a.done)
	for r := a.next(); r != nil; r = a.next() {
		if !r.Attrs.IsControl() && !a.process(r) { // a transaction's marker is only passed
			return
		}
		a.advance(r)
	}
}

// advance moves the position past a record that was handled or dead-lettered.
func (a *assignment) advance(r *kgo.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.position, a.epoch = r.Offset+1, r.LeaderEpoch
}

// process brings one record to its end. false: it has none, because the assignment is stopping; it will be delivered again.
func (a *assignment) process(r *kgo.Record) bool {
	raw, f := a.accept(r)
	if f == nil {
		f = a.handle(r, raw)
	}
	if f == nil {
		return true
	}
	if errors.Is(f.err, errStopping) || !a.deadLetter(r, *f) {
		return false
	}
	a.consumer.tellHandled(r, raw, *f)
	return true
}

var errStopping = errors.New("the assignment is stopping")

// accept decodes and checks a record.
func (a *assignment) accept(r *kgo.Record) (*RawEvent, *failure) {
	raw, err := decodeEvent(a.route.topic, r.Value)
	if raw != nil && err != nil && a.consumer.sub.Validation == ValidationReport {
		a.consumer.reportSchema(r, err)
		err = nil
	}
	if err == nil {
		raw.bound, err = a.route.bind(raw)
	}
	if err == nil {
		return raw, nil
	}
	class := ClassDecode
	var (
		broken   *SchemaError
		panicked *panicError
	)
	switch {
	case errors.As(err, &broken):
		class = ClassSchema
	case errors.As(err, &panicked):
		class = ClassPanic
	}
	return raw, &failure{class: class, err: err, first: time.Now()}
}

// handle tries until the event is handled (nil), or given up.
func (a *assignment) handle(r *kgo.Record, raw *RawEvent) *failure {
	var first time.Time
	for attempt := 1; ; attempt++ {
		started := time.Now()
		err := a.try(r, raw, attempt)
		took := time.Since(started)
		a.consumer.bus.count.tried(took, attempt)
		if err == nil {
			a.consumer.bus.count.consumed.Add(1)
			a.consumer.tellHandled(r, raw, failure{attempts: attempt, took: took})
			return nil
		}
		if a.isStopping() {
			return &failure{err: errStopping} // whatever it was, it spends no attempt
		}
		if first.IsZero() {
			first = time.Now()
		}
		wait, again := a.route.retry.again(err, attempt)
		if !again {
			return &failure{class: classify(err), err: err, attempts: attempt, first: first, took: took}
		}
		a.setWaiting(fmt.Sprintf("try %d of offset %d", attempt+1, r.Offset))
		ok := a.sleep(wait)
		a.setWaiting("")
		if !ok {
			return &failure{err: errStopping}
		}
	}
}

// try runs the middleware and the handler once, on a goroutine of its own: a handler may end its goroutine (runtime.Goexit, as a
// test's FailNow does), and must not end the partition with it.
func (a *assignment) try(r *kgo.Record, raw *RawEvent, attempt int) error {
	ctx, cancel := context.WithTimeout(a.ctx, a.route.timeout)
	defer cancel()
	ctx = handling(ctx, raw, Delivery{
		Topic: a.route.topic.name, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key,
		Headers: deliveryHeaders(r.Headers), Group: a.consumer.sub.Group, Attempt: attempt,
	})
	a.setHandling(time.Now())
	defer a.setHandling(time.Time{})
	result := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { result <- err }()
		err = catch(func() error { return a.route.handler(ctx, raw) })
	}()
	err := <-result
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return timeoutError{err}
	}
	return err
}

func (a *assignment) setWaiting(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = what
}

func (a *assignment) setHandling(since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handling = since
}

// begin sets the position of an assignment that has seen no record yet.
func (a *assignment) begin(offset int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.position < 0 {
		a.position = offset
	}
}

func (a *assignment) begun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.position >= 0
}

// lag is how many records lie between the position and the end as last seen.
func (a *assignment) lag() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.position < 0 {
		return 0
	}
	return max(a.end-a.position, 0)
}

// see notes the partition's end.
func (a *assignment) see(end int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end = max(a.end, end)
}

// stuck says whether a handler runs on long after its time.
func (a *assignment) stuck() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.handling.IsZero() && time.Since(a.handling) > a.route.timeout+stallAfter
}
