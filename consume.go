package eventbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer runs one subscription: a client of its own, one goroutine that polls, one that commits, one that looks for what is
// wrong, and one for each assigned partition.
type consumer struct {
	bus    *Bus
	sub    Subscription
	group  string            // Kafka's name
	routes map[string]*route // by Kafka's topic name
	client *kgo.Client
	log    *slog.Logger
	work   context.Context    // what assignments' contexts come from; outlives the ctx of Run by the drain
	quit   context.CancelFunc // ends work
	end    context.CancelFunc // ends the poll loop

	workers sync.WaitGroup // of assignments, the lost ones included
	look    chan struct{}  // has an entry: inspect now

	mu       sync.Mutex
	assigned map[topicPartition]*assignment
	joined   bool
	joining  bool      // the client is in a rebalance
	wasReady bool      // FailFast is for the start
	fatal    error     // why the consumer ended by itself
	looked   bool      // an inspection has seen the topics
	giving   int       // releases under way, in which nobody polls
	draining bool      // no assignment starts any more
	polled   time.Time // when a poll last returned
	troubles map[string]trouble

	// committing is held from the choice of offsets to the broker's answer, and while ownership ends: a commit that arrives
	// after its partition went to another member would rewind that member (no broker refuses it).
	committing turn
}

// turn is a lock that may be held while waiting for the network. Unlike sync.Mutex it lets virtual time pass meanwhile.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

type topicPartition struct {
	topic     string
	partition int32
}

// route is a checked Route on its bus.
type route struct {
	topic      *topicSpec
	kafkaTopic string
	bind       func(*RawEvent) (func(context.Context) error, error)
	handler    RawHandler // all middleware around the bound handler
	timeout    time.Duration
	retry      RetryPolicy
}

const (
	pollRecords    = 1000
	pollTimeout    = 5 * time.Second // a poll returns at least so often, as a sign of life
	commitInterval = time.Second
	drainGrace     = time.Second // what a handler gets to return after its ctx is cancelled
	failFastAfter  = 3 * time.Second
)

// newConsumer makes the consumer of a checked subscription; it begins to join its group. Handlers get the values of ctx.
func newConsumer(ctx context.Context, b *Bus, sub Subscription) (*consumer, error) {
	c := &consumer{
		bus: b, sub: sub, group: b.cfg.TopicPrefix + sub.Group, routes: map[string]*route{}, assigned: map[topicPartition]*assignment{},
		committing: make(turn, 1), look: make(chan struct{}, 1), troubles: map[string]trouble{}, polled: time.Now(), log: b.cfg.Logger.With("group", b.cfg.TopicPrefix+sub.Group),
	}
	for _, r := range sub.Routes {
		name := b.cfg.TopicPrefix + r.topic.name
		c.routes[name] = &route{topic: r.topic, kafkaTopic: name, bind: r.bind, handler: wrap(b.cfg.Middleware), timeout: r.timeout, retry: *r.retry}
	}
	c.work, c.quit = context.WithCancel(context.WithoutCancel(ctx))
	if _, err := kgo.NewClient(c.options()...); err != nil { // sets c.client by OnNewClient
		c.quit()
		return nil, fmt.Errorf("eventbus: Subscription %q: %w", sub.Group, err)
	}
	return c, nil
}

// OnNewClient is called before the client begins to join its group, and so before it calls back.
func (c *consumer) OnNewClient(client *kgo.Client) { c.client = client }

var (
	_ kgo.HookNewClient        = (*consumer)(nil)
	_ kgo.HookGroupManageError = (*consumer)(nil)
	_ kgo.HookBrokerWrite      = (*consumer)(nil)
	_ kgo.HookBrokerE2E        = (*consumer)(nil)
)

func wrap(middleware []Middleware) RawHandler {
	handler := func(ctx context.Context, e *RawEvent) error {
		if e.bound == nil {
			return Permanent(errors.New("eventbus: middleware passed on another event than it was given"))
		}
		return e.bound(ctx)
	}
	for _, m := range slices.Backward(middleware) {
		handler = m(handler)
	}
	return handler
}

