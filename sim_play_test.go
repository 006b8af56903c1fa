package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
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
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/sim"
)

// simulation plays one script: a cluster, a publisher and the members of one group, each a bus with connections of its own.
type simulation struct {
	*testing.T
	script  sim.Script
	history ledger.History
	net     kfake.VirtualNetwork
	cluster *kfake.Cluster
	watch   *groupWatch
	jobs    *eventbus.Topic[job]
	unkeyed *eventbus.Topic[job]
	prepare func(*eventbus.Bus)
	events  map[string]sim.Event // by ID
	members map[int]*member
	healed  chan struct{}  // closed when all faults end
	chores  sync.WaitGroup // goroutines of steps, which end soon after the healing

	mu    sync.Mutex
	tries map[string]int // by event: tries that went as far as failing
}

type job struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

const (
	jobs       = "acme.jobs"
	jobLetters = jobs + ".dlq.group"
	simGroup   = "group"

	linger   = 10 * time.Second // how long a fault's consequences last: a commit that waits, and its repetition
	patience = 5 * time.Minute  // for everything to be done after the healing; then somebody is stuck
)

func newSimulation(t *testing.T, script sim.Script, prepare func(*eventbus.Bus)) *simulation {
	s := &simulation{
		T: t, script: script, prepare: prepare, events: map[string]sim.Event{}, members: map[int]*member{}, healed: make(chan struct{}),
		tries: map[string]int{}, jobs: eventbus.NewTopic(jobs, &eventbus.TopicOptions[job]{Key: func(j job) string { return j.Key }}),
		unkeyed: eventbus.NewTopic[job](jobs, nil),
	}
	for _, e := range script.Events {
		s.events[e.ID] = e
	}
	var err error
	s.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(script.Brokers), kfake.Ports([]int{9092, 9093, 9094}[:script.Brokers]...), kfake.ListenFn(s.net.Listen),
		kfake.SeedTopics(script.Partitions, jobs, jobLetters), kfake.GroupMinSessionTimeout(100*time.Millisecond),
	)
	require.NoError(t, err)
	t.Cleanup(s.cluster.Close)
	keepEpochs(s.cluster)
	boundRebalances(s.cluster)
	s.watch = watchGroup(s.cluster, &s.history)
	return s
}

// play goes through the script, heals the world, waits until everything is done, ends everybody and reads the logs.
func (s *simulation) play() {
	publisher := s.newPublisher()
	began, steps := time.Now(), s.script.Steps
	for _, e := range s.script.Events {
		for len(steps) > 0 && steps[0].At <= e.At {
			sleepUntil(began.Add(steps[0].At))
			s.step(steps[0])
			steps = steps[1:]
		}
		sleepUntil(began.Add(e.At))
		publisher.publish(e)
	}
	for _, step := range steps {
		sleepUntil(began.Add(step.At))
		s.step(step)
	}
	sleepUntil(began.Add(s.script.Heal))
	close(s.healed)
	s.chores.Wait()
	publisher.close()
	s.awaitDone()
	for _, m := range s.members {
		s.end(m)
	}
	s.watch.look()
	s.readBack()
}

func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }

// awaitDone waits until the group has committed everything. It fails with the state when that does not come: somebody is stuck.
func (s *simulation) awaitDone() {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
		synctest.Wait()
		behind := s.behind()
		if behind == "" {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("seed %d: not done %v after the healing: %s\n%s\nhistory: %s", s.script.Seed, patience, behind, s.state(), keep(s.T, s.history.Entries()))
		}
	}
}

// behind names the partitions of which not everything is committed.
func (s *simulation) behind() string {
	var behind []string
	info := s.cluster.GroupInfo(simGroup)
	for _, p := range s.cluster.PartitionInfos(jobs) {
		at := int64(0)
		if info != nil {
			at = info.Commits[jobs][p.Partition].Offset
		}
		if at < p.HighWatermark {
			behind = append(behind, fmt.Sprintf("partition %d is at %d of %d", p.Partition, at, p.HighWatermark))
		}
	}
	return strings.Join(behind, ", ")
}

// state is what the members and the group say of themselves.
func (s *simulation) state() string {
	var b strings.Builder
	fmt.Fprintf(&b, "group: %+v\n", s.cluster.GroupInfo(simGroup))
	for _, m := range s.members {
		if !m.crashed() {
			fmt.Fprintf(&b, "%s: %+v\n", m.name, m.bus.Health(context.Background()))
		}
	}
	return b.String()
}

// readBack adds what the logs hold.
func (s *simulation) readBack() {
	for _, r := range s.read(jobs) {
		e := s.event(r)
		s.history.Add(ledger.Entry{Kind: ledger.Read, Topic: jobs, Partition: r.Partition, Offset: r.Offset, ID: e.ID, Key: e.Key, N: e.N})
	}
	for _, r := range s.read(jobLetters) {
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(s, err)
		s.history.Add(ledger.Entry{Kind: ledger.LetterRead, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset})
	}
}

