package itest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dreamscape/eventbus"
)

const (
	moved           = eventbus.TopicUserCreated
	movedGroup      = "auth-service-group"
	movedPartitions = 6
)

// aGroupMovesAndComesBack moves a group from two TypeScript members to two Go members, back, and once more, while events are published
// all the time. Nothing below a committed offset is handled again, and nothing is lost.
func aGroupMovesAndComesBack(t *testing.T, s *street) {
	s.topics(movedPartitions, moved)
	bus := s.bus(nil)
	sub := eventbus.Subscription{Group: movedGroup, Routes: []eventbus.Route{arriving(eventbus.UserCreated, &arrivals{})}}
	require.NoError(t, bus.EnsureTopics(s.ctx, sub.Topics()...))
	m := &move{street: s, handled: map[spot]string{}, published: map[string]bool{}}
	stopPublishing := m.publish(bus)

	m.typescript("first", func() { s.othersAreNamed(bus) })

	// Two keys fail for an hour, so that what is committed has a map of what is done above it.
	parked := m.golang("second", nil, "u-7", "u-13")
	require.LessOrEqual(t, parked.again, 2, "one event in flight for each TypeScript member")
	require.NotZero(t, parked.maps, "a map is committed")
	require.NotZero(t, m.above(parked.committed), "and events above what is committed are done")

	back := m.typescript("third", nil)
	require.Zero(t, back.maps, "kafkajs writes no metadata, nor what it found")
	last := m.golang("fourth", stopPublishing)
	require.LessOrEqual(t, last.again, 2, "one event in flight for each TypeScript member")

	require.Empty(t, m.missing(), "lost")
	t.Logf("%d events; handled again: %d by Go after TypeScript, %d by TypeScript after Go (done above what Go had committed), "+
		"%d by Go after TypeScript", len(m.published), parked.again, back.again, last.again)
}

// othersAreNamed runs a Go member beside the TypeScript ones: it gets nothing, and says why.
func (s *street) othersAreNamed(bus *eventbus.Bus) {
	got := &arrivals{}
	sub := eventbus.Subscription{Group: movedGroup, Routes: []eventbus.Route{arriving(eventbus.UserCreated, got)}}
	end := s.run(bus, sub)
	s.eventually("health names the others", func() (bool, string) {
		h := bus.Health(s.ctx)
		named := !h.Ready && len(h.Groups) == 1 && slices.ContainsFunc(h.Groups[0].Problems, func(p string) bool {
			return strings.Contains(p, s.prefix+movedGroup+": INCONSISTENT_GROUP_PROTOCOL") && strings.Contains(p, "such as kafkajs")
		})
		return named, fmt.Sprint(h.Groups)
	})
	require.NoError(s.t, end())
	sub.FailFast = true
	err := bus.Run(s.ctx, sub)
	require.ErrorIs(s.t, err, kerr.InconsistentGroupProtocol)
	require.ErrorContains(s.t, err, movedGroup)
	require.Zero(s.t, got.len())
}

// spot is where an event is.
type spot struct {
	partition int32
	offset    int64
}

// move is what the group has handled so far, whoever its members were.
type move struct {
	street *street

	mu        sync.Mutex
	handled   map[spot]string // the event's id
	published map[string]bool
}

// publish publishes one event after the other until stop is called.
func (m *move) publish(bus *eventbus.Bus) (stop func()) {
	ctx, cancel := context.WithCancel(m.street.ctx)
	over := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			of := made(eventbus.UserCreated, eventbus.UserCreatedPayload{UserID: fmt.Sprint("u-", n%100), Email: "ada@example.com"})[0]
			if ctx.Err() != nil {
				over <- nil
				return
			}
			if err := bus.Publish(m.street.ctx, of.event); err != nil {
				over <- err
				return
			}
			m.mu.Lock()
			m.published[of.id] = true
			m.mu.Unlock()
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(m.street.t, <-over, "publish")
	})
	m.street.t.Cleanup(stop)
	return stop
}

// stay is a time in which members of one kind made up the group.
type stay struct {
	committed map[int32]int64 // when they had left
	maps      int             // partitions of which there is a map of what is done above that
	again     int             // events that were handled before they came
}

// note adds what members have handled, none of it from below what was committed when they came.
func (m *move) note(from map[int32]int64, events map[spot]string) (again int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, id := range events {
		require.GreaterOrEqual(m.street.t, at.offset, from[at.partition], "partition %d: from below what was committed", at.partition)
		if _, before := m.handled[at]; before {
			again++
		}
		m.handled[at] = id
	}
	return again
}

