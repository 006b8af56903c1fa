package eventbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// cursorInfix stands between a dead-letter topic and a redrive's name in the name of the cursor.
const cursorInfix = ".redrive."

// resume begins at the cursor, and takes it over unless it is a dry run.
func (r *redrive) resume(ctx context.Context, spans []span) ([]span, error) {
	cursor, err := r.cursor(ctx)
	if err != nil {
		return nil, err
	}
	claim := kadm.Offsets{}
	for i, s := range spans {
		if at, there := cursor.Lookup(s.topic, s.partition); there && at.Err == nil && at.At >= 0 {
			s.start = max(s.start, at.At)
			s.end = max(s.end, s.start)
		}
		spans[i] = s
		r.report.Partitions = append(r.report.Partitions, RedrivePartition{Partition: s.partition, From: s.start, Next: s.start, End: s.end})
		claim.Add(r.position(s.partition, s.start))
	}
	if r.report.DryRun {
		return spans, nil
	}
	return spans, r.commit(ctx, claim)
}

// cursor asks where the cursor is.
func (r *redrive) cursor(ctx context.Context) (kadm.OffsetResponses, error) {
	b := r.letters.bus
	found, err := ask(ctx, b, func(ctx context.Context) (kadm.OffsetResponses, error) {
		return b.committed(ctx, r.report.Cursor)
	})
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", r.report.Cursor, err)
	}
	return found, nil
}

func (r *redrive) position(partition int32, offset int64) kadm.Offset {
	return kadm.Offset{Topic: r.letters.name, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: r.token}
}

// move moves the cursor of a partition, where nobody else has moved it meanwhile. Between the look and the commit another one may still
// take it over: no broker compares what a commit replaces.
func (r *redrive) move(ctx context.Context, partition int32, offset int64) error {
	found, err := r.cursor(ctx)
	if err != nil {
		return err
	}
	if at, there := found.Lookup(r.letters.name, partition); !there || at.Metadata != r.token {
		return fmt.Errorf("group %s: the cursor was moved by another: a redrive of the same Name runs, or somebody reset it", r.report.Cursor)
	}
	moved := kadm.Offsets{}
	moved.Add(r.position(partition, offset))
	return r.commit(ctx, moved)
}

// commit tries a few times: a coordinator may be about to move.
func (r *redrive) commit(ctx context.Context, offsets kadm.Offsets) error {
	const tries = 5
	for fails := 1; ; fails++ {
		err := r.commitOnce(ctx, offsets)
		if err == nil {
			return nil
		}
		if fails == tries || isRefusal(err) || !sleep(ctx, backOff(fails)) {
			return fmt.Errorf("group %s: the cursor cannot be committed: %w", r.report.Cursor, err)
		}
	}
}

func (r *redrive) commitOnce(ctx context.Context, offsets kadm.Offsets) error {
	b := r.letters.bus
	results, err := ask(ctx, b, func(ctx context.Context) (kadm.OffsetResponses, error) {
		return b.admin.CommitOffsets(ctx, r.report.Cursor, offsets)
	})
	if err != nil {
		return err
	}
	return results.Error()
}
