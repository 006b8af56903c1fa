package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus/internal/look"
)

func (a *app) groupsCommand() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use: "groups [GROUP...]", GroupID: "see", Short: "List consumer groups, their members and their lag",
		Example: "  eventbus groups\n  eventbus groups welcome -o json",
	}
	out.add(c, "a group")
	c.ValidArgsFunction = a.completeGroups
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		groups, err := cluster.Groups(ctx, args...)
		if err != nil {
			return err
		}
		if out == "json" {
			return printLines(a, groups)
		}
		rows := make([][]cell, 0, len(groups))
		for _, g := range groups {
			topics := map[string]bool{}
			for _, p := range g.Partitions {
				topics[p.Topic] = true
			}
			lag := number(g.Lag)
			if g.Lag > 0 {
				lag.style = yellow
			}
			rows = append(rows, []cell{
				text(g.Name), text(g.State), text(g.Protocol), number(len(g.Members)), number(len(topics)), lag, {text: clean(g.Problem), style: red},
			})
		}
		a.table([]string{"GROUP", "STATE", "PROTOCOL", "MEMBERS", "TOPICS", "LAG", "PROBLEM"}, rows)
		return nil
	})
	return c
}

func (a *app) lagCommand() *cobra.Command {
	var (
		out      format
		watch    bool
		all      bool
		interval time.Duration
		limit    int64
	)
	c := &cobra.Command{
		Use: "lag [GROUP...]", GroupID: "see", Short: "Show how far groups are behind, partition by partition",
		Long: "Show how far groups are behind, partition by partition. With --max it fails where one is further behind, for scripts.",
		Example: `  eventbus lag welcome --watch
  eventbus lag --max 1000 || alert`,
	}
	flags := c.Flags()
	out.add(c, "a group")
	flags.BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	flags.DurationVar(&interval, "interval", 2*time.Second, "how often")
	flags.BoolVar(&all, "all", false, "also partitions without lag")
	flags.Int64Var(&limit, "max", -1, "fail where a group's lag is more, in records")
	c.ValidArgsFunction = a.completeGroups
	c.MarkFlagsMutuallyExclusive("watch", "max")
	c.PreRunE = func(*cobra.Command, []string) error {
		if interval < 100*time.Millisecond {
			return usage("--interval: expected 100ms or more, not %v", interval)
		}
		return out.check()
	}
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		before := map[string]int64{}
		for began := time.Now(); ; {
			groups, err := cluster.Groups(ctx, args...)
			if watch && ctx.Err() == nil && errors.As(err, new(*look.AwayError)) {
				fmt.Fprintln(a.errs, "eventbus: "+oneLine(err.Error())+"; waiting for it to come back")
			} else if err != nil {
				return err
			}
			if watch && err == nil && out == "text" && a.colored() {
				a.printf("\x1b[H\x1b[2J") // from the top: what was there stays in the terminal's history
			}
			if err == nil {
				err = a.printLag(groups, out, all, before, time.Since(began))
			}
			if a.unwritten != nil {
				return err
			}
			if !watch {
				return tooMuch(groups, limit)
			}
			began = time.Now()
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(interval):
			}
		}
	})
	return c
}

func tooMuch(groups []look.Group, limit int64) error {
	var behind []string
	for _, g := range groups {
		if limit >= 0 && g.Lag > limit {
			behind = append(behind, fmt.Sprintf("%s (%s)", g.Name, grouped(g.Lag)))
		}
	}
	if len(behind) > 0 {
		return fmt.Errorf("more than %s records behind: %s", grouped(limit), strings.Join(behind, ", "))
	}
	return nil
}

// printLag prints groups; before has their committed offsets of the last time, and gets these.
func (a *app) printLag(groups []look.Group, out format, all bool, before map[string]int64, since time.Duration) error {
	if out == "json" {
		return printLines(a, groups)
	}
	var rows [][]cell
	for _, g := range groups {
		if g.Problem != "" {
			rows = append(rows, []cell{text(g.Name), {}, {right: true}, {right: true}, {right: true}, {text: clean(g.Problem), style: red}})
		}
		for _, p := range g.Partitions {
			key := fmt.Sprint(g.Name, "/", p.Topic, "/", p.Partition)
			rate := ""
			if was, ok := before[key]; ok && since > 0 {
				rate = fmt.Sprintf("  %.0f/s", float64(p.Committed-was)/since.Seconds())
			}
			before[key] = p.Committed
			if p.Lag == 0 && !all {
				continue
			}
			lag := cell{text: "?", right: true}
			if p.Lag >= 0 {
				lag = number(p.Lag)
			}
			if p.Lag > 0 {
				lag.style = yellow
			}
			committed := number(p.Committed)
			if p.Committed < 0 {
				committed.text = "none"
			}
			who := p.Member
			if who == "" {
				who = "no member"
			}
			rows = append(rows, []cell{text(g.Name), text(fmt.Sprint(p.Topic, "/", p.Partition)), committed, number(p.End), lag, text(who + rate)})
		}
	}
	if len(rows) == 0 {
		a.printf("no group is behind (%d looked at)\n", len(groups))
		return nil
	}
	a.table([]string{"GROUP", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"}, rows)
	return nil
}
