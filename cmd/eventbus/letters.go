package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

func (a *app) lettersCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "dlq", GroupID: "mend", Short: "Dead letters: list, group, show, send back, delete",
		Long: "Dead letters of this package's groups (TOPIC.dlq.GROUP) and those of Spring, Kafka Connect, Streams, share groups and TypeScript services.\n" +
			"DLQ is the name of the dead-letter topic, as `eventbus dlq ls` has it.",
	}
	c.AddCommand(a.dlqLs(), a.dlqGroups(), a.dlqShow(), a.dlqRedrive(), a.dlqPurge(), a.dlqParked(), a.dlqRelease())
	for _, sub := range c.Commands() {
		if sub.Name() != "ls" {
			sub.ValidArgsFunction = a.completeLetters
		}
	}
	return c
}

func (a *app) dlqLs() *cobra.Command {
	var (
		all bool
		out format
	)
	c := &cobra.Command{Use: "ls", Short: "List the dead-letter topics that hold something", Args: cobra.NoArgs}
	c.Flags().BoolVar(&all, "all", false, "also empty ones")
	out.add(c, "a topic")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		topics, err := cluster.Topics(ctx)
		if err != nil {
			return err
		}
		topics = slices.DeleteFunc(topics, func(t look.Topic) bool { return !t.Letters || !all && t.Records == 0 })
		if out == "json" {
			return printLines(a, topics)
		}
		if len(topics) == 0 {
			a.printf("no dead letters\n")
			return nil
		}
		rows := make([][]cell, 0, len(topics))
		for _, t := range topics {
			rows = append(rows, []cell{text(t.Name), number(t.Records), text(t.Source), text(t.Group)})
		}
		a.table([]string{"DLQ", "LETTERS", "TOPIC", "GROUP"}, rows)
		return nil
	})
	return c
}

// letterFlags say which dead letters are meant.
type letterFlags struct {
	filter       eventbus.LetterFilter
	class        string
	since, until string
}

func (f *letterFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.filter.Fingerprint, "fingerprint", "", "only failures of this kind: see `eventbus dlq groups`")
	flags.StringVar(&f.class, "class", "", "only failures of this class, such as schema or permanent")
	flags.StringVar(&f.filter.Error, "error", "", "only those with this text in their error")
	flags.StringVar(&f.filter.Key, "key", "", "only records of this key")
	flags.StringVar(&f.filter.EventID, "event", "", "only this event id")
	flags.StringVar(&f.since, "since", "", "only what failed since: an age such as 90m or 7d, 14:30, a date")
	flags.StringVar(&f.until, "until", "", "only what failed before")
	flags.IntVar(&f.filter.MinRedrives, "min-redrives", 0, "only what was sent back so often or more")
}

func (f *letterFlags) parse() (eventbus.LetterFilter, error) {
	f.filter.Class = eventbus.Class(f.class)
	var err error
	if f.filter.Since, err = parseTime("since", f.since); err == nil {
		f.filter.Until, err = parseTime("until", f.until)
	}
	return f.filter, err
}

