package itest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
)

// TestCluster hurts a cluster of three brokers, while processes publish to it and a group of processes handles. KAFKA_CLUSTER is the state
// folder of `scripts/kafka up -n 3`. Only the ledger judges, at the end.
func TestCluster(t *testing.T) {
	dir := os.Getenv("KAFKA_CLUSTER")
	if dir == "" {
		t.Skip("KAFKA_CLUSTER is not set: start a cluster with scripts/kafka up -n 3 -d DIR")
	}
	c := newCluster(t, dir)
	table := &figures{}
	for _, protocol := range []eventbus.GroupProtocol{eventbus.ProtocolClassic, eventbus.ProtocolConsumer} {
		for _, f := range faults {
			if protocol == eventbus.ProtocolConsumer && !f.both {
				continue
			}
			t.Run(protocolName(protocol)+"/"+strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
				r := c.newRun(t, f, protocol)
				table.add(f, protocol, r.play())
			})
		}
	}
	table.print(t)
}

func protocolName(p eventbus.GroupProtocol) string {
	if p == eventbus.ProtocolConsumer {
		return "consumer"
	}
	return "classic"
}

// fault is one way to hurt.
type fault struct {
	name string
	// hurt does it, returns when it is over, and says in the run's harm what could not work meanwhile.
	hurt func(*run)
	// bound is how long publishing, and handling, of a partition may stand still beyond that. 0: it is only measured.
	bound time.Duration
	// trouble says that what brokers do explains repetitions.
	trouble bool
	// both is for what the group's coordinator and its members have to do with: it is tried by both protocols.
	both bool
}

const (
	afterKill   = 15 * time.Second
	afterFreeze = 45 * time.Second
)

var faults = []fault{
	{"no fault", (*run).calm, 0, false, false},
	{"leader and coordinator killed", (*run).killBroker, afterKill, true, true},
	{"leader and coordinator frozen for 50 s", (*run).freezeBroker, afterFreeze, true, true},
	{"rolling restart", (*run).roll, afterKill, true, false},
	{"all brokers down for 60 s", (*run).killAll, afterKill, true, false},
	{"coordinator moved every 3 s", (*run).moveCoordinator, afterKill, true, true},
	{"members killed in mid-batch", (*run).killMembers, afterKill, false, true},
	{"members joining and leaving every second", (*run).churn, afterKill, false, true},
	{"connections to one broker cut for 20 s", (*run).cut, afterKill, true, false},
	{"connections to the coordinator cut for 20 s", (*run).cutCoordinator, afterKill, true, false},
	{"500 ms more each way for 20 s", (*run).slow, afterKill, true, false},
	{"one broker's bytes swallowed for 20 s", (*run).swallow, afterKill, true, false},
	{"the coordinator's bytes swallowed for 20 s", (*run).swallowCoordinator, afterKill, true, false},
	{"one member's bytes swallowed for 20 s", (*run).isolate, afterKill, true, true},
}

// cluster is three brokers that already run.
type cluster struct {
	t       *testing.T
	dir     string // of its state
	brokers []string
	client  *kgo.Client
	admin   *kadm.Client
}

func newCluster(t *testing.T, dir string) *cluster {
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(strings.TrimPrefix(string(env), "KAFKA_BROKERS="), "\n")
	c := &cluster{t: t, dir: dir, brokers: strings.Split(line, ",")}
	require.Len(t, c.brokers, 3)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.MetadataMinAge(100*time.Millisecond), kgo.RequestTimeoutOverhead(3*time.Second),
		kgo.RetryTimeout(10*time.Second))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	c.client, c.admin = client, kadm.NewClient(client)
	return c
}

// command is `scripts/kafka NAME N` for a broker, from 1.
func (c *cluster) command(name string, broker int) {
	script(c.t, "kafka", name, strconv.Itoa(broker), "-d", c.dir)
}

// healed waits until all brokers hold all replicas.
func (c *cluster) healed(t *testing.T) {
	eventually(t, 2*time.Minute, "all replicas are in sync", func(ctx context.Context) bool {
		meta, err := c.admin.Metadata(ctx)
		if err != nil || len(meta.Brokers) != len(c.brokers) {
			return false
		}
		whole := true
		meta.Topics.EachPartition(func(p kadm.PartitionDetail) { whole = whole && p.Err == nil && len(p.ISR) == len(p.Replicas) })
		return whole
	})
}

// eventually waits for what the cluster, or another process, brings about.
func eventually(t *testing.T, within time.Duration, what string, ok func(context.Context) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for !ok(ctx) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			require.Fail(t, "in vain", "%v passed: %s", within, what)
		}
	}
}

const (
	partitions = 12
	publishers = 2
	members    = 3
	rate       = 250 // events a second and publisher
)

