package bustest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/embedded"
)

// Fault is one way in which the broker misbehaves: which requests, and what becomes of them. Filters are ANDs; a request that one call
// of a client sends to several topics is one request.
type Fault struct {
	// Request is the kind of request. Default: [Any].
	Request Request
	// Topic is a topic that the request names, without the bus's prefix; for dead letters, [eventbus.DeadLetterTopic]. Empty: any.
	Topic string
	// Group is a group that the request names, without the bus's prefix. Empty: any.
	Group string
	// After is how many such requests are let through first.
	After int
	// Times is how many such requests it then meets. 0: all, until it is removed.
	Times int
	// Do is what becomes of them. Required.
	Do Action
}

// Script is faults of a bus's broker, one after the other: each begins when the one before has met its Times. It ends with the test.
// It is safe for concurrent use, but Wait and Remove are for the test's goroutine.
type Script struct {
	t       testing.TB
	timeout time.Duration
	prefix  string
	removed context.Context // ends when it is removed: nobody is held back any longer
	ends    []func()        // what Remove does, the last first

	mu      sync.Mutex
	steps   []step // those that are left, the first at work
	hits    int
	changed chan struct{} // closed at the next hit
}

// step is a fault at work.
type step struct {
	Fault
	seen, met int
	mark      uint32 // of the requests that it fails
}

// Fault makes the broker misbehave, from now on and for every client but the one that [RequirePublished] and [Published] read with.
// Several faults in one call follow one another; of several calls, each request goes to the first whose turn it meets. A fault that
// cannot work, such as a Topic for requests that name none, fails the test.
//
// Virtual time works, on an [Options.Broker] whose Options.Listen is a [kfake.VirtualNetwork]'s.
func (b *Bus) Fault(faults ...Fault) *Script {
	b.t.Helper()
	s := &Script{t: b.t, timeout: b.timeout, prefix: b.recorder.prefix, changed: make(chan struct{})}
	var end context.CancelFunc
	s.removed, end = context.WithCancel(context.Background())
	s.ends = append(s.ends, end)
	for i, f := range faults {
		if flaw := f.flaw(i, len(faults)); flaw != "" {
			b.t.Fatalf("bustest: Fault %d: %s", i, flaw)
		}
		s.steps = append(s.steps, step{Fault: s.named(f), mark: rand.Uint32() | 1<<31}) // #nosec G404 -- no secret
	}
	if len(faults) == 0 {
		b.t.Fatalf("bustest: Fault: none is given")
	}
	if err := s.install(b.Broker); err != nil {
		b.t.Fatalf("bustest: Fault: %v", err)
	}
	b.t.Cleanup(s.Remove)
	return s
}

// flaw says why a fault, the i-th of n, cannot work; "" if it can.
func (f Fault) flaw(i, n int) string {
	kind, known := f.Request.kind()
	switch {
	case f.Do.kind == doNothing:
		return "Do: required: Fail, Delay, Cut, ..."
	case f.Do.flaw != "":
		return "Do: " + f.Do.flaw
	case !known:
		return fmt.Sprintf("Request: %d is no kind of request", int(f.Request))
	case f.After < 0 || f.Times < 0:
		return fmt.Sprintf("After, Times: %d, %d: neither may be negative", f.After, f.Times)
	case f.Do.kind == doRefuse && f != (Fault{Do: f.Do}):
		return "Do: Refuse is about connections: it takes no Request, Topic, Group, After or Times"
	case f.Do.kind == doRefuse && n > 1:
		return "Do: Refuse has no Times: it takes a call of its own"
	case f.Topic != "" && !kind.topics:
		return fmt.Sprintf("Topic: a request of the kind %s names no topic", kind.name)
	case f.Group != "" && !kind.groups:
		return fmt.Sprintf("Group: a request of the kind %s names no group", kind.name)
	case f.Times == 0 && i < n-1:
		return "Times: required where another fault follows"
	}
	return ""
}

// named gives the topic and the group the names that they have in Kafka.
func (s *Script) named(f Fault) Fault {
	if f.Topic != "" {
		f.Topic = s.prefix + f.Topic
		for _, infix := range []string{".dlq.", ".retry."} {
			if topic, group, ofGroup := strings.Cut(f.Topic, infix); ofGroup {
				f.Topic = topic + infix + s.prefix + group
				break
			}
		}
	}
	if f.Group != "" {
		f.Group = s.prefix + f.Group
	}
	return f
}

func (s *Script) install(broker *embedded.Broker) error {
	remove, err := broker.Intercept(s.intercept)
	if err != nil {
		return err
	}
	s.ends = append(s.ends, remove)
	for _, st := range s.steps {
		switch st.Do.kind {
		case doFail:
			s.ends = append(s.ends, st.fail(broker.Cluster()))
		case doRefuse:
			again := broker.Refuse()
			s.ends = append(s.ends, func() {
				if err := again(); err != nil {
					s.t.Errorf("bustest: Refuse: listening again: %v", err)
				}
			})
		}
	}
	return nil
}

// intercept gives a request to the step whose turn it is.
func (s *Script) intercept(ctx context.Context, r *embedded.Request) embedded.Verdict {
	if r.ClientID == recorderID {
		return embedded.Next
	}
	st, met := s.take(r)
	if !met {
		return embedded.Next
	}
	return s.do(ctx, st, r)
}

// take says which step a request meets, if any.
func (s *Script) take(r *embedded.Request) (step, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.steps) == 0 || !s.steps[0].matches(r) {
		return step{}, false
	}
	st := &s.steps[0]
	st.seen++
	if st.seen <= st.After {
		return step{}, false
	}
	st.met++
	taken := *st
	if st.met == st.Times {
		s.steps = s.steps[1:]
	}
	s.hits++
	close(s.changed)
	s.changed = make(chan struct{})
	return taken, true
}

func (st *step) matches(r *embedded.Request) bool {
	kind, _ := st.Request.kind()
	switch {
	case st.Do.kind == doRefuse:
		return false
	case st.Request != Any && kind.key != kmsg.Key(r.Message.Key()):
		return false
	case st.Topic != "" && !r.NamesTopic(st.Topic):
		return false
	}
	return st.Group == "" || r.NamesGroup(st.Group)
}

// Hits is how many requests the faults have met so far.
func (s *Script) Hits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits
}

// Wait waits until the faults have met n requests in all. After [Options.Timeout] it fails the test.
func (s *Script) Wait(n int) {
	s.t.Helper()
	timeout := time.NewTimer(s.timeout)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		hits, changed := s.hits, s.changed
		s.mu.Unlock()
		if hits >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			s.t.Fatalf("bustest: the faults met %d of %d requests within %v", hits, n, s.timeout)
		}
	}
}

// Remove ends the faults; what they hold back goes on. Again it does nothing.
func (s *Script) Remove() {
	s.mu.Lock()
	s.steps = nil
	s.mu.Unlock()
	for len(s.ends) > 0 {
		last := s.ends[len(s.ends)-1]
		s.ends = s.ends[:len(s.ends)-1]
		last()
	}
}