func (c *consumer) options() []kgo.Opt {
	// The client's own wait of 5 s would hold back the first event of a partition that joins while the others are being waited on.
	opts := append([]kgo.Opt{kgo.MaxDecompressBatchBytes(64 << 20), kgo.FetchMaxWait(500 * time.Millisecond)}, c.bus.clientOptions()...)
	return append(opts,
		kgo.WithHooks(c),
		kgo.ConsumerGroup(c.group),
		kgo.ConsumeTopics(slices.Sorted(maps.Keys(c.routes))...),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // nothing published before a new group joined is lost
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the position has to pass a transaction's marker, or the lag would never be 0
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(c.sub.SessionTimeout),
		kgo.RebalanceTimeout(c.sub.RebalanceTimeout),
		kgo.HeartbeatInterval(min(heartbeatInterval, c.sub.SessionTimeout/3)),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(c.onAssigned),
		kgo.OnPartitionsRevoked(c.onRevoked),
		kgo.OnPartitionsLost(c.onLost),
	)
}

// run consumes until ctx ends and then drains. Its error is why it ended by itself, or what the drain left undone.
func (c *consumer) run(ctx context.Context) error {
	ctx, c.end = context.WithCancel(ctx)
	defer c.end()
	background, stop := context.WithCancel(context.Background())
	var helpers sync.WaitGroup
	helpers.Go(func() { c.commitLoop(background) })
	helpers.Go(func() { c.inspectLoop(background) })

	c.poll(ctx)
	unfinished := c.release(c.drain(), c.sub.DrainTimeout)
	c.takeAll()
	stop()
	helpers.Wait()
	c.leave()
	c.quit()
	err := c.failed()
	if !waitFor(c.workers.Wait, drainGrace) || unfinished > 0 {
		err = errors.Join(err, fmt.Errorf("eventbus: Subscription %q: %d handlers did not end within DrainTimeout %v and were left behind; their events come again",
			c.sub.Group, max(unfinished, 1), c.sub.DrainTimeout))
	}
	return err
}

// leave leaves the group and closes the client. Leaving waits for a rebalance under way and closing for a broker that is frozen, so
// both are bounded; a client that is left closing ends by itself.
func (c *consumer) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	c.client.AllowRebalance()
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		c.log.Warn("leaving the group failed; its partitions are free after SessionTimeout", "error", err)
	}
	waitFor(c.client.CloseAllowingRebalance, drainGrace)
}

// waitFor says whether f has returned within d; else f goes on alone.
func waitFor(f func(), d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	done, err := bounded(ctx, func() (bool, error) {
		f()
		return true, nil
	})
	return done && err == nil
}

// fail ends the consumer with err.
func (c *consumer) fail(err error) {
	c.mu.Lock()
	c.fatal = err
	c.mu.Unlock()
	c.end()
}

func (c *consumer) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal
}

// poll fetches and hands out until ctx ends.
func (c *consumer) poll(ctx context.Context) {
	for ctx.Err() == nil {
		pctx, cancel := context.WithTimeout(ctx, pollTimeout)
		fetches := c.client.PollRecords(pctx, pollRecords)
		cancel()
		c.dispatch(fetches)
		c.client.AllowRebalance() // the gate is held only while handing out
		if fetches.IsClientClosed() {
			c.fail(fmt.Errorf("eventbus: Subscription %q: %w", c.sub.Group, ErrClosed))
		}
		if c.noteErrors(fetches) {
			sleep(ctx, backOff(1))
		}
	}
}

// dispatch queues what was fetched, without waiting. Records of a partition that is not ours any longer are dropped.
func (c *consumer) dispatch(fetches kgo.Fetches) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.polled = time.Now()
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		a := c.assigned[topicPartition{p.Topic, p.Partition}]
		if a == nil || len(p.Records) == 0 {
			return
		}
		a.push(p.Records, p.LastStableOffset)
	})
}

// noteErrors remembers and logs what a poll found wrong; the loop goes on, whatever it is. It says whether there was anything.
func (c *consumer) noteErrors(fetches kgo.Fetches) (any bool) {
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
			return
		}
		any = true
		if topic == "" {
			return // of the group's session, which OnGroupManageError names
		}
		var lost *kgo.ErrDataLoss
		if errors.As(err, &lost) {
			c.log.Error("data loss: records are gone from the topic before this group read them", "topic", topic, "partition", partition, "error", err)
			return
		}
		c.trouble(fetchTrouble(topic, err), fmt.Errorf("fetching from %s: %w", topic, err))
	})
	return any
}

