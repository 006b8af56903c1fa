package look

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Group is a consumer group of the cluster.
type Group struct {
	Name       string           `json:"group"`
	State      string           `json:"state"`    // Kafka's word, such as Stable or Empty
	Protocol   string           `json:"protocol"` // "classic" or "consumer" (KIP-848)
	Members    []Member         `json:"members"`
	Partitions []GroupPartition `json:"partitions"`        // those with a committed offset or a member, by topic and number
	Lag        int64            `json:"lag"`               // in records
	Problem    string           `json:"problem,omitempty"` // why some of it is not known
}

// Member is a member of a group.
type Member struct {
	ID         string `json:"id"`
	Client     string `json:"clientId"`
	Host       string `json:"host"`
	Instance   string `json:"instanceId,omitempty"` // of a static member
	Partitions int    `json:"partitions"`
}

// GroupPartition is a partition as a group reads it.
type GroupPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // -1: none
	End       int64  `json:"end"`       // -1: not known
	Lag       int64  `json:"lag"`       // from the committed offset, or where there is none from the partition's beginning; -1: not known
	Member    string `json:"member,omitempty"`
}

// cursorInfix is in the names of groups whose offsets only say how far a redrive is: they are shown where they are asked for by name.
const cursorInfix = ".redrive."

// ErrNoGroup is wrapped where no group has a name.
var ErrNoGroup = errors.New("there is no such group")

// Groups returns the consumer groups of these names, or all of the bus's prefix, by name. What cannot be found out of one is in its Problem.
func (c *Cluster) Groups(ctx context.Context, names ...string) ([]Group, error) {
	return ask(ctx, c, func(ctx context.Context) ([]Group, error) {
		listed, err := c.admin.ListGroups(ctx)
		if err != nil && len(listed) == 0 {
			return nil, err
		}
		newer, _ := c.admin.ListGroupsByType(ctx, []string{"consumer"}) // Kafka 3.8 and later; others have none
		var groups []Group
		for full, l := range listed {
			name, ours := strings.CutPrefix(full, c.prefix)
			if !ours || len(names) == 0 && strings.Contains(name, cursorInfix) || len(names) > 0 && !slices.Contains(names, name) || l.ProtocolType != "consumer" && l.ProtocolType != "" {
				continue
			}
			g := Group{Name: name, State: l.State, Protocol: "classic"}
			if _, is := newer[full]; is {
				g.Protocol = "consumer"
			}
			groups = append(groups, g)
		}
		for _, name := range names {
			if !slices.ContainsFunc(groups, func(g Group) bool { return g.Name == name }) {
				return nil, fmt.Errorf("group %s: %w", name, ErrNoGroup)
			}
		}
		slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
		return groups, c.fill(ctx, groups)
	})
}

// holders are the members that partitions are assigned to.
type holders map[place]string

// fill finds out what there is to know of listed groups.
func (c *Cluster) fill(ctx context.Context, groups []Group) error {
	byID, err := c.namesByID(ctx)
	if err != nil {
		return err
	}
	assigned := make([]holders, len(groups))
	topics := map[string]bool{}
	offsets := make([]kadm.OffsetResponses, len(groups))
	for i := range groups {
		g := &groups[i]
		if assigned[i], err = c.members(ctx, g, byID); err != nil {
			g.Problem = err.Error()
		}
		if offsets[i], err = c.admin.FetchOffsets(ctx, c.prefix+g.Name); err != nil {
			g.Problem = err.Error()
		}
		for at := range assigned[i] {
			topics[at.topic] = true
		}
		named := kadm.OffsetResponses{}
		offsets[i].Each(func(o kadm.OffsetResponse) {
			o.Topic = cmp.Or(o.Topic, byID[o.TopicID])
			topics[o.Topic] = true
			named.Add(o)
		})
		offsets[i] = named
	}
	names := make([]string, 0, len(topics))
	for name := range topics {
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	starts, err := c.admin.ListStartOffsets(ctx, names...)
	if err != nil && len(starts) == 0 {
		return err
	}
	ends, err := c.admin.ListCommittedOffsets(ctx, names...)
	if err != nil && len(ends) == 0 {
		return err
	}
	for i := range groups {
		c.measure(&groups[i], assigned[i], offsets[i], starts, ends)
	}
	return nil
}

// members describes a group by its protocol.
func (c *Cluster) members(ctx context.Context, g *Group, byID topicNames) (holders, error) {
	if g.Protocol == "consumer" {
		return c.membersByConsumer(ctx, g, byID)
	}
	all, err := c.admin.DescribeGroups(ctx, c.prefix+g.Name)
	if err != nil {
		return nil, err
	}
	d := all[c.prefix+g.Name]
	if d.Err != nil {
		return nil, d.Err
	}
	g.State = d.State
	held := holders{}
	for _, m := range d.Members {
		member := Member{ID: m.MemberID, Client: m.ClientID, Host: strings.TrimPrefix(m.ClientHost, "/")}
		if m.InstanceID != nil {
			member.Instance = *m.InstanceID
		}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				for _, p := range t.Partitions {
					held[place{t.Topic, p}] = m.ClientID
					member.Partitions++
				}
			}
		}
		g.Members = append(g.Members, member)
	}
	return held, nil
}

