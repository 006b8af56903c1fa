package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

func (a *app) dlqRedrive() *cobra.Command {
	var (
		f     letterFlags
		ch    changes
		opts  eventbus.RedriveOptions
		topic string
		group string
	)
	c := &cobra.Command{
		Use: "redrive DLQ", Short: "Send dead letters back to their group, and to no other", Args: cobra.ExactArgs(1),
		Long: "Send dead letters back to the group that gave them up, by its retry topic; other groups see nothing of it. It goes on where the last call with the " +
			"same filter, or of the same --name, stopped. The letters stay where they are: `eventbus dlq purge` deletes.",
		Example: "  eventbus dlq redrive dreamscape.user.created.dlq.welcome --class schema --dry-run",
	}
	f.add(c)
	ch.add(c)
	flags := c.Flags()
	flags.StringVar(&topic, "topic", "", "the topic that they were of, where the name of DLQ does not say so")
	flags.StringVar(&group, "group", "", "the group to send them back to, likewise")
	c.MarkFlagsRequiredTogether("topic", "group")
	flags.IntVar(&opts.Rate, "rate", 100, "how many a second")
	flags.IntVar(&opts.MaxRedrives, "max-redrives", 3, "leave those that were sent back so often")
	flags.StringVar(&opts.Name, "name", "", "the name of the cursor (default: one made of the filter)")
	flags.BoolVar(&opts.AnyOrigin, "any-origin", false, "also letters of another topic or group")
	flags.BoolVar(&opts.Sequences, "sequences", false, "also letters that were parked with their key, out of their order")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		filter, letters, err := f.of(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		if opts.Rate <= 0 || opts.MaxRedrives <= 0 {
			return usage("--rate and --max-redrives: expected 1 or more")
		}
		if topic != "" {
			if letters, err = cluster.LettersOf(args[0], topic, group); err != nil {
				return usageError{err}
			}
		}
		opts.Filter = filter
		bar := a.progress("counting")
		opts.Progress = func(r eventbus.RedriveReport) { bar.show(redriven(r)) }
		report, err := letters.Redrive(ctx, opts)
		bar.end()
		if err != nil {
			return err
		}
		a.printRedrive(report)
		if report.Matched == 0 && begun(report) {
			a.printf("what is before was looked at by an earlier redrive (%s); --name begins anew\n", clean(report.Cursor))
		}
		if ch.dry || report.Sent == 0 {
			return nil
		}
		if err := a.sure(ctx, ch, fmt.Sprintf("Send %s letters back", grouped(int64(report.Sent)))); err != nil {
			return err
		}
		all := int64(report.Sent)
		bar = a.progress("sending")
		opts.Send, opts.Progress = true, func(r eventbus.RedriveReport) { bar.show(int64(r.Sent), all) }
		report, err = letters.Redrive(ctx, opts)
		bar.end()
		if err == nil {
			a.printRedrive(report)
			return nil
		}
		a.printf("%s of %s sent, then it was stopped; the same call goes on from there\n", grouped(int64(report.Sent)), grouped(all))
		return err
	})
	return c
}

// redriven is how many letters of how many a redrive has looked at.
func redriven(r eventbus.RedriveReport) (done, all int64) {
	for _, p := range r.Partitions {
		done, all = done+p.Next-p.From, all+p.End-p.From
	}
	return done, all
}

// begun says whether a cursor has passed something.
func begun(r eventbus.RedriveReport) bool {
	return slices.ContainsFunc(r.Partitions, func(p eventbus.RedrivePartition) bool { return p.From > 0 })
}

