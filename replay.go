package eventbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ReplayOptions say what [Bus.Replay] sends; the zero value is a dry run over all that the topic has.
type ReplayOptions struct {
	// Send sends the events. Default: false, which counts them and writes nothing.
	Send bool
	// Since leaves out the events before, by their records' timestamps. Default: the beginning.
	Since time.Time
	// Until leaves out those of then and later. Default: the ends that are found.
	Until time.Time
	// Key is the record key. Default: any.
	Key string
	// EventID is the event's id. Default: any.
	EventID string
	// Partitions are those of the topic to read. Default: all.
	Partitions []int32
	// From is the first offset to look at; Partitions must be one. Default: the beginning.
	From int64
	// Rate is how many events are sent a second, so that the group is not flooded. Default: 100.
	Rate int
	// Progress, if not nil, is told how far it is, from time to time; the report is the callee's. It must be quick.
	Progress func(ReplayReport)
}

func (o ReplayOptions) check() (ReplayOptions, error) {
	switch {
	case !o.Until.IsZero() && !o.Until.After(o.Since):
		return o, errors.New("field Until: is not after Since")
	case slices.ContainsFunc(o.Partitions, func(p int32) bool { return p < 0 }):
		return o, errors.New("field Partitions: none may be negative")
	case o.From < 0:
		return o, fmt.Errorf("field From: %d is negative", o.From)
	case o.From != 0 && len(o.Partitions) != 1:
		return o, fmt.Errorf("field Partitions: From needs exactly one, not %d", len(o.Partitions))
	case o.Rate < 0:
		return o, fmt.Errorf("field Rate: %d is negative", o.Rate)
	}
	o.Rate = orDefault(o.Rate, defaultRedriveRate)
	return o, nil
}

// ReplayReport is what a replay did, or would do.
type ReplayReport struct {
	DryRun     bool
	Finished   bool // it got to the ends that it found when it began
	Matched    int  // events that it looked at and the options let through
	Sent       int  // of these: acknowledged by the retry topic; in a dry run, those that would be sent
	Skipped    int  // records that cannot be read, such as those of a batch that does not decompress
	Partitions []ReplayPartition
}

// ReplayPartition is how far a replay is in a partition of the topic.
type ReplayPartition struct {
	Partition int32
	From      int64 // where it began
	Next      int64 // all before it is looked at, and sent where it was meant: where a replay that was interrupted goes on, by ReplayOptions.From
	End       int64 // where it is to end
}

// Replay has a group handle events of a topic once more, and no other group: it sends copies, byte for byte, to the retry topic of the topic and the
// group ([RetryTopic]), which the group reads beside what is new, with the origin in eb-orig-* headers. A key's events keep their order among each
// other, not beside the key's new events. topic and group are without [Config.TopicPrefix]. What is handled twice is for handlers to bear: see
// [Handler].
//
// It blocks until all is sent, ctx ends or the bus is shut down. It keeps no cursor: two calls send twice. The report is also good with an error: it
// says what was done. A topic that is missing or forbidden, and a refused login, are errors within 5 s.
func (b *Bus) Replay(ctx context.Context, topic AnyTopic, group string, opts ReplayOptions) (ReplayReport, error) {
	if topic == nil {
		return ReplayReport{}, errors.New("eventbus: Replay: topic is nil")
	}
	failed := func(err error) error { return fmt.Errorf("eventbus: Replay of %s to %s: %w", topic.Name(), group, err) }
	if topic.spec().source != nil {
		return ReplayReport{}, failed(fmt.Errorf("topic: it stands beside %s: give that", topic.spec().source.name))
	}
	opts, err := opts.check()
	if err == nil {
		err = checkTopicName("group", group)
	}
	if err != nil {
		return ReplayReport{}, failed(err)
	}
	leave, err := b.busy()
	if err != nil {
		return ReplayReport{}, failed(err)
	}
	defer leave()
	ctx, cancel := b.untilShutdown(ctx)
	defer cancel()
	r := &replay{
		bus: b, opts: opts, topic: b.cfg.TopicPrefix + topic.Name(), group: b.cfg.TopicPrefix + group, retry: b.retryTopic(topic.Name(), group),
		pace: pace{every: time.Second / time.Duration(opts.Rate)}, report: ReplayReport{DryRun: !opts.Send},
	}
	r.out = sendBack{bus: b, topic: r.retry}
	if err := r.run(ctx); err != nil {
		return r.report, failed(err)
	}
	r.report.Finished = true
	return r.report, nil
}

// replay is one under way. The names are Kafka's.
type replay struct {
	bus                 *Bus
	opts                ReplayOptions
	topic, group, retry string
	pace                pace
	report              ReplayReport

	// Of the partition that is being read:
	at      *ReplayPartition
	reached int64 // the first offset that was not looked at
	out     sendBack
}

