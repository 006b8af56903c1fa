package eventbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/engine"
)

const (
	pollRecords  = 1000
	pollTimeout  = 5 * time.Second // a poll returns at least so often, as a sign of life
	fetchMaxWait = 500 * time.Millisecond
	letWorkTurn  = time.Millisecond
	letWorkSure  = 10 * letWorkTurn // what was done in less says little
	letWorkMost  = 100 * letWorkTurn
)

// poll fetches and hands out until ctx ends.
func (c *consumer) poll(ctx context.Context) {
	for ctx.Err() == nil {
		timeout, back := pollTimeout, c.findStarts(ctx)
		if back {
			timeout = 0 // the poll is for its gate
		}
		pctx, cancel := context.WithTimeout(ctx, timeout)
		c.interruptBy(cancel)
		fetches := c.client.PollRecords(pctx, min(max(c.bus.budget.Free(), engine.Share), pollRecords))
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

// letWork waits before the next poll while there is plenty of what was just taken and it is handled quickly, for letWorkMost at most. Without that, handlers
// that are quick would have partitions paused again and again. The client asks for what goes on only in its next fetch, and while nothing else comes, the one
// that is under way takes all of its FetchMaxWait. Who does not get through all that there is room for in that time loses nothing by a pause. And what waits
// in memory for long has left the processor's caches by the time it is handled.
//
// The price is others': as long as the client has records that are not polled, it asks that broker for nothing else. So it waits only where all of them
// are through in that time too. How quickly events are handled is known after letWorkSure, for which it waits.
func (c *consumer) letWork(ctx context.Context, taken []*assignment) {
	for began := time.Now(); time.Since(began) < letWorkMost; {
		if !c.mayWait(taken) || !sleep(ctx, letWorkTurn) {
			return
		}
	}
}

func (c *consumer) mayWait(taken []*assignment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	moving, room := c.plentyLocked(taken)
	if room == 0 {
		return false
	}
	c.pace.look(c.engine.Over())
	if !c.pace.known() {
		return true
	}
	return c.pace.within(fetchMaxWait) >= max(int64(room), int64(moving)+c.client.BufferedFetchRecords())
}

// throughput is how fast events are over, as long as there is plenty of them. Zero: not known.
type throughput struct {
	since time.Time
	over  int64         // until then
	n     int64         // of them in the time before
	took  time.Duration // that time
}

// look takes how many are over by now. What was done in less than letWorkSure says little, and so does what was done in a long time, in which nobody has looked.
func (t *throughput) look(over int64) {
	now := time.Now()
	switch took := now.Sub(t.since); {
	case took > letWorkMost:
		*t = throughput{since: now, over: over}
	case took >= letWorkSure:
		*t = throughput{since: now, over: over, n: over - t.over, took: took}
	}
}

func (t *throughput) known() bool { return t.took > 0 }

// within is how many are over in d.
func (t *throughput) within(d time.Duration) int64 { return t.n * int64(d) / int64(t.took) }

// plentyLocked says how much is moving, and where that is plenty and there is nothing else for the poll loop to do, how much may; else 0. The bus may have
// plenty; a partition does where next to nothing moves in those that have less: else these need what comes next.
func (c *consumer) plentyLocked(taken []*assignment) (moving, room int) {
	if c.txn != nil && (c.txn.due || c.txn.wake) {
		return 0, 0
	}
	moving = c.engine.Moving()
	for _, a := range taken {
		if a.paused != "" {
			continue
		}
		if all := c.engine.RoomOnBus(a.part); c.isPlentyLocked(moving, all) {
			return moving, all
		}
		if own := c.engine.Room(a.part); c.isPlentyLocked(a.part.Moving(), own) {
			room = max(room, own)
		}
	}
	if room > 0 && 10*c.plentifulLocked() <= 9*moving {
		return moving, 0
	}
	return moving, room
}

// isPlentyLocked says whether so much is moving that it is enough for a while: half of the room, or an eighth, and four events a handler, where most
// handlers are busy: they have something to do.
func (c *consumer) isPlentyLocked(moving, room int) bool {
	enough := room / 2
	if busy := c.engine.Running() + c.engine.Waiting(); 4*busy >= 3*c.sub.Concurrency {
		enough = min(max(room/8, 4*c.sub.Concurrency), enough)
	}
	return room > 0 && moving > enough
}

// plentifulLocked is how much moves in partitions that have plenty.
func (c *consumer) plentifulLocked() (n int) {
	for _, a := range c.assigned {
		if moving := a.part.Moving(); moving > 0 && c.isPlentyLocked(moving, c.engine.Room(a.part)) {
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
