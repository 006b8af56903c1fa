package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// measured is a report of three rounds; in the last, franz-go failed.
func measured() report {
	of := func(events, cpu float64) result {
		return result{Events: int(events), Seconds: 1, CPU: cpu, Allocs: 10 * events, P50: 0.001, P99: 0.02}
	}
	return report{
		works: works[:1], contenders: contenders()[:2], targets: targets, on: "a machine & a broker", with: "some clients",
		rounds: []round{
			{{"pipelined", "eventbus"}: of(200_000, 1), {"pipelined", "franz-go"}: of(100_000, 1)},
			{{"pipelined", "eventbus"}: of(300_000, 1), {"pipelined", "franz-go"}: of(100_000, 2)},
			{{"pipelined", "eventbus"}: of(100_000, 1)},
		},
	}
}

func TestTable(t *testing.T) {
	require.Equal(t, `a machine & a broker; some clients. Medians of 3 round(s).

| work | client | events/s | CPU µs/event | allocations/event | p50 | p99 | eventbus: events/s | eventbus: events per CPU second |
|---|---|--:|--:|--:|--:|--:|--:|--:|
| publish, pipelined | eventbus, validated | 200,000 | 5.00 | 10.0 | 1.00 ms | 20 ms |  |  |
| publish, pipelined | franz-go | 100,000 | 15.00 | 10.0 | 1.00 ms | 20 ms | 2.50x (2.00–3.00) | 4.00x (2.00–6.00) |

| what | beside | wanted | median of the ratios | in the rounds |
|---|---|--:|--:|--:|
| publish, pipelined: events/s | franz-go | ≥ 1x | 2.50x | 2.00–3.00 |
| publish, pipelined: CPU | franz-go | ≤ 1x | 0.33x | 0.17–0.50 |
`, measured().markdown())
}

// A variant is held against the client as it is, in the words of DESIGN's table.
func TestTableOfVariants(t *testing.T) {
	r := measured()
	r.variants, r.targets = true, nil
	text := r.markdown()
	require.Contains(t, text, "| events/s, of eventbus's | CPU, of eventbus's |\n")
	require.Contains(t, text, "| 0.42x (0.33–0.50) | 4.00x (2.00–6.00) |\n")
}

func TestVersions(t *testing.T) {
	text := versions(t.Context(), contenders())
	require.Regexp(t, `\bkafkajs \d+\.\d+\.\d+ on node `, text)
	require.Regexp(t, `\bparallel-consumer-core \d[\d.]+ on java `, text)
	require.NotContains(t, versions(t.Context(), contenders()[:2]), "node")
}

func TestTargetsAreOfWorksAndClientsThatThereAre(t *testing.T) {
	all := round{}
	for _, w := range works {
		for _, c := range contenders() {
			if c.runs(w) {
				all[cell{w.name, c.name}] = result{Events: 1, Seconds: 1, CPU: 1, P50: 1, P99: 1}
			}
		}
	}
	for _, target := range targets {
		_, ok := target.of(all)
		require.True(t, ok, target.what)
		_, ok = target.of(round{})
		require.False(t, ok, target.what)
	}
	x, _ := ofClean("poison-100")(all)
	require.InDelta(t, 1/0.9, x, 1e-9)
}

func TestMissedTarget(t *testing.T) {
	require.Contains(t, target{want: 1.05, most: true}.row([]float64{1.06}), "≤ 1.05x | 1.06x, missed |")
	require.NotContains(t, target{want: 1.05, most: true}.row([]float64{1.05}), "missed")
	require.Contains(t, target{want: 22}.row([]float64{21}), "≥ 22x | 21.00x, missed |")
}

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
}

func TestNumbers(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1_000: "1,000", 1_234_567.8: "1,234,568"} {
		require.Equal(t, want, count(n))
	}
	for seconds, want := range map[float64]string{0: "–", 0.00123: "1.23 ms", 0.25: "250 ms"} {
		require.Equal(t, want, duration(seconds))
	}
	require.Equal(t, "64 kiB", size(64<<10))
	require.Equal(t, "4 MiB", size(4<<20))
	require.Equal(t, "–", times(nil))
	require.Equal(t, "1.50x", times([]float64{1.5}))
}

func TestPageBetweenMarkers(t *testing.T) {
	page := "before\n" + beginMark + "old\n" + endMark + "\nafter\n"
	got, err := between(page, "new\n")
	require.NoError(t, err)
	require.Equal(t, "before\n"+beginMark+"new\n"+endMark+"\nafter\n", got)
	_, err = between("no markers", "new\n")
	require.ErrorContains(t, err, "are not there")
}

func TestFiles(t *testing.T) {
	readme, svg := filepath.Join(t.TempDir(), "README.md"), filepath.Join(t.TempDir(), "speed.svg")
	require.NoError(t, os.WriteFile(readme, []byte(beginMark+endMark), 0o600))
	require.NoError(t, measured().write(options{readme: readme, svg: svg}))
	page, err := os.ReadFile(readme)
	require.NoError(t, err)
	require.Contains(t, string(page), "/speed.svg)\n\na machine")
	require.FileExists(t, svg)
}

func TestChart(t *testing.T) {
	chart := measured().chart()
	d := xml.NewDecoder(strings.NewReader(chart))
	bars := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	require.Equal(t, 2, bars)
	require.Contains(t, chart, "200,000, 5.0 µs CPU")
	require.Contains(t, chart, "a machine &amp; a broker")
}

// Two bars of a panel are of two clients, and say so.
func TestTheChartTellsClientsApart(t *testing.T) {
	for _, w := range works {
		r := report{works: []work{w}, contenders: contenders(), rounds: []round{{}}}
		for i, c := range r.contenders {
			if c.runs(w) {
				r.rounds[0][cell{w.name, c.name}] = result{Events: 1 + i, Seconds: 1, CPU: 1}
			}
		}
		names := regexp.MustCompile(`text-anchor="end">([^<]+)<`).FindAllStringSubmatch(r.chart(), -1)
		require.Len(t, names, len(r.rounds[0]), w.name)
		seen := map[string]bool{}
		for _, name := range names {
			require.False(t, seen[name[1]], "%s: %s twice", w.name, name[1])
			seen[name[1]] = true
		}
	}
}

// The page and the picture may be named from where the command runs.
func TestAPageLinksToItsPicture(t *testing.T) {
	for _, files := range [][2]string{{"../../README.md", "speed.svg"}, {"/a/README.md", "/a/internal/bench/speed.svg"}} {
		path, err := beside(files[0], files[1])
		require.NoError(t, err)
		require.Equal(t, "internal/bench/speed.svg", path)
	}
}
