package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus/internal/look"
)

func (a *app) topicsCommand() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use: "topics [NAME|PATTERN...]", GroupID: "see", Short: "List topics",
		Long:    "List topics: how many partitions and copies they have, how many records, and whose events. A pattern is one such as 'dreamscape.payment.*'.",
		Example: "  eventbus topics\n  eventbus topics 'dreamscape.payment.*' -o json",
	}
	out.add(c, "a topic")
	c.ValidArgsFunction = a.completeTopics
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		topics, err := chosen(ctx, cluster, args)
		if err != nil {
			return err
		}
		if out == "json" {
			return printLines(a, topics)
		}
		rows := make([][]cell, 0, len(topics))
		for _, t := range topics {
			what := t.EventType
			switch {
			case t.Letters:
				what = "dead letters" + of(t.Group)
			case t.Group != "":
				what = "sent back" + of(t.Group)
			}
			note := cell{text: cmp.Or(clean(t.Problem), what)}
			if t.Problem != "" {
				note.style = red
			}
			rows = append(rows, []cell{text(t.Name), number(t.Partitions), number(t.Replication), number(t.Records), note})
		}
		a.table([]string{"TOPIC", "PARTITIONS", "COPIES", "RECORDS", "EVENTS"}, rows)
		return nil
	})
	return c
}

func of(group string) string {
	if group == "" {
		return ""
	}
	return " of " + clean(group)
}

// chosen are the topics that arguments name; all without arguments.
func chosen(ctx context.Context, cluster *look.Cluster, args []string) ([]look.Topic, error) {
	all, err := cluster.Topics(ctx)
	if err != nil || len(args) == 0 {
		return all, err
	}
	var found []look.Topic
	for _, arg := range args {
		any := false
		for _, t := range all {
			ok, err := path.Match(arg, t.Name)
			if err != nil {
				return nil, usage("%q is not a name or a pattern such as dreamscape.payment.*", arg)
			}
			if ok || arg == t.Name {
				found, any = append(found, t), true
			}
		}
		if !any {
			return nil, fmt.Errorf("topic %s: %w", arg, look.ErrNoTopic)
		}
	}
	return found, nil
}

