package eventbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/breaker"
	"github.com/dreamscape/eventbus/internal/engine"
)

// consumer runs one subscription: a client of its own, one goroutine that polls, one that commits, one that looks for what is
// wrong, and those that handle events.
type consumer struct {
	bus      *Bus
	sub      Subscription
	group    string            // Kafka's name
	routes   map[string]*route // by Kafka's topic name, retry topics included
	txn      *transaction      // nil: what is done is committed by itself
	ordered  []*route
	client   *kgo.Client
	inflater *inflater
	log      *slog.Logger
	handling context.Context    // what assignments' contexts come from; outlives the ctx of Run by the drain
	quit     context.CancelFunc // ends it
	ending   context.Context    // ends when the poll loop is to end, and has the values of Run's
	end      context.CancelFunc // ends it

	crowd      crowd
	procs      int
	stintLimit int            // how many events a goroutine may take at once
	workers    sync.WaitGroup // the tries that were left behind included
	look       chan struct{}  // has an entry: inspect now
	releases   chan struct{}  // has an entry: look for releases now

	mu        sync.Mutex
	after     []func() // to do when mu is free again: see unlock
	engine    *engine.Engine[*task]
	assigned  map[topicPartition]*assignment
	letters   map[topicPartition]*letterQueue
	expelled  map[topicPartition]struct{} // given up between two sessions, and known to the client as if they were not
	strays    map[topicPartition]struct{} // assigned to the client while nobody wanted them: it may be anywhere in them
	fetched   []fetched                   // what was committed, of partitions that have not begun; the latest last
	left      map[*item]struct{}          // tries that outlasted their assignment
	successor *consumer                   // that has taken its place, and waits for those too
	followed  map[string]*followed        // sources and retry topics, by Kafka's names
	starting  bool                        // start is on its way
	stints    []*stint                    // those that are to be relieved
	quick     bool                        // events have taken very little time lately
	more      int                         // events that a goroutine takes beside one
	relief    *time.Timer                 // nil until the first stint of several events
	relieving bool                        // it runs
	held      bool                        // by Pause
	joined    bool
	session   session   // of the group, the last that has begun
	joining   bool      // it has ended, and the next one has not begun
	endedAt   time.Time // when it ended
	heard     time.Time // when the last heartbeat was sent that was answered
	answered  int       // heartbeats since partitions were given up
	wasReady  bool      // FailFast is for the start
	fatal     error     // why the consumer ended by itself
	looked    bool      // an inspection has seen the topics
	giving    int       // releases under way, in which nobody polls
	draining  bool      // no assignment starts any more
	leaving   bool      // nothing runs any more, and the last commits are made
	polled    time.Time // when a poll last returned
	pace      throughput
	appetite  appetite
	troubles  map[string]trouble

	// committing is held from the choice of offsets to the broker's answer, and while ownership ends: a commit that arrives
	// after its partition went to another member would rewind that member (no broker refuses it).
	committing turn
	sending    turn // held while the client has a commit
	mapLimit   int  // bytes of metadata that a commit may have; guarded by sending
}

