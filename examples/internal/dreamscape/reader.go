package dreamscape

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// reader reads the 27 topics beside the services, without a group, from the ends that they have when it starts. It decodes every
// record as a service would. It is safe for concurrent use.
type reader struct {
	prefix  string
	opts    []kgo.Opt
	client  *kgo.Client
	admin   *kadm.Client
	stop    context.CancelFunc
	stopped sync.WaitGroup

	letters map[string]int64 // where the dead-letter topics ended at the start, by Kafka's name

	mu     sync.Mutex
	events map[eventRef][]event
}

// startReader returns when the ends are known: whatever is published from then on will be read. The topics must exist.
func startReader(ctx context.Context, cfg eventbus.Config) (*reader, error) {
	opts := clientOptions(cfg)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("reader: %w", err)
	}
	r := &reader{prefix: cfg.TopicPrefix, opts: opts, client: client, admin: kadm.NewClient(client), events: map[eventRef][]event{}}
	if err := r.seek(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("reader: %w", err)
	}
	polling, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.stopped.Go(func() { r.poll(polling) })
	return r, nil
}

func clientOptions(cfg eventbus.Config) []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("dreamscape-journey"), kgo.FetchIsolationLevel(kgo.ReadCommitted())}
	if cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg.TLS))
	}
	if cfg.SASL != nil {
		opts = append(opts, kgo.SASL(cfg.SASL))
	}
	return append(opts, cfg.Client...)
}

// seek goes to the ends of all topics.
func (r *reader) seek(ctx context.Context) error {
	names := make([]string, len(eventTopics))
	for i, t := range eventTopics {
		names[i] = r.prefix + t.name
	}
	ends, err := r.admin.ListEndOffsets(ctx, names...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	r.client.AddConsumePartitions(ends.KOffsets())
	r.letters, err = r.letterEnds(ctx)
	return err
}

// letterEnds is how many dead letters there ever were, by topic; a topic that does not exist has none. It asks by a new client, as one
// that has not found a topic does not look again for 5 s.
func (r *reader) letterEnds(ctx context.Context) (map[string]int64, error) {
	client, err := kgo.NewClient(r.opts...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	counts := map[string]int64{}
	for _, c := range consumptions {
		counts[c.deadLetterTopic(r.prefix)] = 0
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, slices.Collect(maps.Keys(counts))...)
	if err != nil {
		return nil, err
	}
	var errs []error
	ends.Each(func(o kadm.ListedOffset) {
		if errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
			return
		}
		errs = append(errs, o.Err)
		counts[o.Topic] += o.Offset
	})
	return counts, errors.Join(errs...)
}

// deadLetters names each dead-letter topic that has grown since the start.
func (r *reader) deadLetters(ctx context.Context) ([]string, error) {
	now, err := r.letterEnds(ctx)
	if err != nil {
		return nil, err
	}
	var grown []string
	for _, topic := range slices.Sorted(maps.Keys(now)) {
		if n := now[topic] - r.letters[topic]; n > 0 {
			grown = append(grown, fmt.Sprintf("%s has %d", topic, n))
		}
	}
	return grown, nil
}

func (r *reader) poll(ctx context.Context) {
	topics := map[string]eventTopic{}
	for _, t := range eventTopics {
		topics[r.prefix+t.name] = t
	}
	for ctx.Err() == nil {
		r.client.PollFetches(ctx).EachRecord(func(rec *kgo.Record) { r.keep(topics[rec.Topic], rec.Value) })
	}
}

// keep decodes a record. What is no event counts as not read.
func (r *reader) keep(t eventTopic, value []byte) {
	e, err := t.decode(value)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ref := eventRef{t.name, e.id}
	r.events[ref] = append(r.events[ref], e)
}

// times is how often the event was read.
func (r *reader) times(ref eventRef) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events[ref])
}

// event returns an event that was read.
func (r *reader) event(ref eventRef) (event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	read := r.events[ref]
	if len(read) == 0 {
		return event{}, false
	}
	return read[0], true
}

// find returns an event of t that was read and that match accepts.
func find[T any](r *reader, t *eventbus.Topic[T], match func(T) bool) (*eventbus.BaseEvent[T], bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref, read := range r.events {
		if ref.topic != t.Name() {
			continue
		}
		if e, ok := read[0].AnyEvent.(*eventbus.BaseEvent[T]); ok && match(e.Payload) {
			return e, true
		}
	}
	return nil, false
}

func (r *reader) close() {
	r.stop()
	r.stopped.Wait()
	r.client.Close()
}

// errCompany says that services of another fleet handle a share of this journey's events: as the state of a service is in its memory,
// nothing would come of the journey.
func errCompany(group string) error {
	return fmt.Errorf("group %s has other members, which handle a share of this journey's events: stop them (killed ones are gone after "+
		"45 s), or set KAFKA_TOPIC_PREFIX to run on topics and groups of its own", group)
}

// refuseCompany fails where one of the services' groups has members before the services have started.
func (r *reader) refuseCompany(ctx context.Context) error {
	groups, err := r.admin.ListGroups(ctx)
	if err != nil {
		return fmt.Errorf("listing the groups: %w", err)
	}
	for _, app := range apps {
		name := r.prefix + app.Group()
		if state := groups[name].State; state != "" && state != "Empty" && state != "Dead" {
			return errCompany(name)
		}
	}
	return nil
}

// company is why a journey may have failed: members that have come since. It asks also where ctx has ended.
func (r *reader) company(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, app := range apps {
		groups, err := r.admin.DescribeGroups(ctx, r.prefix+app.Group())
		if err == nil && len(groups[r.prefix+app.Group()].Members) > 1 {
			return errCompany(r.prefix + app.Group())
		}
	}
	return nil // an error too: it is not what failed
}