// one is the topic of a name, which is no pattern.
func one(ctx context.Context, cluster *look.Cluster, name string) (look.Topic, error) {
	if strings.ContainsAny(name, `*?[\`) {
		return look.Topic{}, usage("%q is a pattern: expected the name of one topic", name)
	}
	topics, err := chosen(ctx, cluster, []string{name})
	if err != nil {
		return look.Topic{}, err
	}
	return topics[0], nil
}

// filterFlags are those that say which events are meant.
type filterFlags struct {
	filter look.Filter
	where  []string
}

func (f *filterFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.filter.Correlation, "correlation", "", "only events of this correlation id")
	flags.StringVar(&f.filter.Key, "key", "", "only records of this key")
	flags.StringVar(&f.filter.Type, "type", "", "only events of this type, or a pattern such as 'payment.*'")
	flags.StringVar(&f.filter.Source, "source", "", "only events that this service published")
	flags.StringArrayVarP(&f.where, "filter", "f", nil, `only events for which this holds, such as 'payload.amount>100' or 'payload.email~@example\.com$'; may be repeated`)
}

func (f *filterFlags) parse() (look.Filter, error) {
	var err error
	if f.filter.Where, err = look.ParseConditions(f.where); err == nil {
		err = f.filter.Check()
	}
	if err != nil {
		return look.Filter{}, usageError{err}
	}
	return f.filter, nil
}

func (a *app) tailCommand() *cobra.Command {
	var (
		out    format
		filter filterFlags
		opts   look.TailOptions
		since  string
		limit  int
	)
	c := &cobra.Command{
		Use: "tail [TOPIC|PATTERN...]", GroupID: "see", Short: "Show events, the last ones or as they come",
		Long: "Show the last events of topics, or of all, and with --follow those that come. Payloads are shown without secrets. It reads beside any group.",
		Example: `  eventbus tail --follow
  eventbus tail dreamscape.payment.completed -n 20 --filter 'payload.amount>100'
  eventbus tail --since 1h --type 'auth.*' -o json`,
	}
	flags := c.Flags()
	out.add(c, "an event")
	flags.BoolVar(&opts.Follow, "follow", false, "go on with what comes, until Ctrl-C")
	flags.IntVarP(&opts.Last, "last", "n", 10, "how many of each partition to begin with; with --follow 0")
	flags.StringVar(&since, "since", "", "from then on: an age such as 90m or 7d, 14:30, a date, or 'beginning'")
	flags.IntVar(&limit, "limit", 0, "stop after so many events")
	filter.add(c)
	c.ValidArgsFunction = a.completeTopics
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if err := out.check(); err != nil {
			return err
		}
		if opts.Last < 0 || limit < 0 {
			return usage("--last and --limit: expected a number that is not negative")
		}
		if since != "" {
			opts.Last = 0
		} else if opts.Follow && !flags.Changed("last") || opts.Last == 0 {
			opts.New, opts.Last = true, 0
		}
		if since != "beginning" {
			if opts.Since, err = parseTime("since", since); err != nil {
				return err
			}
		}
		opts.Filter, err = filter.parse()
		return err
	}
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		opts.Topics = args
		opts.Trouble = a.tellTrouble
		if opts.New && !opts.Follow {
			return usage("--last: expected a number above 0, or --follow")
		}
		shown := 0
		err := cluster.Tail(ctx, opts, func(e look.Event) bool {
			if out == "json" {
				_ = a.printJSON(e) // run tells of it
			} else {
				a.printEvent(e)
			}
			shown++
			return (limit == 0 || shown < limit) && a.unwritten == nil
		})
		if err == nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
	return c
}

// printEvent prints a line an event, two where the terminal is narrow.
func (a *app) printEvent(e look.Event) {
	width := a.columns()
	name := cmp.Or(e.EventType, e.Topic)
	style := cyan
	if e.Letter != nil || e.Problem != "" {
		style = red
	}
	head := []cell{{text: at(e.Time), style: dim}, {text: clean(name), style: style}}
	if e.Source != "" {
		head = append(head, cell{text: clean(e.Source), style: green})
	}
	if e.Key != "" {
		head = append(head, cell{text: "key=" + clean(e.Key)})
	}
	if e.CorrelationID != "" {
		head = append(head, cell{text: "correlation=" + clean(e.CorrelationID), style: dim})
	}
	body := compact(e.Payload)
	if e.Letter != nil {
		body = fmt.Sprintf("%s: %s · %s", cmp.Or(string(e.Letter.Class), "dead letter"), e.Letter.Error, body)
	} else if e.Problem != "" {
		body = e.Problem + " · " + body
	}
	used, line := 0, ""
	for i, c := range head {
		if width > 0 && used+runewidth.StringWidth(c.text)+1 > width && i > 1 {
			break
		}
		shown := c.text
		if width > 0 {
			shown = cut(shown, max(width-used-1, 1))
		}
		line += a.paint(c.style, shown) + " "
		used += runewidth.StringWidth(shown) + 1
	}
	body = clean(body)
	switch {
	case width == 0:
		a.printf("%s%s\n", line, body)
	case width-used >= 30:
		a.printf("%s%s\n", line, cut(body, width-used))
	default:
		a.printf("%s\n  %s\n", strings.TrimRight(line, " "), cut(body, width-2))
	}
}

func compact(raw json.RawMessage) string {
	var v strings.Builder
	e := json.NewEncoder(&v)
	e.SetEscapeHTML(false)
	if e.Encode(raw) != nil {
		return string(raw)
	}
	return strings.TrimSpace(v.String())
}

func (a *app) trailCommand() *cobra.Command {
	var out format
	var since string
	c := &cobra.Command{
		Use: "trail CORRELATION", GroupID: "see", Short: "Follow a correlation id through all services", Args: cobra.ExactArgs(1),
		Long: "Show the events of a correlation id in the order of their times, each below the one that caused it, with the groups that have handled it (✓) " +
			"and those that have not yet (…). Dead letters are among them.",
		Example: "  eventbus trail 0198c3f2-7d11-7aaf-9a58-5b2f1c0e7d42 --since 7d",
	}
	out.add(c, "an event")
	c.Flags().StringVar(&since, "since", "24h", "how far back to look: an age such as 90m or 7d, a time, or 'beginning'")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		missed := false
		opts := look.TailOptions{Trouble: func(err error) {
			missed = true
			a.tellTrouble(err)
		}}
		if since != "beginning" {
			var err error
			if opts.Since, err = parseTime("since", since); err != nil {
				return err
			}
		}
		bar := a.progress("reading")
		opts.Progress = bar.show
		trail, err := cluster.Trail(ctx, args[0], opts)
		bar.end()
		if err != nil {
			return err
		}
		if len(trail.Steps) == 0 {
			return fmt.Errorf("no event has the correlation id %q since %s: check the id, or look further back with --since", args[0], since)
		}
		if out == "json" {
			if err := printLines(a, trail.Steps); err != nil {
				return err
			}
		} else {
			for _, s := range trail.Steps {
				a.printStep(s)
			}
		}
		if missed {
			return errors.New("the trail may be longer: not all could be read, see above")
		}
		return nil
	})
	return c
}

// tellTrouble tells of what cannot be read; nil: a broker answers again.
func (a *app) tellTrouble(err error) {
	if err == nil {
		err = errors.New("a broker answers again")
	}
	fmt.Fprintln(a.errs, "eventbus: "+oneLine(err.Error()))
}

func (a *app) printStep(s look.Step) {
	width := a.columns()
	indent := strings.Repeat("  ", min(s.Depth, 8))
	if s.Depth > 0 {
		indent = strings.Repeat("  ", min(s.Depth, 8)-1) + "└ "
	}
	style := cyan
	if s.Letter != nil {
		style = red
	}
	after := fmt.Sprintf("%9s", "+"+s.After.Round(time.Millisecond).String())
	head := fmt.Sprintf("%s  %s%s", a.paint(dim, after), indent, a.paint(style, cut(clean(cmp.Or(s.EventType, s.Topic)), room(width, 11+len([]rune(indent))))))
	a.printf("%s  %s\n", head, a.paint(green, clean(s.Source)))
	below := strings.Repeat(" ", 11+len([]rune(indent)))
	left := room(width, len(below))
	if s.Letter != nil {
		a.printf("%s%s\n", below, a.paint(red, cut(clean(fmt.Sprintf("given up by %s: %s", s.Group, s.Letter.Error)), left)))
	}
	var groups []string
	for _, g := range s.Handled {
		groups = append(groups, "✓ "+clean(g))
	}
	for _, g := range s.Waiting {
		groups = append(groups, "… "+clean(g))
	}
	if len(groups) > 0 {
		a.printf("%s%s\n", below, a.paint(dim, cut(strings.Join(groups, "  "), left)))
	}
}
