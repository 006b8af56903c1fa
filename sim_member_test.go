package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
)

// member is one member of the group: a process, as it were.
type member struct {
	name  string // also Kafka's client id
	bus   *eventbus.Bus
	link  *link
	stop  context.CancelFunc
	told  context.Context // ends when it is told to end
	ended chan struct{}   // Run has returned
	err   error           // of Run, once ended
	dead  chan struct{}   // closed: it has crashed
	gone  chan struct{}   // closed: a crashed one's bus has been shut down
}

func (m *member) crashed() bool {
	select {
	case <-m.dead:
		return true
	default:
		return false
	}
}

// leave tells a member to end. What a static one leaves in the group is its place, and no longer a session that could be lost.
func (s *simulation) leave(m *member) {
	m.stop()
	s.chores.Go(func() {
		m.wait()
		if m.crashed() {
			return
		}
		s.watch.left(m.name)
	})
}

// retire shuts a member down for good.
func (s *simulation) retire(m *member) {
	s.leave(m)
	s.chores.Go(func() {
		m.wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = m.bus.ScaleDown(ctx) // where brokers do not answer, the session ends by its timeout
	})
}

// join starts a member. A static one waits until the one whose place it takes is gone: two processes must not have one instance's id.
func (s *simulation) join(number, instance int) {
	m := &member{name: fmt.Sprintf("m-%d", number), link: newLink(&s.net), ended: make(chan struct{}), dead: make(chan struct{}), gone: make(chan struct{})}
	m.bus = s.newBus(m.name, m.link, eventbus.Hooks{})
	if s.prepare != nil {
		s.prepare(m.bus)
	}
	m.told, m.stop = context.WithCancel(context.Background())
	s.members[number] = m
	sub, before := s.subscription(m), (*member)(nil)
	if s.script.Static {
		sub.InstanceID = fmt.Sprintf("i-%d", instance)
		before, s.places[instance] = s.places[instance], m
	}
	go func() {
		defer close(m.ended)
		if before != nil {
			before.wait()
		}
		m.err = m.bus.Run(m.told, sub)
	}()
}

func (s *simulation) subscription(m *member) eventbus.Subscription {
	limits := s.script.Limits
	options := &eventbus.HandleOptions{
		Timeout: limits.Handler, Retry: &eventbus.RetryPolicy{Attempts: limits.Attempts, Max: 3 * time.Second, OutageHold: limits.Hold},
	}
	if s.script.Free {
		options.Order = eventbus.OrderNone
	}
	if s.sequenced {
		options.Order = eventbus.OrderSequenced
	}
	route := s.jobs.Handle(s.handle(m), options)
	if s.inTx {
		route = s.jobs.HandleTx(s.handleTx(m), options)
	}
	sub := eventbus.Subscription{
		Group: simGroup, Routes: []eventbus.Route{route}, DrainTimeout: limits.Drain,
		RebalanceTimeout: limits.Rebalance, SessionTimeout: limits.Session, Concurrency: limits.Concurrency, MaxInFlight: limits.InFlight,
		MaxSpan: limits.Span,
	}
	if s.script.ServerSide {
		sub.Protocol = eventbus.ProtocolConsumer
	}
	return sub
}

// wait waits until nothing of a member reaches the group any longer.
func (m *member) wait() {
	select {
	case <-m.ended:
	case <-m.dead:
	}
}

// crash takes a member out of the world for good. What is left of it is put away, which nobody outside can notice.
func (s *simulation) crash(m *member) {
	m.link.cut()
	s.history.Add(ledger.Entry{Kind: ledger.Crashed, Member: m.name})
	close(m.dead)
	m.stop()
	go func() {
		defer close(m.gone)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.bus.Shutdown(ctx) // it cannot reach anybody
	}()
}

// end tells a member to end, waits for it and puts it away. It fails where Run has ended by itself before, or does not end.
func (s *simulation) end(m *member) {
	if m.crashed() {
		s.await(m.gone, m.name+" is put away")
		s.await(m.ended, m.name+" ends")
		return
	}
	early := m.told.Err() == nil
	select {
	case <-m.ended:
		require.False(s, early, "%s ended by itself: %v", m.name, m.err)
	default:
	}
	m.stop()
	s.await(m.ended, m.name+" ends")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(s, m.bus.Shutdown(ctx), m.name)
}

// abandon ends everybody after a failure, so that other scripts can be played.
func (s *simulation) abandon() {
	s.heal()
	for _, m := range s.members {
		m.link.cut()
		m.stop()
	}
	for _, m := range s.members {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = m.bus.Shutdown(ctx) // it cannot reach anybody
		cancel()
		select {
		case <-m.ended:
		case <-time.After(patience):
			panic(fmt.Sprintf("seed %d: %s does not end, even after the failure\n%s", s.script.Seed, m.name, s.state()))
		}
	}
	s.chores.Wait()
}

func (s *simulation) await(c <-chan struct{}, what string) {
	select {
	case <-c:
	case <-time.After(patience):
		fmt.Fprintf(os.Stderr, "seed %d: %v passed: %s\n%s\n", s.script.Seed, patience, what, s.state()) // at once: abandon may not get to the end
		s.Fatalf("seed %d: %v passed: %s", s.script.Seed, patience, what)
	}
}

// link is how one process reaches the world.
type link struct {
	net *kfake.VirtualNetwork

	mu    sync.Mutex
	away  bool
	conns []net.Conn
}

func newLink(net *kfake.VirtualNetwork) *link { return &link{net: net} }

func (l *link) options() []kgo.Opt { return []kgo.Opt{kgo.Dialer(l.dial)} }

var errUnreachable = errors.New("unreachable")

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if l.isAway() {
		return nil, errUnreachable
	}
	conn, err := l.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		_ = conn.Close()
		return nil, errUnreachable
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *link) isAway() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away
}

// cut closes all connections and refuses new ones until mend.
func (l *link) cut() {
	l.mu.Lock()
	l.away = true
	l.mu.Unlock()
	l.drop()
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = false
}

// drop closes all connections.
func (l *link) drop() {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // the client may have done it before
	}
}
