// Package look shows people what is on a cluster: its topics, events as they pass, the trail of a correlation id, groups and how far they are behind, and
// dead letters. It reads beside any group and changes nothing. What schemas mark as secret, and what is named like a secret where there is no schema, is
// masked in all that it gives.
package look

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// Cluster is a cluster as a bus sees it. It is safe for concurrent use. Names are without the bus's prefix; topics and groups without it are not seen.
type Cluster struct {
	bus    *eventbus.Bus
	client *kgo.Client
	admin  *kadm.Client
	prefix string
	known  map[string]topic
}

// topic is an [eventbus.AnyTopic] with what only a Topic can.
type topic interface {
	eventbus.AnyTopic
	EventType() string
	DecodeRaw(value []byte) (*eventbus.RawEvent, error)
	Redact(payload []byte) []byte
}

// New looks at the cluster that bus connects to. topics are those whose events are decoded and checked; nil: DreamScape's. It asks nobody yet.
// Close it before the bus is shut down.
func New(bus *eventbus.Bus, topics []eventbus.AnyTopic) (*Cluster, error) {
	client, err := kgo.NewClient(bus.ClientOptions()...)
	if err != nil {
		return nil, err
	}
	c := &Cluster{bus: bus, client: client, admin: kadm.NewClient(client), prefix: bus.TopicPrefix(), known: map[string]topic{}}
	if topics == nil {
		topics = eventbus.Catalogue()
	}
	for _, t := range topics {
		if full, ok := t.(topic); ok && t.Name() != eventbus.HealthCheck.Name() {
			c.known[t.Name()] = full
		}
	}
	return c, nil
}

// Close ends the connections.
func (c *Cluster) Close() { c.client.Close() }

// Bus is what the cluster is looked at by.
func (c *Cluster) Bus() *eventbus.Bus { return c.bus }

// Admin asks the cluster what this package does not.
func (c *Cluster) Admin() *kadm.Client { return c.admin }

// Known returns the declared topic of a name, or nil.
func (c *Cluster) Known(name string) eventbus.AnyTopic {
	if t, ok := c.known[name]; ok {
		return t
	}
	return nil
}

const (
	connectTimeout = 5 * time.Second
	answerTimeout  = 15 * time.Second
)

// Connect waits until a broker answers. The error says within 5 s why none does.
func (c *Cluster) Connect(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err := c.client.Ping(within)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if why := c.bus.Health(ctx).Error; why != "" {
		err = errors.New(why)
	}
	return &AwayError{err}
}

// AwayError says why no broker answers.
type AwayError struct{ err error }

// Error says why, in the bus's words.
func (e *AwayError) Error() string { return e.err.Error() }

// Unwrap returns the cause, where it is known.
func (e *AwayError) Unwrap() error { return e.err }

// ask bounds a question to the cluster, and says why it has no answer.
func ask[T any](ctx context.Context, c *Cluster, question func(context.Context) (T, error)) (T, error) {
	if err := c.Connect(ctx); err != nil {
		return *new(T), err
	}
	within, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := question(within)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return *new(T), context.Cause(ctx)
	}
	if h := c.bus.Health(ctx); h.Kafka != "connected" && h.Error != "" {
		return *new(T), &AwayError{errors.New(h.Error)}
	}
	if within.Err() != nil {
		return *new(T), &AwayError{fmt.Errorf("no answer within %v", answerTimeout)}
	}
	return *new(T), err
}

// Topic is a topic of the cluster.
type Topic struct {
	Name        string `json:"topic"`
	Partitions  int    `json:"partitions"`
	Replication int    `json:"replication"`
	Records     int64  `json:"records"`             // from the beginnings to the ends, with what compaction or transactions left as gaps
	EventType   string `json:"eventType,omitempty"` // "" where the topic is not declared
	Letters     bool   `json:"deadLetters"`         // its name is that of a dead-letter topic
	Source      string `json:"source,omitempty"`    // of dead letters and retry topics: the topic that their records were of
	Group       string `json:"group,omitempty"`     // of these: the group
	Problem     string `json:"problem,omitempty"`   // why its offsets are not known
}

