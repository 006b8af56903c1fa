package console

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

// survey is what the cluster said when it was last asked. Where a question has no answer, it says why, and the rest is good.
type survey struct {
	topics      []look.Topic
	topicsWrong string
	groups      []look.Group
	groupsWrong string
	parked      []blockedKey // in sequence topics
	parkedWrong string
}

// survey asks for topics and groups at once, and for parked keys then.
func (c *Console) survey(ctx context.Context) survey {
	var s survey
	var asking sync.WaitGroup
	asking.Go(func() {
		groups, err := c.look.Groups(ctx)
		s.groups, s.groupsWrong = groups, c.why(ctx, err)
	})
	asking.Go(func() {
		topics, err := c.look.Topics(ctx)
		s.topics, s.topicsWrong = topics, c.why(ctx, err)
		s.parked, s.parkedWrong = c.parked(ctx, topics)
	})
	asking.Wait()
	return s
}

// sequenceOf says which group's parked keys, of which topic, a topic holds.
func sequenceOf(name string) (topic, group string, is bool) {
	return strings.Cut(name, eventbus.SequenceTopic("", ""))
}

// parked reads the sequence topics, some at once.
func (c *Console) parked(ctx context.Context, topics []look.Topic) (keys []blockedKey, wrong string) {
	var mu sync.Mutex
	var reading sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for _, t := range topics {
		topic, group, is := sequenceOf(t.Name)
		if !is || t.Records == 0 {
			continue
		}
		reading.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			found, err := c.sequences(ctx, topic, group)
			mu.Lock()
			defer mu.Unlock()
			keys = append(keys, found...)
			if err != nil {
				wrong = t.Name + ": " + c.why(ctx, err)
			}
		})
	}
	reading.Wait()
	slices.SortFunc(keys, func(a, b blockedKey) int { return a.Since.Compare(b.Since) })
	return keys, wrong
}

// atOnce is how many topics are read at once by a page, and how many pages are made at once: many who look are no load on the cluster.
const atOnce = 4

func (c *Console) sequences(ctx context.Context, topic, group string) ([]blockedKey, error) {
	letters, err := c.look.Letters(eventbus.DeadLetterTopic(topic, group))
	if err != nil {
		return nil, err
	}
	sequences, err := letters.Sequences(ctx)
	keys := make([]blockedKey, 0, len(sequences))
	for _, s := range sequences {
		keys = append(keys, blockedKey{
			Group: group, Topic: topic, Partition: s.Partition, KeyHash: eventbus.KeyHash([]byte(s.Key)), Why: s.Error, Since: s.Since, Parked: true, Released: s.Released,
		})
	}
	return keys, err
}

// why says why there is no answer, in words for a person; "" without an error.
func (c *Console) why(ctx context.Context, err error) string {
	if err == nil {
		return ""
	}
	if h := c.bus.Health(ctx); h.Kafka != "connected" && h.Error != "" {
		return h.Error
	}
	if ctx.Err() != nil {
		return "not all of it was read in time: ask for less, or reload"
	}
	return err.Error()
}

// part is a piece of the page that a stream replaces.
type part struct {
	name    string
	html    []byte
	version uint64 // 0: never shown
}

const (
	partHealth = iota
	partMap
	partGroups
	partBlocked
	partCount
)

// show gives watchers a part anew where it looks otherwise than before.
func (h *hub) show(which int, name string, data any) {
	html, err := fragment(name, data)
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := &h.parts[which]; err == nil && !bytes.Equal(p.html, html) {
		p.name, p.html, p.version = name, html, p.version+1
	}
}

const (
	surveyEvery = 3 * time.Second
	surveyTakes = 4 * time.Second
)

// observe keeps the parts of the page that are not events up to date while somebody watches.
func (c *Console) observe(ctx context.Context) {
	var s survey
	var asked time.Time
	offsets := traffic{}
	for ctx.Err() == nil {
		if time.Since(asked) >= surveyEvery {
			within, cancel := context.WithTimeout(ctx, surveyTakes)
			s, asked = c.survey(within), time.Now()
			cancel()
			c.hub.flows(progress(offsets, s.groups))
			c.hub.show(partMap, "map", c.newMap(s, c.hub.learn(nil)))
			c.hub.show(partGroups, "groups", newGroups(s))
		}
		h := c.bus.Health(ctx)
		c.hub.show(partHealth, "health", c.newHealth(h, s))
		c.hub.show(partBlocked, "blocked", c.newBlocked(h, s))
		pause(ctx, time.Second)
	}
}

// progress is by how much the committed offsets of groups went on since the last time, which offsets has and is given.
func progress(offsets traffic, groups []look.Group) traffic {
	now := traffic{}
	for _, g := range groups {
		for _, p := range g.Partitions {
			if p.Committed > 0 {
				now[edge{flowConsume, p.Topic, g.Name}] += p.Committed
			}
		}
	}
	flows := traffic{}
	for e, n := range now {
		if before, known := offsets[e]; known && n > before {
			flows[e] = n - before
		}
	}
	clear(offsets)
	for e, n := range now {
		offsets[e] = n
	}
	return flows
}
