package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
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
	script    sim.Script
	history   ledger.History
	net       kfake.VirtualNetwork
	cluster   *kfake.Cluster
	watch     *groupWatch
	inTx      bool   // the handlers are transactional, and write what they have done to acme.done
	sequenced bool   // keys are parked, and released
	stuck     string // what is parked that cannot be released
	jobs      *eventbus.Topic[job]
	unkeyed   *eventbus.Topic[job]
	prepare   func(*eventbus.Bus)
	events    map[string]sim.Event // by ID
	members   map[int]*member
	places    map[int]*member // static members by their instance, the latest each
	heal      func()          // ends all faults
	healed    chan struct{}   // closed then
	chores    sync.WaitGroup  // goroutines of steps, which end soon after the healing

	mu    sync.Mutex
	tries map[string]int // by event: tries that went as far as failing
	down  bool           // what the handlers call
}

type job struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

const (
	jobs       = "acme.jobs"
	jobLetters = jobs + ".dlq.group"
	jobsDone   = "acme.done"
	jobsParked = jobs + ".sequences.group"
	simGroup   = "group"

	linger   = 10 * time.Second // how long a fault's consequences last: a commit that waits, and its repetition
	patience = 5 * time.Minute  // for everything to be done after the healing; then somebody is stuck
)

// leftClosing is what the client of a member takes at most to end that was left closing while it joined: it tries again where the cluster is no more. Time
// stands still when the test is over.
const leftClosing = 5 * time.Minute

func newSimulation(t *testing.T, script sim.Script, prepare func(*eventbus.Bus)) *simulation {
	s := &simulation{
		T: t, script: script, prepare: prepare, events: map[string]sim.Event{}, members: map[int]*member{}, places: map[int]*member{},
		healed: make(chan struct{}),
		tries:  map[string]int{}, jobs: eventbus.NewTopic(jobs, &eventbus.TopicOptions[job]{Key: func(j job) string { return j.Key }}),
		unkeyed: eventbus.NewTopic[job](jobs, nil),
	}
	s.heal = sync.OnceFunc(func() { close(s.healed) })
	for _, e := range script.Events {
		s.events[e.ID] = e
	}
	var err error
	s.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(script.Brokers), kfake.Ports([]int{9092, 9093, 9094}[:script.Brokers]...), kfake.ListenFn(s.net.Listen),
		kfake.SeedTopics(script.Partitions, jobs, jobLetters, jobsDone), kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.BrokerConfigs(map[string]string{
			"group.consumer.session.timeout.ms":    strconv.FormatInt(script.Limits.Session.Milliseconds(), 10),
			"group.consumer.heartbeat.interval.ms": "2000",
		}),
	)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.cluster.Close()
		time.Sleep(leftClosing)
	})
	require.NoError(t, s.cluster.CreateTopic(jobsParked, int32(script.Partitions), map[string]string{"cleanup.policy": "compact"}))
	t.Cleanup(s.abandon)
	keepEpochs(s.cluster)
	boundRebalances(s.cluster)
	s.watch = watchGroup(s.cluster, &s.history, script.ServerSide)
	return s
}

// play goes through the script, heals the world, waits until everything is done, ends everybody and reads the logs.
func (s *simulation) play() {
	publisher := s.newPublisher()
	var parked *releaser
	if s.sequenced {
		parked = s.newReleaser()
		s.chores.Go(parked.during)
	}
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
	s.heal()
	s.chores.Wait()
	publisher.close()
	s.awaitDone()
	if parked != nil {
		if s.stuck = parked.all(); s.stuck == "" {
			s.awaitDone()
		}
	}
	for _, m := range s.members {
		s.end(m)
	}
	s.watch.look()
	s.readBack()
}

func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }

// awaitDone waits until the group has committed everything. It fails with the state when that does not come: somebody is stuck.
func (s *simulation) awaitDone() {
	asks, err := kgo.NewClient(append(newLink(&s.net).options(), kgo.SeedBrokers(s.cluster.ListenAddrs()...))...)
	require.NoError(s, err)
	defer asks.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
		synctest.Wait()
		endSilent(s.cluster, s.watch, asks)
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
		s.history.Add(ledger.Entry{Kind: ledger.Read, Topic: jobs, Partition: r.Partition, Offset: r.Offset, ID: e.ID, Key: s.lane(e), N: e.N, Sound: s.sound(e)})
	}
	for _, r := range s.read(jobLetters) {
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(s, err)
		s.history.Add(ledger.Entry{Kind: ledger.LetterRead, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset})
	}
}

// lane is what the events that keep an order have in common.
func (s *simulation) lane(e sim.Event) string {
	if s.script.Free {
		return e.ID
	}
	return e.Key
}

// sound says whether an event must not be dead-lettered, whatever happens.
func (s *simulation) sound(e sim.Event) bool {
	return e.Sound() && s.script.Limits.Hold > 0 && s.script.Limits.Attempts > 1
}

// event is the script's event that a record of the log is.
func (s *simulation) event(r *kgo.Record) sim.Event {
	id, garbage := strings.CutPrefix(string(r.Value), garbagePrefix)
	if !garbage {
		topic := s.jobs
		if r.Topic == jobsDone {
			topic = simDone
		}
		e, err := topic.Decode(r.Value)
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
		kgo.KeepControlRecords(), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(s, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var records []*kgo.Record
	for int64(len(records)) < left {
		require.NoError(s, ctx.Err(), "reading %s", topic)
		records = append(records, cl.PollFetches(ctx).Records()...)
	}
	return slices.DeleteFunc(records, func(r *kgo.Record) bool { return r.Attrs.IsControl() })
}

// step has one thing happen. It waits for nothing.
func (s *simulation) step(step sim.Step) {
	switch step.Do {
	case sim.Join:
		s.join(step.Member, step.Instance)
	case sim.Leave:
		s.leave(s.members[step.Member])
	case sim.Retire:
		s.retire(s.members[step.Member])
	case sim.Pause:
		s.pause(s.members[step.Member], step.For)
	case sim.Outage:
		s.outage(step.For)
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

// until has something end after a time, at the latest at the healing.
func (s *simulation) until(d time.Duration, end func()) {
	s.chores.Go(func() {
		select {
		case <-time.After(d):
		case <-s.healed:
		}
		end()
	})
}

// pause pauses a member, if it runs.
func (s *simulation) pause(m *member, d time.Duration) {
	if m.bus.Pause(simGroup) == nil {
		s.until(d, func() { _ = m.bus.Resume(simGroup) }) // it may have ended
	}
}

// outage has all handlers fail. It explains no repetition.
func (s *simulation) outage(d time.Duration) {
	s.setDown(true)
	s.until(d, func() { s.setDown(false) })
}

func (s *simulation) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// trouble notes what may explain repetitions, ends it after a time or at the healing, and notes the end of its consequences.
func (s *simulation) trouble(what string, d time.Duration, end func()) {
	what = fmt.Sprintf("%s (%v)", what, s.since())
	s.history.Add(ledger.Entry{Kind: ledger.TroubleBegan, Detail: what})
	s.until(d, func() {
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
	fault := kfake.Fault{Keys: []kmsg.Key{s.request(step)}, Err: code, Count: step.Count, TopLevel: step.Top}
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

func (s *simulation) newBus(name string, l *link, hooks eventbus.Hooks) *eventbus.Bus {
	bus, err := eventbus.New(eventbus.Config{
		Service: name, Instance: name, Brokers: s.cluster.ListenAddrs(), Logger: slog.New(slog.DiscardHandler), Hooks: []eventbus.Hooks{hooks},
		Client: slices.Concat(l.options(), []kgo.Opt{kgo.WithHooks(&letterHook{history: &s.history, member: name})}),
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
