package eventbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// EnsureTopics creates those of the topics that do not exist, as [Config.NewTopics] says, and leaves the others as they are. For a
// subscription's topics with their dead-letter and retry topics, give it [Subscription.Topics]; for DreamScape's, [Catalogue]. A
// dead-letter topic gets as many partitions as its source has, which is created first where it is among topics; a retry topic gets one. A [SequenceTopic]
// gets as many as its source too, and is compacted.
// It blocks until the cluster knows them all or ctx ends. Publishing and consuming never create a topic. The error names every topic that failed.
func (b *Bus) EnsureTopics(ctx context.Context, topics ...AnyTopic) error {
	if b.closed.Load() {
		return fmt.Errorf("eventbus: EnsureTopics: %w", ErrClosed)
	}
	var sources, companions []*topicSpec
	for i, t := range topics {
		switch {
		case t == nil:
			return fmt.Errorf("eventbus: EnsureTopics: topics[%d] is nil", i)
		case t.spec().source != nil:
			companions = append(companions, t.spec())
		default:
			sources = append(sources, t.spec())
		}
	}
	err := b.ensureSources(ctx, sources)
	if err == nil {
		err = b.ensureCompanions(ctx, companions, sources)
	}
	if err != nil {
		return fmt.Errorf("eventbus: EnsureTopics: %w", b.withCause(err))
	}
	return nil
}

// newTopic is how a topic is created.
type newTopic struct {
	partitions int32 // -1: the broker's default
	configs    map[string]*string
}

func (b *Bus) ensureSources(ctx context.Context, topics []*topicSpec) error {
	n := newTopic{partitions: orDefault(b.cfg.NewTopics.Partitions, -1), configs: map[string]*string{}}
	if kept := b.cfg.NewTopics.Retention; kept > 0 {
		n.configs["retention.ms"] = milliseconds(kept)
	}
	wanted := map[string]newTopic{}
	for _, t := range topics {
		wanted[b.cfg.TopicPrefix+t.name] = n
	}
	return b.ensure(ctx, wanted)
}

// letterMargin is by how much a dead letter, and what is redriven of it, may be larger than its event: by its headers.
const letterMargin = 64 << 10

// ensureCompanions creates what goes with sources; ensured are those that are there.
func (b *Bus) ensureCompanions(ctx context.Context, companions, ensured []*topicSpec) error {
	if len(companions) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, t := range companions {
		names[b.cfg.TopicPrefix+t.source.name] = true
	}
	there := map[string]bool{}
	for _, t := range ensured {
		there[b.cfg.TopicPrefix+t.name] = true
	}
	sources := slices.Sorted(maps.Keys(names))
	known, err := b.awaitTopics(ctx, sources, there)
	if err != nil {
		return err
	}
	limits := b.maxMessageBytes(ctx, sources)
	wanted := map[string]newTopic{}
	for _, t := range companions {
		source := b.cfg.TopicPrefix + t.source.name
		if err := known[source].err; err != nil {
			return fmt.Errorf("topic %s, which %s takes its partitions from: %w", source, t.name, err)
		}
		n := newTopic{partitions: 1, configs: map[string]*string{"cleanup.policy": kadm.StringPtr("delete")}}
		if t.infix != retryInfix {
			n.partitions = known[source].partitions
		}
		if kept := b.cfg.NewTopics.Retention; kept > 0 {
			n.configs["retention.ms"] = milliseconds(4 * kept)
		}
		if limit := limits[source]; limit > 0 {
			n.configs["max.message.bytes"] = kadm.StringPtr(strconv.Itoa(limit + letterMargin))
		}
		if t.infix == sequenceInfix { // only the last that was said of a key counts, and that for ever
			n.configs["cleanup.policy"] = kadm.StringPtr("compact")
			delete(n.configs, "retention.ms")
		}
		wanted[b.companionTopic(t.source.name, t.infix, t.group)] = n
	}
	return b.ensure(ctx, wanted)
}

// maxMessageBytes returns the limits of topics, without those that may not be asked for: there the broker's own applies.
func (b *Bus) maxMessageBytes(ctx context.Context, topics []string) map[string]int {
	values, _ := b.topicConfigs(ctx, "max.message.bytes", topics...)
	limits := map[string]int{}
	for topic, value := range values {
		limits[topic], _ = strconv.Atoi(value)
	}
	return limits
}

// topicConfigs returns a configuration of topics, without those that may not be asked for, which the error names; kadm would return none then.
func (b *Bus) topicConfigs(ctx context.Context, key string, topics ...string) (map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, topic := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{key}
		req.Resources = append(req.Resources, r)
	}
	values := map[string]string{}
	resp, err := bounded(ctx, func() (*kmsg.DescribeConfigsResponse, error) { return req.RequestWith(ctx, b.client) })
	if err != nil {
		return values, err
	}
	for _, r := range resp.Resources {
		if refused := kerr.ErrorForCode(r.ErrorCode); refused != nil {
			err = fmt.Errorf("topic %s: %w", r.ResourceName, refused)
		}
		for _, c := range r.Configs {
			if c.Name == key && c.Value != nil {
				values[r.ResourceName] = *c.Value
			}
		}
	}
	return values, err
}

