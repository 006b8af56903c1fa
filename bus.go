package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/gate"
)

// Bus publishes and handles events. Make one a service with [New], end it with [Bus.Shutdown]. It is safe for concurrent use; its
// zero value is not usable.
type Bus struct {
	cfg              Config
	client           *kgo.Client // that of events; answers questions about the cluster
	events           *producer
	letters          *producer // of dead letters: a full event buffer must not block them
	transactions     *transactions
	admin            *kadm.Client
	buffer           *gate.Gate
	budget           *engine.Budget // of what the groups have fetched
	bug              engine.Bug     // that a test has built in
	flights          *flights
	letterPartitions sync.Map // how many a topic has that the letters' client writes to: string to int32
	link             link
	login            *login // nil: none
	dialer           dialer
	count            counters

	shut    atomic.Bool
	down    chan struct{}   // closed when the first Shutdown is through
	ending  context.Context // ends when Shutdown begins: every Run drains
	end     context.CancelFunc
	closed  atomic.Bool        // publishing is over
	stop    context.CancelFunc // ends the goroutines that New started
	stopped sync.WaitGroup

	mu      sync.Mutex
	groups  map[string]*consumer // by Kafka's group name
	statics []staticMember       // that have ended and are still in their groups
	running int                  // Runs under way
	changed chan struct{}        // closed and replaced when groups, running or readiness change
}

// New makes a bus. It checks cfg and connects in the background: a broker that is away is no error, Health and WaitReady tell of it.
// An error names the field.
func New(cfg Config) (*Bus, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	dialer, err := checkClientOptions(cfg.Client)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		cfg: cfg, buffer: gate.New(cfg.MaxBufferedEvents, cfg.MaxBufferedBytes), groups: map[string]*consumer{},
		changed: make(chan struct{}), down: make(chan struct{}), budget: engine.NewBudget(cfg.MaxInFlight, cfg.MaxInFlightBytes),
	}
	b.transactions = newTransactions(b)
	b.flights = newFlights(func(f *flight) { b.finish(f, b.unknown(errTimeout)) })
	if b.login = newLogin(cfg.SASL); b.login != nil {
		b.cfg.SASL = b.login // wherever the bus is printed, there is nothing of the mechanism itself
	}
	b.link.started, b.link.login = time.Now(), b.login
	b.dialer = dialer
	b.dialer.tls, b.dialer.login, b.dialer.shown = cfg.TLS, cfg.SASL != nil, b.noteShown
	if b.client, err = kgo.NewClient(b.producerOptions()...); err != nil {
		return nil, fmt.Errorf("eventbus: Config.Client: %w", err)
	}
	letters, err := kgo.NewClient(b.letterOptions()...)
	if err != nil {
		b.client.Close()
		return nil, fmt.Errorf("eventbus: Config.Client: %w", err)
	}
	b.events, b.letters = newProducer(b.client, cfg.Logger, &b.count), newProducer(letters, cfg.Logger, &b.count)
	b.admin = kadm.NewClient(b.client)
	b.ending, b.end = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.stopped.Go(func() { b.nameTroubles(ctx) })
	b.stopped.Go(func() { b.keepContact(ctx) })
	return b, nil
}

// noteShown logs what is wrong with our own certificate, once.
func (b *Bus) noteShown(shown *shownCertificate) {
	if err := b.link.noteShown(shown); err != nil {
		b.cfg.Logger.Warn("client certificate", "error", err)
	}
}

// Run handles events until ctx ends or [Bus.Shutdown] is called, then drains: fetching stops, running handlers end
// ([Subscription.DrainTimeout]), offsets are committed, the groups are left. It returns nil after a clean drain. A subscription
// with a bad option, or one whose group runs on this bus already, is an error at once, and nothing has started. The fatal error
// of one subscription drains all. Handlers get the values of ctx, not its end.
//
// A missing topic, a refused permission or a failed login is named in [Health] and in the log, retried, and recovers by itself,
// unless [Subscription.FailFast].
func (b *Bus) Run(ctx context.Context, subs ...Subscription) error {
	consumers, err := b.register(ctx, subs)
	if err != nil {
		return err
	}
	defer b.unregister(consumers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ending, cancel)()
	errs := make([]error, len(consumers))
	var ended sync.WaitGroup
	for i, c := range consumers {
		ended.Go(func() {
			errs[i] = b.keepRunning(ctx, c)
			if errs[i] != nil {
				cancel()
			}
		})
	}
	ended.Wait()
	return errors.Join(errs...)
}

// replaces says whether a consumer that has ended with err has another one take its place.
func replaces(err error) bool { return errors.Is(err, errFenced) || errors.Is(err, errRenewed) }

