package eventbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/engine"
)

// A key of a sequenced route whose event is given up is parked: its dead letter, the key's record in the sequence topic and the event's offset are
// committed together, and the key's later events follow it among the dead letters, untried. Whoever has the partition next knows of it before
// the first event.

// sequence is a parked key of an assignment. It is guarded by consumer.mu.
type sequence struct {
	parked
	to      followedTo
	key     string
	follows int // the transaction in which an event last followed

	// While it is released (see draining.go):
	request *release    // nil: it is not
	read    int64       // up to where the dead letters were looked through
	drain   *assignment // of those that were found; nil: none yet
	closing bool        // events of the source wait for the end, and follow no more
	ending  bool        // the end is being written
}

// sequenced says whether the assignment parks keys: the events of a sequenced route do, those that are sent back to it have left theirs.
func (a *assignment) sequenced() bool { return a.route.sequenced && a.topic == a.route.kafkaTopic }

// loadedLocked says whether it is known which keys are parked, and sees to it.
func (a *assignment) loadedLocked() bool {
	if !a.sequenced() || a.sequences != nil {
		return true
	}
	if !a.loading {
		a.loading = true
		c := a.consumer
		c.workers.Go(func() { c.loadSequences(a) })
	}
	return false
}

// lookTime bounds a look at the sequence topic, or at dead letters: it waits for others' transactions.
const lookTime = 2 * transactionTimeout

// loadSequences finds out which keys are parked. The assignment's beginning has been found before, without what is undecided: then nobody else's
// transaction can park any more, and those that have are waited for.
func (c *consumer) loadSequences(a *assignment) {
	what := fmt.Sprintf("topic %s load %d", c.sequenceTopic(a.route), a.partition)
	defer c.resolve(what)
	for fails := 1; ; fails++ {
		err := c.tryLoad(a)
		if err == nil || a.ctx.Err() != nil {
			return
		}
		c.trouble(what, fmt.Errorf("which keys are parked is not known: %w", err))
		if !sleep(a.ctx, min(backOff(fails), time.Second)) {
			return
		}
	}
}

func (c *consumer) tryLoad(a *assignment) error {
	ctx, cancel := context.WithTimeout(a.ctx, lookTime)
	defer cancel()
	r := a.route
	topic, letters := c.sequenceTopic(r), c.letterTopic(r)
	asking, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	known, err := c.bus.describeTopics(asking, []string{r.kafkaTopic, letters, topic})
	if err != nil {
		return err
	}
	if err := c.copartitioned(r, known); err != nil {
		return err
	}
	if err := c.bus.compacted(ctx, topic); err != nil {
		return err
	}
	found, end, err := c.bus.readSequences(ctx, topic, a.partition, 0)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	a.sequences, a.seen, a.letterLog = map[string]*sequence{}, end, logID(known[letters])
	for key, p := range found.parked {
		if c.bus.bug == engine.ForgetParked {
			break
		}
		s := &sequence{parked: p, to: found.followed[key], key: key, read: p.Next}
		if r, released := found.released(key); released {
			s.request = &r
		}
		a.sequences[key] = s
	}
	c.wakePollLocked()
	c.lookForReleases()
	return nil
}

// logID tells a topic from an earlier one of its name; "": the broker does not.
func logID(info topicInfo) string {
	if info.id == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x", info.id)
}

// compacted says what is wrong with the configuration of a sequence topic.
func (b *Bus) compacted(ctx context.Context, topic string) error {
	const key = "cleanup.policy"
	values, err := b.topicConfigs(ctx, key, topic)
	if err != nil {
		return fmt.Errorf("topic %s: its %s cannot be looked at: %w", topic, key, err)
	}
	if policy := values[topic]; policy != "compact" {
		return fmt.Errorf("topic %s: %s is %q, and must be compact: parked keys would be forgotten", topic, key, policy)
	}
	return nil
}

// copartitioned says what is wrong with the topics of a sequenced route: where a key's events are, its dead letters and its place among the parked
// keys must be too.
func (c *consumer) copartitioned(r *route, known map[string]topicInfo) error {
	source := known[r.kafkaTopic]
	for _, name := range []string{c.letterTopic(r), c.sequenceTopic(r)} {
		if info := known[name]; info.err != nil {
			return fmt.Errorf("topic %s: %w", name, info.err)
		} else if err := samePartitions(r.kafkaTopic, source, name, info); err != nil {
			return err
		}
	}
	return source.err
}

// samePartitions is nil where a topic has as many partitions as its source, or nobody knows.
func samePartitions(source string, of topicInfo, name string, info topicInfo) error {
	if of.partitions == 0 || info.partitions == 0 || of.partitions == info.partitions {
		return nil
	}
	return fmt.Errorf("topic %s has %d partitions, %s has %d: OrderSequenced needs as many", name, info.partitions, source, of.partitions)
}

// checkSequenced refuses subscriptions with a sequenced route whose topics are known not to be co-partitioned.
func (b *Bus) checkSequenced(subs []Subscription, known map[string]topicInfo) error {
	for _, sub := range subs {
		for i, r := range sub.Routes {
			if r.order != OrderSequenced {
				continue
			}
			source := b.cfg.TopicPrefix + r.topic.name
			for _, infix := range []string{dlqInfix, sequenceInfix} {
				name := b.companionTopic(r.topic.name, infix, sub.Group)
				if err := samePartitions(source, known[source], name, known[name]); err != nil {
					return fmt.Errorf("eventbus: Subscription %q: Routes[%d] (%s): Order: %w", sub.Group, i, r.topic.name, err)
				}
			}
		}
	}
	return nil
}

