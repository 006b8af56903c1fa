package eventbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// PurgeOptions say what [DeadLetters.Purge] deletes. Exactly one of Before, Offsets and All is needed.
type PurgeOptions struct {
	// Delete deletes the letters. Default: false, which counts them and deletes nothing.
	Delete bool
	// Partitions are those of the dead-letter topic to purge. Default: all, or those of Offsets.
	Partitions []int32
	// Before means, of each partition, the letters from its beginning on that all failed before then. One that failed later keeps
	// those behind it, even if these are older: Kafka deletes from the beginning on only.
	Before time.Time
	// Offsets means, of each partition that it names, the letters before an offset.
	Offsets map[int32]int64
	// All means all letters, up to the ends that are found.
	All bool
}

func (o PurgeOptions) check() error {
	given := 0
	for _, is := range []bool{!o.Before.IsZero(), len(o.Offsets) > 0, o.All} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return fmt.Errorf("fields Before, Offsets, All: exactly one is needed, not %d", given)
	case len(o.Offsets) > 0 && len(o.Partitions) > 0:
		return errors.New("field Partitions: Offsets says which")
	}
	for p, offset := range o.Offsets {
		if offset < 0 {
			return fmt.Errorf("field Offsets: partition %d: %d is negative", p, offset)
		}
	}
	return nil
}

// PurgeReport is what a purge deleted, or would delete.
type PurgeReport struct {
	DryRun     bool
	Letters    int64 // at most: the markers of transactions and what was aborted take offsets too
	Partitions []PurgePartition
}

// PurgePartition is what a purge deleted of a partition of the dead-letter topic: from From up to before To.
type PurgePartition struct {
	Partition int32
	From, To  int64
}

// Purge deletes letters for good, from the beginnings of the partitions on. It needs the right to delete from the topic, for a dry run
// only to read it. It looks at no cursor: what was not redriven is deleted too. Partitions are purged one after the other; the report is
// also good with an error, and says which were.
func (d *DeadLetters) Purge(ctx context.Context, opts PurgeOptions) (PurgeReport, error) {
	report := PurgeReport{DryRun: !opts.Delete}
	spans, err := d.doomed(ctx, opts)
	for i := 0; i < len(spans) && err == nil; i++ {
		s := spans[i]
		if opts.Delete && s.end > s.start {
			err = d.deleteUpTo(ctx, s)
		}
		if err == nil {
			report.Letters += s.end - s.start
			report.Partitions = append(report.Partitions, PurgePartition{Partition: s.partition, From: s.start, To: s.end})
		}
	}
	if err != nil {
		return report, d.failed("Purge", err)
	}
	return report, nil
}

// doomed finds what is to be deleted.
func (d *DeadLetters) doomed(ctx context.Context, opts PurgeOptions) ([]span, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.Delete {
		if _, err := d.bus.mayUse(ctx, d.name, kmsg.ACLOperationDelete); err != nil {
			return nil, err
		}
	}
	f := LetterFilter{Partitions: opts.Partitions}
	if len(opts.Offsets) > 0 {
		f.Partitions = slices.Collect(maps.Keys(opts.Offsets))
	}
	spans, err := d.spans(ctx, f)
	if err != nil {
		return nil, err
	}
	for i, s := range spans {
		switch {
		case len(opts.Offsets) > 0:
			s.end = max(s.start, min(s.end, opts.Offsets[s.partition]))
		case !opts.All:
			if s.end, err = d.firstSince(ctx, s, opts.Before); err != nil {
				return nil, err
			}
		}
		spans[i] = s
	}
	return spans, nil
}

// firstSince is the offset of the first letter of s that failed then or later, its end where none did. What cannot be
// read tells no time: it goes with the first behind it that can.
func (d *DeadLetters) firstSince(ctx context.Context, s span, then time.Time) (int64, error) {
	first, since := s.end, false
	err := d.readAll(ctx, []span{s}, func(r *kgo.Record, unread error) bool {
		switch {
		case unread == nil && newLetter(r, nil).at().Before(then):
			first, since = s.end, false
		case !since:
			first, since = r.Offset, true
		}
		return !since || unread != nil
	})
	return first, err
}

func (d *DeadLetters) deleteUpTo(ctx context.Context, s span) error {
	ctx, cancel := d.bus.untilShutdown(ctx)
	defer cancel()
	upTo := kadm.Offsets{}
	upTo.Add(kadm.Offset{Topic: s.topic, Partition: s.partition, At: s.end})
	results, err := ask(ctx, d.bus, func(ctx context.Context) (kadm.DeleteRecordsResponses, error) {
		return d.bus.admin.DeleteRecords(ctx, upTo)
	})
	if err == nil {
		err = results.Error()
	}
	if err != nil {
		return fmt.Errorf("partition %d: %w", s.partition, err)
	}
	return nil
}