// ensure creates the topics that are missing and waits until the cluster knows all.
func (b *Bus) ensure(ctx context.Context, wanted map[string]newTopic) error {
	names := slices.Sorted(maps.Keys(wanted))
	known, err := b.findTopics(ctx, names)
	if err != nil {
		return err
	}
	missing, err := missingOf(names, known)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range missing {
		n := wanted[name]
		_, err := b.admin.CreateTopic(ctx, n.partitions, orDefault(b.cfg.NewTopics.ReplicationFactor, -1), n.configs, name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			errs = append(errs, fmt.Errorf("topic %s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	created := map[string]bool{}
	for _, name := range missing {
		created[name] = true
	}
	if known, err = b.awaitTopics(ctx, missing, created); err != nil {
		return err
	}
	_, err = missingOf(missing, known)
	return err
}

// awaitTopics describes topics, and asks again while an answer misses some that are there: the brokers of a cluster hear of a topic one after the other.
func (b *Bus) awaitTopics(ctx context.Context, names []string, there map[string]bool) (map[string]topicInfo, error) {
	for fails := 1; ; fails++ {
		known, err := b.findTopics(ctx, names)
		if err != nil {
			return nil, err
		}
		late := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !there[name] || !known[name].missing() })
		if len(late) == 0 {
			return known, nil
		}
		if !sleep(ctx, backOff(fails)) {
			return nil, fmt.Errorf("topics %v: created, and not known to every broker: %w", late, context.Cause(ctx))
		}
	}
}

// findTopics describes topics, and does not wait for what waiting will not mend.
func (b *Bus) findTopics(ctx context.Context, names []string) (map[string]topicInfo, error) {
	return ask(ctx, b, func(ctx context.Context) (map[string]topicInfo, error) { return b.describeTopics(ctx, names) })
}

// missingOf returns those of the topics that the cluster does not know.
func missingOf(names []string, known map[string]topicInfo) (missing []string, err error) {
	for _, name := range names {
		if known[name].missing() {
			missing = append(missing, name)
		} else if err := known[name].err; err != nil {
			return nil, fmt.Errorf("topic %s: %w", name, err)
		}
	}
	return missing, nil
}

// topicInfo is what the cluster says of a topic.
type topicInfo struct {
	partitions int32
	id         [16]byte // zero for a broker that has none
	allowed    int32    // a bit for each operation (KIP-430), or unsaid
	err        error
}

// unsaid is what a broker answers that does not tell what is allowed.
const unsaid = math.MinInt32

// permits says whether the operation is allowed, as far as the broker tells.
func (i topicInfo) permits(op kmsg.ACLOperation) bool {
	return i.allowed == unsaid || i.allowed&(1<<op) != 0
}

// missing says whether the topic is not there, or not yet.
func (i topicInfo) missing() bool {
	return errors.Is(i.err, kerr.UnknownTopicOrPartition) || errors.Is(i.err, kerr.LeaderNotAvailable)
}

// there says whether the topic exists and the operation is allowed.
func (i topicInfo) there(op kmsg.ACLOperation) bool {
	return i.partitions > 0 && i.err == nil && i.permits(op)
}

// trouble is what waiting will not mend for who wants to do op; nil otherwise.
func (i topicInfo) trouble(name string, op kmsg.ACLOperation) error {
	if i.err == nil || isRefusal(i.err) {
		return i.denied(name, op)
	}
	return nil
}

// denied is why an operation is not possible, or not allowed; nil where it is.
func (i topicInfo) denied(name string, op kmsg.ACLOperation) error {
	switch {
	case i.err != nil:
		return fmt.Errorf("topic %s: %w", name, i.err)
	case !i.permits(op):
		return fmt.Errorf("topic %s: %s is not allowed: %w", name, op, kerr.TopicAuthorizationFailed)
	}
	return nil
}

// describeTopics asks the cluster for topics, by Kafka's names; each has an answer. It asks anew every time: the client's own
// cache would go on saying for a while that a topic is missing. An error says that nobody answered by the end of ctx.
func (b *Bus) describeTopics(ctx context.Context, names []string) (map[string]topicInfo, error) {
	if len(names) == 0 {
		return nil, nil // no names would ask for all topics
	}
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := bounded(ctx, func() (*kmsg.MetadataResponse, error) { return req.RequestWith(ctx, b.client) })
	if err != nil {
		return nil, err
	}
	known := map[string]topicInfo{}
	for _, name := range names {
		known[name] = topicInfo{err: kerr.UnknownTopicOrPartition}
	}
	for _, t := range resp.Topics {
		if t.Topic != nil {
			known[*t.Topic] = topicInfo{
				partitions: int32(len(t.Partitions)), // #nosec G115 -- an answer of Kafka, whose partitions are int32
				id:         t.TopicID, allowed: t.AuthorizedOperations, err: kerr.ErrorForCode(t.ErrorCode),
			}
		}
	}
	return known, nil
}

func milliseconds(d time.Duration) *string {
	return kadm.StringPtr(strconv.FormatInt(d.Milliseconds(), 10))
}