// run is one fault, with topic, group and processes of its own.
type run struct {
	*cluster
	t          *testing.T
	fault      fault
	byGroup    eventbus.GroupProtocol
	copies     bool // its members copy in transactions
	sequenced  bool // and keys are parked, and released
	parked     releases
	published  atomic.Int64 // to be copied
	topic      string
	group      string
	dir        string // of its ledgers
	via        []*proxy
	watch      *groupWatch
	publishers []*process
	members    []*process
	started    int
	books      []string
	book       *book // this process's own
	harm       harm
}

func (c *cluster) newRun(t *testing.T, f fault, byGroup eventbus.GroupProtocol) *run {
	name := "cluster-" + uuid.NewString()[:8]
	r := &run{cluster: c, t: t, fault: f, byGroup: byGroup, topic: name + ".jobs", group: name + "-group", dir: ledgerDir(t)}
	r.watch = &groupWatch{client: c.client, admin: c.admin, topic: r.topic, group: r.group, byGroup: byGroup}
	for _, b := range c.brokers {
		r.via = append(r.via, newProxy(t, b))
	}
	var err error
	r.book, err = openBook(r.path("test"), 0)
	require.NoError(t, err)
	return r
}

// ledgerDir is a folder that stays where EVENTBUS_LEDGERS says so, to look at afterwards.
func ledgerDir(t *testing.T) string {
	root := os.Getenv("EVENTBUS_LEDGERS")
	if root == "" {
		return t.TempDir()
	}
	dir := filepath.Join(root, strings.ReplaceAll(t.Name(), "/", "_"))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	return dir
}

func (r *run) path(name string) string {
	path := filepath.Join(r.dir, name)
	r.books = append(r.books, path)
	return path
}

// play has the load, the fault and the end of a run, and judges it.
func (r *run) play() verdict {
	r.prepare()
	r.healed(r.t)
	ctx, stop := context.WithCancel(context.Background())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		r.watch.run(ctx)
	}()
	for range members {
		r.members = append(r.members, r.start(true))
	}
	for range publishers {
		r.publishers = append(r.publishers, r.start(false))
	}
	load := r.underLoad()
	r.drain()
	for _, m := range r.members {
		m.end()
	}
	stop()
	<-watching
	return r.judge(load)
}

// prepare makes the topics, and has the group's sessions be short where the broker decides that.
func (r *run) prepare() {
	bus, err := eventbus.New(eventbus.Config{Service: "cluster", Brokers: r.brokers, NewTopics: eventbus.TopicDefaults{Partitions: partitions}})
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, shutdown(bus)) }()
	topic := jobTopic(r.topic)
	opts := &eventbus.HandleOptions{}
	if r.sequenced {
		opts.Order = eventbus.OrderSequenced
	}
	sub := eventbus.Subscription{Group: r.group, Routes: []eventbus.Route{topic.Handle((&handler{}).try, opts)}}
	eventually(r.t, time.Minute, "the topics are there", func(ctx context.Context) bool {
		return bus.EnsureTopics(ctx, append(sub.Topics(), jobTopic(copyTopic(r.topic)))...) == nil
	})
	if r.byGroup != eventbus.ProtocolConsumer {
		return
	}
	r.configureGroup("consumer.session.timeout.ms", strconv.Itoa(int(sessionTimeout/time.Millisecond)))
}

func (r *run) configureGroup(name, value string) {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, r.group
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value, config.Op = name, &value, kmsg.IncrementalAlterConfigOpSet
	resource.Configs = append(resource.Configs, config)
	req.Resources = append(req.Resources, resource)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, r.client)
	require.NoError(r.t, err)
	require.Zero(r.t, resp.Resources[0].ErrorCode, "%v", resp.Resources[0].ErrorMessage)
}

// start starts a child, which reaches the brokers through the run's proxies.
func (r *run) start(member bool) *process { return r.startVia(member, r.via) }

func (r *run) startVia(member bool, proxies []*proxy) *process {
	r.started++
	name := fmt.Sprintf("publisher-%d", r.started)
	if member {
		name = fmt.Sprintf("member-%d", r.started)
	}
	via := map[string]string{}
	for i, b := range r.brokers {
		via[b] = proxies[i].listen.Addr().String()
	}
	return startProcess(r.t, role{
		Member: member, Name: name, Number: r.started, Ledger: r.path(name), Brokers: r.brokers, Via: via, Topic: r.topic, Group: r.group,
		ByGroup: r.byGroup, Rate: rate, Copies: r.copies, Sequenced: r.sequenced,
	})
}

