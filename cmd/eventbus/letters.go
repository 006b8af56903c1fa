package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	var all bool
	c := &cobra.Command{Use: "ls", Short: "List the dead-letter topics that hold something", Args: cobra.NoArgs}
	c.Flags().BoolVar(&all, "all", false, "also empty ones")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, _ []string) error {
		topics, err := cluster.Topics(ctx)
		if err != nil {
			return err
		}
		var rows [][]cell
		for _, t := range topics {
			if t.Letters && (all || t.Records > 0) {
				rows = append(rows, []cell{text(t.Name), number(t.Records), text(t.Source), text(t.Group)})
			}
		}
		if len(rows) == 0 {
			a.printf("no dead letters\n")
			return nil
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

func (a *app) dlqGroups() *cobra.Command {
	var f letterFlags
	c := &cobra.Command{
		Use: "groups DLQ", Short: "Count dead letters by what went wrong, the most frequent first", Args: cobra.ExactArgs(1),
		Example: "  eventbus dlq groups dreamscape.user.created.dlq.welcome",
	}
	f.add(c)
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
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
		if len(groups) == 0 {
			a.printf("no dead letters\n")
			return nil
		}
		rows := make([][]cell, 0, len(groups))
		for _, g := range groups {
			rows = append(rows, []cell{
				text(g.Fingerprint), number(g.Count), text(at(g.Last)), text(cmp.Or(string(g.Sample.Class), string(g.Sample.Family))),
				text(fmt.Sprintf("%d:%d", g.Sample.Partition, g.Sample.Offset)), {text: clean(g.Sample.Error), style: red},
			})
		}
		a.table([]string{"FINGERPRINT", "LETTERS", "LAST", "CLASS", "SAMPLE", "ERROR"}, rows)
		return nil
	})
	return c
}

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
	c.Flags().StringVarP((*string)(&out), "output", "o", "text", "text or json (a line a letter)")
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
	a.printf("%s\n", a.paint(bold, fmt.Sprintf("%d:%d", l.Partition, l.Offset)))
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

// changes are the flags of commands that change something.
type changes struct{ dry, yes bool }

func (ch *changes) add(c *cobra.Command) {
	c.Flags().BoolVar(&ch.dry, "dry-run", false, "only say what would be done")
	c.Flags().BoolVarP(&ch.yes, "yes", "y", false, "don't ask")
}

// sure asks whether to go on. Without a terminal nobody can be asked.
func (a *app) sure(ctx context.Context, ch changes, question string) error {
	if ch.yes {
		return nil
	}
	if !a.interactive() {
		return usage("%s? Nobody can be asked here: --yes does it, --dry-run only counts", question)
	}
	fmt.Fprintf(a.errs, "%s? [y/N] ", question)
	answer, err := a.readLine(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

func (a *app) interactive() bool { return a.width != 0 || onTerminal(a.in) }

// readLine reads what a person types, until ctx ends.
func (a *app) readLine(ctx context.Context) (string, error) {
	line, err := interruptible(ctx, func() (string, error) { return a.lines().ReadString('\n') })
	if line = strings.TrimSpace(line); errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return line, err
}

// interruptible reads until ctx ends. The reading then stays: the program ends.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		what T
		err  error
	}
	done := make(chan result, 1)
	go func() {
		what, err := read()
		done <- result{what, err}
	}()
	select {
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	case r := <-done:
		return r.what, r.err
	}
}

func (a *app) lines() *bufio.Reader {
	if a.reader == nil {
		a.reader = bufio.NewReader(a.in)
	}
	return a.reader
}

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

func (a *app) dlqParked() *cobra.Command {
	c := &cobra.Command{Use: "parked DLQ", Short: "List parked keys: those whose later events wait behind one that failed", Args: cobra.ExactArgs(1)}
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		letters, err := lettersOf(ctx, cluster, args[0])
		if err != nil {
			return err
		}
		parked, err := letters.Sequences(ctx)
		if err != nil {
			return err
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
				text(s.Key), text(fmt.Sprintf("%d:%d", s.Partition, s.Next)), text(at(s.Since)), number(s.Releases), text(state), {text: clean(s.Error), style: red},
			})
		}
		a.table([]string{"KEY", "NEXT", "SINCE", "RELEASES", "STATE", "ERROR"}, rows)
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
					a.printf("to be released: from letter %d:%d on\n", s.Partition, s.Next)
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
