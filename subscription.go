package eventbus

import (
	"fmt"
	"slices"
	"time"
)

// Subscription is a consumer group and what it does with the events of its topics. Group and Routes are required.
type Subscription struct {
	// Group is the Kafka consumer group: each event is handled by one member of it. Give every service its own. Required.
	Group string
	// Routes say which handler gets the events of which topic, one route a topic. Required.
	Routes []Route
	// Validation says what happens to an event that breaks its schema. Default: ValidationEnforce.
	Validation Validation
	// DrainTimeout bounds how long a running handler may go on at a shutdown or a rebalance before its ctx is cancelled.
	// Default: 10 s.
	DrainTimeout time.Duration
	// RebalanceTimeout is how long the group waits for a member to give up partitions. It must exceed the longest handler
	// timeout + DrainTimeout + 8 s (commit and heartbeat); an hour at most. Default: 60 s.
	RebalanceTimeout time.Duration
	// SessionTimeout is after which silence the group takes a member for dead. The member gives its partitions up a second earlier, or a
	// quarter of it if that is less: their handlers' ctx ends. From 100 ms to an hour; brokers have narrower
	// bounds of their own. Default: 45 s.
	SessionTimeout time.Duration
	// Concurrency is how many events are handled at once, over all partitions: those of different keys. Default: 64.
	Concurrency int
	// MaxInFlight bounds the records of a partition that are fetched and not done. Its fetching pauses at that many, and goes on when there is room for
	// as many again as do not wait for another try: at half, where none does. What one poll brings, 1,000 records at most, may come on top.
	// Default: 10,000.
	MaxInFlight int
	// MaxInFlightBytes bounds the memory that they take likewise: their bytes, 512 for each, and 64 for each header. Default: 8 MiB.
	MaxInFlightBytes int
	// MaxSpan bounds how far a partition is handled beyond its first event that is not done, in offsets. Default: 100,000.
	MaxSpan int
	// Protocol is the group's protocol. Default: ProtocolClassic.
	Protocol GroupProtocol
	// InstanceID makes the member a static one (KIP-345): after a Shutdown its partitions stay its own for SessionTimeout, and nobody
	// rebalances if it is back by then. [Bus.ScaleDown] gives them up at once. It must be unique in the group and the same at each start.
	// Default: "", an ordinary member.
	InstanceID string
	// FailFast has Run return an error when, 3 s after its start, a topic is missing, a permission refused or a login failed.
	// Default: such a thing is named in health and in the log and waited for.
	FailFast bool
}

// Validation says what a subscription does with an event that breaks its schema.
type Validation int

const (
	// ValidationEnforce dead-letters it.
	ValidationEnforce Validation = iota
	// ValidationReport counts it, logs it, and handles it where it decodes; for moving a fleet that did not validate yet.
	ValidationReport
)

// Route is a topic and its handler; [Topic.Handle] makes it. Its zero value is refused by [Bus.Run].
type Route struct {
	topic   *topicSpec
	bind    func(*RawEvent) error // gives the event its handler call and its lane
	keyed   bool                  // the topic has keys
	timeout time.Duration
	retry   *RetryPolicy
	order   Order
	tx      bool // of HandleTx
}

const (
	defaultHandlerTimeout   = 30 * time.Second
	defaultDrainTimeout     = 10 * time.Second
	defaultRebalanceTimeout = 60 * time.Second
	defaultSessionTimeout   = 45 * time.Second
	defaultConcurrency      = 64
	defaultPartInFlight     = 10_000
	defaultPartBytes        = 8 << 20
	defaultSpan             = 100_000
	commitTimeout           = 5 * time.Second
	heartbeatInterval       = 3 * time.Second
	minGroupTimeout         = 100 * time.Millisecond
	maxGroupTimeout         = time.Hour
)

// Topics returns the topics of the routes, their dead-letter topics and their retry topics, into which dead letters are redriven: what
// the subscription needs, for [Bus.EnsureTopics]; and [SequenceTopic] for routes with [OrderSequenced].
func (s Subscription) Topics() []AnyTopic {
	var topics []AnyTopic
	for _, r := range s.Routes {
		if r.topic != nil {
			topics = append(topics, r.topic, companion(r.topic, dlqInfix, s.Group), companion(r.topic, retryInfix, s.Group))
			if r.order == OrderSequenced {
				topics = append(topics, companion(r.topic, sequenceInfix, s.Group))
			}
		}
	}
	return topics
}

// transactional says whether the subscription handles in transactions.
func (s Subscription) transactional() bool {
	return slices.ContainsFunc(s.Routes, func(r Route) bool { return r.tx || r.order == OrderSequenced })
}

// companion is the topic of a group that stands beside source: for dead letters or for redriven events.
func companion(source *topicSpec, infix, group string) *topicSpec {
	return &topicSpec{name: source.name + infix + group, source: source, infix: infix, group: group}
}