// keepRunning runs a consumer, and where its client cannot go on, another one in its place.
func (b *Bus) keepRunning(ctx context.Context, c *consumer) error {
	for fails := 1; ; {
		err := c.run(ctx)
		if !replaces(err) {
			return err
		}
		if errors.Is(err, errFenced) {
			b.cfg.Logger.Error("the transactional client cannot go on, and another one takes its place; where this is again and again, another process has "+
				"the same Config.Instance", "group", c.group, "error", err)
			sleep(ctx, backOff(fails))
			fails++
		}
		next, err := newConsumer(ctx, b, c.sub, b.knownTopics(ctx, []Subscription{c.sub}))
		if err != nil {
			return err
		}
		c.succeededBy(next)
		b.mu.Lock()
		b.groups[c.group] = next
		b.changeLocked()
		b.mu.Unlock()
		c = next
	}
}

// register checks every subscription before it makes a consumer of any. The consumers are made without the lock: their clients
// call back.
func (b *Bus) register(ctx context.Context, subs []Subscription) ([]*consumer, error) {
	checked, err := b.checkSubscriptions(subs)
	if err != nil {
		return nil, err
	}
	known := b.knownTopics(ctx, checked)
	if err := b.checkSequenced(checked, known); err != nil {
		return nil, err
	}
	var consumers []*consumer
	for _, sub := range checked {
		c, err := newConsumer(ctx, b, sub, known)
		if err != nil {
			closeAll(consumers)
			return nil, err
		}
		consumers = append(consumers, c)
	}
	if err := b.enrol(consumers); err != nil {
		closeAll(consumers)
		return nil, err
	}
	return consumers, nil
}

func closeAll(consumers []*consumer) {
	for _, c := range consumers {
		c.end()
		c.quit()
		waitFor(c.closeClient, drainGrace) // they may have begun to join, at a broker that is frozen
	}
}

// enrol makes the consumers known, all of them or none: another Run may have come first.
func (b *Bus) enrol(consumers []*consumer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending.Err() != nil {
		return fmt.Errorf("eventbus: Run: %w", ErrClosed)
	}
	for _, c := range consumers {
		if b.groups[c.group] != nil {
			return runsAlready(c.sub.Group)
		}
	}
	for _, c := range consumers {
		b.groups[c.group] = c
	}
	b.running++
	b.changeLocked()
	return nil
}

func runsAlready(group string) error {
	return fmt.Errorf("eventbus: Subscription %q: Group: it runs on this bus already; put its routes into one Subscription", group)
}

func (b *Bus) checkSubscriptions(subs []Subscription) ([]Subscription, error) {
	if b.ending.Err() != nil {
		return nil, fmt.Errorf("eventbus: Run: %w", ErrClosed)
	}
	if len(subs) == 0 {
		return nil, errors.New("eventbus: Run: at least one Subscription is needed")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	checked := make([]Subscription, len(subs))
	seen := map[string]bool{}
	for i, sub := range subs {
		if seen[sub.Group] || b.groups[b.cfg.TopicPrefix+sub.Group] != nil {
			return nil, runsAlready(sub.Group)
		}
		seen[sub.Group] = true
		var err error
		if checked[i], err = sub.check(b.cfg.TopicPrefix, b.cfg.Retry); err != nil {
			return nil, err
		}
		if sub.transactional() && b.cfg.Instance == "" {
			return nil, fmt.Errorf("eventbus: Subscription %q: Config.Instance: is empty: %w", sub.Group, errNoInstance)
		}
	}
	return checked, nil
}

func (b *Bus) unregister(consumers []*consumer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range consumers {
		delete(b.groups, c.group)
	}
	b.running--
	b.changeLocked()
}

func (b *Bus) change() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changeLocked()
}

func (b *Bus) changeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// WaitReady blocks until every subscription that runs has joined its group, has its partitions and finds its topics; where none
// runs yet, until one does. Its error is that of ctx and names what is missing.
func (b *Bus) WaitReady(ctx context.Context) error {
	for {
		missing, changed := b.unready()
		if missing == "" {
			return nil
		}
		select {
		case <-b.ending.Done():
			return fmt.Errorf("eventbus: not ready: %w", ErrClosed)
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("eventbus: not ready: %s: %w", missing, b.withCause(context.Cause(ctx)))
		}
	}
}

// unready says what is still missing, "" if nothing, and gives a channel that is closed when that may have changed.
func (b *Bus) unready() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.groups) == 0 {
		return "no subscription runs", b.changed
	}
	for _, c := range b.groups {
		if missing := c.unready(); missing != "" {
			return missing, b.changed
		}
	}
	return "", b.changed
}

// Shutdown ends the bus in the order that loses nothing: every Run drains, then every event handed over gets its result, then the
// connections close. ctx bounds the waiting, not the closing; the error says how many events were given up. Publishing afterwards
// is [ErrClosed]. Another call waits for the first, until its own ctx ends, and returns nil.
//
// Static members ([Subscription.InstanceID]) stay in their groups for a restart; where there will be none, call [Bus.ScaleDown] in its place.
func (b *Bus) Shutdown(ctx context.Context) error {
	return b.shutdown(ctx, func(context.Context) error { return nil })
}