// underLoad waits until everybody works, hurts, and ends the load some seconds after the fault. Hurt while it forms, a group of three would be
// one of one.
func (r *run) underLoad() (load window) {
	eventually(r.t, 2*time.Minute, "every partition is handled", func(context.Context) bool { return r.watch.handled() == partitions })
	eventually(r.t, time.Minute, "every member has its part", func(context.Context) bool { return r.watch.shared(members, partitions) })
	load.from = now()
	r.harm.from = now()
	if r.fault.trouble {
		r.book.add(ledger.Entry{Kind: ledger.TroubleBegan, Detail: r.fault.name})
	}
	r.fault.hurt(r)
	r.harm.to = now()
	r.wait(aftermath)
	load.to = now()
	for _, p := range r.publishers {
		p.end()
	}
	return load
}

// aftermath is how long the load goes on after a fault.
const aftermath = 10 * time.Second

// wait lets the load go on.
func (r *run) wait(d time.Duration) { time.Sleep(d) }

// entries is what everybody has written down, once all have ended.
func (r *run) entries() []ledger.Entry {
	books := [][]ledger.Entry{r.watch.entries}
	for _, path := range r.books {
		entries, err := readBook(path)
		require.NoError(r.t, err)
		books = append(books, entries)
	}
	return history(books...)
}

// drain waits until the group has committed the whole topic, and reads it.
func (r *run) drain() {
	var ends kadm.ListedOffsets
	eventually(r.t, time.Minute, "the topic's end is known", func(ctx context.Context) (ok bool) {
		var err error
		ends, err = r.admin.ListEndOffsets(ctx, r.topic)
		return err == nil && ends.Error() == nil
	})
	eventually(r.t, 2*time.Minute, "everything is committed", func(ctx context.Context) bool {
		committed, err := r.admin.FetchOffsets(ctx, r.group)
		if err != nil {
			return false
		}
		left := int64(0)
		ends.Each(func(o kadm.ListedOffset) {
			at, _ := committed.Lookup(o.Topic, o.Partition)
			left += o.Offset - max(at.At, 0)
		})
		return left == 0
	})
	if r.fault.trouble {
		r.book.add(ledger.Entry{Kind: ledger.TroubleOver, Detail: r.fault.name})
	}
	r.readTopic(r.topic, func(rec *kgo.Record) {
		e, err := jobTopic(r.topic).Decode(rec.Value)
		require.NoError(r.t, err)
		r.book.add(ledger.Entry{
			Kind: ledger.Read, Topic: r.topic, Partition: rec.Partition, Offset: rec.Offset, ID: e.EventID, Key: e.Payload.Key, N: e.Payload.N,
		})
	})
	r.readTopic(r.topic+".dlq."+r.group, func(rec *kgo.Record) {
		d, err := eventbus.ParseDeadLetter(rec)
		require.NoError(r.t, err)
		r.book.add(ledger.Entry{Kind: ledger.LetterRead, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset})
	})
}

func (r *run) readTopic(topic string, found func(*kgo.Record)) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends, err := r.admin.ListEndOffsets(ctx, topic)
	require.NoError(r.t, err)
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	require.NoError(r.t, err)
	defer client.Close()
	for left > 0 {
		fetches := client.PollFetches(ctx)
		require.NoError(r.t, ctx.Err(), "%d records of %s are missing", left, topic)
		fetches.EachRecord(func(rec *kgo.Record) {
			found(rec)
			left--
		})
	}
}

func (r *run) judge(load window) verdict {
	entries := r.entries()
	v := judge(entries, load, r.harm)
	findings := v.report.Findings
	summary, _, _ := strings.Cut(v.report.String(), "\n")
	r.t.Logf("%s; doubled in the log %d, out of order in the log %d, may come again %d; stalls: publishing %v, handling %v", summary,
		v.doubled, v.mixed, v.inFlight, v.publish.Round(time.Millisecond), v.handle.Round(time.Millisecond))
	require.NoError(r.t, ledger.Save(filepath.Join(r.dir, "history.jsonl"), entries))
	require.Empty(r.t, findings[:min(3, len(findings))], "the first findings; EVENTBUS_LEDGERS keeps the history, for `make judge`")
	require.Zero(r.t, v.doubled, "events doubled in the log")
	require.Zero(r.t, v.mixed, "events of a key out of order in the log")
	require.LessOrEqual(r.t, v.report.Repeated, v.inFlight, "handled again, of those in flight")
	require.Empty(r.t, v.strange[:min(3, len(v.strange))], "the first of %d that were handled again and had not been in flight", len(v.strange))
	if r.fault.bound > 0 {
		require.LessOrEqual(r.t, v.publish, r.fault.bound, "publishing stood still")
		require.LessOrEqual(r.t, v.handle, r.fault.bound, "handling stood still")
	}
	return v
}