// turn is a lock that may be held while waiting for the network. Unlike sync.Mutex it lets virtual time pass meanwhile.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// within locks t before ctx ends, or says that it could not.
func (t turn) within(ctx context.Context) bool {
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

type topicPartition struct {
	topic     string
	partition int32
}

// route is a checked Route on its bus.
type route struct {
	n          int // among the consumer's routes
	topic      *topicSpec
	kafkaTopic string
	retryTopic string // Kafka's name of where redriven events come from
	bind       func(*RawEvent) error
	tx         bool       // of HandleTx
	keyed      bool       // events without a record key have one in their payload
	free       bool       // OrderNone
	sequenced  bool       // OrderSequenced
	handler    RawHandler // all middleware around the bound handler
	timeout    time.Duration
	retry      RetryPolicy

	breaker    breaker.Breaker[engine.Key[*task]] // guarded by consumer.mu
	probeTimer *time.Timer
}

const (
	commitInterval = time.Second
	drainGrace     = time.Second // what a handler gets to return after its ctx is cancelled
	failFastAfter  = 3 * time.Second
)

// newConsumer makes the consumer of a checked subscription; it begins to join its group. Handlers get the values of ctx. known are the topics that
// are known to be there.
func newConsumer(ctx context.Context, b *Bus, sub Subscription, known map[string]topicInfo) (*consumer, error) {
	c := &consumer{
		bus: b, sub: sub, group: b.cfg.TopicPrefix + sub.Group, log: b.cfg.Logger.With("group", b.cfg.TopicPrefix+sub.Group),
		routes: map[string]*route{}, assigned: map[topicPartition]*assignment{}, expelled: map[topicPartition]struct{}{},
		strays: map[topicPartition]struct{}{}, inflater: b.inflater(),
		letters: map[topicPartition]*letterQueue{}, left: map[*item]struct{}{},
		followed: map[string]*followed{}, troubles: map[string]trouble{}, polled: time.Now(),
		committing: make(turn, 1), sending: make(turn, 1), look: make(chan struct{}, 1), releases: make(chan struct{}, 1), mapLimit: maxMap,
	}
	c.procs = runtime.GOMAXPROCS(0)
	c.stintLimit = sub.stintLimit(c.procs)
	for i, r := range sub.Routes {
		c.addRoute(i, r)
	}
	for _, r := range c.ordered { // a source is waited for by the client; a retry topic need not be there
		retry, known := known[r.retryTopic], known[r.kafkaTopic]
		consumed := retry.there(kmsg.ACLOperationRead)
		c.followed[r.kafkaTopic] = &followed{id: known.id, consumed: true, since: time.Now(), made: true}
		c.followed[r.retryTopic] = &followed{id: retry.id, consumed: consumed, since: time.Now(), made: consumed}
	}
	c.engine = engine.New[*task](sub.Concurrency, len(c.ordered),
		engine.Limits{Records: sub.MaxInFlight, Bytes: sub.MaxInFlightBytes, Span: int64(sub.MaxSpan)}, b.budget)
	c.engine.Seed(b.bug)
	c.handling, c.quit = context.WithCancel(context.WithoutCancel(ctx))
	c.ending, c.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := c.newClient(); err != nil {
		c.quit()
		return nil, fmt.Errorf("eventbus: Subscription %q: %w", sub.Group, err)
	}
	return c, nil
}

// newClient makes the client; OnNewClient sets it.
func (c *consumer) newClient() error {
	if c.sub.transactional() {
		c.txn = &transaction{number: 1, ending: make(turn, 1), topics: map[string]bool{}, carried: map[place]tries{}}
		return c.newSession()
	}
	_, err := kgo.NewClient(c.options(c.bus.clientOptions())...)
	return err
}

func (c *consumer) addRoute(n int, r Route) {
	name := c.bus.cfg.TopicPrefix + r.topic.name
	checked := &route{
		n: n, topic: r.topic, kafkaTopic: name, retryTopic: c.bus.retryTopic(r.topic.name, c.sub.Group),
		bind: r.bind, tx: r.tx, keyed: r.keyed, free: r.order == OrderNone, sequenced: r.order == OrderSequenced, handler: wrap(c.bus.cfg.Middleware), timeout: r.timeout, retry: *r.retry,
	}
	c.routes[name], c.routes[checked.retryTopic] = checked, checked
	c.ordered = append(c.ordered, checked)
}

// OnNewClient is called before the client begins to join its group, and so before it calls back.
func (c *consumer) OnNewClient(client *kgo.Client) {
	c.client, c.appetite = client, newAppetite(client)
}

var (
	_ kgo.HookNewClient        = (*consumer)(nil)
	_ kgo.HookGroupManageError = (*consumer)(nil)
	_ kgo.HookBrokerWrite      = (*consumer)(nil)
)

func wrap(middleware []Middleware) RawHandler {
	handler := func(ctx context.Context, e *RawEvent) error {
		if e.call == nil {
			return Permanent(errors.New("eventbus: middleware passed on another event than it was given"))
		}
		return e.call.handle(ctx)
	}
	for _, m := range slices.Backward(middleware) {
		handler = m(handler)
	}
	return handler
}

// options are those of a consumer, after the common ones.
func (c *consumer) options(common []kgo.Opt) []kgo.Opt {
	// The client's own wait of 5 s would hold back the first event of a partition that joins while the others are being waited on. Its own
	// 50 MB a fetch would be most of what a consumer holds.
	opts := append([]kgo.Opt{kgo.FetchMaxWait(fetchMaxWait), kgo.FetchMaxBytes(16 << 20)}, common...)
	opts = append(opts, c.inflater.options()...)
	opts = append(opts, c.membership()...)
	var topics []string
	for name, f := range c.followed {
		if f.consumed {
			topics = append(topics, name)
		}
	}
	return append(opts,
		kgo.WithHooks(c),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // nothing published before a new group joined is lost
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the position has to pass a transaction's marker, or the lag would never be 0
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(c.onAssigned),
		kgo.OnPartitionsRevoked(c.onRevoked),
		kgo.OnPartitionsLost(c.onLost),
		kgo.OnOffsetsFetched(c.onOffsetsFetched),
		kgo.AdjustFetchOffsetsFn(c.onOffsetsToBegin),
	)
}

// run consumes until ctx ends and then drains. Its error is why it ended by itself, or what the drain left undone.
func (c *consumer) run(parent context.Context) error {
	defer context.AfterFunc(parent, c.end)()
	defer c.end()
	ctx := c.ending
	background, stop := context.WithCancel(context.Background())
	var helpers sync.WaitGroup
	helpers.Go(func() { c.commitLoop(background) })
	helpers.Go(func() { c.inspectLoop(background) })
	if c.sub.FailFast {
		helpers.Go(func() { c.failLate(background) })
	}
	helpers.Go(func() { c.sessionLoop(background) })
	if slices.ContainsFunc(c.ordered, func(r *route) bool { return r.sequenced }) {
		helpers.Go(func() { c.releaseLoop(background) })
	}

	if c.txn != nil {
		c.beginTransactions(ctx)
	}
	c.poll(ctx)
	unfinished := c.releaseAtLast(c.drain(), c.sub.DrainTimeout)
	c.takeAll()
	stop()
	helpers.Wait()
	c.leave()
	c.quit()
	c.giveUpTransaction()
	err := c.failed()
	if replaces(err) && parent.Err() != nil {
		err = nil // it was to end anyway
	}
	ended := waitFor(c.workers.Wait, drainGrace)
	behind := max(unfinished, c.leftBehind())
	if !ended {
		behind = max(behind, 1) // a hook that hangs
	}
	if behind > 0 {
		err = errors.Join(err, fmt.Errorf("eventbus: Subscription %q: %d handlers did not end within DrainTimeout %v and were left behind; their events come again",
			c.sub.Group, behind, c.sub.DrainTimeout))
	}
	return err
}

// succeededBy has another consumer of the same subscription go on where this one has ended.
func (c *consumer) succeededBy(next *consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next.mu.Lock()
	defer next.mu.Unlock()
	next.held, next.wasReady, next.left = c.held, c.wasReady, maps.Clone(c.left)
	c.successor = next
}

// leftBehind is how many tries still run that outlasted their assignment, those of earlier rebalances included.
func (c *consumer) leftBehind() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.left)
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

