package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

func (a *app) replayCommand() *cobra.Command {
	var (
		ch           changes
		opts         eventbus.ReplayOptions
		since, until string
	)
	c := &cobra.Command{
		Use: "replay TOPIC GROUP", GroupID: "mend", Short: "Have a group handle events of a topic once more", Args: cobra.ExactArgs(2),
		Long: "Have a group handle events of a topic once more, and no other group: copies go to its retry topic, which it reads beside what is new. Its " +
			"handlers must bear to see an event twice.",
		Example: "  eventbus replay dreamscape.payment.completed invoices --since 14:30 --until 15:00 --dry-run",
	}
	ch.add(c)
	flags := c.Flags()
	flags.StringVar(&since, "since", "", "from then on: an age such as 90m or 7d, 14:30, a date, or 'beginning' (required)")
	flags.StringVar(&until, "until", "", "up to then (default: what is there now)")
	flags.StringVar(&opts.Key, "key", "", "only records of this key")
	flags.StringVar(&opts.EventID, "event", "", "only this event id")
	flags.IntVar(&opts.Rate, "rate", 100, "how many a second")
	c.ValidArgsFunction = a.completeTopicAndGroup
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if since == "" {
			return usage("--since: expected from when on, such as 90m, 14:30 or 'beginning'")
		}
		if since != "beginning" {
			if opts.Since, err = parseTime("since", since); err != nil {
				return err
			}
		}
		if opts.Until, err = parseTime("until", until); err != nil {
			return err
		}
		switch {
		case !opts.Until.IsZero() && !opts.Until.After(opts.Since):
			return usage("--until: is not after --since")
		case opts.Rate <= 0:
			return usage("--rate: expected 1 or more")
		}
		return nil
	}
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if _, err := one(ctx, cluster, args[0]); err != nil {
			return err
		}
		topic := cluster.Declared(args[0])
		bar := a.progress("counting")
		opts.Progress = func(r eventbus.ReplayReport) { bar.show(replayed(r)) }
		report, err := cluster.Bus().Replay(ctx, topic, args[1], opts)
		bar.end()
		if err != nil {
			return err
		}
		a.printf("%s events to be sent to %s\n", grouped(int64(report.Sent)), clean(args[1]))
		if ch.dry || report.Sent == 0 {
			return nil
		}
		if err := a.sure(ctx, ch, fmt.Sprintf("Have %s handle %s events once more", args[1], grouped(int64(report.Sent)))); err != nil {
			return err
		}
		all := int64(report.Sent)
		bar = a.progress("sending")
		opts.Send, opts.Progress = true, func(r eventbus.ReplayReport) { bar.show(int64(r.Sent), all) }
		report, err = cluster.Bus().Replay(ctx, topic, args[1], opts)
		bar.end()
		a.printf("%s events sent\n", grouped(int64(report.Sent)))
		for _, p := range report.Partitions {
			if p.Next < p.End {
				a.printf("  partition %d: sent up to before offset %d of %d\n", p.Partition, p.Next, p.End)
			}
		}
		return err
	})
	return c
}

// replayed is how many records of how many a replay has looked at.
func replayed(r eventbus.ReplayReport) (done, all int64) {
	for _, p := range r.Partitions {
		done, all = done+p.Next-p.From, all+p.End-p.From
	}
	return done, all
}