// check returns a copy of s with every default filled in. prefix is [Config.TopicPrefix].
func (s Subscription) check(prefix string, retry RetryPolicy) (Subscription, error) {
	fail := func(field, format string, args ...any) (Subscription, error) {
		return Subscription{}, fmt.Errorf("eventbus: Subscription %q: %s: "+format, append([]any{s.Group, field}, args...)...)
	}
	if err := checkTopicName("Group", s.Group); err != nil {
		return fail("Group", "%q is not a group's name: 1 to 249 of a-z A-Z 0-9 . _ -", s.Group)
	}
	if len(s.Routes) == 0 {
		return fail("Routes", "is empty")
	}
	if s.Validation != ValidationEnforce && s.Validation != ValidationReport {
		return fail("Validation", "%d is not ValidationEnforce or ValidationReport", s.Validation)
	}
	if s.DrainTimeout < 0 || s.RebalanceTimeout < 0 || s.SessionTimeout < 0 {
		return fail("DrainTimeout, RebalanceTimeout, SessionTimeout", "none may be negative")
	}
	if s.Concurrency < 0 || s.MaxInFlight < 0 || s.MaxInFlightBytes < 0 || s.MaxSpan < 0 {
		return fail("Concurrency, MaxInFlight, MaxInFlightBytes, MaxSpan", "none may be negative")
	}
	if s.Protocol != ProtocolClassic && s.Protocol != ProtocolConsumer {
		return fail("Protocol", "%d is not ProtocolClassic or ProtocolConsumer", s.Protocol)
	}
	if s.InstanceID != "" && checkTopicName("InstanceID", s.InstanceID) != nil {
		return fail("InstanceID", "%q is not an instance's name: 1 to 249 of a-z A-Z 0-9 . _ -", s.InstanceID)
	}
	s.Concurrency = orDefault(s.Concurrency, defaultConcurrency)
	s.MaxInFlight = orDefault(s.MaxInFlight, defaultPartInFlight)
	s.MaxInFlightBytes = orDefault(s.MaxInFlightBytes, defaultPartBytes)
	s.MaxSpan = orDefault(s.MaxSpan, defaultSpan)
	s.DrainTimeout = orDefault(s.DrainTimeout, defaultDrainTimeout)
	s.RebalanceTimeout = orDefault(s.RebalanceTimeout, defaultRebalanceTimeout)
	s.SessionTimeout = orDefault(s.SessionTimeout, defaultSessionTimeout)
	if s.SessionTimeout < minGroupTimeout || s.SessionTimeout > maxGroupTimeout {
		return fail("SessionTimeout", "%v is not between %v and %v", s.SessionTimeout, minGroupTimeout, maxGroupTimeout)
	}
	if s.RebalanceTimeout < minGroupTimeout || s.RebalanceTimeout > maxGroupTimeout {
		return fail("RebalanceTimeout", "%v is not between %v and %v", s.RebalanceTimeout, minGroupTimeout, maxGroupTimeout)
	}
	if s.DrainTimeout > maxGroupTimeout {
		return fail("DrainTimeout", "%v is more than the longest RebalanceTimeout there is, %v", s.DrainTimeout, maxGroupTimeout)
	}
	routes := make([]Route, len(s.Routes))
	seen := map[string]bool{}
	for i, r := range s.Routes {
		field := fmt.Sprintf("Routes[%d]", i)
		if r.topic == nil {
			return fail(field, "make it with Topic.Handle or Topic.HandleTx")
		}
		field += " (" + r.topic.name + ")"
		if r.bind == nil {
			return fail(field, "its handler is nil")
		}
		if seen[r.topic.name] {
			return fail(field, "the topic has a route already; one handler may call two")
		}
		seen[r.topic.name] = true
		if s.transactional() && s.Group == transactID {
			return fail("Group", "%q is what Transact's transactional id ends with; name it otherwise", s.Group)
		}
		if r.tx != s.Routes[0].tx {
			return fail(field, "HandleTx and Handle in one Subscription: what is committed in transactions must not be committed otherwise; give them two groups")
		}
		for _, infix := range []string{retryInfix, sequenceInfix} {
			if name := prefix + r.topic.name + infix + prefix + s.Group; len(name) > 249 && (infix == retryInfix || r.order == OrderSequenced) {
				return fail(field, "the name of the topic %s has %d characters, Kafka allows 249: shorten the group", name, len(name))
			}
		}
		if r.order < OrderByKey || r.order > OrderSequenced {
			return fail(field, "Order: %d is not OrderByKey, OrderNone or OrderSequenced", r.order)
		}
		if r.order == OrderSequenced && !r.keyed {
			return fail(field, "Order: OrderSequenced parks keys, and the topic has none: TopicOptions.Key is nil")
		}
		if r.timeout < 0 {
			return fail(field, "Timeout: %v is negative", r.timeout)
		}
		r.timeout = orDefault(r.timeout, defaultHandlerTimeout)
		if r.timeout > maxGroupTimeout { // the sum might overflow
			return fail(field, "Timeout: %v is more than the longest RebalanceTimeout there is, %v", r.timeout, maxGroupTimeout)
		}
		if needed := r.timeout + s.DrainTimeout + commitTimeout + heartbeatInterval; needed >= s.RebalanceTimeout {
			return fail(field, "Timeout %v + DrainTimeout %v + commit %v + heartbeat %v = %v must be less than RebalanceTimeout %v, "+
				"or another member would handle the same events at once", r.timeout, s.DrainTimeout, commitTimeout, heartbeatInterval, needed, s.RebalanceTimeout)
		}
		policy := retry
		if r.retry != nil {
			if err := r.retry.check(); err != nil {
				return fail(field, "Retry: %v", err)
			}
			policy = r.retry.over(retry)
		}
		r.retry = &policy
		routes[i] = r
	}
	s.Routes = routes
	return s, nil
}
