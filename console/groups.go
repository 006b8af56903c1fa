package console

import (
	"slices"
	"strings"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

// groupsView is the section of groups.
type groupsView struct {
	Groups []look.Group
	Wrong  string
}

// newGroups has those that are furthest behind first.
func newGroups(s survey) groupsView {
	groups := slices.Clone(s.groups)
	slices.SortStableFunc(groups, func(a, b look.Group) int { return int(min(1, max(-1, b.Lag-a.Lag))) })
	return groupsView{Groups: groups, Wrong: s.groupsWrong}
}

// lateLag is the lag, in records, that is no longer what commits once a second leave.
const lateLag = 1000

// behind says whether a group is to be worried about: far behind, or behind with nobody to catch up.
func behind(g look.Group) bool { return g.Lag >= lateLag || g.Lag > 0 && len(g.Members) == 0 }

func stuck(p look.GroupPartition) bool { return p.Lag >= lateLag || p.Lag > 0 && p.Member == "" }

// healthView is the section of health.
type healthView struct {
	eventbus.Health
	Here    []eventbus.GroupHealth // the groups of this process, by the names that people know
	Lag     int64                  // of all groups, in records
	Behind  bool                   // some group is
	Letters int64                  // at most: see look.Topic.Records
	Blocked int
	Known   bool // whether the cluster answered
}

func (c *Console) newHealth(h eventbus.Health, s survey) healthView {
	v := healthView{Health: h, Known: s.topicsWrong == "" && s.groupsWrong == ""}
	for _, g := range h.Groups {
		g.Group = c.short(g.Group)
		v.Here = append(v.Here, g)
	}
	for _, g := range s.groups {
		v.Lag += g.Lag
		v.Behind = v.Behind || behind(g)
	}
	for _, t := range s.topics {
		if t.Letters {
			v.Letters += t.Records
		}
	}
	v.Blocked = len(s.parked)
	for _, g := range h.Groups {
		for _, p := range g.Partitions {
			v.Blocked += p.ParkedKeys
		}
	}
	return v
}

// short is a name of Kafka's without the bus's prefix.
func (c *Console) short(name string) string { return strings.TrimPrefix(name, c.bus.TopicPrefix()) }

// blockedView is what does not go on.
type blockedView struct {
	Keys  []blockedKey
	More  int    // keys that are blocked beside these
	Held  []held // partitions of this process
	Wrong string
}

// blockedKey is a key whose events wait. The key itself is not shown: it may be personal, and the hash finds it in logs.
type blockedKey struct {
	Group, Topic string
	Partition    int32
	KeyHash      string
	Why          string
	Since        time.Time
	Next         time.Time // when it is tried again; zero where it is parked among the dead letters
	Attempts     int
	Behind       int
	Parked       bool // among the dead letters: see eventbus.OrderSequenced
	Released     bool
}

// held is a partition that is not fetched, or whose first event waits.
type held struct {
	Group, Topic string
	Partition    int32
	Why          string
}

const maxBlocked = 200

func (c *Console) newBlocked(h eventbus.Health, s survey) blockedView {
	v := blockedView{Wrong: s.parkedWrong}
	for _, g := range h.Groups {
		group := c.short(g.Group)
		for _, p := range g.Partitions {
			topic := c.short(p.Topic)
			for _, why := range []string{p.Paused, p.Waiting} {
				if why != "" {
					v.Held = append(v.Held, held{group, topic, p.Partition, why})
				}
			}
			for _, k := range p.Parked {
				v.Keys = append(v.Keys, blockedKey{
					Group: group, Topic: topic, Partition: p.Partition, KeyHash: k.KeyHash, Why: string(k.Class), Since: k.FirstFailedAt, Next: k.NextTry,
					Attempts: k.Attempts, Behind: k.Behind,
				})
			}
			v.More += p.ParkedKeys - len(p.Parked)
		}
	}
	v.Keys = append(v.Keys, s.parked...)
	if over := len(v.Keys) - maxBlocked; over > 0 {
		v.Keys, v.More = v.Keys[:maxBlocked], v.More+over
	}
	return v
}