// kindLine is a kind of failure, as JSON.
type kindLine struct {
	Fingerprint string    `json:"fingerprint"`
	Letters     int       `json:"letters"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Class       string    `json:"class,omitempty"`
	Family      string    `json:"family,omitempty"`
	Exception   string    `json:"exception,omitempty"`
	Error       string    `json:"error"`
	Sample      string    `json:"sample"` // its place, for show
}

func (a *app) dlqGroups() *cobra.Command {
	var (
		f   letterFlags
		out format
	)
	c := &cobra.Command{
		Use: "groups DLQ", Short: "Count dead letters by what went wrong, the most frequent first", Args: cobra.ExactArgs(1),
		Example: "  eventbus dlq groups dreamscape.user.created.dlq.welcome",
	}
	f.add(c)
	out.add(c, "a kind of failure")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		filter, letters, err := f.of(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		done := a.working("reading")
		groups, err := letters.Groups(ctx, filter)
		done()
		if err != nil {
			return err
		}
		if out == "json" {
			lines := make([]kindLine, 0, len(groups))
			for _, g := range groups {
				lines = append(lines, kindLine{
					g.Fingerprint, g.Count, g.First, g.Last, string(g.Sample.Class), string(g.Sample.Family), g.Sample.Exception, g.Sample.Error, place(g.Sample.Partition, g.Sample.Offset),
				})
			}
			return printLines(a, lines)
		}
		if len(groups) == 0 {
			a.printf("no dead letters\n")
			return nil
		}
		rows := make([][]cell, 0, len(groups))
		for _, g := range groups {
			rows = append(rows, []cell{
				text(g.Fingerprint), number(g.Count), text(at(g.Last)), text(cmp.Or(string(g.Sample.Class), string(g.Sample.Family))),
				text(place(g.Sample.Partition, g.Sample.Offset)), {text: clean(g.Sample.Error), style: red},
			})
		}
		a.table([]string{"FINGERPRINT", "LETTERS", "LAST", "CLASS", "SAMPLE", "ERROR"}, rows)
		return nil
	})
	return c
}

// place is where a letter is, as show takes it.
func place(partition int32, offset int64) string { return fmt.Sprintf("%d:%d", partition, offset) }

// of finds the dead letters that a command means.
func (f *letterFlags) of(ctx context.Context, cluster *look.Cluster, name string) (eventbus.LetterFilter, *eventbus.DeadLetters, error) {
	filter, err := f.parse()
	if err != nil {
		return filter, nil, err
	}
	letters, err := lettersOf(ctx, cluster, name)
	return filter, letters, err
}

// lettersOf are the dead letters of a topic; which group gave them up, its name says, and else flags.
func lettersOf(ctx context.Context, cluster *look.Cluster, name string) (*eventbus.DeadLetters, error) {
	if _, err := one(ctx, cluster, name); err != nil {
		return nil, err
	}
	return cluster.Letters(name)
}

func (a *app) dlqShow() *cobra.Command {
	var (
		f     letterFlags
		limit int
		out   format
	)
	c := &cobra.Command{
		Use: "show DLQ [PARTITION:OFFSET]", Short: "Show a dead letter, or those that are meant: the error and the event", Args: cobra.RangeArgs(1, 2),
		Example: "  eventbus dlq show dreamscape.user.created.dlq.welcome 0:17\n  eventbus dlq show dreamscape.user.created.dlq.welcome --class schema",
	}
	f.add(c)
	c.Flags().IntVar(&limit, "limit", 10, "at most so many; 0: all")
	out.add(c, "a letter")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		filter, letters, err := f.of(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		if len(args) == 2 {
			partition, offset, err := parsePlace(args[1])
			if err != nil {
				return err
			}
			l, err := letters.Show(ctx, partition, offset)
			if err != nil {
				return err
			}
			return a.printLetter(cluster, l, out)
		}
		shown, done := 0, a.working("reading")
		defer done()
		for l, err := range letters.List(ctx, filter) {
			done()
			if err != nil {
				return err
			}
			if err := a.printLetter(cluster, l, out); err != nil {
				return err
			}
			if shown++; shown == limit {
				return nil
			}
		}
		if done(); shown == 0 {
			a.printf("no dead letters\n")
		}
		return nil
	})
	return c
}

func parsePlace(text string) (int32, int64, error) {
	p, o, ok := strings.Cut(text, ":")
	partition, err := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	if !ok || err != nil || err2 != nil || partition < 0 || offset < 0 {
		return 0, 0, usage("%q is no place: expected PARTITION:OFFSET, such as 0:17", text)
	}
	return int32(partition), offset, nil
}

func (a *app) printLetter(cluster *look.Cluster, l eventbus.Letter, out format) error {
	e := cluster.Event(l.Record)
	if out == "json" {
		return a.printJSON(e)
	}
	a.printf("%s\n", a.paint(bold, place(l.Partition, l.Offset)))
	width := a.columns()
	line := func(name, value string, s style) {
		if value != "" {
			a.printf("  %s  %s\n", a.paint(dim, fmt.Sprintf("%-11s", name)), a.paint(s, cut(clean(value), room(width, 15))))
		}
	}
	line("error", l.Error, red)
	line("class", cmp.Or(string(l.Class), l.Exception), plain)
	line("failed", fmt.Sprintf("%s, %d tries, sent back %d times", l.FailedAt.Local().Format(time.DateTime), l.Attempts, l.Redrives), plain)
	line("origin", fmt.Sprintf("%s/%d/%d", l.Topic, l.DeadLetter.Partition, l.DeadLetter.Offset), plain)
	line("group", l.Group, plain)
	line("fingerprint", l.Fingerprint, plain)
	line("event", strings.TrimSpace(e.EventType+" "+e.EventID), cyan)
	line("correlation", e.CorrelationID, plain)
	line("key", e.Key, plain)
	line("payload", compact(e.Payload), plain)
	for _, frame := range strings.Split(l.Stack, "\n") {
		line("stack", strings.TrimSpace(frame), dim)
	}
	return nil
}

// parkedLine is a parked key, as JSON.
type parkedLine struct {
	Key       string    `json:"key"`
	Partition int32     `json:"partition"`
	Next      int64     `json:"next"` // the first dead letter that was not handled since
	Since     time.Time `json:"since"`
	Releases  int       `json:"releases"`
	Released  bool      `json:"released"`
	Error     string    `json:"error"`
}

func (a *app) dlqParked() *cobra.Command {
	var out format
	c := &cobra.Command{Use: "parked DLQ", Short: "List parked keys: those whose later events wait behind one that failed", Args: cobra.ExactArgs(1)}
	out.add(c, "a key")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		letters, err := lettersOf(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		parked, err := letters.Sequences(ctx)
		if err != nil {
			return err
		}
		if out == "json" {
			lines := make([]parkedLine, 0, len(parked))
			for _, s := range parked {
				lines = append(lines, parkedLine{s.Key, s.Partition, s.Next, s.Since, s.Releases, s.Released, s.Error})
			}
			return printLines(a, lines)
		}
		if len(parked) == 0 {
			a.printf("no key is parked\n")
			return nil
		}
		rows := make([][]cell, 0, len(parked))
		for _, s := range parked {
			state := ""
			if s.Released {
				state = "being released"
			}
			rows = append(rows, []cell{
				text(s.Key), text(place(s.Partition, s.Next)), text(at(s.Since)), number(s.Releases), text(state), {text: clean(s.Error), style: red},
			})
		}
		a.table([]string{"KEY", "NEXT", "SINCE", "RELEASES", "STATE", "ERROR"}, rows)
		return nil
	})
	return c
}
