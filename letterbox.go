package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeadLetters are the dead letters of one topic: to list, group, show, redrive and purge them. [Bus.DeadLetters] and
// [Bus.DeadLettersIn] make it. It holds nothing but names, reads beside any group, and is safe for concurrent use.
//
// Its methods block until they are through or ctx ends. A topic that is missing or forbidden and a refused login are errors within 5 s;
// brokers that do not answer are waited for. A bus that is shut down ends them with [ErrClosed].
type DeadLetters struct {
	bus   *Bus
	name  string // Kafka's name of the dead-letter topic
	topic string // Kafka's name of the topic that the letters were of
	group string // Kafka's name of the group that they are redriven to
	retry string // Kafka's name of the topic that it reads them from, "" for none
}

// DeadLetters gives access to those of a group of a topic, both without [Config.TopicPrefix]. It asks nobody: a topic that does not
// exist is an error of the methods.
func (b *Bus) DeadLetters(topic AnyTopic, group string) (*DeadLetters, error) {
	if topic == nil {
		return nil, errors.New("eventbus: DeadLetters: topic is nil")
	}
	return b.DeadLettersIn(b.letterTopic(topic.Name(), group), topic, group)
}

// DeadLettersIn is [Bus.DeadLetters] for a dead-letter topic of another name, such as Spring's "orders-dlt" or a TypeScript service's
// "dreamscape.user.created.dlq": name is Kafka's, prefix and all. topic and group say whom they are redriven to; where topic is nil, they
// cannot be redriven, and group is not looked at.
func (b *Bus) DeadLettersIn(name string, topic AnyTopic, group string) (*DeadLetters, error) {
	d := &DeadLetters{bus: b, name: name}
	if topic != nil {
		if topic.spec().source != nil {
			return nil, fmt.Errorf("eventbus: DeadLetters: topic: %s stands beside %s: give that", topic.Name(), topic.spec().source.name)
		}
		if err := checkTopicName("group", group); err != nil {
			return nil, fmt.Errorf("eventbus: DeadLetters: %w", err)
		}
		d.topic, d.group, d.retry = b.cfg.TopicPrefix+topic.Name(), b.cfg.TopicPrefix+group, b.retryTopic(topic.Name(), group)
	}
	if err := checkTopicName("name", name); err != nil {
		return nil, fmt.Errorf("eventbus: DeadLetters: %w", err)
	}
	return d, nil
}

// Name returns Kafka's name of the dead-letter topic.
func (d *DeadLetters) Name() string { return d.name }

// Letter is a dead letter and where it is. It belongs to whom it was given.
type Letter struct {
	Partition int32 // in the dead-letter topic; DeadLetter.Partition and DeadLetter.Offset are the original's
	Offset    int64
	// DeadLetter is what its headers say. Where they cannot be read, Family is "" and Error says why.
	DeadLetter
	// Record is the dead letter itself: key and value are the original's, byte for byte. Show a value only through [Topic.Redact]. Where
	// the dead-letter topic has a batch that cannot be decompressed, it stands for all of that, and is empty but for its place.
	Record *kgo.Record
}

// newLetter reads a letter; unread is why there is only its place.
func newLetter(r *kgo.Record, unread error) Letter {
	dead, err := ParseDeadLetter(r)
	if err = cmp.Or(unread, err); err != nil {
		dead = DeadLetter{Error: err.Error(), Fingerprint: fingerprint(r.Topic, "", "", err.Error())}
	}
	return Letter{Partition: r.Partition, Offset: r.Offset, DeadLetter: dead, Record: r}
}

// at is when it failed, as far as it is known.
func (l Letter) at() time.Time {
	if l.FailedAt.IsZero() {
		return l.Record.Timestamp
	}
	return l.FailedAt
}

// List gives the letters that f lets through, partition by partition in the order of their offsets, up to the ends that it finds when
// it begins, and only what is committed. It holds no more of them than one fetch brings. An error is the last that comes, with the
// zero Letter.
func (d *DeadLetters) List(ctx context.Context, f LetterFilter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		err := d.walk(ctx, f, func(l Letter) bool { return yield(l, nil) })
		if err != nil {
			yield(Letter{}, d.failed("List", err))
		}
	}
}