// event is the script's event that a record of the log is.
func (s *simulation) event(r *kgo.Record) sim.Event {
	id, garbage := strings.CutPrefix(string(r.Value), garbagePrefix)
	if !garbage {
		e, err := s.jobs.Decode(r.Value)
		require.NoError(s, err)
		id = e.Payload.ID
	}
	require.Contains(s, s.events, id)
	return s.events[id]
}

// read returns all that a topic holds.
func (s *simulation) read(topic string) []*kgo.Record {
	left := int64(0)
	for _, p := range s.cluster.PartitionInfos(topic) {
		left += p.HighWatermark
	}
	cl, err := kgo.NewClient(append(newLink(&s.net).options(), kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(s, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var records []*kgo.Record
	for int64(len(records)) < left {
		require.NoError(s, ctx.Err(), "reading %s", topic)
		records = append(records, cl.PollFetches(ctx).Records()...)
	}
	return records
}

// step has one thing happen. It waits for nothing.
func (s *simulation) step(step sim.Step) {
	switch step.Do {
	case sim.Join:
		s.join(step.Member)
	case sim.Leave:
		s.members[step.Member].leave()
	case sim.Crash:
		s.crash(s.members[step.Member])
	case sim.Cut:
		m := s.members[step.Member]
		m.link.cut()
		s.trouble(fmt.Sprintf("%s is cut off", m.name), step.For, m.link.mend)
	case sim.Drop:
		s.members[step.Member].link.drop()
		s.trouble(fmt.Sprintf("connections of %s dropped", s.members[step.Member].name), 0, func() {})
	case sim.Fault:
		s.fault(step)
	case sim.Break, sim.Swallow:
		s.silence(step)
	case sim.Move:
		require.NoError(s, s.cluster.MoveTopicPartition(jobs, step.Partition, step.Node))
	case sim.Shuffle:
		s.cluster.ShufflePartitionLeaders()
	case sim.Rehash:
		s.cluster.RehashCoordinators()
	}
}

// trouble notes what may explain repetitions, ends it after a time or at the healing, and notes the end of its consequences.
func (s *simulation) trouble(what string, d time.Duration, end func()) {
	what = fmt.Sprintf("%s (%v)", what, s.since())
	s.history.Add(ledger.Entry{Kind: ledger.TroubleBegan, Detail: what})
	s.chores.Go(func() {
		select {
		case <-time.After(d):
		case <-s.healed:
		}
		end()
		time.Sleep(linger)
		s.history.Add(ledger.Entry{Kind: ledger.TroubleOver, Detail: what})
	})
}

// since names the time for people; it makes the names of troubles unlike.
func (s *simulation) since() string { return time.Now().Format("15:04:05.000") }

func (s *simulation) fault(step sim.Step) {
	var code *kerr.Error
	require.ErrorAs(s, kerr.ErrorForCode(step.Code), &code)
	fault := kfake.Fault{Keys: []kmsg.Key{kmsg.Key(step.Request)}, Err: code, Count: step.Count, TopLevel: step.Top}
	if step.Letters {
		fault.Topic = jobLetters
	}
	handle := s.cluster.Fault(fault)
	s.trouble(fmt.Sprintf("%v answered with %s", kmsg.Key(step.Request).Name(), code.Message), step.For, handle.Remove)
}

// silence breaks the connections of requests, or leaves them without an answer.
func (s *simulation) silence(step sim.Step) {
	left, over := step.Count, make(chan struct{})
	s.cluster.ControlKey(step.Request, func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-over:
			s.cluster.DropControl()
			return nil, nil, false
		default:
		}
		s.cluster.KeepControl()
		if left--; left < 0 {
			return nil, nil, false
		}
		if step.Do == sim.Break {
			return nil, errBroken, true
		}
		return nil, nil, true
	})
	s.trouble(fmt.Sprintf("%s of %v", step.Do, kmsg.Key(step.Request).Name()), step.For, func() { close(over) })
}

var errBroken = errors.New("broken by the script")

// handle is every member's handler. It does what the script says and writes it down before it returns.
func (s *simulation) handle(m *member) eventbus.Handler[job] {
	return func(ctx context.Context, e *eventbus.BaseEvent[job]) error {
		if m.crashed() { // the process is gone; whatever still runs in it does nothing
			<-ctx.Done()
			return ctx.Err()
		}
		event := s.events[e.Payload.ID]
		d, _ := eventbus.DeliveryFrom(ctx)
		entry := ledger.Entry{
			Member: m.name, Topic: jobs, Partition: d.Partition, Offset: d.Offset, ID: event.ID, Key: event.Key, N: event.N,
			Attempt: d.Attempt, Stubborn: event.Deed.Stubborn,
		}
		entry.Try = s.history.Begin(entry)
		note := func(kind ledger.Kind, result ledger.Result) {
			entry := entry
			entry.Kind, entry.Result = kind, result
			s.history.Add(entry)
		}
		stop := context.AfterFunc(ctx, func() { note(ledger.Cancelled, "") })
		result, err := s.perform(ctx, m, event)
		stop()
		note(ledger.Ended, result)
		switch {
		case result != ledger.Panicked:
			return err
		case event.Deed.Manner == sim.Exits:
			runtime.Goexit()
		}
		panic("as the script says")
	}
}

// perform takes the time that the event takes, and says how the try ends.
func (s *simulation) perform(ctx context.Context, m *member, event sim.Event) (ledger.Result, error) {
	if event.Deed.Stubborn {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(event.Deed.Takes):
	case <-ctx.Done():
		return ledger.GaveUp, ctx.Err()
	case <-m.dead:
		return ledger.Died, errCrashed
	}
	if m.crashed() {
		return ledger.Died, errCrashed
	}
	if !s.fails(event) {
		return ledger.OK, nil
	}
	switch event.Deed.Manner {
	case sim.GivesUp:
		return ledger.Failed, eventbus.Permanent(errScripted)
	case sim.Panics, sim.Exits:
		return ledger.Panicked, nil
	}
	return ledger.Failed, errScripted
}

var (
	errScripted = errors.New("as the script says")
	errCrashed  = errors.New("crashed")
)

func (s *simulation) fails(event sim.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries[event.ID]++
	return s.tries[event.ID] <= event.Deed.Fails
}

// publisher publishes the events: those that can be decoded through a bus, the others by a plain client.
type publisher struct {
	*simulation
	bus  *eventbus.Bus
	raw  *kgo.Client
	mu   sync.Mutex
	sent map[string]sim.Event // by the envelope's id
}

const garbagePrefix = "garbage "

func (s *simulation) newPublisher() *publisher {
	p := &publisher{simulation: s, sent: map[string]sim.Event{}}
	p.bus = s.newBus("publisher", newLink(&s.net), eventbus.Hooks{Published: func(i eventbus.PublishedInfo) {
		p.mu.Lock()
		e := p.sent[i.EventID]
		p.mu.Unlock()
		p.note(e, i.Partition, i.Offset, i.Err)
	}})
	var err error
	p.raw, err = kgo.NewClient(append(newLink(&s.net).options(), kgo.SeedBrokers(s.cluster.ListenAddrs()...))...)
	require.NoError(s, err)
	return p
}

// publish hands an event over. Those of one form keep their order.
func (p *publisher) publish(e sim.Event) {
	if e.Form == sim.Garbage {
		r := &kgo.Record{Topic: jobs, Key: []byte(e.Key), Value: []byte(garbagePrefix + e.ID)}
		p.raw.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("%w: %w", eventbus.ErrOutcomeUnknown, err)
			}
			p.note(e, r.Partition, r.Offset, err)
		})
		return
	}
	topic := p.jobs
	if e.Form == sim.Unkeyed {
		topic = p.unkeyed
	}
	event := topic.New(job{ID: e.ID, Key: e.Key})
	p.mu.Lock()
	p.sent[event.EventID] = e
	p.mu.Unlock()
	p.bus.PublishAsync(context.Background(), event, func(error) {})
}

