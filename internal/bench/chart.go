package main

import (
	"fmt"
	"html"
	"strings"
)

const (
	chartWidth = 860
	nameWidth  = 330
	barWidth   = 360
	rowHeight  = 20
	headHeight = 34
)

// chart draws a panel a work, a bar a client: events a second, the longest bar the fastest.
func (r report) chart() string {
	var b strings.Builder
	y := 0
	for _, w := range r.works {
		y = r.panel(&b, w, y)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<style>text{fill:#24292f}.n{fill:#57606a}.o{fill:#8c959f}.u{fill:#0969da}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}}</style>
%s<text class="n" x="8" y="%d">%s</text>
</svg>
`, chartWidth, y+rowHeight+8, b.String(), y+rowHeight, html.EscapeString(r.on))
}

// panel returns where the next one begins.
func (r report) panel(b *strings.Builder, w work, y int) int {
	type bar struct {
		contender
		rate, cpu float64
	}
	var bars []bar
	fastest := 0.0
	for _, c := range r.contenders {
		at := cell{w.name, c.name}
		if rate := median(r.of(at, result.rate)); rate > 0 {
			bars = append(bars, bar{c, rate, median(r.of(at, result.cpuEach))})
			fastest = max(fastest, rate)
		}
	}
	if len(bars) == 0 {
		return y
	}
	y += headHeight
	fmt.Fprintf(b, `<text x="8" y="%d" font-weight="bold">%s: events/s, CPU an event</text>`+"\n", y-10, html.EscapeString(w.label))
	for i, x := range bars {
		class := "o"
		if i == 0 {
			class = "u"
		}
		long := max(barWidth*x.rate/fastest, 1)
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`,
			nameWidth-8, y+14, html.EscapeString(x.labelIn(w)), class, nameWidth, y+3, long, rowHeight-6)
		fmt.Fprintf(b, `<text class="n" x="%.1f" y="%d">%s, %.1f µs CPU</text>`+"\n", nameWidth+long+6, y+14, count(x.rate), 1e6*x.cpu)
		y += rowHeight
	}
	return y
}
