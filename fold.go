package eventbus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FoldStep is a topic and what its events do to a state: see [On].
type FoldStep[S any] struct {
	topic *topicSpec
	apply func(S, *RawEvent) (S, error)
}

// On makes the step of [Fold] that has apply turn each event of t, and the state so far, into the next state. apply runs on the
// goroutine of Fold.
func On[S, T any](t *Topic[T], apply func(state S, e *BaseEvent[T]) S) FoldStep[S] {
	return FoldStep[S]{topic: &t.topicSpec, apply: func(state S, raw *RawEvent) (S, error) {
		e, err := t.typed(raw)
		if err != nil {
			return state, err
		}
		return apply(state, e), nil
	}}
}

// Fold is event sourcing: it folds the events of one key, from the topics of steps, into a state, beginning with state, in the
// order of their timestamps; of those within one millisecond, by topic in the order of steps and by offset. It reads only the
// partitions that the key lives in, from their beginning up to the ends that it finds when it is called, and only what is
// committed. The key's events are held in memory until they are sorted.
//
// It blocks until all is read or ctx ends. An event that does not decode is left out, and so are those of a batch that cannot be
// decompressed; they are named in an error that comes with the state of all others. Every other error comes with the state as it was given. Events that were published without a record key
// are not found: they live in no partition of their own.
func Fold[S any](ctx context.Context, b *Bus, key string, state S, steps ...FoldStep[S]) (S, error) {
	if key == "" {
		return state, errors.New("eventbus: Fold: key must not be empty")
	}
	topics := make([]*topicSpec, len(steps))
	for i, s := range steps {
		if s.topic == nil || slices.Contains(topics[:i], s.topic) {
			return state, fmt.Errorf("eventbus: Fold: steps[%d]: make it with On, one a topic", i)
		}
		topics[i] = s.topic
	}
	history, err := b.history(ctx, []byte(key), topics)
	if err != nil {
		return state, fmt.Errorf("eventbus: Fold: %w", b.withCause(err))
	}
	var broken []error
	for _, h := range history {
		err := h.err
		if err == nil {
			state, err = steps[h.step].apply(state, h.event)
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("eventbus: Fold: topic %s, partition %d, offset %d: %w", h.topic, h.partition, h.offset, err))
		}
	}
	return state, errors.Join(broken...)
}

// past is an event of a key, as it was read.
type past struct {
	step      int
	topic     string
	partition int32
	offset    int64
	at        time.Time // the event's, or the record's where it is none
	event     *RawEvent
	err       error
}

// history reads the events of key, in order.
func (b *Bus) history(ctx context.Context, key []byte, topics []*topicSpec) ([]past, error) {
	steps, spans, err := b.keySpans(ctx, key, topics)
	if err != nil {
		return nil, err
	}
	var found []past
	err = b.read(ctx, spans, func(r *kgo.Record, err error) bool {
		step := steps[r.Topic]
		switch {
		case err != nil: // nobody knows whether one of the key was there
			found = append(found, past{step: step, topic: r.Topic, partition: r.Partition, offset: r.Offset, err: err})
		case string(r.Key) == string(key):
			found = append(found, readPast(r, step, topics[step]))
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b past) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.step, b.step), cmp.Compare(a.offset, b.offset))
	})
	return found, nil
}

func readPast(r *kgo.Record, step int, topic *topicSpec) past {
	p := past{step: step, topic: r.Topic, partition: r.Partition, offset: r.Offset, at: r.Timestamp}
	p.event, _, p.err = decodeEvent(topic, bytes.Clone(r.Value), new(RawEvent)) // the event may be kept for long, its batch must not
	if p.event != nil {
		p.at = p.event.Timestamp
	}
	return p
}

// keySpans finds, in each topic, the partition that the key lives in; steps are by Kafka's names of the topics.
func (b *Bus) keySpans(ctx context.Context, key []byte, topics []*topicSpec) (steps map[string]int, spans []span, err error) {
	names := make([]string, len(topics))
	steps = map[string]int{}
	for i, t := range topics {
		names[i] = b.cfg.TopicPrefix + t.name
		steps[names[i]] = i
	}
	if len(names) == 0 {
		return nil, nil, nil
	}
	known, err := b.describeTopics(ctx, names)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if err := known[name].denied(name, kmsg.ACLOperationRead); err != nil {
			return nil, nil, err
		}
	}
	within, err := b.limits(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		s, err := within.span(name, partitionOf(name, key, int(known[name].partitions)))
		if err != nil {
			return nil, nil, err
		}
		spans = append(spans, s)
	}
	return steps, spans, nil
}