// lookAtSequences names what is wrong with the topics of sequenced routes, beside what every route needs.
func (c *consumer) lookAtSequences(r *route, known map[string]topicInfo) {
	if !r.sequenced {
		return
	}
	name, letters := c.sequenceTopic(r), c.letterTopic(r)
	err := known[name].trouble(name, kmsg.ACLOperationWrite)
	for _, needed := range []string{name, letters} {
		if err == nil {
			err = known[needed].trouble(needed, kmsg.ACLOperationRead)
		}
		if err == nil {
			err = samePartitions(r.kafkaTopic, known[r.kafkaTopic], needed, known[needed])
		}
	}
	c.noteTopic(name, err)
}

// sequenceTopic is Kafka's name of a route's.
func (c *consumer) sequenceTopic(r *route) string {
	return c.bus.companionTopic(r.topic.name, sequenceInfix, c.sub.Group)
}

var errFollows = errors.New("an earlier event of its key was given up: it waits for DeadLetters.Release")

// followsLocked has an event that would start follow the parked ones of its key, or wait for the end of their release.
func (c *consumer) followsLocked(it *item) bool {
	a := it.Value.of
	if a.source != nil {
		return c.passedLocked(it)
	}
	s := a.sequences[it.Key]
	if s == nil || !it.Keyed {
		return false
	}
	if s.to.has(it.Offset, it.Epoch, a.lineage) { // it is among the dead letters already
		c.engine.Done(it)
		a.idleLocked()
		return true
	}
	if s.closing {
		it.Value.held = true
		c.engine.Park(it)
		return true
	}
	c.buryLocked(it, failure{class: ClassSequence, err: errFollows, first: time.Now()})
	return true
}

// parksLocked says whether an event that is given up is of a sequence: its dead letter says so.
func (t *task) parksLocked() bool { return t.of.sequenced() && t.item.Keyed }

// parkLetterLocked is told that the dead letter of a sequence's event is acknowledged. The first has the key parked.
func (c *consumer) parkLetterLocked(it *item, letter *kgo.Record) {
	t := it.Value
	a, topic := t.of, c.sequenceTopic(t.of.route)
	to := followedTo{To: it.Offset + 1, Epoch: it.Epoch, Lineage: a.lineage}
	records := []*kgo.Record{sequenceRecord(topic, a.partition, followedPrefix, it.Key, to)}
	s := a.sequences[it.Key]
	if s == nil {
		first := parked{From: letter.Offset, Next: letter.Offset, Since: time.Now().UTC(), Error: t.letter.text(), Log: a.letterLog}
		records = append(records, sequenceRecord(topic, a.partition, parkedPrefix, it.Key, first))
		s = &sequence{key: it.Key, parked: first, read: letter.Offset}
	}
	c.writeSequenceLocked(a, it, func() {
		s.to, s.follows = to, c.txn.number
		if _, known := a.sequences[s.key]; known {
			c.tellIfCommittedLocked(func() { c.bus.count.followed.Add(1) })
		} else {
			a.sequences[s.key] = s
			c.tellIfCommittedLocked(func() {
				c.log.Warn("key parked: its events wait for DeadLetters.Release", "topic", a.topic, "partition", a.partition, "key_hash", KeyHash([]byte(s.key)))
			})
		}
		c.buriedLocked(it)
	}, records...)
}

// begunLocked says whether the assignment knows where its group is, also if nothing has come since. What becomes of a parked key is written together
// with that: a broker takes it from who owns the partition alone.
func (a *assignment) begunLocked() bool {
	if !a.part.Begun() && !a.ahead {
		a.resumeLocked(a.consumer.followed[a.topic].id)
	}
	return a.part.Begun()
}

// writeSequenceLocked writes what becomes of a parked key, in the transaction that is under way, for as long as something of it flies: it is told of
// its end by done. What cannot be written has it aborted. it is the event in question; nil: none.
func (c *consumer) writeSequenceLocked(a *assignment, it *item, done func(), records ...*kgo.Record) {
	topic := c.sequenceTopic(a.route)
	left, failed := len(records), error(nil)
	c.handLocked(func(_ *kgo.Record, err error) {
		c.mu.Lock()
		defer c.unlock()
		if err != nil {
			failed = err
		}
		if left--; left > 0 {
			return
		}
		defer c.landLocked()
		switch {
		case c.txn.broken != nil || !a.part.Owned():
			c.breakLocked(errGivenUp)
		case failed != nil:
			c.sequenceFailedLocked(it, topic, failed)
		default:
			c.afterLocked(func() { c.resolve(letterTrouble(topic)) })
			c.engine.Recommit(a.part)
			done()
			return
		}
		if it != nil && !it.Over() {
			c.dropLocked(it)
		}
	}, records...)
}

// sequenceFailedLocked is for what cannot be written of a parked key. Its dead letter must not be seen without, so the transaction is aborted; what was to be written
// is tried again after a while, so that others go on meanwhile.
func (c *consumer) sequenceFailedLocked(it *item, topic string, err error) {
	err = fmt.Errorf("topic %s: %w", topic, err)
	if it != nil {
		t := it.Value
		t.letterFails++
		t.next = time.Now().Add(min(time.Second<<min(t.letterFails, 5), maxSequenceWait))
	}
	c.breakLocked(err)
	c.afterLocked(func() { c.trouble(letterTrouble(topic), err) })
}

// maxSequenceWait is the longest wait before what becomes of a parked key is written again.
const maxSequenceWait = 30 * time.Second

// forgetParking resolves the trouble with writing parked keys down, for topics of which partitions are given up: it is another member's by then.
func (c *consumer) forgetParking(parts map[string][]int32) {
	for topic := range parts {
		if r := c.routes[topic]; r != nil && r.sequenced {
			c.resolve(letterTrouble(c.sequenceTopic(r)))
		}
	}
}
