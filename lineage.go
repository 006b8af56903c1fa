package eventbus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/progress"
)

// lineageOf stands for a topic's id; 0 for a broker that has none.
func lineageOf(id [16]byte) uint32 {
	if id == [16]byte{} {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write(id[:]) // never fails
	return max(h.Sum32(), 1)
}

// older says whether what was committed is of another topic than the one of that id: offsets of one that was deleted are worth nothing in one that
// was made anew under its name. Brokers delete them with the topic, some later than others. A commit that names no topic is believed.
func older(committed progress.Map, id [16]byte) bool {
	now := lineageOf(id)
	return committed.Lineage != 0 && now != 0 && committed.Lineage != now
}

// followed is a topic that a consumer reads, by its name: a topic that is deleted and made again is another one, which the client (franz-go 1.22)
// does not consume unless it is told to forget the first.
type followed struct {
	id       [16]byte  // of the topic that is consumed, as first seen; zero: not known
	consumed bool      // the client has it
	since    time.Time // when it was told to
	refused  bool      // a broker knows no topic of the id that the client has
	doubted  bool      // it was seen to be gone, or another one, once
	leaving  bool      // the client has not forgotten it yet
	made     bool      // it was consumed before
}

// refusalGrace is for how long a topic's id may be refused before that means anything: brokers hear of a new topic one after the other, and what a
// poll brings may be about the topic before.
const refusalGrace = 5 * time.Second

// refused notes that a broker knows no topic of the id that the client has, and has that looked at. false: it is too early to tell, or known.
func (c *consumer) refused(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.followed[topic]
	if f == nil || !f.consumed || time.Since(f.since) < refusalGrace {
		return false
	}
	f.refused = true
	c.lookSoon()
	return true
}

// follow has the client consume the topic of that name that there is, and none that is gone. It returns what is wrong meanwhile.
func (c *consumer) follow(ctx context.Context, name string, info topicInfo) error {
	another, sure := c.another(name, info)
	if sure {
		c.part(ctx, name)
	}
	if info.there(kmsg.ACLOperationRead) {
		c.consume(name, info.id)
	}
	if another && info.err == nil {
		return fmt.Errorf("topic %s was deleted and made again: %w", name, kerr.UnknownTopicID)
	}
	return nil
}

// another says whether the topic of that name is another one than the client consumes, or gone. It is sure of it at the second look, or when a
// broker has refused the id: a broker that has just started may not know what the others do.
func (c *consumer) another(name string, info topicInfo) (another, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.followed[name]
	if !f.consumed || info.err != nil && !errors.Is(info.err, kerr.UnknownTopicOrPartition) {
		return false, false
	}
	if f.id == [16]byte{} {
		f.id = info.id
	}
	another = f.refused || f.id != info.id || c.readsAnotherLocked(name, info.id)
	sure = f.refused || another && f.doubted
	f.doubted = another
	return another, sure
}

// readsAnotherLocked says whether records of another topic of that name have come.
func (c *consumer) readsAnotherLocked(name string, id [16]byte) bool {
	for _, a := range c.assigned {
		if a.topic == name && a.id != [16]byte{} && a.id != id {
			return true
		}
	}
	return false
}

// consume tells the client of a topic that it does not have.
func (c *consumer) consume(name string, id [16]byte) {
	c.mu.Lock()
	f := c.followed[name]
	if f.consumed || f.leaving || c.draining {
		c.mu.Unlock()
		return
	}
	again := f.made
	*f = followed{id: id, consumed: true, since: time.Now(), made: true}
	c.mu.Unlock()
	if again {
		c.resolve("topic " + name + " fetch")
		c.bus.count.recreated.Add(1)
		c.log.Warn("the topic was made again; it is consumed from its beginning", "topic", name)
	}
	if c.sub.Protocol == ProtocolConsumer {
		c.fail(errRenewed)
		return
	}
	c.client.AddConsumeTopics(name)
}

// errRenewed ends a consumer whose client is to read another topic, and another one takes its place. By the consumer protocol, a client that is told of a topic
// while it runs assigns partitions again that it is reading (franz-go 1.22): two of its goroutines then set where to read on, and events may come twice.
var errRenewed = errors.New("the client is to read another topic")

// part has the client forget a topic. What is ours of it ends as at a rebalance, but without a commit: the client would make it by the topic's
// name, once it has forgotten the id.
func (c *consumer) part(ctx context.Context, name string) {
	void, inFlight, parts := c.disown(name)
	if !parts {
		return
	}
	c.log.Warn("the topic was deleted; of what was fetched, only what runs is brought to its end", "topic", name, "count", inFlight)
	if n := c.release(void, c.sub.DrainTimeout); n > 0 {
		c.log.Warn("handlers did not end within DrainTimeout when their topic was deleted", "topic", name, "count", n)
	}
	_, _ = bounded(ctx, func() (bool, error) { // it waits for questions that the client has under way
		c.client.PurgeTopicsFromConsuming(name)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.followed[name].leaving = false
		return true, nil
	})
}

// disown takes away what is ours of a topic, which is to be committed no more, and says how many records of it are in flight. false: a shutdown ends
// all of it.
func (c *consumer) disown(name string) (void []*assignment, inFlight int, parts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return nil, 0, false
	}
	c.followed[name].consumed, c.followed[name].leaving = false, true
	for key, a := range c.assigned {
		if key.topic == name {
			a.void = true
			void = append(void, a.withDrainsLocked()...)
			inFlight += a.part.Queued()
			delete(c.assigned, key)
		}
	}
	maps.DeleteFunc(c.expelled, func(key topicPartition, _ struct{}) bool { return key.topic == name })
	c.fetched = slices.DeleteFunc(c.fetched, func(f fetched) bool { return f.topic == name })
	return void, inFlight, true
}

