package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// RedriveOptions say what [DeadLetters.Redrive] does; the zero value is a dry run over all letters.
type RedriveOptions struct {
	// Send sends the letters. Default: false, which counts them and writes nothing.
	Send bool
	// Filter says which letters. Default: all.
	Filter LetterFilter
	// Name is that of the redrive's cursor: letters before it are not looked at again, whatever the filter then is. Default: a name
	// made from Filter, so that the same filter goes on where it stopped and another begins from the beginning.
	Name string
	// Rate is how many letters are sent a second, so that the group is not flooded. Default: 100.
	Rate int
	// MaxRedrives leaves letters alone that were sent back so often already, and counts them as quarantined. To send those after all, filter
	// them by MinRedrives: the cursor has passed them. Default: 3.
	MaxRedrives int
	// AnyOrigin sends also letters of another topic or another group: those of a service that this group takes over from, or of a topic
	// that had another name; and those of a topic that nothing tells, as [FamilyKafkaJS] may have. Where a redrive has left them already,
	// filter them by Topic or Group, or give it a Name: its cursor has passed them. Default: false, which leaves them alone and counts
	// them as strangers.
	AnyOrigin bool
	// Sequences sends also letters that were parked with their key ([OrderSequenced]), out of their order: such as those that a release has skipped, or those of
	// a route that parks no keys any longer. Default: false, which leaves them alone and counts them as skipped.
	Sequences bool
	// Progress, if not nil, is told how far it is, from time to time; the report is the callee's. It must be quick.
	Progress func(RedriveReport)
}

const (
	defaultRedriveRate = 100
	defaultMaxRedrives = 3
	maxLettersLeft     = 100
)

func (o RedriveOptions) check() (RedriveOptions, error) {
	switch {
	case o.Rate < 0:
		return o, fmt.Errorf("field Rate: %d is negative", o.Rate)
	case o.MaxRedrives < 0:
		return o, fmt.Errorf("field MaxRedrives: %d is negative", o.MaxRedrives)
	case o.Name != "" && !topicName.MatchString(o.Name):
		return o, fmt.Errorf("field Name: %q is not 1 to 249 of a-z A-Z 0-9 . _ -", o.Name)
	}
	o.Rate, o.MaxRedrives = orDefault(o.Rate, defaultRedriveRate), orDefault(o.MaxRedrives, defaultMaxRedrives)
	if o.Name != "" {
		return o, nil
	}
	var err error
	o.Name, err = o.Filter.name()
	return o, err
}

// RedriveReport is what a redrive did, or would do.
type RedriveReport struct {
	DryRun      bool
	Finished    bool         // it got to the ends that it found when it began
	Cursor      string       // Kafka's name of the group whose committed offsets are the cursor
	Matched     int          // letters that it looked at and the filter let through
	Sent        int          // of these: acknowledged by the retry topic; in a dry run, those that would be sent
	Quarantined int          // of these: left, because they were sent back MaxRedrives times
	Strangers   int          // of these: left, because they are of another topic or group
	Skipped     int          // of these: left, because their headers cannot be read, or because they have no record: references, for one
	Left        []LetterLeft // the first 100 of those that were left
	Partitions  []RedrivePartition
}

// LetterLeft is a letter that a redrive left where it is. The cursor passes it: a redrive of another Name looks at it again.
type LetterLeft struct {
	Partition int32 // in the dead-letter topic, for Show
	Offset    int64
	Why       string
}

// RedrivePartition is how far a redrive is in a partition of the dead-letter topic.
type RedrivePartition struct {
	Partition int32
	From      int64 // where this call began: 0, or the beginning of what is kept, where there was no cursor
	Next      int64 // the cursor now; in a dry run, where the looking ended
	End       int64 // where the partition ended when the call began
}

