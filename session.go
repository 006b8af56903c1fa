package eventbus

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/progress"
)

// session is who the consumer is to its group between two rebalances.
type session struct {
	member     string
	generation int32
}

func (c *consumer) lastSession() session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

func (c *consumer) isJoining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joining
}

func (c *consumer) setJoining(joining bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if joining && !c.joining {
		c.endedAt = time.Now()
	}
	c.joining = joining
}

// Between two sessions of the classic protocol a member keeps what it has, in the belief that the group waits for it. Where it does not, because a
// request or an answer was lost, others handle those partitions already. The client keeps them all the same: it joins under a new id when it is told
// that the old one is unknown, and waits for an answer for as long as RebalanceTimeout. So the bus looks after it: at each JoinGroup that
// the client sends, and by heartbeats of its own.

// OnBrokerWrite is called after each request.
func (c *consumer) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == kmsg.JoinGroup {
		c.lookAtMember()
	}
}

// lookAtMember gives everything up where the client joins as another member than the one that has the partitions.
func (c *consumer) lookAtMember() {
	member, _ := c.client.GroupMetadata()
	c.mu.Lock()
	defer c.unlock()
	if c.joining && member != c.session.member {
		c.expelLocked("the group does not know this member any longer")
	}
}

// Within a session it is the client that sends heartbeats. Where none is answered it tries on, and its handlers with it, until long after the group
// has given the partitions to others. So they are given up as a lease is: before SessionTimeout has passed since the last heartbeat was sent that
// was answered. If the session has lasted all the same, nobody else has had them, and they begin anew.

// OnBrokerE2E is called for each answer.
func (c *consumer) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	k := kmsg.Key(key)
	if e2e.Err() != nil || k != kmsg.Heartbeat && k != kmsg.ConsumerGroupHeartbeat {
		return
	}
	sent := time.Now().Add(-e2e.DurationE2E())
	c.mu.Lock()
	defer c.unlock()
	if sent.After(c.heard) {
		c.heard = sent
	}
	if len(c.expelled) == 0 || c.joining {
		return
	}
	if c.answered++; c.answered < 2 || c.draining { // the client sends no second one in a session that the first has ended
		return
	}
	c.joined = true
	c.takeBackLocked()
	c.afterLocked(c.bus.change)
}

// lease is for how long a heartbeat counts: by the end of it handlers must have ended.
func (c *consumer) lease() time.Duration {
	return c.sub.SessionTimeout - min(drainGrace, c.sub.SessionTimeout/4)
}

// lookAtLease gives everything up where the lease has ended, and returns when it would end next.
func (c *consumer) lookAtLease() time.Duration {
	c.mu.Lock()
	defer c.unlock()
	if c.joining || len(c.assigned) == 0 {
		return sessionInterval
	}
	left := time.Until(c.heard.Add(c.lease()))
	if left <= 0 {
		c.expelLocked("no heartbeat was answered for SessionTimeout")
		return sessionInterval
	}
	return min(left, sessionInterval)
}

// sessionLoop looks after the session until ctx ends.
func (c *consumer) sessionLoop(ctx context.Context) {
	known, wait := time.Time{}, sessionInterval // when the group last took this member for one
	for sleep(ctx, wait) {
		wait = c.lookAtLease()
		joining, since := c.joiningSince()
		if !joining {
			continue
		}
		if since.After(known) {
			known = since
		}
		known = c.lookAtSession(ctx, known)
		wait = min(wait, max(time.Until(known.Add(c.sub.SessionTimeout)), time.Millisecond))
	}
}

const (
	sessionInterval = time.Second
	// answerGrace is what an answer to the client's JoinGroup gets that may be on its way beside that to a heartbeat.
	answerGrace = 200 * time.Millisecond
)

func (c *consumer) joiningSince() (bool, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joining && len(c.assigned) > 0, c.endedAt
}