// fetchTrouble names what is wrong with fetching a topic. A refusal makes the subscription unready.
func fetchTrouble(topic string, err error) string {
	if isRefusal(err) {
		return "topic " + topic + " fetch"
	}
	return "fetch " + topic
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// onAssigned is called at the start of every session of the group, also with nothing new.
func (c *consumer) onAssigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.mu.Lock()
	c.joined, c.joining = true, false
	delete(c.troubles, "group")
	for topic, partitions := range parts {
		if c.routes[topic] == nil {
			continue
		}
		for _, p := range partitions {
			if c.draining {
				continue
			}
			a := newAssignment(c.work, c, topic, p)
			c.assigned[topicPartition{topic, p}] = a
			c.workers.Go(a.work)
		}
	}
	c.mu.Unlock()
	c.client.ResumeFetchPartitions(parts) // a pause outlives an assignment
	select {
	case c.look <- struct{}{}:
	default:
	}
	c.bus.change()
}

// onRevoked gives partitions up in good order. It may wait: the group does, for RebalanceTimeout.
func (c *consumer) onRevoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	if n := c.release(c.take(parts), c.sub.DrainTimeout); n > 0 {
		c.log.Warn("handlers did not end within DrainTimeout at a rebalance; their events come again", "count", n)
	}
}

// onLost is told of partitions that are gone already, possibly to a member that works on them: nothing is waited for or committed.
func (c *consumer) onLost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.mu.Lock()
	c.joined = false
	c.mu.Unlock()
	lost := c.take(parts)
	c.committing.Lock()
	defer c.committing.Unlock()
	for _, a := range lost {
		a.owned = false
		a.stop()
		a.cancel()
	}
	c.bus.change()
}

// take removes assignments, so that nothing more is handed to them.
func (c *consumer) take(parts map[string][]int32) []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	var taken []*assignment
	for topic, partitions := range parts {
		for _, p := range partitions {
			key := topicPartition{topic, p}
			if a := c.assigned[key]; a != nil {
				taken = append(taken, a)
				delete(c.assigned, key)
			}
		}
	}
	return taken
}

// drain begins the end of all assignments. They stay known: a rebalance meanwhile must find them, and wait for them.
func (c *consumer) drain() []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	return slices.Collect(maps.Values(c.assigned))
}

func (c *consumer) takeAll() []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := slices.Collect(maps.Values(c.assigned))
	clear(c.assigned)
	return taken
}

// release ends assignments: running handlers get the drain time, then their ctx is cancelled, then they are left behind; what is
// done is committed, and ownership ends in the same breath. It returns how many handlers were left behind.
func (c *consumer) release(as []*assignment, drain time.Duration) (left int) {
	c.give(1)
	defer c.give(-1)
	for _, a := range as {
		a.stop()
	}
	if !allDone(as, drain) {
		for _, a := range as {
			a.cancel()
		}
		allDone(as, drainGrace)
	}
	c.committing.Lock()
	defer c.committing.Unlock()
	c.commit(as)
	for _, a := range as {
		a.owned = false
		a.cancel()
		select {
		case <-a.done:
		default:
			left++
		}
	}
	return left
}

// give counts the releases under way.
func (c *consumer) give(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giving += n
	c.polled = time.Now()
}

// allDone waits for the workers of as until d is over.
func allDone(as []*assignment, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for _, a := range as {
		select {
		case <-a.done:
		case <-t.C:
			return false
		}
	}
	return true
}

func (c *consumer) reportSchema(r *kgo.Record, err error) {
	c.bus.count.schemaReports.Add(1)
	c.log.Warn("event breaks its schema and is handled all the same", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
}

// tellHandled calls the hooks when the group is done with an event.
func (c *consumer) tellHandled(r *kgo.Record, raw *RawEvent, f failure) {
	if len(c.bus.cfg.Hooks) == 0 {
		return
	}
	info := HandledInfo{
		Topic: c.routes[r.Topic].topic.name, Partition: r.Partition, Offset: r.Offset, Group: c.sub.Group, KeyHash: KeyHash(r.Key),
		Attempts: f.attempts, Took: f.took, DeadLetter: f.class,
	}
	if raw != nil {
		info.EventID, info.Source, info.CorrelationID = raw.EventID, raw.Source, raw.CorrelationID
	}
	for _, h := range c.bus.cfg.Hooks {
		if h.Handled != nil {
			h.Handled(info)
		}
	}
}