// Redrive sends letters back to their group, and to no other: to the retry topic of the topic and group ([RetryTopic]), which
// [Bus.EnsureTopics] makes and [Bus.Run] reads. Key, value and the original's headers are what they were, byte for byte; eb-orig-* tell
// the origin, and eb-redrives is one more. The letters stay where they are: [DeadLetters.Purge] deletes. Letters that were sent back too
// often, that are of another topic or group, or that cannot be read are left: RedriveReport.Left says which and why.
//
// It goes on where the last call of the same Name stopped. The cursor is kept in Kafka, as the committed offsets of a group of its own
// (RedriveReport.Cursor), and moves only past letters that are acknowledged: after each 100 letters or 64 KiB, after each second, and at the end.
// What a crash makes it send twice are letters sent since it last moved. Kafka forgets the offsets of such a group after
// offsets.retention.minutes, a week by default; a later call then begins from the beginning. So does one of another Name, which knows
// nothing of what this one has sent.
//
// Of two that run at once under one Name, the later takes the cursor over, and the earlier ends with an error when it would move it;
// what that had sent since, at most 100 letters, is sent twice. It blocks until all is sent, ctx ends or the bus is shut down. Then it
// waits up to 5 s for acknowledgements and moves the cursor; what is acknowledged later is sent twice. The report is also good with an
// error: it says what was done.
func (d *DeadLetters) Redrive(ctx context.Context, opts RedriveOptions) (RedriveReport, error) {
	opts, err := opts.check()
	if err == nil && d.retry == "" {
		err = errors.New("no topic and group to redrive to: give them to DeadLettersIn")
	}
	if err != nil {
		return RedriveReport{}, d.failed("Redrive", err)
	}
	r := &redrive{
		letters: d, opts: opts, token: "eventbus redrive " + uuid.NewString(), pace: pace{every: time.Second / time.Duration(opts.Rate)},
		report: RedriveReport{DryRun: !opts.Send, Cursor: d.name + cursorInfix + opts.Name}, out: sendBack{bus: d.bus, topic: d.retry},
	}
	leave, err := d.bus.busy()
	if err != nil {
		return RedriveReport{}, d.failed("Redrive", err)
	}
	defer leave()
	ctx, cancel := d.bus.untilShutdown(ctx)
	defer cancel()
	if err := r.run(ctx); err != nil {
		return r.report, d.failed("Redrive", err)
	}
	r.report.Finished = true
	return r.report, nil
}

// busy has Shutdown wait as it waits for a Run, until leave is called.
func (b *Bus) busy() (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending.Err() != nil {
		return nil, ErrClosed
	}
	b.running++
	b.changeLocked()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running--
		b.changeLocked()
	}, nil
}

// redrive is one under way.
type redrive struct {
	letters *DeadLetters
	opts    RedriveOptions
	token   string // in the metadata of the cursor: whose it is
	pace    pace
	report  RedriveReport

	// Of the partition that is being read:
	at      *RedrivePartition
	reached int64 // the first offset that was not looked at
	out     sendBack
}

func (r *redrive) run(ctx context.Context) error {
	d := r.letters
	spans, err := d.spans(ctx, r.opts.Filter)
	if err != nil {
		return err
	}
	if _, err := d.bus.mayUse(ctx, d.retry, kmsg.ACLOperationWrite); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("%w: EnsureTopics makes it, with Subscription.Topics", err)
	} else if err != nil {
		return err
	}
	if spans, err = r.resume(ctx, spans); err != nil {
		return err
	}
	for i, s := range spans {
		r.at, r.reached, r.out.settled = &r.report.Partitions[i], s.start, time.Now()
		if err := r.partition(ctx, s); err != nil {
			return fmt.Errorf("partition %d: %w", s.partition, err)
		}
	}
	return nil
}

