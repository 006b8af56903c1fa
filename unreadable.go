package eventbus

import (
	"errors"
	"fmt"
	"time"

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

// behind is where clients have to be set to read on.
func behind(all []unreadable) map[string]map[int32]kgo.EpochOffset {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for _, u := range all {
		if offsets[u.topic] == nil {
			offsets[u.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[u.topic][u.partition] = kgo.EpochOffset{Epoch: u.epoch, Offset: u.next}
	}
	return offsets
}

// passUnreadable gives up what cannot be read, and has the client read on behind it. Only the poll loop may call it, while no rebalance can begin.
func (c *consumer) passUnreadable(fetches kgo.Fetches) {
	all := unreadables(fetches)
	if len(all) == 0 {
		return
	}
	for _, u := range all {
		c.giveUpUnread(u)
	}
	c.client.SetOffsets(behind(all)) // also where nobody wants the records: the client forgets only so that it has stopped
}

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
	if !a.part.Begun() {
		a.resumeLocked(u.topicID)
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
	t.item = c.engine.Add(a.part, engine.Record[*task]{Value: t, Offset: u.first, Epoch: u.epoch, Size: recordOverhead, Free: true})
	if u.next-1 > u.first {
		c.engine.Pass(a.part, u.next-1, u.epoch)
	}
	a.end = max(a.end, u.end, u.next)
	c.feedLocked()
	c.fetchingLocked(a)
}