// onOffsetsToBegin has the client begin at the earliest where what was committed is of an older topic. It is called after onOffsetsFetched.
func (c *consumer) onOffsetsToBegin(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	if err := c.learnIDs(ctx, slices.Collect(maps.Keys(offsets))); err != nil {
		return nil, err
	}
	c.dropOlder(offsets)
	return c.atBeginnings(ctx, offsets)
}

func (c *consumer) dropOlder(offsets map[string]map[int32]kgo.Offset) {
	c.mu.Lock()
	defer c.unlock()
	for topic, partitions := range offsets {
		f := c.followed[topic]
		if f == nil {
			continue
		}
		for p := range partitions {
			if at := c.fetchedLocked(topic, f.id, p); at != nil && at.offset >= 0 && older(at.done, f.id) {
				*at = fetched{topic: topic, partition: p, offset: -1, epoch: -1}
				partitions[p] = kgo.NewOffset().AtStart()
				c.tellOlderLocked(topic, p)
			}
		}
	}
}

func (c *consumer) tellOlderLocked(topic string, partition int32) {
	c.afterLocked(func() {
		c.log.Warn("what was committed is of an older topic of that name; beginning at the earliest", "topic", topic, "partition", partition)
	})
}

// learnIDs asks for the ids of topics that no inspection has seen yet, as far as a commit has to be held against them.
func (c *consumer) learnIDs(ctx context.Context, topics []string) error {
	names := c.unidentified(topics)
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	known, err := c.bus.describeTopics(ctx, names)
	if err != nil {
		return fmt.Errorf("eventbus: whether the committed offsets are those of topics that there are: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, info := range known {
		if f := c.followed[name]; f.id == [16]byte{} {
			f.id = info.id
		}
	}
	return nil
}

// unidentified returns those of topics of which a commit names an id and none is known.
func (c *consumer) unidentified(topics []string) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range topics {
		f := c.followed[name]
		if f != nil && f.id == [16]byte{} && slices.ContainsFunc(c.fetched, func(at fetched) bool { return at.topic == name && at.done.Lineage != 0 }) {
			names = append(names, name)
		}
	}
	return names
}