func (p *publisher) note(e sim.Event, partition int32, offset int64, err error) {
	entry := ledger.Entry{Kind: ledger.Published, ID: e.ID, Key: e.Key, N: e.N, Topic: jobs, Partition: partition, Offset: offset, Result: ledger.OK}
	switch {
	case errors.Is(err, eventbus.ErrNotSent):
		entry.Result = ledger.Failed
	case err != nil:
		entry.Result = ledger.Unknown
	}
	p.history.Add(entry)
}

// close waits for every result.
func (p *publisher) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(p, p.bus.Shutdown(ctx))
	require.NoError(p, p.raw.Flush(ctx))
	p.raw.Close()
}

func (s *simulation) newBus(name string, l *link, hooks eventbus.Hooks) *eventbus.Bus {
	bus, err := eventbus.New(eventbus.Config{
		Service: name, Brokers: s.cluster.ListenAddrs(), Logger: slog.New(slog.DiscardHandler), Hooks: []eventbus.Hooks{hooks},
		Client: slices.Concat(l.options(), []kgo.Opt{kgo.WithHooks(&letterHook{history: &s.history, member: name}, closedHook{})}),
	})
	require.NoError(s, err)
	return bus
}

// letterHook writes down the acknowledgement of dead letters. The client calls it before it tells the engine.
type letterHook struct {
	history *ledger.History
	member  string
}

var _ kgo.HookProduceRecordUnbuffered = (*letterHook)(nil)

// OnProduceRecordUnbuffered is called for each record that has its result.
func (h *letterHook) OnProduceRecordUnbuffered(r *kgo.Record, err error) {
	if err != nil || r.Topic != jobLetters {
		return
	}
	if d, err := eventbus.ParseDeadLetter(r); err == nil {
		h.history.Add(ledger.Entry{Kind: ledger.Letter, Member: h.member, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset})
	}
}

// closedHook frees a goroutine that the client forgets. Its Close leaves the group once more, on a goroutine that waits for the poll gate, and
// polls a last time, which shuts that gate: where the group was left before, Close does not wait for the goroutine and may come first.
type closedHook struct{}

var _ kgo.HookClientClosed = closedHook{}

// OnClientClosed is called at the end of Close.
func (closedHook) OnClientClosed(cl *kgo.Client) { cl.AllowRebalance() }