// membersByConsumer asks by KIP-848. kadm's own answer has topics by name only, which a broker may leave out.
func (c *Cluster) membersByConsumer(ctx context.Context, g *Group, byID topicNames) (holders, error) {
	request := kmsg.NewPtrConsumerGroupDescribeRequest()
	request.Groups = []string{c.prefix + g.Name}
	answer, err := request.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	if len(answer.Groups) != 1 {
		return nil, errors.New("the broker does not describe it")
	}
	d := answer.Groups[0]
	if err := kerr.ErrorForCode(d.ErrorCode); err != nil {
		return nil, err
	}
	g.State = d.State
	held := holders{}
	for _, m := range d.Members {
		member := Member{ID: m.MemberID, Client: m.ClientID, Host: strings.TrimPrefix(m.ClientHost, "/")}
		if m.InstanceID != nil {
			member.Instance = *m.InstanceID
		}
		for _, t := range m.Assignment.TopicPartitions {
			for _, p := range t.Partitions {
				held[place{cmp.Or(t.Topic, byID[t.TopicID]), p}] = m.ClientID
				member.Partitions++
			}
		}
		g.Members = append(g.Members, member)
	}
	return held, nil
}

// topicNames are Kafka's names by the topics' ids, which newer answers have in their place.
type topicNames map[kadm.TopicID]string

func (c *Cluster) namesByID(ctx context.Context) (topicNames, error) {
	details, err := c.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	names := make(topicNames, len(details))
	for name, d := range details {
		names[d.ID] = name
	}
	return names, nil
}

// measure sets the partitions of a group and how far behind it is.
func (c *Cluster) measure(g *Group, assigned holders, offsets kadm.OffsetResponses, starts, ends kadm.ListedOffsets) {
	partitions := map[place]GroupPartition{}
	for at, member := range assigned {
		partitions[at] = GroupPartition{Committed: -1, Member: member}
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		at := place{o.Topic, o.Partition}
		if o.At >= 0 {
			partitions[at] = GroupPartition{Committed: o.At, Member: assigned[at]}
		}
	})
	read := map[string]bool{}
	for at := range partitions {
		read[at.topic] = true
	}
	ends.Each(func(o kadm.ListedOffset) { // a partition that nobody has committed yet is behind by all it has
		at := place{o.Topic, o.Partition}
		if _, known := partitions[at]; !known && read[o.Topic] {
			partitions[at] = GroupPartition{Committed: -1}
		}
	})
	for at, p := range partitions {
		p.Topic, p.Partition = strings.TrimPrefix(at.topic, c.prefix), at.partition
		p.End, p.Lag = -1, -1
		start, has := starts.Lookup(at.topic, at.partition)
		end, also := ends.Lookup(at.topic, at.partition)
		if has && also && start.Err == nil && end.Err == nil {
			p.End = end.Offset
			p.Lag = max(0, end.Offset-max(start.Offset, p.Committed))
			g.Lag += p.Lag
		}
		g.Partitions = append(g.Partitions, p)
	}
	slices.SortFunc(g.Partitions, func(a, b GroupPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