func (r *redrive) partition(ctx context.Context, s span) error {
	var stopped error
	err := r.letters.bus.read(ctx, []span{s}, func(record *kgo.Record, unread error) bool {
		stopped = r.take(ctx, newLetter(record, unread))
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

// take deals with one record of the dead-letter topic. After an error all is settled.
func (r *redrive) take(ctx context.Context, l Letter) error {
	if r.opts.Filter.passes(l) {
		if err := r.decide(ctx, l); err != nil {
			return errors.Join(err, r.settle(ctx))
		}
	}
	r.reached = l.Offset + 1
	if !r.out.due() {
		return nil
	}
	return r.settle(ctx)
}

// decide sends a letter, or leaves it. A dry run counts as sent what it would send.
func (r *redrive) decide(ctx context.Context, l Letter) error {
	count, why := r.refusal(l)
	switch {
	case count != nil:
		*count++
		if len(r.report.Left) < maxLettersLeft {
			r.report.Left = append(r.report.Left, LetterLeft{Partition: l.Partition, Offset: l.Offset, Why: why})
		}
	case !r.opts.Send:
		r.report.Sent++
	case !r.pace.wait(ctx):
		return context.Cause(ctx)
	default:
		if err := r.send(ctx, l); err != nil {
			return err
		}
	}
	r.report.Matched++
	return nil
}

// refusal is why a letter is left, and where such letters are counted; nil for one to send.
func (r *redrive) refusal(l Letter) (count *int, why string) {
	d, any := r.letters, r.opts.AnyOrigin
	switch {
	case l.Family == "":
		return &r.report.Skipped, l.Error
	case l.Until > 0:
		return &r.report.Skipped, fmt.Sprintf("a reference: its records are in topic %s alone", l.Topic)
	case l.Sequence && !r.opts.Sequences:
		return &r.report.Skipped, "parked with its key: Release has that handled in order, Sequences would send it all the same"
	case l.bare():
		return &r.report.Skipped, "no record: its share group has errors.deadletterqueue.copy.record.enable=false"
	case l.Topic == "" && !any:
		return &r.report.Strangers, "of a topic that nothing tells: AnyOrigin takes it for one of " + d.topic
	case l.Topic != d.topic && !any:
		return &r.report.Strangers, fmt.Sprintf("of topic %s, not %s", l.Topic, d.topic)
	case l.Group != "" && l.Group != d.group && !any:
		return &r.report.Strangers, fmt.Sprintf("of group %s, not %s", l.Group, d.group)
	case l.Redrives >= r.opts.MaxRedrives:
		return &r.report.Quarantined, fmt.Sprintf("sent back %d times already, MaxRedrives is %d", l.Redrives, r.opts.MaxRedrives)
	}
	return nil, ""
}

// bare is whether a share group's letter has nothing but headers, as is the default of Kafka 4.4: its record is elsewhere, if at all.
func (l Letter) bare() bool {
	return l.Family == FamilyKafka && l.Record.Key == nil && l.Record.Value == nil
}

func (r *redrive) send(ctx context.Context, l Letter) error {
	d := r.letters
	l.Topic = cmp.Or(l.Topic, d.topic)
	record := l.again(d.retry, d.group)
	if r.out.crowded(record) {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	r.out.send(ctx, l.Offset, record)
	return nil
}

// again is the letter as its group gets it again, in the partition of the original where the retry topic has it. It has a time of its
// own: the original's could be so old that the retry topic deletes it at once.
func (l Letter) again(topic, group string) *kgo.Record {
	at := l.Timestamp
	if at.IsZero() {
		at = l.Record.Timestamp
	}
	headers := foreignHeaders(l.Record.Headers)
	for _, h := range [][2]string{
		{headerTopic, l.Topic}, {headerPartition, strconv.Itoa(int(l.DeadLetter.Partition))},
		{headerOffset, strconv.FormatInt(l.DeadLetter.Offset, 10)}, {headerTimestamp, formatTime(at)},
		{headerGroup, group}, {headerRedrives, strconv.Itoa(min(l.Redrives, math.MaxInt32-1) + 1)},
	} {
		headers = append(headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return &kgo.Record{Topic: topic, Partition: l.DeadLetter.Partition, Key: l.Record.Key, Value: l.Record.Value, Headers: headers}
}

// settle waits for the letters that fly and moves the cursor past those that are acknowledged, up to the first that is not.
func (r *redrive) settle(ctx context.Context) error {
	if r.report.DryRun {
		r.at.Next, r.out.settled = r.reached, time.Now()
		r.tell()
		return nil
	}
	defer r.tell()
	ctx, cancel := outlast(ctx, commitTimeout)
	defer cancel()
	reached, sent, failed := r.out.settle(ctx, r.reached)
	r.report.Sent += sent
	if failed != nil {
		r.reached = reached // nothing passes a letter that is not acknowledged
	}
	if reached == r.at.Next {
		return failed
	}
	if err := r.move(ctx, r.at.Partition, reached); err != nil {
		return errors.Join(failed, err)
	}
	r.at.Next = reached
	return failed
}

// tell says how far it is.
func (r *redrive) tell() {
	if r.opts.Progress == nil {
		return
	}
	report := r.report
	report.Left, report.Partitions = slices.Clone(report.Left), slices.Clone(report.Partitions)
	r.opts.Progress(report)
}

// outlast returns a ctx that ends some time after another one.
func outlast(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		defer cancel()
		sleep(longer, by)
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// pace spreads letters over time. What waiting elsewhere has delayed is made up for by a tenth of a second at most.
type pace struct {
	every time.Duration
	next  time.Time
}

// wait returns when the next may go, false where ctx ended before.
func (p *pace) wait(ctx context.Context) bool {
	now := time.Now()
	if behind := now.Add(-100 * time.Millisecond); p.next.Before(behind) {
		p.next = now
	}
	due := p.next
	p.next = p.next.Add(p.every)
	if !due.After(now) {
		return ctx.Err() == nil
	}
	return sleep(ctx, due.Sub(now))
}