// Topics returns those of the cluster, by name; internal ones are left out.
func (c *Cluster) Topics(ctx context.Context) ([]Topic, error) {
	return ask(ctx, c, func(ctx context.Context) ([]Topic, error) {
		details, err := c.admin.ListTopics(ctx)
		if err != nil {
			return nil, err
		}
		var names []string
		for name, d := range details {
			if !d.IsInternal && strings.HasPrefix(name, c.prefix) && !strings.HasPrefix(name, "__") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if len(names) == 0 {
			return nil, nil
		}
		starts, err := c.admin.ListStartOffsets(ctx, names...)
		if err != nil && len(starts) == 0 {
			return nil, err
		}
		ends, err := c.admin.ListEndOffsets(ctx, names...)
		if err != nil && len(ends) == 0 {
			return nil, err
		}
		topics := make([]Topic, 0, len(names))
		for _, name := range names {
			topics = append(topics, c.describe(name, details[name], starts[name], ends[name]))
		}
		return topics, nil
	})
}

func (c *Cluster) describe(name string, d kadm.TopicDetail, starts, ends map[int32]kadm.ListedOffset) Topic {
	t := Topic{Name: strings.TrimPrefix(name, c.prefix), Partitions: len(d.Partitions), Replication: d.Partitions.NumReplicas()}
	t.Source, t.Group, t.Letters = c.besides(t.Name)
	if known, ok := c.known[t.Name]; ok {
		t.EventType = known.EventType()
	}
	if d.Err != nil {
		t.Problem = d.Err.Error()
	}
	for p, end := range ends {
		start := starts[p]
		if err := errors.Join(start.Err, end.Err); err != nil {
			t.Problem = err.Error()
			continue
		}
		t.Records += max(0, end.Offset-start.Offset)
	}
	return t
}

// besides is [besides], and the group without the prefix.
func (c *Cluster) besides(name string) (source, group string, letters bool) {
	source, group, letters = besides(name)
	return source, strings.TrimPrefix(group, c.prefix), letters
}

// besides says what a topic stands beside, by its name: see [eventbus.DeadLetterTopic] and [eventbus.RetryTopic]. Other libraries' dead letters have names
// that end in .dlq, -dlq, -dlt or .DLT, as Spring's and kafkajs services' have.
func besides(name string) (source, group string, letters bool) {
	const dlq, retry = ".dlq.", ".retry."
	if at := strings.Index(name, dlq); at > 0 {
		return name[:at], name[at+len(dlq):], true
	}
	if at := strings.Index(name, retry); at > 0 {
		return name[:at], name[at+len(retry):], false
	}
	for _, suffix := range []string{".dlq", "-dlq", "-dlt", ".dlt"} {
		if n := len(name) - len(suffix); n > 0 && strings.EqualFold(name[n:], suffix) {
			return name[:n], "", true
		}
	}
	return "", "", false
}

// Letters returns access to the dead letters of a topic, which is one of those that [Cluster.Topics] has found. source is the topic whose letters they are;
// with group "" they can be looked at and purged, not redriven.
func (c *Cluster) Letters(name string) (*eventbus.DeadLetters, error) {
	source, group, _ := c.besides(name)
	return c.LettersOf(name, source, group)
}

// LettersOf is [Cluster.Letters] for a topic whose name does not say whose letters it has; "" for nobody's, that can be looked at and purged.
func (c *Cluster) LettersOf(name, source, group string) (*eventbus.DeadLetters, error) {
	if source == "" || group == "" {
		return c.bus.DeadLettersIn(c.prefix+name, nil, "")
	}
	return c.bus.DeadLettersIn(c.prefix+name, c.Declared(source), group)
}

// Declared returns the topic of a name, as it was given to [New] or without a schema.
func (c *Cluster) Declared(name string) eventbus.AnyTopic {
	if t, ok := c.known[name]; ok {
		return t
	}
	return eventbus.NewTopic[map[string]any](name, nil)
}
