package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/engine"
)

// commitLoop commits what is done, every commitInterval, until ctx ends.
func (c *consumer) commitLoop(ctx context.Context) {
	for sleep(ctx, commitInterval) {
		c.lookAtRoom()
		if c.txn != nil {
			c.passOn()
			continue
		}
		c.committing.Lock()
		if !c.isLeaving() {
			c.commit(context.Background(), c.assignments())
		}
		c.committing.Unlock()
	}
}

// isLeaving says whether the last commits are under way, which nobody else's may hold up.
func (c *consumer) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// lookAtRoom has partitions fetched again that others have made room for: what waits in them may tell nobody for an hour.
func (c *consumer) lookAtRoom() {
	c.mu.Lock()
	defer c.unlock()
	for _, a := range c.assigned {
		c.fetchingLocked(a)
	}
	c.appetite.grow(c.client)
}

// maxMap is how many bytes of metadata a commit may have by the broker's default (offset.metadata.max.bytes).
const maxMap = 4096

// commit commits how far the assignments are that are owned and have moved, and what is done above, within commitTimeout. The caller holds
// committing. An error is no reason to stop: the next commit says the same or more, and a lost partition is dealt with where it is taken away.
func (c *consumer) commit(ctx context.Context, as []*assignment) {
	chosen, offsets := c.chooseCommits(as)
	if len(chosen) == 0 {
		c.resolve("commit") // what was refused is another member's to commit by now
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if !c.sending.within(ctx) {
		return
	}
	_, _ = bounded(ctx, func() (bool, error) {
		defer c.sending.Unlock()
		c.send(ctx, as, chosen, offsets)
		return true, nil
	})
}

// wanting says whether there still is something to commit, and no lasting reason for it.
func (c *consumer) wanting(as []*assignment) bool {
	chosen, _ := c.chooseCommits(as)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, lasting := c.troubles["commit"]
	return len(chosen) > 0 && !lasting
}

// send sends a commit. It outlasts ctx where the client is connecting: no other may begin meanwhile, or it would wait inside the client and
// be made later, for partitions that are another member's by then. What is sent already belongs to a generation of the group, and is refused
// in the next.
func (c *consumer) send(ctx context.Context, as []*assignment, chosen chosenCommits, offsets map[string]map[int32]kgo.EpochOffset) {
	if c.isJoining() {
		c.commitBetween(ctx, as, chosen)
		return
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		c.addMaps(req, chosen)
		return ctx.Err()
	})
	c.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			c.bus.count.commitErrors.Add(1)
			c.commitFailed(err)
			return
		}
		c.committed(req, resp, chosen)
	})
}

// commitBetween commits between two sessions, when the client would hold a commit back until the group has rebalanced: for as long as a member
// that has crashed is missed. The broker takes a commit of the last generation while it waits for members, and refuses it afterwards.
func (c *consumer) commitBetween(ctx context.Context, as []*assignment, chosen chosenCommits) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = c.group
	s := c.lastSession() // not the client's present member id, which may be another one already: the broker must know whose partitions these were
	if req.MemberID, req.Generation = s.member, s.generation; s.member == "" || s.generation < 0 {
		return // it would be nobody's commit, which no broker can refuse
	}
	if c.sub.InstanceID != "" {
		req.InstanceID = &c.sub.InstanceID
	}
	for _, a := range as {
		if commit, ok := chosen[topicPartition{a.topic, a.partition}]; ok && a.id != [16]byte{} { // newer requests name a topic by its id only
			addCommit(req, a, commit)
		}
	}
	if len(req.Topics) == 0 {
		return
	}
	c.addMaps(req, chosen)
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		c.bus.count.commitErrors.Add(1)
		c.commitFailed(err)
		return
	}
	c.committed(req, resp, chosen)
}