// left is what is committed when members have left. All below it must have been handled.
func (m *move) left(again int) stay {
	t, group := m.street.t, m.street.prefix+movedGroup
	offsets, err := m.street.admin.FetchOffsets(m.street.ctx, group)
	require.NoError(t, err)
	now := stay{committed: map[int32]int64{}, again: again}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic != m.street.prefix+moved {
			return
		}
		now.committed[o.Partition] = o.At
		if strings.HasPrefix(o.Metadata, "eb1:") {
			now.maps++
		}
	})
	require.Len(t, now.committed, movedPartitions)
	m.mu.Lock()
	defer m.mu.Unlock()
	var skipped []spot
	for partition, end := range now.committed {
		for offset := range end {
			if _, is := m.handled[spot{partition, offset}]; !is {
				skipped = append(skipped, spot{partition, offset})
			}
		}
	}
	require.Empty(t, skipped, "committed and not handled")
	return now
}

// before is what is committed when members come.
func (m *move) before() map[int32]int64 {
	m.mu.Lock()
	begun := len(m.handled) > 0
	m.mu.Unlock()
	if !begun {
		return nil
	}
	return m.left(0).committed
}

// typescript has two members handle some hundred events each, and leave.
func (m *move) typescript(name string, meanwhile func()) stay {
	from := m.before()
	members := []*neighbour{m.street.neighbour(), m.street.neighbour()}
	for _, n := range members {
		n.subscribe(movedGroup, nil, moved)
	}
	for _, n := range members {
		n.await(movedGroup, 200)
	}
	if meanwhile != nil {
		meanwhile()
		for _, n := range members {
			n.await(movedGroup, n.count(movedGroup).Handled+100) // they go on
		}
	}
	m.all(name, members)
	events := map[spot]string{}
	for _, n := range members {
		n.unsubscribe(movedGroup)
	}
	for _, n := range members {
		for _, e := range n.handled(movedGroup, 0) {
			events[spot{e.Partition, e.Offset}] = e.EventID
		}
		n.stop()
	}
	return m.left(m.note(from, events))
}

// all waits until every partition has been handled beyond what others had published before.
func (m *move) all(name string, members []*neighbour) {
	ends, err := m.street.admin.ListEndOffsets(m.street.ctx, m.street.prefix+moved)
	require.NoError(m.street.t, err)
	m.street.eventually(name+": every partition has been handled", func() (bool, string) {
		reached := map[int32]int64{}
		for _, n := range members {
			for _, e := range n.handled(movedGroup, 0) {
				reached[e.Partition] = max(reached[e.Partition], e.Offset+1)
			}
		}
		for p := range int32(movedPartitions) {
			if end, _ := ends.Lookup(m.street.prefix+moved, p); reached[p] < end.Offset {
				return false, fmt.Sprint(reached)
			}
		}
		return true, ""
	})
}

// golang has two members handle some hundred events each, and leave; where last is given, they leave when that was called and nothing is
// missing any longer. The events of some keys fail for an hour.
func (m *move) golang(name string, last func(), failing ...string) stay {
	s, from := m.street, m.before()
	members := []*member{s.member(failing), s.member(failing)}
	s.eventually(name+": both have handled", func() (bool, string) {
		one, two := members[0].got.len(), members[1].got.len()
		return one >= 200 && two >= 200, fmt.Sprint(one, " and ", two)
	})
	if last != nil {
		last()
		s.eventually(name+": all are handled", func() (bool, string) {
			missing := m.missing(members...)
			return len(missing) == 0, fmt.Sprint(len(missing), " are missing")
		})
	}
	events := map[spot]string{}
	for _, g := range members {
		require.NoError(s.t, g.end())
	}
	for _, g := range members {
		for at, id := range g.events() {
			events[at] = id
		}
	}
	return m.left(m.note(from, events))
}

// member is a Go service that runs the group.
type member struct {
	got *arrivals
	end func() error
}

func (s *street) member(failing []string) *member {
	got := &arrivals{}
	end := s.run(s.bus(nil), eventbus.Subscription{Group: movedGroup, Routes: []eventbus.Route{eventbus.UserCreated.Handle(
		func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			if slices.Contains(failing, e.Payload.UserID) {
				return eventbus.RetryAfter(errors.New("not today"), time.Hour)
			}
			return arrived(ctx, got, e)
		}, nil)}})
	return &member{got: got, end: end}
}

func (g *member) events() map[spot]string {
	events := map[spot]string{}
	for _, a := range g.got.list() {
		events[spot{a.delivery.Partition, a.delivery.Offset}] = a.event.EventID
	}
	return events
}

// missing are the ids of what was published and not handled, by those who have left or by the members that are there.
func (m *move) missing(members ...*member) []string {
	handled := map[string]bool{}
	for _, g := range members {
		for _, id := range g.events() {
			handled[id] = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.handled {
		handled[id] = true
	}
	var ids []string
	for id := range m.published {
		if !handled[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// above counts what was handled above what is committed.
func (m *move) above(committed map[int32]int64) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := range m.handled {
		if at.offset >= committed[at.partition] {
			n++
		}
	}
	return n
}