func (a *app) printRedrive(r eventbus.RedriveReport) {
	say := func(format string, args ...any) {
		for _, line := range wrap(fmt.Sprintf(format, args...), a.columns()) {
			a.printf("%s\n", line)
		}
	}
	verb := "sent"
	if r.DryRun {
		verb = "to be sent"
	}
	line := fmt.Sprintf("%s %s of %s", grouped(int64(r.Sent)), verb, grouped(int64(r.Matched)))
	if left := r.Quarantined + r.Strangers + r.Skipped; left > 0 {
		line += fmt.Sprintf("; %s stay: %d sent back too often, %d of another topic or group, %d without a record or readable headers",
			grouped(int64(left)), r.Quarantined, r.Strangers, r.Skipped)
	}
	say("%s", line)
	for i, l := range r.Left {
		if i == 5 {
			say("and %d more", len(r.Left)-i)
			break
		}
		say("%d:%d stays: %s", l.Partition, l.Offset, clean(l.Why))
	}
}

func (a *app) dlqPurge() *cobra.Command {
	var (
		ch     changes
		before string
		all    bool
		to     []string
	)
	c := &cobra.Command{
		Use: "purge DLQ", Short: "Delete dead letters for good, from the beginnings of the partitions on", Args: cobra.ExactArgs(1),
		Long: "Delete dead letters for good, from the beginnings of the partitions on: Kafka deletes in no other way. Letters that were not sent back are " +
			"deleted too. Exactly one of --before, --to and --all says which.",
		Example: "  eventbus dlq purge dreamscape.user.created.dlq.welcome --before 7d --dry-run",
	}
	ch.add(c)
	flags := c.Flags()
	flags.StringVar(&before, "before", "", "those that failed before: an age such as 90m or 7d, 14:30, a date")
	flags.StringArrayVar(&to, "to", nil, "those of a partition before an offset, PARTITION:OFFSET; may be repeated")
	flags.BoolVar(&all, "all", false, "all that are there now")
	c.MarkFlagsMutuallyExclusive("before", "to", "all")
	c.MarkFlagsOneRequired("before", "to", "all")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		letters, err := lettersOf(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		opts := eventbus.PurgeOptions{All: all}
		if opts.Before, err = parseTime("before", before); err != nil {
			return err
		}
		for _, text := range to {
			p, o, err := parsePlace(text)
			if err != nil {
				return err
			}
			if opts.Offsets == nil {
				opts.Offsets = map[int32]int64{}
			}
			opts.Offsets[p] = o
		}
		done := a.working("counting")
		report, err := letters.Purge(ctx, opts)
		done()
		if err != nil {
			return err
		}
		a.printf("%s letters to be deleted\n", grouped(report.Letters))
		if ch.dry || report.Letters == 0 {
			return nil
		}
		if err := a.sure(ctx, ch, fmt.Sprintf("Delete %s letters for good", grouped(report.Letters))); err != nil {
			return err
		}
		// What was counted, and nothing that has come since.
		opts = eventbus.PurgeOptions{Delete: true, Offsets: map[int32]int64{}}
		for _, p := range report.Partitions {
			opts.Offsets[p.Partition] = p.To
		}
		report, err = letters.Purge(ctx, opts)
		if err != nil {
			return err
		}
		a.printf("%s letters deleted\n", grouped(report.Letters))
		return nil
	})
	return c
}

func (a *app) dlqRelease() *cobra.Command {
	var ch changes
	var skip bool
	c := &cobra.Command{Use: "release DLQ KEY", Short: "Have a group handle what it has parked of a key, in order, and go on with it", Args: cobra.ExactArgs(2)}
	ch.add(c)
	c.Flags().BoolVar(&skip, "skip-first", false, "leave the first event a dead letter for good")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		letters, err := lettersOf(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		if ch.dry {
			parked, err := letters.Sequences(ctx)
			if err != nil {
				return err
			}
			for _, s := range parked {
				if s.Key == args[1] {
					a.printf("to be released: from letter %s on\n", place(s.Partition, s.Next))
					return nil
				}
			}
			return fmt.Errorf("key %q: %w", args[1], eventbus.ErrNotParked)
		}
		if err := a.sure(ctx, ch, fmt.Sprintf("Release key %q", args[1])); err != nil {
			return err
		}
		if err := letters.Release(ctx, args[1], eventbus.ReleaseOptions{SkipFirst: skip}); err != nil {
			return err
		}
		a.printf("released\n")
		return nil
	})
	return c
}
