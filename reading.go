package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// span is what to read of a partition: from start up to before end.
type span struct {
	topic      string // Kafka's name
	partition  int32
	start, end int64
}

// limits are where the partitions of some topics begin and end: as a rule, where what is committed ends.
type limits struct{ starts, ends kadm.ListedOffsets }

// limits asks for those of topics, by Kafka's names.
func (b *Bus) limits(ctx context.Context, topics ...string) (limits, error) {
	return b.limitsBy(ctx, b.admin.ListCommittedOffsets, topics...)
}

// limitsBy is limits with other ends.
func (b *Bus) limitsBy(ctx context.Context, ends func(context.Context, ...string) (kadm.ListedOffsets, error), topics ...string) (l limits, err error) {
	if l.starts, err = bounded(ctx, func() (kadm.ListedOffsets, error) { return b.admin.ListStartOffsets(ctx, topics...) }); err != nil {
		return limits{}, err
	}
	l.ends, err = bounded(ctx, func() (kadm.ListedOffsets, error) { return ends(ctx, topics...) })
	return l, err
}

// span is all of a partition.
func (l limits) span(topic string, partition int32) (span, error) {
	start, there := l.starts.Lookup(topic, partition)
	end, also := l.ends.Lookup(topic, partition)
	if !there || !also {
		return span{}, fmt.Errorf("topic %s, partition %d: its offsets are not known", topic, partition)
	}
	if err := errors.Join(start.Err, end.Err); err != nil {
		return span{}, fmt.Errorf("topic %s, partition %d: %w", topic, partition, err)
	}
	return span{topic: topic, partition: partition, start: start.Offset, end: end.Offset}, nil
}

// silence is how long a reading waits for records before it asks whether those it waits for were deleted meanwhile.
const silence = 5 * time.Second

// eacher is given a record, and says whether it wants more. With an error the record is only the place of the first of those that cannot be read.
type eacher func(*kgo.Record, error) bool

// read gives each the committed records of spans, in the order of their offsets within a partition, until each returns false, all
// is read, or ctx ends. It reads beside any group and holds no more than what was fetched at once.
func (b *Bus) read(ctx context.Context, spans []span, each eacher) error {
	open, start := map[topicPartition]span{}, map[string]map[int32]kgo.Offset{}
	for _, s := range spans {
		if s.start >= s.end {
			continue
		}
		open[topicPartition{s.topic, s.partition}] = s
		if start[s.topic] == nil {
			start[s.topic] = map[int32]kgo.Offset{}
		}
		start[s.topic][s.partition] = kgo.NewOffset().At(s.start)
	}
	if len(open) == 0 {
		return nil
	}
	inflater := b.inflater()
	reader, err := kgo.NewClient(append(slices.Concat(b.clientOptions(), inflater.options()),
		kgo.ConsumePartitions(start),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last record before an end may be a transaction's marker
	)...)
	if err != nil {
		return err
	}
	defer reader.Close()
	told := 0 // batches that cannot be read
	for len(open) > 0 {
		fetches, err := poll(ctx, reader)
		if err != nil {
			return err
		}
		inflater.polled(fetches)
		if fetches.NumRecords() == 0 {
			if err := b.closeDeleted(ctx, open); err != nil {
				return err
			}
		}
		for r := range fetches.RecordsAll() {
			if !handOut(r, open, each) {
				return nil
			}
		}
		unread := unreadables(fetches)
		for _, u := range unread {
			if !handOutUnread(u, open, each) {
				return nil
			}
		}
		told += len(unread)
		forgotten := len(fetches) == 0 && inflater.refused() > told // as when a leader changes
		if len(unread) > 0 || forgotten {
			reader.SetOffsets(goOn(open))
			told = inflater.refused()
		}
	}
	return nil
}

// goOn is where all that is open goes on: the client is set behind a batch that cannot be read, and drops what it has fetched of all then. With that goes
// the word that a batch of another one cannot be read, which it gives once: so all are set.
func goOn(open map[topicPartition]span) positions {
	offsets := positions{}
	for at, s := range open {
		offsets.set(at.topic, at.partition, kgo.EpochOffset{Epoch: -1, Offset: s.start})
	}
	return offsets
}

// handOutUnread tells each of what cannot be read of an open span.
func handOutUnread(u unreadable, open map[topicPartition]span, each eacher) bool {
	at := topicPartition{u.topic, u.partition}
	s, reading := open[at]
	u.first = max(u.first, s.start)
	if !reading || u.first >= u.next {
		return true
	}
	s.start = u.next
	if open[at] = s; s.start >= s.end {
		delete(open, at)
	}
	return u.first >= s.end || each(&kgo.Record{Topic: u.topic, Partition: u.partition, Offset: u.first}, u)
}

// handOut gives a record to each where it belongs to an open span, and closes the span after its last one.
func handOut(r *kgo.Record, open map[topicPartition]span, each eacher) bool {
	at := topicPartition{r.Topic, r.Partition}
	s, reading := open[at]
	if !reading || r.Offset < s.start { // below: read before the client had to begin again
		return true
	}
	s.start = r.Offset + 1
	if open[at] = s; s.start >= s.end {
		delete(open, at)
	}
	return r.Offset >= s.end || r.Attrs.IsControl() || each(r, nil)
}

// poll waits for records, for silence at most.
func poll(ctx context.Context, reader *kgo.Client) (kgo.Fetches, error) {
	pctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	fetches := reader.PollFetches(pctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return fetches, lastingError(fetches)
}

// closeDeleted closes the spans of which nothing is left: nothing would ever come of them.
func (b *Bus) closeDeleted(ctx context.Context, open map[topicPartition]span) error {
	topics := map[string]bool{}
	for at := range open {
		topics[at.topic] = true
	}
	qctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	starts, err := bounded(qctx, func() (kadm.ListedOffsets, error) {
		return b.admin.ListStartOffsets(qctx, slices.Collect(maps.Keys(topics))...)
	})
	if err != nil {
		return cmp.Or(context.Cause(ctx), b.link.refused()) // else nobody answers: that may pass, and ctx says how long to wait
	}
	for at, s := range open {
		if start, ok := starts.Lookup(at.topic, at.partition); ok && start.Err == nil && start.Offset >= s.end {
			delete(open, at)
		}
	}
	return nil
}

// lastingError is the first error of a poll that waiting does not mend; the client tries the others again.
func lastingError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if isRefusal(e.Err) {
			return fmt.Errorf("topic %s: %w", e.Topic, e.Err)
		}
	}
	return nil
}
