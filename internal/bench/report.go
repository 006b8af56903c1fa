package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what rounds have shown.
type report struct {
	works      []work
	contenders []contender
	rounds     []round
	targets    []target
	on, with   string // which machine and broker; which clients
	variants   bool   // the contenders are the first one with other settings: they are held against it, and not it against them
}

// write prints the tables, and writes the files that the options name.
func (r report) write(o options) error {
	text := r.markdown()
	fmt.Print(text)
	if o.svg != "" {
		if err := os.WriteFile(o.svg, []byte(r.chart()), 0o644); err != nil { // #nosec G306 -- a picture for everybody
			return err
		}
	}
	if o.readme == "" {
		return nil
	}
	if o.svg != "" {
		picture, err := beside(o.readme, o.svg)
		if err != nil {
			return err
		}
		text = fmt.Sprintf("![Events a second, by work and client](%s)\n\n%s", filepath.ToSlash(picture), text)
	}
	old, err := os.ReadFile(o.readme)
	if err != nil {
		return err
	}
	text, err = between(string(old), text)
	if err != nil {
		return fmt.Errorf("%s: %w", o.readme, err)
	}
	return os.WriteFile(o.readme, []byte(text), 0o644) // #nosec G306 G703 -- a page for everybody, which the user names
}

// beside is a file's path as another one links to it, wherever both are named from.
func beside(from, to string) (string, error) {
	page, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	file, err := filepath.Abs(to)
	if err != nil {
		return "", err
	}
	return filepath.Rel(filepath.Dir(page), file)
}

const beginMark, endMark = "<!-- speed: from here, internal/bench writes it -->\n", "<!-- speed: to here -->"

// between replaces what is between the markers.
func between(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	if !found || !ends {
		return "", fmt.Errorf("the markers %q and %q are not there", strings.TrimSpace(beginMark), endMark)
	}
	return before + beginMark + text + endMark + after, nil
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %s. Medians of %d round(s).\n\n", r.on, r.with, len(r.rounds))
	beside := "%[1]s: events/s | %[1]s: events per CPU second"
	if r.variants {
		beside = "events/s, of %s's | CPU, of %[1]s's"
	}
	fmt.Fprintf(&b, "| work | client | events/s | CPU µs/event | allocations/event | p50 | p99 | "+beside+" |\n", r.contenders[0].name)
	b.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, w := range r.works {
		for _, c := range r.contenders {
			if at := (cell{w.name, c.name}); len(r.of(at, result.rate)) > 0 {
				b.WriteString(r.row(w, c, at))
			}
		}
	}
	if rows := r.targetRows(); rows != "" {
		b.WriteString("\n| what | beside | wanted | median of the ratios | in the rounds |\n|---|---|--:|--:|--:|\n" + rows)
	}
	return b.String()
}

func (r report) row(w work, c contender, at cell) string {
	allocs := "–"
	if n := median(r.of(at, result.allocEach)); n > 0 {
		allocs = fmt.Sprintf("%.1f", n)
	}
	cells := []string{
		w.label, c.labelIn(w), count(median(r.of(at, result.rate))), fmt.Sprintf("%.2f", 1e6*median(r.of(at, result.cpuEach))), allocs,
		duration(median(r.of(at, func(x result) float64 { return x.P50 }))), duration(median(r.of(at, func(x result) float64 { return x.P99 }))), "", "",
	}
	switch first := (cell{w.name, r.contenders[0].name}); {
	case first == at:
	case r.variants:
		cells[7], cells[8] = times(r.ratios(at, first, result.rate)), times(r.ratios(at, first, result.cpuEach))
	default:
		cells[7], cells[8] = times(r.ratios(first, at, result.rate)), times(r.ratios(first, at, result.perCPU))
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// of is a figure of a cell in every round that has it.
func (r report) of(at cell, figure func(result) float64) []float64 {
	var all []float64
	for _, round := range r.rounds {
		if x, ok := round[at]; ok {
			all = append(all, figure(x))
		}
	}
	return all
}

// ratios compare two cells within each round that has both.
func (r report) ratios(a, b cell, figure func(result) float64) []float64 {
	var all []float64
	for _, round := range r.rounds {
		x, ok := round[a]
		y, also := round[b]
		if ok && also {
			all = append(all, figure(x)/figure(y))
		}
	}
	return all
}

// median of an even number is the mean of the two in the middle; of none, 0.
func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	if len(of) == 0 {
		return 0
	}
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

// times prints ratios: their median and, of more than one, their spread.
func times(of []float64) string {
	switch len(of) {
	case 0:
		return "–"
	case 1:
		return fmt.Sprintf("%.2fx", of[0])
	}
	return fmt.Sprintf("%.2fx (%s)", median(of), spread(of))
}

func spread(of []float64) string {
	if len(of) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f–%.2f", slices.Min(of), slices.Max(of))
}

// count prints a number with its thousands apart.
func count(n float64) string {
	s := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size prints bytes.
func size(n int32) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d kiB", n>>10)
}

func duration(seconds float64) string {
	switch ms := seconds * 1e3; {
	case seconds == 0:
		return "–"
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", ms)
	}
}

// describe says on which machine and broker it ran.
func (d *driver) describe(ctx context.Context) string {
	broker := "a broker that only pretends (kfake)"
	if !d.kfake {
		broker = "a broker of unknown version"
		if all, err := d.admin.ApiVersions(ctx); err == nil {
			for _, v := range all {
				broker = fmt.Sprintf("%d broker(s) of Kafka %s, topics of replication factor 1", len(all), strings.TrimPrefix(v.VersionGuess(), "v"))
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s of memory, shared by client and broker; %s; %s; %s",
		processor(), runtime.NumCPU(), memory(), broker, runtime.Version(), time.Now().Format(time.DateOnly))
}

// versions are those of the clients.
func versions(ctx context.Context, of []contender) string {
	var all []string
	built, _ := debug.ReadBuildInfo()
	for _, m := range built.Deps {
		for _, path := range []string{"twmb/franz-go", "IBM/sarama", "segmentio/kafka-go", "confluentinc/confluent-kafka-go/v2", "ThreeDotsLabs/watermill-kafka/v3"} {
			if m.Path == "github.com/"+path {
				all = append(all, strings.Split(path, "/")[1]+" "+m.Version)
			}
		}
	}
	for _, c := range of {
		if c.outside != nil {
			all = append(all, c.outside.versions(ctx))
		}
	}
	return strings.Join(all, ", ")
}

// memory is that of the machine.
func memory() string {
	info, _ := os.ReadFile("/proc/meminfo") // without it: what is not known
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); name == "MemTotal" {
			if kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB")); err == nil {
				return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
			}
		}
	}
	return "some"
}

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // without it: the architecture
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}
