package main

import (
	"fmt"
	"strings"
)

// target is a ratio that eventbus is to reach, or to stay below.
type target struct {
	what, beside string
	want         float64
	most         bool // it is the most that is allowed
	unit         string
	of           func(round) (float64, bool) // false: the round has not what it compares
}

var targets = []target{
	{what: "publish, pipelined: events/s", beside: "franz-go", want: 1, of: ratio("pipelined", "franz-go", result.rate)},
	{what: "publish, pipelined: CPU", beside: "franz-go", want: 1, most: true, of: ratio("pipelined", "franz-go", result.cpuEach)},
	{what: "publish, pipelined: events per CPU second", beside: "the best of the others", want: 1.2, of: besideBest("pipelined", result.perCPU)},
	{what: "publish awaited, 1 goroutine: events per CPU second", beside: "the best of the others", want: 1.2, of: besideBest("awaited-1", result.perCPU)},
	{what: "publish awaited, 64 goroutines: events per CPU second", beside: "the best of the others", want: 1.2, of: besideBest("awaited-64", result.perCPU)},
	{what: "publish awaited, 1 goroutine: p50", beside: "franz-go", want: 1.05, most: true, of: ratio("awaited-1", "franz-go", p50)},
	{what: "publish awaited, 64 goroutines: events/s", beside: "sarama", want: 1, of: ratio("awaited-64", "sarama", result.rate)},
	{what: "publish awaited, 64 goroutines: p99", beside: "sarama", want: 1, most: true, of: ratio("awaited-64", "sarama", p99)},
	{what: "publish awaited, 64 goroutines: events/s", beside: "sarama, not idempotent", want: 1, of: ratio("awaited-64", "sarama-plain", result.rate)},
	{what: "publish awaited, 64 goroutines: p99", beside: "sarama, not idempotent", want: 1, most: true, of: ratio("awaited-64", "sarama-plain", p99)},
	{what: "consume: events per CPU second", beside: "franz-go", want: 1.2, of: ratio("consume", "franz-go", result.perCPU)},
	{what: "consume: CPU of the lanes, an event", beside: "a goroutine a partition, the same decoder", want: 0.8, most: true, unit: " µs", of: lanesCPU},
	{what: "1 ms handler: events/s", beside: "Parallel Consumer", want: 4, of: ratio("handler", "parallel", result.rate)},
	{what: "1 ms handler: events/s", beside: "franz-go, a goroutine a partition", want: 22, of: ratio("handler", "franz-go", result.rate)},
	{what: "poison on 100 keys: events/s of the others", beside: "its own clean run", want: 0.95, of: ofClean("poison-100")},
	{what: "poison on one key: events/s of the others", beside: "its own clean run", want: 0.95, of: ofClean("poison-1")},
}

func p50(r result) float64 { return r.P50 }
func p99(r result) float64 { return r.P99 }

func ratio(work, peer string, figure func(result) float64) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		us, ok := r[cell{work, "eventbus"}]
		other, also := r[cell{work, peer}]
		return figure(us) / figure(other), ok && also
	}
}

// besideBest leaves franz-go out, which has a row of its own.
func besideBest(work string, figure func(result) float64) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		us, ok := r[cell{work, "eventbus"}]
		best := 0.0
		for at, x := range r {
			if at.work == work && at.contender != "eventbus" && at.contender != "franz-go" {
				best = max(best, figure(x))
			}
		}
		return figure(us) / best, ok && best > 0
	}
}

func lanesCPU(r round) (float64, bool) {
	us, ok := r[cell{"consume", "eventbus"}]
	other, also := r[cell{"consume", "partition"}]
	return 1e6 * (us.cpuEach() - other.cpuEach()), ok && also
}

// ofClean is for the same keys: the clean run has the events of the sick ones too.
func ofClean(poison string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		clean, ok := r[cell{"handler", "eventbus"}]
		hurt, also := r[cell{poison, "eventbus"}]
		share := 0.0
		for _, w := range works {
			if w.name == poison {
				share = float64(keys-w.sick) / keys
			}
		}
		return hurt.rate() / (clean.rate() * share), ok && also
	}
}

// targetRows are the targets that something was measured of.
func (r report) targetRows() string {
	var b strings.Builder
	for _, t := range r.targets {
		var all []float64
		for _, round := range r.rounds {
			if x, ok := t.of(round); ok {
				all = append(all, x)
			}
		}
		if len(all) > 0 {
			b.WriteString(t.row(all))
		}
	}
	return b.String()
}

func (t target) row(all []float64) string {
	unit, sign := t.unit, "≥"
	if unit == "" {
		unit = "x"
	}
	if t.most {
		sign = "≤"
	}
	missed := ""
	if m := median(all); t.most && m > t.want || !t.most && m < t.want {
		missed = ", missed"
	}
	return fmt.Sprintf("| %s | %s | %s %g%s | %.2f%s%s | %s |\n", t.what, t.beside, sign, t.want, unit, median(all), unit, missed, spread(all))
}