func (r *replay) run(ctx context.Context) error {
	info, err := r.bus.mayUse(ctx, r.topic, kmsg.ACLOperationRead)
	if err != nil {
		return err
	}
	if _, err := r.bus.mayUse(ctx, r.retry, kmsg.ACLOperationWrite); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("%w: EnsureTopics makes it, with Subscription.Topics", err)
	} else if err != nil {
		return err
	}
	spans, err := r.spans(ctx, info)
	if err != nil {
		return err
	}
	for _, s := range spans {
		r.report.Partitions = append(r.report.Partitions, ReplayPartition{Partition: s.partition, From: s.start, Next: s.start, End: s.end})
	}
	for i, s := range spans {
		r.at, r.reached, r.out.settled = &r.report.Partitions[i], s.start, time.Now()
		if err := r.partition(ctx, s); err != nil {
			return fmt.Errorf("partition %d: %w", s.partition, err)
		}
	}
	return nil
}

// spans finds what there is of the partitions between Since and Until.
func (r *replay) spans(ctx context.Context, info topicInfo) ([]span, error) {
	all, err := ask(ctx, r.bus, func(ctx context.Context) (limits, error) { return r.bus.limits(ctx, r.topic) })
	if err != nil {
		return nil, err
	}
	since, err := r.from(ctx, r.opts.Since)
	if err != nil {
		return nil, err
	}
	until, err := r.from(ctx, r.opts.Until)
	if err != nil {
		return nil, err
	}
	var spans []span
	for p := range info.partitions {
		if len(r.opts.Partitions) > 0 && !slices.Contains(r.opts.Partitions, p) {
			continue
		}
		s, err := all.span(r.topic, p)
		if err != nil {
			return nil, err
		}
		if at, ok := since.Lookup(r.topic, p); ok && at.Offset >= 0 {
			s.start = max(s.start, at.Offset)
		}
		if at, ok := until.Lookup(r.topic, p); ok && at.Offset >= 0 {
			s.end = min(s.end, at.Offset)
		}
		s.start = min(max(s.start, r.opts.From), s.end)
		spans = append(spans, s)
	}
	for _, p := range r.opts.Partitions {
		if p >= info.partitions {
			return nil, fmt.Errorf("field Partitions: %d is not there, the topic has %d", p, info.partitions)
		}
	}
	return spans, nil
}

// from finds the offsets of a time; nothing where there is none.
func (r *replay) from(ctx context.Context, at time.Time) (kadm.ListedOffsets, error) {
	if at.IsZero() {
		return nil, nil
	}
	return ask(ctx, r.bus, func(ctx context.Context) (kadm.ListedOffsets, error) {
		return r.bus.admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), r.topic)
	})
}

func (r *replay) partition(ctx context.Context, s span) error {
	var stopped error
	err := r.bus.read(ctx, []span{s}, func(record *kgo.Record, unread error) bool {
		stopped = r.take(ctx, record, unread)
		return stopped == nil
	})
	if stopped != nil {
		return stopped
	}
	if err == nil {
		r.reached = s.end // past a transaction's marker too
	}
	return errors.Join(err, r.settle(ctx))
}

// take deals with one record of the topic. After an error all is settled.
func (r *replay) take(ctx context.Context, record *kgo.Record, unread error) error {
	switch {
	case unread != nil:
		r.report.Skipped++
	case r.opts.Key != "" && r.opts.Key != string(record.Key), r.opts.EventID != "" && r.opts.EventID != eventID(record.Value):
	case !r.opts.Send:
		r.report.Matched++
		r.report.Sent++
	default:
		if err := r.send(ctx, record); err != nil {
			return errors.Join(err, r.settle(ctx))
		}
		r.report.Matched++
	}
	r.reached = record.Offset + 1
	if !r.out.due() {
		return nil
	}
	return r.settle(ctx)
}

func (r *replay) send(ctx context.Context, record *kgo.Record) error {
	if !r.pace.wait(ctx) {
		return context.Cause(ctx)
	}
	origin := Letter{Record: record, DeadLetter: DeadLetter{
		Topic: r.topic, Partition: record.Partition, Offset: record.Offset, Timestamp: record.Timestamp, Redrives: redrives(record.Headers),
	}}
	again := origin.again(r.retry, r.group)
	if r.out.crowded(again) {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	r.out.send(ctx, record.Offset, again)
	return nil
}

// settle waits for the events that fly, and notes how far all is acknowledged.
func (r *replay) settle(ctx context.Context) error {
	ctx, cancel := outlast(ctx, commitTimeout)
	defer cancel()
	reached, sent, failed := r.out.settle(ctx, r.reached)
	r.report.Sent += sent
	r.at.Next = reached
	if r.opts.Progress != nil {
		report := r.report
		report.Partitions = slices.Clone(report.Partitions)
		r.opts.Progress(report)
	}
	return failed
}
