package eventbus_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// world is a cluster in virtual time: everything in it, waits included, takes no real time and starts at the same moment.
type world struct {
	*testing.T
	net     kfake.VirtualNetwork
	cluster *kfake.Cluster
	start   time.Time
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	orders  *eventbus.Topic[order]
}

type order struct {
	ID     string `json:"id"`
	Number int    `json:"number"`
}

const orders = "acme.orders"

// inWorld runs test in virtual time, with one broker that has the topic acme.orders with one partition, and its dead letters.
func inWorld(t *testing.T, test func(w *world), opts ...kfake.Opt) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, start: time.Now()}
		w.dial = w.net.DialContext
		w.orders = eventbus.NewTopic(orders, &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		base := []kfake.Opt{
			kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(w.net.Listen),
			kfake.SeedTopics(1, orders, orders+".dlq.group"), kfake.GroupMinSessionTimeout(100 * time.Millisecond),
		}
		var err error
		w.cluster, err = kfake.NewCluster(append(base, opts...)...)
		require.NoError(t, err)
		t.Cleanup(w.cluster.Close)
		test(w)
	})
}

// bus returns a bus of this world; the test shuts it down, or it is shut down at the end.
func (w *world) bus(change func(*eventbus.Config)) *eventbus.Bus {
	cfg := eventbus.Config{
		Service: "acme-service", Brokers: w.cluster.ListenAddrs(), Logger: slog.New(slog.DiscardHandler), Client: w.client(),
		Retry: eventbus.RetryPolicy{Jitter: -1}, AllowPlaintextLogin: true,
	}
	if change != nil {
		change(&cfg)
	}
	bus, err := eventbus.New(cfg)
	require.NoError(w, err)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = bus.Shutdown(ctx) // some tests leave the cluster broken
	})
	return bus
}

func (w *world) client() []kgo.Opt {
	return []kgo.Opt{kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		return w.dial(ctx, network, address)
	})}
}

func (w *world) order(id string, number int) *eventbus.BaseEvent[order] {
	return w.orders.New(order{ID: id, Number: number})
}

// ordered publishes so many orders, of so many keys in turn, to the empty topic.
func (w *world) ordered(bus *eventbus.Bus, n, keys int) {
	for i := range n {
		bus.PublishAsync(context.Background(), w.order(fmt.Sprint("o", i%keys), i), nil)
	}
	w.until("all published", func() bool { return w.held(orders) == int64(n) })
}

// placing returns what puts up to n orders of a key into a partition of acme.orders without waiting, and what waits until all are written.
func (w *world) placing(bus *eventbus.Bus, n int, opts ...kgo.Opt) (put func(partition int32, key string, number int), flush func()) {
	cl := w.raw(append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(n))...)
	put = func(partition int32, key string, number int) {
		cl.Produce(context.Background(), &kgo.Record{Topic: orders, Partition: partition, Key: []byte(key), Value: mustEncode(w, bus, w.order(key, number))}, nil)
	}
	return put, func() { require.NoError(w, cl.Flush(context.Background())) }
}

// delays are the times from sending orders to handling them, by their numbers.
type delays struct {
	mu      sync.Mutex
	sent    map[int]time.Time
	handled int
	worst   time.Duration
}

// sends notes that an order is about to be sent.
func (d *delays) sends(number int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sent == nil {
		d.sent = map[int]time.Time{}
	}
	d.sent[number] = time.Now()
}

func (d *delays) handles(number int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handled, d.worst = d.handled+1, max(d.worst, time.Since(d.sent[number]))
}

func (d *delays) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handled == len(d.sent)
}

// took is the virtual time since the world began.
func (w *world) took() time.Duration { return time.Since(w.start) }

// held is how many records the topic's only partition has.
func (w *world) held(topic string) int64 {
	info := w.cluster.PartitionInfo(topic, 0)
	require.NotNil(w, info)
	return info.HighWatermark
}

// commits are the group's committed offsets of a topic, by partition.
func (w *world) commits(topic string) map[int32]int64 {
	commits := map[int32]int64{}
	if info := w.cluster.GroupInfo("group"); info != nil {
		for partition, c := range info.Commits[topic] {
			commits[partition] = c.Offset
		}
	}
	return commits
}

// committed is the group's committed offset of acme.orders, -1 for none.
func (w *world) committed() int64 {
	if at, ok := w.commits(orders)[0]; ok {
		return at
	}
	return -1
}

// running is a Run under way.
type running struct {
	stop  context.CancelFunc
	ended chan error
}

func (w *world) run(bus *eventbus.Bus, h eventbus.Handler[order], opts *eventbus.HandleOptions, change func(*eventbus.Subscription)) *running {
	sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(h, opts)}}
	if change != nil {
		change(&sub)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, ended: make(chan error, 1)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.ended <- bus.Run(ctx, sub)
	}()
	w.Cleanup(func() {
		cancel()
		<-over
	})
	return r
}

// end stops the run and returns its result.
func (r *running) end() error {
	r.stop()
	return <-r.ended
}

// journal is what handlers saw and when; it is safe for concurrent use.
type journal struct {
	mu      sync.Mutex
	entries []string
	times   []time.Time
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
	j.times = append(j.times, time.Now())
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string{}, j.entries...)
}

// gaps are the times between the entries.
func (j *journal) gaps() []time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(j.times); i++ {
		gaps = append(gaps, j.times[i].Sub(j.times[i-1]))
	}
	return gaps
}

// until lets virtual time pass until the condition holds; a minute of it at most.
func (w *world) until(what string, condition func() bool) {
	w.Helper()
	for range 6000 {
		synctest.Wait()
		if condition() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Fatalf("a virtual minute passed: %s", what)
}

// recovered waits until health has nothing to say any more: a failed commit is mended by the next one, a second later.
func (w *world) recovered(bus *eventbus.Bus) {
	w.Helper()
	w.until("nothing is wrong any more", func() bool { return bus.Health(context.Background()).Error == "" })
}

func ignore(context.Context, *eventbus.BaseEvent[order]) error { return nil }

// handles notes the numbers of the orders it handles.
func handles(j *journal) eventbus.Handler[order] {
	return func(_ context.Context, e *eventbus.BaseEvent[order]) error {
		j.add("%d", e.Payload.Number)
		return nil
	}
}

func (w *world) raw(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...)), opts...)...)
	require.NoError(w, err)
	w.Cleanup(cl.Close)
	return cl
}

// loseSession has the group forget its member, once.
func loseSession(w *world) {
	w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID, Count: 1, TopLevel: true})
}

// noHold has an event dead-lettered when its tries are used up, also where no other event has succeeded.
func noHold(c *eventbus.Config) { c.Retry.OutageHold = -1 }
