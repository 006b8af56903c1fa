package eventbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// EnsureTopics creates those of the topics that do not exist, as [Config.NewTopics] says, and leaves the others as they are. For a
// subscription's topics with their dead-letter topics, give it [Subscription.Topics]; for DreamScape's, [Catalogue]. A dead-letter
// topic gets as many partitions as its source has, which is created first where it is among topics. It blocks until the cluster
// knows them all or ctx ends. Publishing and consuming never create a topic. The error names every topic that failed.
func (b *Bus) EnsureTopics(ctx context.Context, topics ...AnyTopic) error {
	var sources, letters []*topicSpec
	for i, t := range topics {
		switch {
		case t == nil:
			return fmt.Errorf("eventbus: EnsureTopics: topics[%d] is nil", i)
		case t.spec().source != nil:
			letters = append(letters, t.spec())
		default:
			sources = append(sources, t.spec())
		}
	}
	var errs []error
	for _, t := range sources {
		errs = append(errs, b.ensureSource(ctx, t))
	}
	for _, t := range letters {
		errs = append(errs, b.ensureLetters(ctx, t))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("eventbus: EnsureTopics: %w", b.withCause(err))
	}
	return nil
}

func (b *Bus) ensureSource(ctx context.Context, t *topicSpec) error {
	n := b.cfg.NewTopics
	configs := map[string]*string{}
	if n.Retention > 0 {
		configs["retention.ms"] = milliseconds(n.Retention)
	}
	return b.ensure(ctx, b.cfg.TopicPrefix+t.name, orDefault(n.Partitions, -1), configs)
}

// letterMargin is by how much a dead letter may be larger than its event: its headers.
const letterMargin = 64 << 10

func (b *Bus) ensureLetters(ctx context.Context, t *topicSpec) error {
	source := b.cfg.TopicPrefix + t.source.name
	details, err := b.admin.ListTopics(ctx, source)
	if err == nil {
		err = details[source].Err
	}
	if err != nil {
		return fmt.Errorf("topic %s, which %s takes its partitions from: %w", source, t.name, err)
	}
	configs := map[string]*string{"cleanup.policy": kadm.StringPtr("delete")}
	if n := b.cfg.NewTopics; n.Retention > 0 {
		configs["retention.ms"] = milliseconds(4 * n.Retention)
	}
	if size := b.maxMessageBytes(ctx, source); size > 0 {
		configs["max.message.bytes"] = kadm.StringPtr(strconv.Itoa(size + letterMargin))
	}
	return b.ensure(ctx, b.letterTopic(t.source.name, t.group), int32(len(details[source].Partitions)), configs)
}

// maxMessageBytes is the topic's limit, or 0 where it may not be asked for: then the broker's own applies.
func (b *Bus) maxMessageBytes(ctx context.Context, topic string) int {
	configs, err := b.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0
	}
	rc, err := configs.On(topic, nil)
	if err != nil || rc.Err != nil {
		return 0
	}
	for _, c := range rc.Configs {
		if c.Key == "max.message.bytes" {
			n, _ := strconv.Atoi(c.MaybeValue())
			return n
		}
	}
	return 0
}

// ensure creates one topic where it is missing and waits until the cluster knows it.
func (b *Bus) ensure(ctx context.Context, name string, partitions int32, configs map[string]*string) error {
	known, err := b.knows(ctx, name)
	if err != nil || known {
		return err
	}
	replication := orDefault(b.cfg.NewTopics.ReplicationFactor, -1)
	if _, err := b.admin.CreateTopic(ctx, partitions, replication, configs, name); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("topic %s: %w", name, err)
	}
	for fails := 1; !known && err == nil; fails++ {
		if known, err = b.knows(ctx, name); !known && err == nil && !sleep(ctx, backOff(fails)) {
			err = fmt.Errorf("topic %s: created, and not known to every broker: %w", name, context.Cause(ctx))
		}
	}
	return err
}

func (b *Bus) knows(ctx context.Context, name string) (bool, error) {
	details, err := b.admin.ListTopics(ctx, name)
	if err != nil {
		return false, fmt.Errorf("topic %s: %w", name, err)
	}
	err = details[name].Err
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("topic %s: %w", name, err)
	}
	return len(details[name].Partitions) > 0, nil
}

func milliseconds(d time.Duration) *string {
	return kadm.StringPtr(strconv.FormatInt(d.Milliseconds(), 10))
}