func (c *consumer) reportSchema(r *kgo.Record, err error) {
	c.bus.count.schemaReports.Add(1)
	c.log.Warn("event breaks its schema and is handled all the same", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
}

// tellHandled calls the hooks when the group is done with an event.
func (c *consumer) tellHandled(t *task, f failure) {
	if len(c.bus.cfg.Hooks) == 0 {
		return
	}
	o := t.origin()
	info := HandledInfo{
		Topic: t.of.route.topic.name, Partition: o.Partition, Offset: o.Offset, Group: c.sub.Group, KeyHash: KeyHash(t.record.Key),
		Attempts: f.attempts, Took: f.took, Age: max(0, time.Since(t.record.Timestamp)), DeadLetter: f.class,
	}
	if t.raw != nil {
		info.EventID, info.Source, info.CorrelationID = t.raw.EventID, t.raw.Source, t.raw.CorrelationID
	}
	c.bus.tell(func(h Hooks) {
		if h.Handled != nil {
			h.Handled(info)
		}
	})
}

// parked is what health, metrics and hooks show of a task that waits.
func (t *task) parked(behind int) ParkedKey {
	next := t.next
	if b := &t.of.route.breaker; b.Open() { // then it may be the next probe at the earliest
		next = laterOf(next, b.Next())
	}
	return ParkedKey{
		Topic: t.of.topic, Partition: t.of.partition, Offset: t.record.Offset, KeyHash: KeyHash(t.record.Key),
		Attempts: t.spent, FirstFailedAt: t.first, NextTry: next, Class: t.class, Behind: behind,
	}
}

func (c *consumer) tellParked(k ParkedKey) {
	c.bus.tell(func(h Hooks) {
		if h.Parked != nil {
			h.Parked(k)
		}
	})
}

// assignments returns those of this moment.
func (c *consumer) assignments() []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.assigned))
}
