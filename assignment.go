package eventbus

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/engine"
	"github.com/dreamscape/eventbus/internal/progress"
)

// assignment is one partition for as long as it is ours. When the partition comes back after a rebalance, that is a new assignment:
// every record and every result belongs to one, so that nothing of an old one can touch a new one.
type assignment struct {
	consumer  *consumer
	route     *route
	topic     string // Kafka's name: the route's topic, or its retry topic
	partition int32

	// ctx is what handlers run in; it ends when the partition is lost, or the drain time over.
	ctx    context.Context
	cancel context.CancelFunc
	idle   chan struct{} // closed when the assignment is stopped and nothing of it is under way

	// What follows is guarded by consumer.mu.
	part      *engine.Partition[*task]
	id        [16]byte             // of the topic; zero where the broker has none
	lineage   uint32               // which topic of that name
	start     int64                // where it will begin, for health, until the first record has come; -1: not known
	end       int64                // the partition's end as last seen
	headTime  time.Time            // the newest record's time as last seen
	doneTime  time.Time            // that of a record that was done lately
	paused    string               // why it is not fetched, "" if it is
	ahead     bool                 // the client fetches from elsewhere than where it begins: see setBack
	from      *kgo.EpochOffset     // where it begins, where the bus has found that out and not the client
	idleAt    int64                // where it was at the last look, if nothing was read there although there was something; else -1
	sequences map[string]*sequence // parked keys; nil where none can be, and until they are known
	loading   bool                 // they are being asked for
	seen      int64                // up to where the sequence topic was read
	letterLog string               // which dead-letter topic of the name there is
	source    *assignment          // of a drain: whose released key it has the dead letters of
	outlasted bool                 // its handlers have had their time to end
	void      bool                 // its topic is gone: none of its offsets may be committed
}

func newAssignment(ctx context.Context, c *consumer, topic string, partition int32) *assignment {
	r := c.routes[topic]
	a := &assignment{
		consumer: c, route: r, topic: topic, partition: partition, idle: make(chan struct{}), part: c.engine.Assign(r.n), start: -1, idleAt: -1,
	}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// fetched is a partition's commit, as the broker gave it to the client.
type fetched struct {
	topic     string // "" where the broker named it by its id only
	id        [16]byte
	partition int32
	offset    int64 // -1: there was no commit
	epoch     int32
	done      progress.Map
}

func (f fetched) of(topic string, id [16]byte, partition int32) bool {
	return f.partition == partition && (f.topic == topic || f.topic == "" && f.id == id)
}

// onOffsetsFetched keeps what was committed, until the first records of each partition come. It is called after onAssigned.
func (c *consumer) onOffsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				at := fetched{topic: t.Topic, id: t.TopicID, partition: p.Partition, offset: p.Offset, epoch: p.LeaderEpoch}
				if p.Metadata != nil && p.Offset >= 0 {
					at.done, _ = progress.Decode(*p.Metadata) // anybody else's means that there is no map
				}
				c.fetched = slices.DeleteFunc(c.fetched, func(f fetched) bool {
					return f.topic == at.topic && f.id == at.id && f.partition == at.partition
				})
				c.fetched = append(c.fetched, at)
			}
		}
	}
	return nil
}

// beginLocked says where an assignment begins, in place of what the client has fetched.
func (a *assignment) beginLocked(at fetched) {
	a.start = at.offset
	a.from = &kgo.EpochOffset{Epoch: at.epoch, Offset: at.offset}
	if at.offset < 0 {
		a.from.Offset = kgo.NewOffset().AtStart().EpochOffset().Offset
	}
	a.consumer.fetched = append(a.consumer.fetched, at)
}

// before says whether a record is of before the place where the bus has found the assignment to begin: the client cannot be set to it while it has
// polled nothing. A record of a later leader is not: the log was truncated, and written again.
func (a *assignment) before(r *kgo.Record) bool {
	return a.from != nil && r.Offset < a.from.Offset && r.LeaderEpoch <= a.from.Epoch
}

