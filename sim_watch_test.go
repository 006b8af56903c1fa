package eventbus_test

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/ledger"
	"github.com/dreamscape/eventbus/internal/progress"
)

// groupWatch writes down commits and owners as the broker has them. It looks at the group whenever a request of the group's arrives, before the
// broker handles it: kfake handles one request after the other, so between two looks at most one of them, or a timer, has changed anything.
//
// Who owns a partition: the session whose assignment in the group's state has it, which is what its leader's SyncGroup gave it; after that, while
// no session's has it, still the last one. In a cooperative rebalance a partition leaves its owner's assignment first, then the owner gives it up
// and commits, and only when the owner has joined again, without it, another session gets it.
type groupWatch struct {
	cluster *kfake.Cluster
	history *ledger.History
	topics  map[[16]byte]string // newer requests name topics by id
	// serverSide: each member has an epoch of its own, and a partition goes to another one only when its owner has agreed or is gone.
	serverSide bool

	mu       sync.Mutex
	sessions map[string]session   // by Kafka's member id
	leaving  map[string]bool      // sessions that said goodbye
	seen     map[string]time.Time // when a session last asked for something
	sent     []ledger.Entry       // of the last commit, whose outcome the next look shows
	metadata []string             // theirs
}

type session struct {
	member string
	owned  map[int32]bool // partitions of acme.jobs
}

func watchGroup(cluster *kfake.Cluster, history *ledger.History, serverSide bool) *groupWatch {
	w := &groupWatch{
		cluster: cluster, history: history, serverSide: serverSide, topics: map[[16]byte]string{cluster.TopicInfo(jobs).TopicID: jobs},
		sessions: map[string]session{}, leaving: map[string]bool{}, seen: map[string]time.Time{},
	}
	for _, key := range []kmsg.Key{kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.ConsumerGroupHeartbeat} {
		cluster.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			w.arrived(r)
			return nil, nil, false
		})
	}
	return w
}

func (w *groupWatch) arrived(r kmsg.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info := w.lookLocked()
	switch r := r.(type) {
	case *kmsg.OffsetCommitRequest:
		w.commit(r, info)
	case *kmsg.JoinGroupRequest:
		w.seen[r.MemberID] = time.Now()
	case *kmsg.SyncGroupRequest:
		w.seen[r.MemberID] = time.Now()
	case *kmsg.HeartbeatRequest:
		w.seen[r.MemberID] = time.Now()
	case *kmsg.ConsumerGroupHeartbeatRequest:
		w.seen[r.MemberID] = time.Now()
		if r.MemberEpoch == -1 {
			w.leaving[r.MemberID] = true
		}
	case *kmsg.LeaveGroupRequest:
		w.leaving[r.MemberID] = true
		for _, m := range r.Members {
			w.leaving[m.MemberID] = true
		}
	}
}

// left notes that a member has ended in good order. A static one is still in the group, but no partition of it can be lost any longer.
func (w *groupWatch) left(member string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookLocked()
	for id, s := range w.sessions {
		if s.member == member {
			w.leaving[id] = true
		}
	}
}

// silentFor is how long a session has asked for nothing; of one that has never been heard of, from now on.
func (w *groupWatch) silentFor(session string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.seen[session]; !ok {
		w.seen[session] = time.Now()
	}
	return time.Since(w.seen[session])
}

// look writes down what has changed since the last look.
func (w *groupWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookLocked()
}

func (w *groupWatch) lookLocked() *kfake.GroupInfo {
	info := w.cluster.GroupInfo(simGroup)
	if info == nil {
		info = new(kfake.GroupInfo)
	}
	w.outcome(info)
	w.owners(info)
	return info
}

func (w *groupWatch) commit(r *kmsg.OffsetCommitRequest, info *kfake.GroupInfo) {
	current := (w.serverSide || r.Generation == info.Epoch) && slices.ContainsFunc(info.Members, func(m kfake.GroupMember) bool { return m.MemberID == r.MemberID })
	for _, t := range r.Topics {
		topic := t.Topic
		if topic == "" {
			topic = w.topics[t.TopicID]
		}
		for _, p := range t.Partitions {
			metadata := ""
			if p.Metadata != nil {
				metadata = *p.Metadata
			}
			done, _ := progress.Decode(metadata) // nothing, where it is no map
			e := ledger.Entry{
				Kind: ledger.Commit, Member: w.sessions[r.MemberID].member, Session: r.MemberID, Topic: topic, Partition: p.Partition,
				Offset: p.Offset, Done: done.Offsets(p.Offset), Current: current,
			}
			w.history.Add(e)
			w.sent, w.metadata = append(w.sent, e), append(w.metadata, metadata)
		}
	}
}

// outcome says whether the broker took the last commit.
func (w *groupWatch) outcome(info *kfake.GroupInfo) {
	for i, e := range w.sent {
		e.Kind, e.Current = ledger.Refused, false
		if has, ok := info.Commits[e.Topic][e.Partition]; ok && has.Offset == e.Offset && has.Metadata == w.metadata[i] {
			e.Kind = ledger.Committed
		}
		w.history.Add(e)
	}
	w.sent, w.metadata = nil, nil
}

// owners writes down who lost and who got partitions; first what ends, then what begins.
func (w *groupWatch) owners(info *kfake.GroupInfo) {
	now := map[string]session{}
	for _, m := range info.Members {
		s := session{member: m.ClientID, owned: map[int32]bool{}}
		for _, p := range m.Assignment[jobs] {
			s.owned[p] = true
		}
		now[m.MemberID] = s
	}
	for _, id := range slices.Sorted(maps.Keys(w.sessions)) {
		_, alive := now[id]
		kind := ledger.Released
		if !alive && !w.leaving[id] {
			kind = ledger.Lost
		}
		w.changed(kind, id, w.sessions[id], now[id])
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		w.changed(ledger.Assigned, id, now[id], w.sessions[id])
	}
	w.sessions = now
}

// changed writes down the partitions that one state of a session has and another has not.
func (w *groupWatch) changed(kind ledger.Kind, id string, has, lacks session) {
	for _, p := range slices.Sorted(maps.Keys(has.owned)) {
		if !lacks.owned[p] {
			w.history.Add(ledger.Entry{Kind: kind, Member: has.member, Session: id, Topic: jobs, Partition: p})
		}
	}
}
