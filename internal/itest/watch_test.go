package itest_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/progress"
)

// groupWatch samples what the broker has of a group: its committed offsets and who owns which partition. A commit is written down when it
// has been seen, so it was made before; an assignment at the time of the last sample that had not seen it, so it was made after.
type groupWatch struct {
	client       *kgo.Client
	admin        *kadm.Client
	topic, group string
	byGroup      eventbus.GroupProtocol

	mu        sync.Mutex
	entries   []ledger.Entry
	committed map[int32]kadm.Offset
	owned     map[string]map[int32]bool // by session
	sampled   time.Duration             // when the last sample of the owners began
}

const (
	sampleEvery   = 100 * time.Millisecond
	sampleTimeout = 3 * time.Second
)

// run samples until ctx ends.
func (w *groupWatch) run(ctx context.Context) {
	w.committed, w.owned = map[int32]kadm.Offset{}, map[string]map[int32]bool{}
	ticks := time.NewTicker(sampleEvery)
	defer ticks.Stop()
	for ctx.Err() == nil {
		w.sample(ctx)
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
}

// sample leaves out what a broker in trouble does not tell: the next one will.
func (w *groupWatch) sample(ctx context.Context) {
	began := now()
	if sessions, stable := w.sessions(ctx); stable {
		w.noteOwners(sessions)
		w.sampled = began
	}
	asking, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	// a coordinator that has just taken over would tell of older commits than the one before did
	offsets, err := w.admin.FetchOffsets(kadm.RequireStable(asking), w.group)
	if err != nil {
		w.client.ForceMetadataRefresh() // an idle client asks a frozen coordinator for as long as its metadata has it
		return
	}
	w.noteCommits(offsets)
}

// session is a member as the group knows it.
type session struct {
	member, id string
	owned      kadm.TopicsSet
}

// sessions are those of a stable group: in a rebalance, nobody's assignment is told.
func (w *groupWatch) sessions(ctx context.Context) (sessions []session, stable bool) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	if w.byGroup == eventbus.ProtocolConsumer {
		groups, err := w.admin.DescribeConsumerGroups(ctx, w.group)
		g := groups[w.group]
		for _, m := range g.Members {
			sessions = append(sessions, session{m.ClientID, m.MemberID, m.Assignment})
		}
		return sessions, err == nil && g.Err == nil
	}
	groups, err := w.admin.DescribeGroups(ctx, w.group)
	g := groups[w.group]
	for _, m := range g.Members {
		s := session{member: m.ClientID, id: m.MemberID}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			s.owned = kadm.TopicsSet{}
			for _, t := range assigned.Topics {
				s.owned.Add(t.Topic, t.Partitions...)
			}
		}
		sessions = append(sessions, s)
	}
	return sessions, err == nil && g.Err == nil && g.State == "Stable"
}

func (w *groupWatch) noteOwners(sessions []session) {
	owned := map[string]map[int32]bool{}
	for _, s := range sessions {
		owned[s.id] = map[int32]bool{}
		for p := range s.owned[w.topic] {
			owned[s.id][p] = true
			if !w.owned[s.id][p] {
				w.note(ledger.Entry{Kind: ledger.Assigned, Member: s.member, Session: s.id, Partition: p, At: w.sampled})
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owned = owned
}

func (w *groupWatch) noteCommits(offsets kadm.OffsetResponses) {
	at := now()
	parts := offsets[w.topic]
	for _, p := range slices.Sorted(maps.Keys(parts)) {
		o := parts[p]
		if o.Err != nil || o.At < 0 || w.committed[p] == o.Offset {
			continue
		}
		w.committed[p] = o.Offset
		done, _ := progress.Decode(o.Metadata) // nothing, where it is no map
		e := ledger.Entry{Partition: p, Offset: o.At, Done: done.Offsets(o.At), At: at}
		for _, e.Kind = range []ledger.Kind{ledger.Commit, ledger.Committed} {
			w.note(e)
		}
	}
}

func (w *groupWatch) note(e ledger.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Topic = w.topic
	w.entries = append(w.entries, e)
}

// handled is how many partitions have a committed offset.
func (w *groupWatch) handled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[int32]bool{}
	for _, e := range w.entries {
		if e.Kind == ledger.Committed {
			seen[e.Partition] = true
		}
	}
	return len(seen)
}

// shared says whether so many members have all partitions between them, each its part.
func (w *groupWatch) shared(members, partitions int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, owned := range w.owned {
		if len(owned) == 0 {
			return false
		}
		members, partitions = members-1, partitions-len(owned)
	}
	return members == 0 && partitions == 0
}

// owns says whether a member has been given partitions.
func (w *groupWatch) owns(member string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.entries, func(e ledger.Entry) bool { return e.Kind == ledger.Assigned && e.Member == member })
}
