package console

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/dreamscape/eventbus/internal/look"
)

// keep leaves the busiest boxes of a column, by name, and puts them at their places.
func (m *flowMap) keep(boxes []box, x, w int) []box {
	slices.SortFunc(boxes, func(a, b box) int { return cmp.Or(cmp.Compare(b.busy, a.busy), cmp.Compare(a.Name, b.Name)) })
	m.Hidden += max(0, len(boxes)-maxBoxes)
	boxes = boxes[:min(len(boxes), maxBoxes)]
	slices.SortFunc(boxes, func(a, b box) int { return cmp.Compare(a.Name, b.Name) })
	for i := range boxes {
		b := &boxes[i]
		b.X, b.Y, b.W, b.H = x, mapTop+i*boxStep, w, boxHeight
		b.TextX, b.NoteX = x+labelPadding, x+w-labelPadding
		room := (w-2*labelPadding)/letterWidth - utf8.RuneCountInString(b.Note)
		b.Label = fit(b.Label, room)
	}
	m.Height = max(m.Height, mapTop+mapMargin+len(boxes)*boxStep-boxStep+boxHeight)
	return boxes
}

// columns makes the boxes of services and groups, each near the topics that it has to do with.
func (m *flowMap) columns(groups []look.Group, lines []line, busy, letters map[string]int64) {
	services := map[string]bool{}
	for _, l := range lines {
		if l.Kind == flowPublish && !services[l.From] {
			services[l.From] = true
			m.Sources = append(m.Sources, box{Name: l.From, Label: l.From, Title: l.From + " publishes", busy: busy[l.From]})
		}
	}
	for _, g := range groups {
		b := box{Name: g.Name, Label: g.Name, Title: fmt.Sprintf("%s: %s, %s behind", g.Name, g.State, plural(g.Lag, "record")), Behind: behind(g), busy: busy[g.Name]}
		if g.Lag > 0 {
			b.Note = "lag " + short(g.Lag)
		}
		if n := letters[g.Name]; n > 0 {
			b.Failed, b.Note = true, "✗ "+short(n)
			b.Title += ", " + plural(n, "dead letter")
		}
		m.Groups = append(m.Groups, b)
	}
	m.Sources, m.Groups = m.keep(m.Sources, sourceX, sourceWidth), m.keep(m.Groups, groupX, groupWidth)
	for _, column := range [][]box{m.Sources, m.Topics, m.Groups} {
		m.settle(column, lines)
	}
}

// settle orders a column by where its lines go, so that few cross, and puts it in the middle.
func (m *flowMap) settle(column []box, lines []line) {
	at := map[string]int{}
	for _, t := range m.Topics {
		at[t.Name] = t.Y
	}
	weight := func(b box) int {
		if b.X == topicX {
			return b.Y
		}
		sum, n := 0, 0
		for _, l := range lines {
			if y, is := at[l.To]; is && l.From == b.Name && l.Kind == flowPublish {
				sum, n = sum+y, n+1
			}
			if y, is := at[l.From]; is && l.To == b.Name && l.Kind == flowConsume {
				sum, n = sum+y, n+1
			}
		}
		return sum / max(1, n)
	}
	slices.SortStableFunc(column, func(a, b box) int { return cmp.Compare(weight(a), weight(b)) })
	free := m.Height - mapTop - mapMargin - len(column)*boxStep + boxStep - boxHeight
	for i := range column {
		b := &column[i]
		b.Y = mapTop + free/2 + i*boxStep
		b.TextY = b.Y + boxHeight/2 + 4
	}
}

// connect draws the lines between boxes that are there.
func (m *flowMap) connect(lines []line) {
	left, middle, right := places(m.Sources), places(m.Topics), places(m.Groups)
	for _, l := range lines {
		from, to := left, middle
		if l.Kind == flowConsume {
			from, to = middle, right
		}
		a, b := from[l.From], to[l.To]
		if a == nil || b == nil {
			continue
		}
		x1, y1, x2, y2 := a.X+a.W, a.Y+a.H/2, b.X, b.Y+b.H/2
		bend := (x2 - x1) / 2
		l.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
		m.Lines = append(m.Lines, l)
	}
}

func places(column []box) map[string]*box {
	at := map[string]*box{}
	for i := range column {
		at[column[i].Name] = &column[i]
	}
	return at
}

// fit shortens a text to n characters.
func fit(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(0, n-1)]) + "…"
}

// short is a number with few digits, such as 12k.
func short(n int64) string {
	switch {
	case n >= 10_000_000:
		return number(n/1_000_000) + "M"
	case n >= 10_000:
		return number(n/1000) + "k"
	}
	return number(n)
}