// shutdown ends the bus; leave is for what is to be done between the last drain and the end of the connections.
func (b *Bus) shutdown(ctx context.Context, leave func(context.Context) error) error {
	if b.shut.Swap(true) {
		select {
		case <-b.down:
		case <-ctx.Done():
		}
		return nil
	}
	defer close(b.down)
	b.end()
	drained := b.waitRuns(ctx)
	left := leave(ctx)
	b.closed.Store(true)
	ended := b.transactions.close(ctx)
	flushed := cmp.Or(b.events.Flush(ctx), b.letters.Flush(ctx))
	given := b.events.Buffered() + b.letters.Buffered()
	b.stop()
	b.events.Close() // before the wait: it ends questions that hang
	b.letters.Close()
	b.stopped.Wait()
	b.login.close()
	if flushed != nil {
		flushed = fmt.Errorf("eventbus: shutdown: %d events were not acknowledged: %w", given, b.withCause(flushed))
	}
	return errors.Join(drained, left, ended, flushed)
}

// waitRuns waits until no Run is under way.
func (b *Bus) waitRuns(ctx context.Context) error {
	for {
		b.mu.Lock()
		running, changed := b.running, b.changed
		b.mu.Unlock()
		if running == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("eventbus: shutdown: %d Run not drained: %w", running, context.Cause(ctx))
		}
	}
}

// TopicPrefix returns Config.TopicPrefix: what Kafka's names, such as those in [Health], begin with.
func (b *Bus) TopicPrefix() string { return b.cfg.TopicPrefix }

// Metrics returns the counters of this moment.
func (b *Bus) Metrics() Metrics {
	m := b.count.snapshot()
	m.Buffered = int64(b.buffer.Count())
	b.mu.Lock()
	defer b.mu.Unlock()
	m.InFlight, m.InFlightBytes = b.budget.Records(), b.budget.Bytes()
	for _, c := range b.groups {
		c.measure(&m)
	}
	return m
}

// Pause has this bus start no further event of a group that runs on it, and fetch none; what runs goes on to its end. The member stays in
// the group and keeps its partitions. [Bus.Resume], or another Run, ends it. It does not wait. An error says that the group does not run here.
func (b *Bus) Pause(group string) error { return b.hold(group, true) }

// Resume ends a [Bus.Pause].
func (b *Bus) Resume(group string) error { return b.hold(group, false) }

func (b *Bus) hold(group string, held bool) error {
	b.mu.Lock()
	c := b.groups[b.cfg.TopicPrefix+group]
	b.mu.Unlock()
	if c == nil {
		return fmt.Errorf("eventbus: group %q does not run on this bus", group)
	}
	c.hold(held)
	return nil
}

// Ping publishes the bare value "ping" to dreamscape.health.check, keyed by the service's name, and waits for its acknowledgement:
// an explicit end-to-end check, as the TypeScript package makes it. It blocks, fails and is counted like a [Bus.Publish]. Don't
// make it a probe: it writes, and says nothing of what is consumed; [Bus.HealthHandler] has the probes.
func (b *Bus) Ping(ctx context.Context) error {
	f := b.newFlight(TopicHealthCheck, []byte(b.cfg.Service), []byte(Ping))
	if len(b.cfg.Hooks) > 0 {
		f.told = &envelope{source: b.cfg.Service}
	}
	var (
		result error
		landed sync.WaitGroup
	)
	landed.Add(1)
	f.done = func(err error) {
		result = err
		landed.Done()
	}
	b.send(ctx, f)
	b.await(ctx, []*flight{f}, &landed)
	if result != nil {
		return fmt.Errorf("eventbus: ping: %w", result)
	}
	return nil
}

// nameTroubles finds out why events are not acknowledged. franz-go goes on trying where a login fails or a topic is missing, and
// an event would wait for its deadline without a reason.
func (b *Bus) nameTroubles(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.flights.wake:
		}
		for b.flights.len() > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(patience / 4):
			}
			b.refuseLate(ctx)
		}
	}
}

// patience is how long an event is left to the client before somebody asks what is wrong.
const patience = 2 * time.Second

func (b *Bus) refuseLate(ctx context.Context) {
	if len(b.flights.before(time.Now().Add(-patience))) == 0 {
		return
	}
	refused := b.refusals(ctx, b.flights.before(time.Now()))
	for _, f := range b.flights.before(time.Now().Add(-patience)) { // more than before the question, which may have taken long
		if err := refused[f.record.Topic]; err != nil {
			b.finish(f, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
		}
	}
}

// refusals asks the cluster for the topics of flights and returns, by topic, what waiting will not mend.
func (b *Bus) refusals(ctx context.Context, flights []*flight) map[string]error {
	ctx, cancel := b.untilRefused(ctx, 2*patience, patience)
	defer cancel()
	names := map[string]kmsg.ACLOperation{}
	for _, f := range flights {
		names[f.record.Topic] = kmsg.ACLOperationWrite
	}
	refused, err := b.topicTroubles(ctx, names)
	if err == nil {
		return refused
	}
	refused = map[string]error{}
	if broken := b.link.refused(); broken != nil { // else nobody answers: that may pass
		for name := range names {
			refused[name] = broken
		}
	}
	return refused
}