func addCommit(req *kmsg.OffsetCommitRequest, a *assignment, commit engine.Commit[*task]) {
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch = a.partition, commit.Offset, commit.Epoch
	i := slices.IndexFunc(req.Topics, func(t kmsg.OffsetCommitRequestTopic) bool { return t.Topic == a.topic })
	if i < 0 {
		i = len(req.Topics)
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = a.topic, a.id
		req.Topics = append(req.Topics, t)
	}
	req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
}

type chosenCommits map[topicPartition]engine.Commit[*task]

func (c *consumer) chooseCommits(as []*assignment) (chosenCommits, map[string]map[int32]kgo.EpochOffset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chosen, offsets := chosenCommits{}, map[string]map[int32]kgo.EpochOffset{}
	for _, a := range as {
		commit, moved := c.engine.Commit(a.part, a.lineage)
		if !moved || a.void {
			continue
		}
		if offsets[a.topic] == nil {
			offsets[a.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[a.topic][a.partition] = kgo.EpochOffset{Epoch: commit.Epoch, Offset: commit.Offset}
		chosen[topicPartition{a.topic, a.partition}] = commit
	}
	return chosen, offsets
}

// addMaps writes what is done above each offset into the commit's metadata, as far as it fits.
func (c *consumer) addMaps(req *kmsg.OffsetCommitRequest, chosen chosenCommits) {
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			metadata, dropped := chosen[topicPartition{t.Topic, p.Partition}].Map.Encode(c.mapLimit)
			p.Metadata = &metadata
			if dropped > 0 {
				c.bus.count.mapsCut.Add(1)
			}
		}
	}
}

func (c *consumer) committed(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, chosen chosenCommits) {
	names := map[[16]byte]string{} // newer brokers answer by the topic's id
	for _, t := range req.Topics {
		names[t.TopicID] = t.Topic
	}
	var failed error
	tooLarge, taken := false, false
	for _, t := range resp.Topics {
		name := cmp.Or(t.Topic, names[t.TopicID])
		for _, p := range t.Partitions {
			switch err := kerr.ErrorForCode(p.ErrorCode); {
			case err == nil:
				taken = true
				c.noteCommit(chosen[topicPartition{name, p.Partition}])
			case errors.Is(err, kerr.OffsetMetadataTooLarge):
				tooLarge = true
			case errors.Is(err, kerr.UnknownTopicID) && !c.refused(name): // by a broker that does not know the topic yet
			default:
				failed = err
			}
		}
	}
	switch {
	case failed != nil || tooLarge:
		c.bus.count.commitErrors.Add(1)
	case taken:
		c.bus.count.commits.Add(1)
	}
	if tooLarge {
		c.shrinkMaps()
	}
	if failed != nil {
		c.commitFailed(failed)
		return
	}
	c.resolve("commit")
}

func (c *consumer) noteCommit(commit engine.Commit[*task]) {
	if commit.Part == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.engine.Committed(commit)
}

// shrinkMaps is for a broker that allows less metadata than is usual. What the map leaves out comes again after a crash; nothing fails for it.
func (c *consumer) shrinkMaps() {
	c.log.Warn("the broker refuses commits with so much metadata; more events may come again after a crash", "bytes", c.mapLimit)
	c.mapLimit /= 2
	c.bus.count.mapsCut.Add(1)
}

// commitFailed names what lasts. A rebalance under way refuses commits as a matter of course.
func (c *consumer) commitFailed(err error) {
	for _, passing := range []error{
		kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.StaleMemberEpoch, kerr.FencedMemberEpoch,
		kerr.RequestTimedOut, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return
		}
	}
	c.trouble("commit", fmt.Errorf("committing offsets: %w", err))
}

// trouble is something wrong with a consumer, for health.
type trouble struct {
	err  error
	seen time.Time // last
}

// trouble remembers what is wrong and logs it once, until it is resolved or something else is wrong there.
func (c *consumer) trouble(what string, err error) {
	err = c.bus.login.clean(err)
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
