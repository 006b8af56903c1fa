package eventbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/engine"
)

// unreadable is the error of a batch whose records cannot be read: it decompresses to more than is allowed, or to nothing. The client fetches
// nothing more of its partition until it is set behind the batch.
type unreadable struct {
	topic       string // Kafka's name
	topicID     [16]byte
	partition   int32
	first, next int64 // its offsets, first inclusive, next exclusive
	epoch       int32
	end         int64 // the partition's, as last seen
}

func (u unreadable) Error() string {
	return fmt.Sprintf("the records from offset %d up to before %d cannot be read: their batch does not decompress, or to more than "+
		"kgo.MaxDecompressBatchBytes allows", u.first, u.next)
}

// unreadables are those of a poll.
func unreadables(fetches kgo.Fetches) []unreadable {
	var found []unreadable
	for _, f := range fetches {
		for _, t := range f.Topics {
			for _, p := range t.Partitions {
				if e, ok := errors.AsType[*kgo.ErrDecompressTooLarge](p.Err); ok {
					found = append(found, unreadable{
						topic: t.Topic, topicID: t.TopicID, partition: p.Partition, first: e.Offset, next: e.NextOffset, epoch: e.Epoch,
						end: p.LastStableOffset,
					})
				}
			}
		}
	}
	return found
}

// positions are where a client is, or is to be set, by topic and partition.
type positions map[string]map[int32]kgo.EpochOffset

func (p positions) set(topic string, partition int32, at kgo.EpochOffset) {
	if p[topic] == nil {
		p[topic] = map[int32]kgo.EpochOffset{}
	}
	p[topic][partition] = at
}

// atBeginnings puts offsets in place of "the start", where nothing is committed yet: the client can be set behind what cannot be read only where it
// knows an offset, and before its first record it knows none. Where nobody answers in time, it stays as it was.
func (c *consumer) atBeginnings(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	unknown := map[string]bool{}
	for topic, partitions := range offsets {
		c.resolve(unreadTrouble(topic))
		for _, o := range partitions {
			if o.EpochOffset().Offset < 0 {
				unknown[topic] = true
			}
		}
	}
	if len(unknown) == 0 {
		return offsets, nil
	}
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	starts, _ := bounded(ctx, func() (kadm.ListedOffsets, error) {
		return c.bus.admin.ListStartOffsets(ctx, slices.Collect(maps.Keys(unknown))...)
	})
	for topic, partitions := range offsets {
		for p, o := range partitions {
			if start, ok := starts.Lookup(topic, p); ok && start.Err == nil && o.EpochOffset().Offset < 0 {
				partitions[p] = kgo.NewOffset().At(start.Offset).WithEpoch(start.LeaderEpoch) // without an epoch, the client spins where it is fenced
			}
		}
	}
	return offsets, nil
}

// passUnreadable gives up what cannot be read, and has the client read on behind it. Only the poll loop may call it, while no rebalance can begin.
func (c *consumer) passUnreadable(fetches kgo.Fetches) {
	all := unreadables(fetches)
	if len(all) == 0 {
		return
	}
	offsets := positions{}
	for _, u := range all {
		c.giveUpUnread(u)
		offsets.set(u.topic, u.partition, kgo.EpochOffset{Epoch: u.epoch, Offset: u.next})
	}
	c.seek(offsets) // also where nobody wants the records: the client forgets only so that it has stopped
	for _, u := range all {
		if at := c.client.CommittedOffsets()[u.topic][u.partition]; at != offsets[u.topic][u.partition] {
			c.trouble(unreadTrouble(u.topic), fmt.Errorf("topic %s, partition %d: %w; reading goes on behind them once the partition is assigned anew",
				u.topic, u.partition, u))
		}
	}
}

// seek sets the client to offsets. It drops then what it has fetched of all partitions, and with that the word that a batch of another one cannot be read,
// which it gives once; and it passes over those that it takes to be there already. So all that it reads are set: elsewhere first, and then to where they are
// to be. In transactions only those of offsets are: what is set counts as committed for the client, which goes back there itself when one is aborted.
// Only the poll loop may call it, while no rebalance can begin.
func (c *consumer) seek(offsets positions) {
	elsewhere, targets := positions{}, positions{}
	for _, known := range []positions{c.client.CommittedOffsets(), c.client.UncommittedOffsets()} { // the second has those that are further on
		for topic, partitions := range known {
			for partition, at := range partitions {
				if _, named := offsets[topic][partition]; at.Offset >= 0 && (named || c.txn == nil) {
					targets.set(topic, partition, at)
					elsewhere.set(topic, partition, kgo.EpochOffset{Epoch: at.Epoch, Offset: at.Offset + 1})
				}
			}
		}
	}
	for topic, partitions := range offsets {
		for partition, to := range partitions {
			targets.set(topic, partition, to)
		}
	}
	c.client.SetOffsets(elsewhere)
	c.client.SetOffsets(targets)
}

func unreadTrouble(topic string) string { return "unreadable " + topic }

// giveUpUnread has a dead letter written that stands for the records. The offset passes them when that is acknowledged, as any event.
func (c *consumer) giveUpUnread(u unreadable) {
	c.mu.Lock()
	defer c.unlock()
	a := c.assigned[topicPartition{u.topic, u.partition}]
	if a == nil || a.ahead {
		return
	}
	if a.part.Rewound(u.next - 1) {
		if a = c.replaceLocked(a, u.first); a == nil {
			return
		}
	}
	if !a.part.Begun() && !a.resumeLocked(u.topicID) {
		return
	}
	if a.before(&kgo.Record{Offset: u.next - 1, LeaderEpoch: u.epoch}) {
		return
	}
	if head := a.part.Head(); head < u.next {
		u.first = max(u.first, head)
	}
	a.takeUnreadLocked(u)
}

// takeUnreadLocked adds the records as one item, which needs no lane: nobody knows their keys. The others count as done with it: what comes
// again is the whole batch or nothing.
func (a *assignment) takeUnreadLocked(u unreadable) {
	c := a.consumer
	t := &task{
		of: a, record: &kgo.Record{Topic: u.topic, Partition: u.partition, Offset: u.first, LeaderEpoch: u.epoch},
		broken: &failure{class: ClassUnreadable, err: u, first: time.Now(), until: u.next},
	}
	t.item = item{Value: t, Record: engine.Record{Offset: u.first, Epoch: u.epoch, Size: recordOverhead, Free: true}}
	c.engine.Add(a.part, &t.item)
	if u.next-1 > u.first {
		c.engine.Pass(a.part, u.next-1, u.epoch)
	}
	a.end = max(a.end, u.end, u.next)
	c.feedLocked()
	c.fetchingLocked(a)
}
