package eventbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitLoop commits what is done, every commitInterval, until ctx ends.
func (c *consumer) commitLoop(ctx context.Context) {
	for sleep(ctx, commitInterval) {
		c.committing.Lock()
		c.commit(c.assignments())
		c.committing.Unlock()
	}
}

func (c *consumer) assignments() []*assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	as := make([]*assignment, 0, len(c.assigned))
	for _, a := range c.assigned {
		as = append(as, a)
	}
	return as
}

// commit commits the positions of the assignments that are owned and have moved. The caller holds committing. An error is no
// reason to stop: the next commit says the same or more, and a lost partition is dealt with where it is taken away.
func (c *consumer) commit(as []*assignment) {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	chosen := map[topicPartition]*assignment{}
	for _, a := range as {
		at, moved := a.committable()
		if !a.owned || !moved {
			continue
		}
		if offsets[a.topic] == nil {
			offsets[a.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[a.topic][a.partition] = at
		chosen[topicPartition{a.topic, a.partition}] = a
	}
	if len(chosen) == 0 || !c.untilJoined() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	c.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			c.commitFailed(err)
			return
		}
		c.committed(resp, chosen, offsets)
	})
}

// untilJoined waits for the end of a rebalance that the client is in, and says whether it came: until then the client holds commits
// back, and whoever waits for them.
func (c *consumer) untilJoined() bool {
	for deadline := time.Now().Add(commitTimeout); time.Now().Before(deadline); time.Sleep(joinPoll) {
		if !c.isJoining() {
			return true
		}
	}
	return false
}

const joinPoll = 20 * time.Millisecond

func (c *consumer) isJoining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joining
}

func (c *consumer) setJoining(joining bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joining = joining
}

// OnBrokerWrite is called for each request: a rebalance of ours begins when we ask to join.
func (c *consumer) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == kmsg.JoinGroup {
		c.setJoining(true)
	}
}

// OnBrokerE2E is called for each answer: a rebalance of ours ends with the assignment, or with an error on the way.
func (c *consumer) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	switch k := kmsg.Key(key); {
	case k == kmsg.SyncGroup, k == kmsg.JoinGroup && e2e.Err() != nil:
		c.setJoining(false)
	}
}

func (c *consumer) committed(resp *kmsg.OffsetCommitResponse, chosen map[topicPartition]*assignment, offsets map[string]map[int32]kgo.EpochOffset) {
	var failed error
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				failed = err
				continue
			}
			if a := chosen[topicPartition{t.Topic, p.Partition}]; a != nil {
				a.setCommitted(offsets[t.Topic][p.Partition].Offset)
			}
		}
	}
	if failed != nil {
		c.commitFailed(failed)
		return
	}
	c.resolve("commit")
}

// commitFailed names what lasts. A rebalance under way refuses commits as a matter of course.
func (c *consumer) commitFailed(err error) {
	for _, passing := range []error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RequestTimedOut, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return
		}
	}
	c.trouble("commit", fmt.Errorf("committing offsets: %w", err))
}

// committable returns the position to commit, and whether it has moved since the last commit.
func (a *assignment) committable() (kgo.EpochOffset, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return kgo.EpochOffset{Epoch: a.epoch, Offset: a.position}, a.epoch != unhandled && a.position > a.committed
}

func (a *assignment) setCommitted(offset int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.committed = offset
}

// unhandled is the leader epoch of an assignment that has done nothing yet: its position is where it began, which is committed or
// nowhere.
const unhandled = -2

// trouble is something wrong with a consumer, for health.
type trouble struct {
	err  error
	seen time.Time // last
}

// trouble remembers what is wrong and logs it once, until it is resolved or something else is wrong there.
func (c *consumer) trouble(what string, err error) {
	c.mu.Lock()
	old, known := c.troubles[what]
	c.troubles[what] = trouble{err: err, seen: time.Now()}
	c.mu.Unlock()
	if !known || old.err.Error() != err.Error() {
		c.log.Error("consuming is in trouble", "what", what, "error", err)
		c.bus.change()
	}
}

// resolve forgets a trouble.
func (c *consumer) resolve(what string) {
	c.mu.Lock()
	_, known := c.troubles[what]
	delete(c.troubles, what)
	c.mu.Unlock()
	if known {
		c.log.Info("trouble is over", "what", what)
		c.bus.change()
	}
}