// Show returns one letter. The error says where it is not: the partition begins after it (retention or a purge took it), ends before
// it, or has no letter there.
func (d *DeadLetters) Show(ctx context.Context, partition int32, offset int64) (Letter, error) {
	all, err := d.spans(ctx, LetterFilter{Partitions: []int32{partition}})
	if err != nil {
		return Letter{}, d.failed("Show", err)
	}
	s, where := all[0], fmt.Sprintf("partition %d, offset %d", partition, offset)
	switch {
	case offset < s.start:
		return Letter{}, d.failed("Show", fmt.Errorf("%s: deleted, the partition begins at %d", where, s.start))
	case offset >= s.end:
		return Letter{}, d.failed("Show", fmt.Errorf("%s: not there, the partition ends before %d", where, s.end))
	}
	s.start, s.end = offset, offset+1
	var found *Letter
	err = d.readAll(ctx, []span{s}, func(r *kgo.Record, unread error) bool {
		l := newLetter(r, unread)
		found = &l
		return false
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%s: no letter, but a gap such as transactions leave", where)
	}
	if err != nil {
		return Letter{}, d.failed("Show", err)
	}
	return *found, nil
}

// LetterGroup are letters that failed in the same way.
type LetterGroup struct {
	Fingerprint string
	Count       int
	First, Last time.Time // when the earliest and the latest failed
	Sample      Sample
}

// Sample is the letter of a group that failed last.
type Sample struct {
	Partition int32 // for Show
	Offset    int64
	Family    Family // "" where the headers cannot be read
	Class     Class
	Exception string
	Error     string
}

// maxLetterGroups bounds the memory of Groups.
const maxLetterGroups = 10_000

// Groups counts the letters that f lets through by their fingerprint, the most frequent first. Where there are more than 10,000 kinds,
// the error says so: a filter makes them fewer. With an error come those that were counted before it.
func (d *DeadLetters) Groups(ctx context.Context, f LetterFilter) ([]LetterGroup, error) {
	kinds := map[string]*LetterGroup{}
	err := d.walk(ctx, f, func(l Letter) bool {
		g := kinds[l.Fingerprint]
		if g == nil {
			g = &LetterGroup{Fingerprint: l.Fingerprint, First: l.at()}
			kinds[l.Fingerprint] = g
		}
		g.add(l)
		return len(kinds) <= maxLetterGroups
	})
	if err == nil && len(kinds) > maxLetterGroups {
		err = fmt.Errorf("more than %d kinds of failures: narrow the filter", maxLetterGroups)
	}
	groups := make([]LetterGroup, 0, len(kinds))
	for _, g := range kinds {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b LetterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	if err != nil {
		return groups, d.failed("Groups", err)
	}
	return groups, nil
}

func (g *LetterGroup) add(l Letter) {
	g.Count++
	at := l.at()
	if at.Before(g.First) {
		g.First = at
	}
	if at.Before(g.Last) {
		return
	}
	g.Last = at
	g.Sample = Sample{
		Partition: l.Partition, Offset: l.Offset, Family: l.Family, Class: l.Class, Exception: l.Exception, Error: l.Error,
	}
}

// walk gives each the letters that f lets through, until it returns false.
func (d *DeadLetters) walk(ctx context.Context, f LetterFilter, each func(Letter) bool) error {
	spans, err := d.spans(ctx, f)
	if err != nil {
		return err
	}
	return d.readAll(ctx, spans, func(r *kgo.Record, unread error) bool {
		l := newLetter(r, unread)
		return !f.passes(l) || each(l)
	})
}

// readAll reads one span after the other, so that only one fetch is held at a time.
func (d *DeadLetters) readAll(ctx context.Context, spans []span, each eacher) error {
	ctx, cancel := d.bus.untilShutdown(ctx)
	defer cancel()
	goOn := true
	for _, s := range spans {
		err := d.bus.read(ctx, []span{s}, func(r *kgo.Record, unread error) bool {
			goOn = each(r, unread)
			return goOn
		})
		if err != nil || !goOn {
			return err
		}
	}
	return nil
}

// spans finds what there is of the partitions and offsets of f.
func (d *DeadLetters) spans(ctx context.Context, f LetterFilter) ([]span, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	ctx, cancel := d.bus.untilShutdown(ctx)
	defer cancel()
	info, err := d.bus.mayUse(ctx, d.name, kmsg.ACLOperationRead)
	if err != nil {
		return nil, err
	}
	within, err := ask(ctx, d.bus, func(ctx context.Context) (limits, error) { return d.bus.limits(ctx, d.name) })
	if err != nil {
		return nil, err
	}
	partitions := slices.Sorted(slices.Values(f.Partitions))
	if len(partitions) == 0 {
		for p := range info.partitions {
			partitions = append(partitions, p)
		}
	}
	var spans []span
	for _, p := range slices.Compact(partitions) {
		if p >= info.partitions {
			return nil, fmt.Errorf("field Partitions: %d is not there, the topic has %d", p, info.partitions)
		}
		s, err := within.span(d.name, p)
		if err != nil {
			return nil, err
		}
		spans = append(spans, f.clip(s))
	}
	return spans, nil
}

// failed is an error of a method.
func (d *DeadLetters) failed(method string, err error) error {
	return fmt.Errorf("eventbus: DeadLetters %s: %s: %w", d.name, method, err)
}

// mayUse finds out what the cluster says of a topic, by Kafka's name. The error names what is wrong with it.
func (b *Bus) mayUse(ctx context.Context, name string, op kmsg.ACLOperation) (topicInfo, error) {
	known, err := ask(ctx, b, func(ctx context.Context) (map[string]topicInfo, error) { return b.describeTopics(ctx, []string{name}) })
	if err != nil {
		return topicInfo{}, err
	}
	return known[name], known[name].denied(name, op)
}

// ask asks the cluster until it answers, ctx ends, or it turns out that waiting does not mend it.
func ask[T any](ctx context.Context, b *Bus, question func(context.Context) (T, error)) (T, error) {
	for grace := contactTimeout; ; grace = 0 {
		qctx, cancel := b.untilRefused(ctx, contactTimeout, grace)
		answer, err := bounded(qctx, func() (T, error) { return question(qctx) })
		late := qctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			return answer, nil
		case ctx.Err() != nil:
			return *new(T), b.withCause(context.Cause(ctx))
		case b.link.refused() != nil:
			return *new(T), b.link.refused()
		case !late:
			return *new(T), b.login.clean(err)
		}
	}
}

// untilShutdown returns a ctx that also ends when the bus is shut down.
func (b *Bus) untilShutdown(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if b.ending.Err() != nil {
		cancel(ErrClosed)
	}
	stop := context.AfterFunc(b.ending, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
