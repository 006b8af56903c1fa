// Command bench measures eventbus beside other Kafka clients: the same work on the same broker, in runs that take turns.
//
//	cd internal/bench && KAFKA_BROKERS=127.0.0.1:19092 GOWORK=off go run .
//
// Every contender is a process of its own, so its CPU time and allocations are. It warms up before it is measured. All write with acks=all
// and no compression, the one that all have without plug-ins, to 12 partitions; idempotent where the client can be. What is compared is
// compared within a round, and the median of the rounds counts. eventbus validates, and so does kafkajs by Ajv; the others do not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "child":
		return child(args[1])
	case len(args) == 1 && args[0] == "fake":
		return fake()
	}
	o, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	return bench(ctx, o)
}

// options are what the command line says.
type options struct {
	works, contenders []string
	rounds, events    int
	seconds           float64
	require, small    bool
	kfake, settings   bool
	readme, svg       string
	profiles          string
}

// warmup is how many events come before those that are measured.
func (o options) warmup() int { return max(o.events/2/keys, 1) * keys }

// ahead is how many events are behind those that are measured: no fewer than wait at most in a client that fetches far ahead, but where it is to be small.
func (o options) ahead() int { return min(o.events, partitions*waiting) }

func parse(args []string, output io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	list := func(into *[]string) func(string) error {
		return func(s string) error { *into = strings.Split(s, ","); return nil }
	}
	flags.Func("works", "which `works`, separated by commas: "+strings.Join(workNames(), ", ")+"; default: all", list(&o.works))
	flags.Func("contenders", "which `clients`: "+strings.Join(contenderNames(contenders()), ", ")+"; default: all; eventbus always", list(&o.contenders))
	flags.IntVar(&o.rounds, "rounds", 5, "how often")
	flags.IntVar(&o.events, "events", 500_000, "events of a run, a multiple of 1,000; half as many come before them to warm up")
	flags.Float64Var(&o.seconds, "seconds", 5, "the longest that either may take: a slow client gets through fewer events")
	flags.BoolVar(&o.small, "small", false, "-rounds 1 -events 5000 -seconds 1: it shows that all works, and measures nothing")
	flags.BoolVar(&o.require, "require", false, "fail where a contender cannot run, or fails")
	flags.BoolVar(&o.kfake, "kfake", false, "on a broker that only pretends, in a process of its own: the clients' own cost")
	flags.BoolVar(&o.settings, "settings", false, "eventbus beside itself with other settings of the wire, or franz-go with -contenders franz-go")
	flags.StringVar(&o.readme, "readme", "", "write the tables into this `file`, between its markers; it has -require")
	flags.StringVar(&o.svg, "svg", "", "write a chart to this `file`")
	flags.StringVar(&o.profiles, "cpuprofile", "", "write a CPU profile of each child in Go to this `folder`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.small {
		o.rounds, o.events, o.seconds = 1, 5_000, 1
	}
	o.require = o.require || o.readme != ""
	return o, o.check(flags.Args())
}

func (o options) check(rest []string) error {
	unknown := func(named, known []string) string {
		i := slices.IndexFunc(named, func(n string) bool { return !slices.Contains(known, n) })
		if i < 0 {
			return ""
		}
		return named[i]
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case unknown(o.works, workNames()) != "":
		return fmt.Errorf("-works: no work %q: there are %s", unknown(o.works, workNames()), strings.Join(workNames(), ", "))
	case unknown(o.contenders, contenderNames(contenders())) != "":
		known := contenderNames(contenders())
		return fmt.Errorf("-contenders: no client %q: there are %s", unknown(o.contenders, known), strings.Join(known, ", "))
	case o.rounds < 1:
		return fmt.Errorf("-rounds: %d is less than 1", o.rounds)
	case o.events < keys || o.events%keys != 0:
		return fmt.Errorf("-events: %d is not a multiple of %d", o.events, keys)
	case o.seconds <= 0:
		return fmt.Errorf("-seconds: %v is not more than 0", o.seconds)
	case o.readme != "" && (o.works != nil || o.contenders != nil || o.small):
		return errors.New("-readme writes whole tables: not with -works, -contenders or -small")
	case o.settings && (o.readme != "" || o.svg != ""):
		return errors.New("-settings has a table of its own: not with -readme or -svg")
	case o.settings && (len(o.contenders) > 1 || len(o.contenders) == 1 && o.contenders[0] != "eventbus" && o.contenders[0] != "franz-go"):
		return errors.New("-settings: -contenders is eventbus or franz-go, or not given")
	case o.kfake && (o.readme != "" || o.svg != ""):
		return errors.New("-kfake: its numbers are not those of a broker: not with -readme or -svg")
	}
	return nil
}