// lookAtSession asks whether the session still counts, and gives everything up where it does not, or where nobody has said so for SessionTimeout:
// by then the group has taken the member for dead. It returns when the group last took this member for one.
func (c *consumer) lookAtSession(ctx context.Context, known time.Time) time.Time {
	c.lookAtMember()
	last := c.lastSession()
	unanswered := func() bool {
		_, generation := c.client.GroupMetadata()
		return generation == last.generation
	}
	if unanswered() { // once it has joined, a heartbeat would only hide from the group that what follows was lost
		asked := time.Now()
		ctx, cancel := context.WithDeadline(ctx, known.Add(c.sub.SessionTimeout))
		defer cancel()
		err := c.heartbeat(ctx, last)
		switch {
		case err == nil, errors.Is(err, kerr.RebalanceInProgress):
			return asked
		case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
			c.expel(last, "the group does not know this member any longer")
		case errors.Is(err, kerr.IllegalGeneration):
			if sleep(ctx, answerGrace) && unanswered() {
				c.expel(last, "the group has rebalanced without this member")
			}
		}
	}
	if time.Since(known) >= c.sub.SessionTimeout {
		c.expel(last, "nothing was heard of the group for SessionTimeout")
	}
	return known
}

func (c *consumer) heartbeat(ctx context.Context, s session) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = c.group, s.member, s.generation
	if c.sub.InstanceID != "" {
		req.InstanceID = &c.sub.InstanceID
	}
	resp, err := bounded(ctx, func() (*kmsg.HeartbeatResponse, error) { return req.RequestWith(ctx, c.client) })
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// expel gives everything up, unless the next session has begun meanwhile.
func (c *consumer) expel(s session, why string) {
	c.mu.Lock()
	defer c.unlock()
	if c.joining && c.session == s {
		c.expelLocked(why)
	}
}

// expelLocked gives all partitions up that others may have by now, without waiting for anything. The client does not know, and may have some of
// them in its next session as if nothing had happened: see takeBackLocked.
func (c *consumer) expelLocked(why string) {
	if len(c.assigned) == 0 {
		return
	}
	c.joined, c.answered = false, 0
	n := len(c.assigned)
	for key, a := range c.assigned {
		delete(c.assigned, key)
		c.expelled[key] = struct{}{}
		c.abandonLocked(a)
	}
	c.feedLocked()
	c.afterLocked(func() {
		c.log.Warn("partitions are given up; what was in flight comes again", "why", why, "count", n)
		c.bus.change()
	})
}

// takeBackLocked begins those partitions anew that were given up and that the client has kept, where the group has committed: the client is where it
// was then, and others may have come further, or not so far.
func (c *consumer) takeBackLocked() {
	for key := range c.expelled {
		a := newAssignment(c.handling, c, key.topic, key.partition)
		a.ahead = true
		c.assigned[key] = a
		c.client.ResumeFetchPartitions(map[string][]int32{key.topic: {key.partition}})
		c.fetchingLocked(a)
	}
	clear(c.expelled)
}

// findStarts finds out where those assignments begin that the client is ahead of, and says whether it is to be set back.
func (c *consumer) findStarts(ctx context.Context) bool {
	known, unknown := c.ahead()
	if len(unknown) == 0 {
		return len(known) > 0
	}
	asking, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	committed, err := bounded(asking, func() (kadm.OffsetResponses, error) { return c.bus.committed(asking, c.group) })
	if err != nil {
		sleep(ctx, backOff(1)) // asked again before the next poll
		return len(known) > 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range unknown {
		at, ok := committed.Lookup(a.topic, a.partition)
		if c.assigned[topicPartition{a.topic, a.partition}] != a || ok && at.Err != nil {
			continue
		}
		start := fetched{topic: a.topic, partition: a.partition, offset: -1, epoch: -1}
		done, _ := progress.Decode(at.Metadata) // anybody else's means that there is no map
		if ok && at.At >= 0 && !older(done, c.followed[a.topic].id) {
			start.offset, start.epoch, start.done = at.At, at.LeaderEpoch, done
		}
		if a.beginLocked(start); a.loadedLocked() {
			known = append(known, a)
		}
	}
	return len(known) > 0
}

// ahead returns the assignments that the client is ahead of: those of which it is known where they begin, and which keys are parked, and those of which it
// is not known where.
func (c *consumer) ahead() (known, unknown []*assignment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.assigned {
		switch {
		case !a.ahead:
		case a.from == nil:
			unknown = append(unknown, a)
		case a.loadedLocked():
			known = append(known, a)
		}
	}
	return known, unknown
}

// setBack has the client fetch from where assignments begin. Only the poll loop may call it, while no rebalance can begin.
func (c *consumer) setBack() {
	known, _ := c.ahead()
	if len(known) == 0 {
		return
	}
	offsets := positions{}
	for _, a := range known {
		offsets.set(a.topic, a.partition, *a.from)
	}
	c.seek(offsets)
	c.mu.Lock()
	defer c.unlock()
	for _, a := range known {
		a.ahead = false
		c.fetchingLocked(a)
	}
}