// resumeLocked has an assignment begin where its group has committed, as last fetched. false: that is of an older topic of the same name, and the
// client is to be set back to the earliest.
func (a *assignment) resumeLocked(id [16]byte) bool {
	a.id, a.lineage = id, lineageOf(id)
	c := a.consumer
	last := c.fetchedLocked(a.topic, id, a.partition)
	if last == nil {
		return true
	}
	at := *last
	c.fetched = slices.DeleteFunc(c.fetched, func(f fetched) bool { return f.of(a.topic, id, a.partition) })
	if at.offset < 0 {
		return true
	}
	if older(at.done, id) {
		c.tellOlderLocked(a.topic, a.partition)
		a.beginLocked(fetched{topic: a.topic, partition: a.partition, offset: -1, epoch: -1})
		a.ahead = true
		c.fetchingLocked(a)
		return false
	}
	a.part.Resume(at.offset, at.epoch, at.done)
	if at.done.Lineage != a.lineage {
		a.part.Forget()
	}
	return true
}

// fetchedLocked is what was last fetched of the commits of a partition; nil: nothing. The client names a topic by its id, or without it, as it knows
// the id at that moment.
func (c *consumer) fetchedLocked(topic string, id [16]byte, partition int32) *fetched {
	for i, f := range slices.Backward(c.fetched) {
		if f.of(topic, id, partition) {
			return &c.fetched[i]
		}
	}
	return nil
}

// take queues fetched records, without waiting for anything but a lock.
func (a *assignment) take(id [16]byte, p kgo.FetchPartition) {
	tasks := make([]*task, len(p.Records))
	for i, r := range p.Records {
		tasks[i] = a.admit(r)
	}
	c := a.consumer
	c.mu.Lock()
	defer c.unlock()
	if !a.part.Begun() && !a.resumeLocked(id) {
		return
	}
	skipped := a.part.Skipped()
	for _, t := range tasks {
		r := t.record
		if a.before(r) {
			continue
		}
		a.headTime = r.Timestamp
		if r.Attrs.IsControl() { // a transaction's marker is only passed
			c.engine.Pass(a.part, r.Offset, r.LeaderEpoch)
			continue
		}
		c.recallLocked(t)
		if !c.engine.Add(a.part, &t.item) {
			a.doneTime = a.headTime
		}
	}
	c.bus.count.skipped.Add(a.part.Skipped() - skipped)
	a.end = max(a.end, p.LastStableOffset)
	c.feedLocked()
	c.fetchingLocked(a)
}

// recordOverhead is about what a record takes beside its bytes, headerOverhead each of its headers: a few bytes of the wire may be many headers.
const recordOverhead, headerOverhead = 512, 64

// admit copies a record, so that an event that waits does not keep its whole batch in memory, and finds its lane. A record without a key
// has that of its payload, if the topic has keys: it has to be decoded for it.
func (a *assignment) admit(r *kgo.Record) *task {
	t := &task{of: a, own: cloneRecord(r)}
	t.record = &t.own
	t.item = item{Value: t, Record: engine.Record{
		Offset: r.Offset, Epoch: r.LeaderEpoch, Size: recordBytes(r) + recordOverhead + headerOverhead*len(r.Headers),
		Key: string(r.Key), Keyed: r.Key != nil, Free: a.route.free,
	}}
	if t.item.Keyed || t.item.Free || !a.route.keyed || r.Attrs.IsControl() {
		return t
	}
	if t.accept(); t.broken == nil {
		t.item.Key, t.item.Keyed = t.raw.call.lane(), true
	}
	return t
}

// cloneRecord copies what a record shares with its batch.
func cloneRecord(r *kgo.Record) kgo.Record {
	own := *r
	bytes := append(append(make([]byte, 0, len(r.Key)+len(r.Value)), r.Key...), r.Value...)
	n := len(r.Key)
	if r.Key != nil {
		own.Key = bytes[:n:n]
	}
	if r.Value != nil {
		own.Value = bytes[n:]
	}
	own.Headers = slices.Clone(r.Headers)
	for i, h := range own.Headers {
		own.Headers[i] = kgo.RecordHeader{Key: strings.Clone(h.Key), Value: slices.Clone(h.Value)}
	}
	return own
}

