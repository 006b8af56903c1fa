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
)

// inspectLoop looks for what the client keeps to itself (a topic that is missing or forbidden is silence to it), each second
// while something is wrong, else as often as health is kept fresh.
func (c *consumer) inspectLoop(ctx context.Context) {
	started := time.Now()
	for {
		c.inspect(ctx)
		wait := time.Second
		if c.unready() == "" {
			wait = contactEvery
		} else if c.sub.FailFast && time.Since(started) >= failFastAfter {
			c.failFast()
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// failFast ends the subscription with everything that is wrong.
func (c *consumer) failFast() {
	if err := c.bus.link.failure(); err != nil {
		c.fail(fmt.Errorf("eventbus: Subscription %q: FailFast: %w", c.sub.Group, err))
		return
	}
	if found := c.problems(); len(found) > 0 {
		c.fail(fmt.Errorf("eventbus: Subscription %q: FailFast: %s", c.sub.Group, strings.Join(found, "; ")))
	}
}

// inspect asks for the topics and for the ends of the assigned partitions.
func (c *consumer) inspect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	var asked []string
	for name, r := range c.routes {
		asked = append(asked, name, c.letterTopic(r))
	}
	found, err := c.bus.topicTroubles(ctx, asked)
	if err != nil {
		if broken := c.bus.link.refused(); broken != nil {
			c.trouble("link", broken.Error())
		}
		return
	}
	c.resolve("link")
	for _, name := range asked {
		c.noteTopic(name, found[name])
	}
	c.lookAtEnds(ctx)
}

func (c *consumer) noteTopic(name string, err error) {
	what := "topic " + name
	if err != nil {
		c.trouble(what, err.Error())
		return
	}
	c.mu.Lock()
	_, wrong := c.troubles[what]
	c.mu.Unlock()
	if wrong {
		c.client.ForceMetadataRefresh() // consume it now, not when the metadata has aged
		c.resolve(what)
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
	for _, a := range as {
		if end, ok := ends.Lookup(a.topic, a.partition); ok && end.Err == nil {
			a.see(end.Offset)
		}
	}
}

// OnGroupManageError is called by the client when its session with the group has failed; it joins again by itself.
func (c *consumer) OnGroupManageError(err error) {
	c.mu.Lock()
	c.joined = false
	c.mu.Unlock()
	text := fmt.Sprintf("group %s: %v", c.group, err)
	if errors.Is(err, kerr.InconsistentGroupProtocol) {
		text += " (a client of another kind, such as kafkajs, is a member: move a group as a whole)"
	}
	c.trouble("group", text)
}

// unready says what is missing before the subscription is ready; "" when nothing is.
func (c *consumer) unready() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(c.troubles)) {
		if t := c.troubles[what]; strings.HasPrefix(what, "topic ") || what == "group" || what == "link" {
			return fmt.Sprintf("group %s: %s", c.group, t.text)
		}
	}
	if !c.joined {
		return fmt.Sprintf("group %s has not joined yet", c.group)
	}
	return ""
}

// problems returns the texts of all troubles.
func (c *consumer) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var texts []string
	for _, what := range slices.Sorted(maps.Keys(c.troubles)) {
		texts = append(texts, c.troubles[what].text)
	}
	return texts
}

// lag is that of all assigned partitions.
func (c *consumer) lag() (n int64) {
	for _, a := range c.assignments() {
		n += a.lag()
	}
	return n
}

// health returns the state for [Health], and whether the consumer can make progress.
func (c *consumer) health() (g GroupHealth, live bool) {
	g = GroupHealth{Group: c.group, Problems: c.problems(), Partitions: []PartitionHealth{}}
	c.mu.Lock()
	g.Joined, live = c.joined, time.Since(c.polled) < stallAfter
	c.mu.Unlock()
	for _, a := range c.assignments() {
		p := a.health()
		g.Lag += p.Lag
		g.Partitions = append(g.Partitions, p)
		live = live && !a.stuck()
	}
	slices.SortFunc(g.Partitions, func(a, b PartitionHealth) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return g, live
}

func (a *assignment) health() PartitionHealth {
	lag := a.lag()
	a.mu.Lock()
	defer a.mu.Unlock()
	return PartitionHealth{
		Topic: a.topic, Partition: a.partition, Position: a.position, Committed: a.committed, Lag: lag, Queued: len(a.queue), Waiting: a.waiting,
	}
}
