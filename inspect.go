package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/progress"
)

// inspectLoop looks for what the client keeps to itself (a topic that is missing or forbidden is silence to it), each second
// while something is wrong, else as often as health is kept fresh.
func (c *consumer) inspectLoop(ctx context.Context) {
	started := time.Now()
	judge := time.AfterFunc(failFastAfter, c.failFast) // a question may be under way then, for as long as contactTimeout
	defer judge.Stop()
	for {
		c.inspect(ctx)
		wait := time.Second
		if c.readyNow() {
			wait = inspectEvery
		} else if time.Since(started) >= failFastAfter {
			c.failFast()
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.look: // partitions have come: where are they?
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// inspectEvery is how soon it is named what goes wrong later: a topic that is deleted, a permission that is withdrawn.
const inspectEvery = 4 * time.Second

// inspectGrace is what an inspection gives brokers that are known to refuse: they may have been mended since.
const inspectGrace = time.Second

// readyNow remembers that the subscription was ready once.
func (c *consumer) readyNow() bool {
	ready := c.unready() == ""
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wasReady = c.wasReady || ready
	return ready
}

// failFast ends a subscription that is to fail fast with everything that is wrong, unless it was ready once.
func (c *consumer) failFast() {
	if !c.sub.FailFast || c.readyOnce() {
		return
	}
	if err := c.bus.link.refused(); err != nil {
		c.fail(fmt.Errorf("eventbus: Subscription %q: FailFast: %w", c.sub.Group, err))
		return
	}
	if err := errors.Join(c.problems()...); err != nil {
		c.fail(fmt.Errorf("eventbus: Subscription %q: FailFast: %w", c.sub.Group, err))
	}
}

// failLate has a subscription that is to fail fast not wait for the end of a question that is under way, where it has been known for a while that brokers
// refuse: one of several may, and the others answer.
func (c *consumer) failLate(ctx context.Context) {
	refused := 0
	for wait := failFastAfter; sleep(ctx, wait) && !c.readyOnce(); wait = refusedEvery {
		if refused++; c.bus.link.refused() == nil {
			refused = 0
		}
		if refused >= refusedFor {
			c.failFast()
		}
	}
}

// refusedFor is how many times in a row, refusedEvery apart.
const refusedFor = 5

// readyOnce says whether the subscription is ready, or was.
func (c *consumer) readyOnce() bool {
	c.readyNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wasReady
}

// lookSoon has the next inspection begin now.
func (c *consumer) lookSoon() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// inspect asks for the topics and for the ends of the assigned partitions.
func (c *consumer) inspect(ctx context.Context) {
	ctx, cancel := c.bus.untilRefused(ctx, contactTimeout, inspectGrace)
	defer cancel()
	if !c.lookAtTopics(ctx) {
		return
	}
	c.noteProtocol(c.lookAtProtocol(ctx))
	c.noteLook()
	c.forgetFetches()
	c.lookAtEnds(ctx)
}

// lookAtTopics names what is wrong with the topics, and follows those that are consumed. false: nobody answered.
func (c *consumer) lookAtTopics(ctx context.Context) bool {
	var names []string
	for _, r := range c.ordered {
		names = append(names, r.kafkaTopic, c.letterTopic(r), r.retryTopic)
		if r.sequenced {
			names = append(names, c.sequenceTopic(r))
		}
	}
	known, err := c.bus.describeTopics(ctx, names)
	if err != nil {
		if broken := c.bus.link.refused(); broken != nil {
			c.trouble("link", broken)
		}
		return false
	}
	c.resolve("link")
	for _, r := range c.ordered {
		source, letters, retries := known[r.kafkaTopic], known[c.letterTopic(r)], known[r.retryTopic]
		c.noteTopic(c.letterTopic(r), letters.trouble(c.letterTopic(r), kmsg.ACLOperationWrite))
		c.noteTopic(r.kafkaTopic, cmp.Or(source.trouble(r.kafkaTopic, kmsg.ACLOperationRead), c.follow(ctx, r.kafkaTopic, source)))
		c.lookAtSequences(r, known)
		// A retry topic that does not exist is no trouble: redriving is for who wants it. One that is there and may not be read is: what was
		// redriven would lie in it unseen.
		c.noteHidden(r.retryTopic, retries.err)
		forbidden := c.follow(ctx, r.retryTopic, retries)
		if retries.err == nil {
			forbidden = cmp.Or(retries.trouble(r.retryTopic, kmsg.ACLOperationRead), forbidden)
		}
		c.noteTopic(r.retryTopic, forbidden)
	}
	return true
}

// noteHidden names a retry topic that Kafka tells nothing of, as the group lacks a permission on it. It may not be there, so the subscription is ready.
func (c *consumer) noteHidden(name string, err error) {
	what := "hidden topic " + name
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		c.trouble(what, fmt.Errorf("topic %s: READ is not allowed: what is redriven would not be handled: %w", name, err))
		return
	}
	c.resolve(what)
}

func (c *consumer) noteProtocol(err error) {
	if err != nil {
		c.trouble("protocol", err)
		return
	}
	c.resolve("protocol")
}

// topicsWithin bounds what Run waits for the answer; where none comes, the retry topics are found later.
const topicsWithin = time.Second

// knownTopics finds the topics of subscriptions, by Kafka's names, before the groups are joined: a member that names more of them afterwards has its
// group rebalance, and a static one is to restart without that.
func (b *Bus) knownTopics(ctx context.Context, subs []Subscription) map[string]topicInfo {
	var names []string
	for _, sub := range subs {
		for _, r := range sub.Routes {
			names = append(names, b.cfg.TopicPrefix+r.topic.name, b.retryTopic(r.topic.name, sub.Group))
			if r.order == OrderSequenced {
				names = append(names, b.letterTopic(r.topic.name, sub.Group), b.companionTopic(r.topic.name, sequenceInfix, sub.Group))
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, topicsWithin)
	defer cancel()
	known, _ := b.describeTopics(ctx, names) // nothing is known where nobody answers
	return known
}

// noteLook remembers that the topics have been looked at: readiness waits for it.
func (c *consumer) noteLook() {
	c.mu.Lock()
	first := !c.looked
	c.looked = true
	c.mu.Unlock()
	if first {
		c.bus.change()
	}
}

// forgetFetches resolves what no poll has complained of for a while: the client reports an error again as long as it lasts.
func (c *consumer) forgetFetches() {
	c.mu.Lock()
	var over []string
	for what, t := range c.troubles {
		if strings.HasPrefix(what, "fetch ") || strings.HasSuffix(what, " fetch") {
			if time.Since(t.seen) > contactEvery {
				over = append(over, what)
			}
		}
	}
	c.mu.Unlock()
	for _, what := range over {
		c.resolve(what)
	}
}

func (c *consumer) noteTopic(name string, err error) {
	what := "topic " + name
	if err != nil {
		c.trouble(what, err)
		return
	}
	c.mu.Lock()
	_, wrong := c.troubles[what]
	c.mu.Unlock()
	if wrong {
		c.client.ForceMetadataRefresh() // consume it now, not when the metadata has aged
		c.resolve(what)
		c.resolve(what + " fetch") // what a poll complained of meanwhile; it would again
	}
}

// lookAtEnds keeps the lag true while nothing is fetched.
func (c *consumer) lookAtEnds(ctx context.Context) {
	as := c.assignments()
	topics := map[string]bool{}
	for _, a := range as {
		topics[a.topic] = true
	}
	if len(topics) == 0 {
		return
	}
	ends, err := bounded(ctx, func() (kadm.ListedOffsets, error) {
		return c.bus.admin.ListCommittedOffsets(ctx, slices.Collect(maps.Keys(topics))...)
	})
	if err != nil {
		return // the next look will tell; the link knows whether anybody answers
	}
	newest, _ := bounded(ctx, func() (kadm.ListedOffsets, error) {
		return c.bus.admin.ListMaxTimestampOffsets(ctx, slices.Collect(maps.Keys(topics))...)
	}) // a broker before Kafka 3.0 cannot tell (KIP-734): then the newest record that was fetched counts
	c.mu.Lock()
	for _, a := range as {
		if end, ok := ends.Lookup(a.topic, a.partition); ok && end.Err == nil {
			a.end = max(a.end, end.Offset)
		}
		if top, ok := newest.Lookup(a.topic, a.partition); ok && top.Err == nil && top.Timestamp > 0 {
			a.headTime = laterOf(a.headTime, time.UnixMilli(top.Timestamp))
		}
		a.reviveLocked()
	}
	c.unlock()
	c.lookAtBeginnings(ctx, as)
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// lookAtBeginnings tells assignments that have seen no record where they begin: at the committed offset, or at the earliest.
func (c *consumer) lookAtBeginnings(ctx context.Context, as []*assignment) {
	topics := map[string]bool{}
	c.mu.Lock()
	for _, a := range as {
		if a.positionLocked() < 0 {
			topics[a.topic] = true
		}
	}
	c.mu.Unlock()
	if len(topics) == 0 {
		return
	}
	names := slices.Collect(maps.Keys(topics))
	committed, err := bounded(ctx, func() (kadm.OffsetResponses, error) { return c.bus.committed(ctx, c.group) })
	if err != nil {
		return
	}
	starts, err := bounded(ctx, func() (kadm.ListedOffsets, error) { return c.bus.admin.ListStartOffsets(ctx, names...) })
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range as {
		at, ok := committed.Lookup(a.topic, a.partition)
		done, _ := progress.Decode(at.Metadata)
		if ok && at.Err == nil && at.At >= 0 && !older(done, c.followed[a.topic].id) {
			a.start = at.At
		} else if start, ok := starts.Lookup(a.topic, a.partition); ok && start.Err == nil {
			a.start = start.Offset
		}
	}
}

// unready says what is missing before the subscription is ready; "" when nothing is.
func (c *consumer) unready() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(c.troubles)) {
		if t := c.troubles[what]; strings.HasPrefix(what, "topic ") || what == "group" || what == "link" || what == "protocol" || what == transactionTrouble {
			return fmt.Sprintf("group %s: %v", c.group, t.err)
		}
	}
	if !c.joined {
		return fmt.Sprintf("group %s has not joined yet", c.group)
	}
	if !c.looked {
		return fmt.Sprintf("group %s: its topics have not been looked at yet", c.group)
	}
	if c.txn != nil && !c.txn.begun {
		return fmt.Sprintf("group %s: its first transaction has not begun yet", c.group)
	}
	return ""
}

// problems returns all troubles.
func (c *consumer) problems() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(c.troubles)) {
		errs = append(errs, c.troubles[what].err)
	}
	return errs
}