// recordBytes is what a record weighs on the wire before compression.
func recordBytes(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// fetchingLocked pauses or resumes the fetching of a partition, as what it holds demands. Where it waits for the bus no longer, the others that do are judged
// at once too: who asks first would fill what is free again.
func (c *consumer) fetchingLocked(a *assignment) {
	was := a.paused
	c.fetchLocked(a)
	if was != engine.FullBus || a.paused == was {
		return
	}
	for _, other := range c.assigned {
		if other.paused == was {
			c.fetchLocked(other)
		}
	}
}

func (c *consumer) fetchLocked(a *assignment) {
	if a.source != nil || a.part.Stopped() { // the client has none of it, or it has it for another assignment by now
		return
	}
	why := c.engine.Full(a.part, a.paused != "")
	switch {
	case a.ahead:
		why = pausedAhead
	case c.held:
		why = pausedByUser
	case why == "held":
		why = pausedDownstream
	}
	was := a.paused
	if a.paused = why; (was == "") == (why == "") {
		return
	}
	parts := map[string][]int32{a.topic: {a.partition}}
	if why != "" {
		c.lessenLocked(a)
		c.client.PauseFetchPartitions(parts)
		return
	}
	c.client.ResumeFetchPartitions(parts)
}

// lessenLocked has less fetched at once, where a partition that is to be paused has no room for what was.
func (c *consumer) lessenLocked(a *assignment) {
	room := 0
	switch a.paused {
	case pausedByUser, pausedDownstream, pausedAhead:
	case engine.FullBus:
		room = c.engine.RoomOnBus(a.part)
	default:
		room = c.engine.Room(a.part)
	}
	if room > 0 {
		c.appetite.lessen(c.client, room)
	}
}

// Why a partition is paused, beside what engine.Full says.
const (
	pausedByUser     = "by Pause"
	pausedDownstream = "downstream"
	pausedAhead      = "to begin anew"
)

// stopLocked has nothing more of the assignment start, nor of the drains beside it.
func (a *assignment) stopLocked() {
	for _, drain := range a.drainsLocked() {
		drain.stopLocked()
	}
	a.consumer.takeBackAllLocked()
	for _, it := range a.consumer.engine.Stop(a.part) {
		it.Value.quiet()
	}
	a.idleLocked()
}

// idleLocked tells who waits for it that nothing is under way any longer.
func (a *assignment) idleLocked() {
	if !a.part.Idle() {
		return
	}
	select {
	case <-a.idle:
	default:
		close(a.idle)
	}
}

// home is the partition of Kafka that the assignment's keys are of.
func (a *assignment) home() topicPartition {
	if a.source != nil {
		a = a.source
	}
	return topicPartition{a.topic, a.partition}
}

// positionLocked is the first offset not done, -1 where nothing is known.
func (a *assignment) positionLocked() int64 {
	if a.part.Begun() {
		return a.part.Position()
	}
	return a.start
}

// reviveLocked has the client set to where the assignment is, when two looks in a row have found that it reads nothing although there is something to
// read: after the topics of a member change, by the consumer protocol, the client (franz-go 1.22) may be elsewhere.
func (a *assignment) reviveLocked() {
	at := a.positionLocked()
	if a.ahead || a.paused != "" || a.part.Stopped() || a.part.Queued() > 0 || a.lagLocked() == 0 {
		a.idleAt = -1
		return
	}
	if a.idleAt != at {
		a.idleAt = at
		return
	}
	a.idleAt, a.ahead = -1, true
	if a.part.Begun() {
		a.from = &kgo.EpochOffset{Epoch: a.part.Epoch(), Offset: at}
	}
	c := a.consumer
	c.fetchingLocked(a)
	c.afterLocked(func() {
		c.log.Warn("nothing is read although there is something to read; the client is set to where the group is", "topic", a.topic,
			"partition", a.partition, "offset", at)
	})
}

// lagLocked is how many records lie between the position and the end as last seen.
func (a *assignment) lagLocked() int64 {
	at := a.positionLocked()
	if at < 0 {
		return 0
	}
	return max(a.end-at, 0)
}

// lagTimeLocked is how much older the first record not done is than the newest one. Where it was not fetched yet, the last that was done
// stands for it.
func (a *assignment) lagTimeLocked() time.Duration {
	if a.lagLocked() == 0 || a.headTime.IsZero() {
		return 0
	}
	from := a.doneTime
	if first := a.part.First(); first != nil {
		from = first.Value.record.Timestamp
	}
	if from.IsZero() {
		return 0
	}
	return max(a.headTime.Sub(from), 0)
}
