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

	"github.com/twmb/franz-go/pkg/kerr"
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
	pollRecords    = 1000
	pollTimeout    = 5 * time.Second // a poll returns at least so often, as a sign of life
	fetchMaxWait   = 500 * time.Millisecond
	letWorkTurn    = time.Millisecond
	letWorkSure    = 10 * letWorkTurn // what was done in less says little
	letWorkMost    = 100 * letWorkTurn
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
func (c *consumer) OnNewClient(client *kgo.Client) { c.client = client }

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

// poll fetches and hands out until ctx ends.
func (c *consumer) poll(ctx context.Context) {
	for ctx.Err() == nil {
		timeout, back := pollTimeout, c.findStarts(ctx)
		if back {
			timeout = 0 // the poll is for its gate
		}
		pctx, cancel := context.WithTimeout(ctx, timeout)
		c.interruptBy(cancel)
		fetches := c.client.PollRecords(pctx, pollRecords)
		cancel()
		c.inflater.polled(fetches)
		taken := c.dispatch(fetches)
		c.passUnreadable(fetches)
		if back {
			c.setBack()
		}
		wait := c.endDue(ctx)
		c.allowRebalance() // the gate is held only while handing out
		if wait > 0 {
			sleep(ctx, wait)
		}
		c.letWork(ctx, taken)
		if fetches.IsClientClosed() {
			c.fail(fmt.Errorf("eventbus: Subscription %q: %w", c.sub.Group, ErrClosed))
		}
		if c.noteErrors(fetches) {
			sleep(ctx, backOff(1))
		}
	}
}

// dispatch hands out what was fetched, without waiting, and returns to whom. Records of a partition that is not ours any longer are dropped.
func (c *consumer) dispatch(fetches kgo.Fetches) (taken []*assignment) {
	for _, f := range fetches {
		for _, t := range f.Topics {
			for _, p := range t.Partitions {
				if a := c.assignment(t.Topic, p); a != nil {
					a.take(t.TopicID, p)
					taken = append(taken, a)
				}
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.polled = time.Now()
	return taken
}

// letWork waits before the next poll while there is plenty of what was just taken and it is handled quickly, but not for long: others are fetched too.
// Without that, handlers that are quick would have partitions paused again and again. The client asks for what goes on only in its next fetch, and while
// nothing else comes, the one that is under way takes all of its FetchMaxWait. Who does not get through what there is after a pause in that time loses
// nothing by one. And what waits in memory for long has left the processor's caches by the time it is handled.
func (c *consumer) letWork(ctx context.Context, taken []*assignment) {
	began := time.Now()
	since, before := began, -1 // of the rate
	for {
		moving, half := c.plenty(taken)
		now := time.Now()
		measured := now.Sub(since)
		switch {
		case half == 0 || now.Sub(began) >= letWorkMost:
			return
		case before < 0:
			before = moving
		case measured >= letWorkSure:
			if fetchMaxWait*time.Duration(before-moving) < measured*time.Duration(half) {
				return
			}
			since, before = now, moving
		}
		if !sleep(ctx, letWorkTurn) {
			return
		}
	}
}

// plenty says how much is moving, and where that is plenty and there is nothing else for the poll loop to do, how much is when a pause is over; else 0.
// The bus may have plenty; a partition does where next to nothing moves in those that have less: else these are to be fetched, and it may be paused
// meanwhile.
func (c *consumer) plenty(taken []*assignment) (moving, half int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.txn != nil && (c.txn.due || c.txn.wake) {
		return 0, 0
	}
	moving = c.engine.Moving()
	busy := 4*(c.engine.Running()+c.engine.Waiting()) >= 3*c.sub.Concurrency
	for _, a := range taken {
		if a.paused != "" {
			continue
		}
		if room := c.engine.RoomOnBus(a.part); c.isPlenty(moving, room, busy) {
			return moving, room / 2
		}
		if room := c.engine.Room(a.part); c.isPlenty(a.part.Moving(), room, busy) {
			half = max(half, room/2)
		}
	}
	if half > 0 && 10*c.plentifulLocked(busy) <= 9*moving {
		return moving, 0
	}
	return moving, half
}

// isPlenty says whether so much is moving that it is enough for a while: half of the room, or an eighth, and four events a handler, where most handlers are
// busy: they have something to do.
func (c *consumer) isPlenty(moving, room int, busy bool) bool {
	enough := room / 2
	if busy {
		enough = min(max(room/8, 4*c.sub.Concurrency), enough)
	}
	return room > 0 && moving > enough
}

// plentifulLocked is how much moves in partitions that have plenty.
func (c *consumer) plentifulLocked(busy bool) (n int) {
	for _, a := range c.assigned {
		if moving := a.part.Moving(); moving > 0 && c.isPlenty(moving, c.engine.Room(a.part), busy) {
			n += moving
		}
	}
	return n
}

// assignment returns that of fetched records, nil where nobody wants them.
func (c *consumer) assignment(topic string, p kgo.FetchPartition) *assignment {
	if len(p.Records) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.unlock()
	a := c.assigned[topicPartition{topic, p.Partition}]
	if a == nil || a.ahead {
		return nil
	}
	if a.part.Rewound(p.Records[0].Offset) {
		return c.replaceLocked(a, p.Records[0].Offset)
	}
	return a
}

// replaceLocked begins a partition anew whose position the client has set back, because the log was truncated: what is there now are other
// events than those that were taken. Where an event below is not done yet, it is still there: the partition begins with that one, so that no
// commit passes it, and what was done after it comes again. nil: the records at offset have to be fetched again, after those.
func (c *consumer) replaceLocked(old *assignment, offset int64) *assignment {
	from := fetched{topic: old.topic, partition: old.partition, offset: min(old.part.Position(), offset), epoch: old.part.Epoch()}
	c.afterLocked(func() {
		c.log.Error("the log was truncated below what this group has read; reading on from there", "topic", old.topic, "partition", old.partition,
			"offset", from.offset)
	})
	c.abandonLocked(old)
	a := newAssignment(c.handling, c, old.topic, old.partition)
	a.paused = old.paused
	c.assigned[topicPartition{a.topic, a.partition}] = a
	a.beginLocked(from)
	if a.ahead = from.offset < offset || a.sequenced(); !a.ahead {
		return a
	}
	c.fetchingLocked(a)
	return nil
}

// noteErrors remembers and logs what a poll found wrong; the loop goes on, whatever it is. It says whether there was anything.
func (c *consumer) noteErrors(fetches kgo.Fetches) (any bool) {
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
			return
		}
		if errors.Is(err, kgo.ErrMaxDecompress) || errors.Is(err, errFetchFull) {
			return // see passUnreadable, inflater
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
		if errors.Is(err, kerr.UnknownTopicID) && !c.refused(topic) {
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