func workNames() []string {
	var names []string
	for _, w := range works {
		names = append(names, w.name)
	}
	return names
}

func contenderNames(all []contender) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	return names
}

// chosenWorks are those that -works names and the broker can do: one that pretends has no poison.
func (o options) chosenWorks() []work {
	return slices.DeleteFunc(slices.Clone(works), func(w work) bool {
		named := slices.Contains(o.works, w.name)
		return o.works != nil && !named || o.kfake && w.sick > 0 || w.forSettings && !o.settings && !named
	})
}

// chosenContenders are those of -contenders that can run here.
func (o options) chosenContenders(ctx context.Context, log io.Writer) ([]contender, error) {
	all := contenders()
	if o.settings {
		i := 0
		if o.contenders != nil {
			i = slices.Index(contenderNames(all), o.contenders[0])
		}
		return variants(all[i]), nil
	}
	var chosen []contender
	for _, c := range all {
		named := o.contenders == nil || c.name == "eventbus" || slices.Contains(o.contenders, c.name)
		if !named || !slices.ContainsFunc(o.chosenWorks(), c.runs) {
			continue
		}
		missing := c.missing
		if c.outside != nil {
			if err := c.outside.prepare(ctx); err != nil {
				missing = err.Error()
			}
		}
		switch {
		case missing == "":
			chosen = append(chosen, c)
		case o.require:
			return nil, fmt.Errorf("%s cannot run here: %s", c.name, missing)
		default:
			fmt.Fprintf(log, "%s is left out: %s\n", c.name, missing)
		}
	}
	return chosen, nil
}

// loaded are the numbers of sick keys of the topics that works consume.
func loaded(chosen []work) []int {
	var all []int
	for _, w := range chosen {
		if w.kind == consume && !slices.Contains(all, w.sick) {
			all = append(all, w.sick)
		}
	}
	return all
}

func bench(ctx context.Context, o options) error {
	log := os.Stderr
	brokers := strings.Split(os.Getenv("KAFKA_BROKERS"), ",")
	if o.kfake {
		address, stop, err := startFake(ctx)
		if err != nil {
			return err
		}
		defer stop()
		brokers = []string{address}
	}
	if brokers[0] == "" {
		return errors.New("KAFKA_BROKERS is not set: `scripts/kafka up` starts a broker and prints it")
	}
	all, err := o.chosenContenders(ctx, log)
	if err != nil {
		return err
	}
	d, err := newDriver(o, brokers, log)
	if err != nil {
		return err
	}
	chosen := o.chosenWorks()
	defer d.close(chosen)
	for _, sick := range loaded(chosen) {
		if err := d.prepareTopic(ctx, sick); err != nil {
			return fmt.Errorf("loading the events: %w", err)
		}
	}
	rounds, failed := d.run(ctx, chosen, all)
	r := report{works: chosen, contenders: all, rounds: rounds, variants: o.settings}
	r.on, r.with = d.describe(context.WithoutCancel(ctx)), versions(context.WithoutCancel(ctx), all)
	if !o.settings {
		r.targets = targets
	}
	if ctx.Err() != nil {
		fmt.Print(r.markdown())
		return failed
	}
	if err := r.write(o); err != nil {
		return err
	}
	if o.require {
		return failed
	}
	return nil
}
