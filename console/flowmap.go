package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dreamscape/eventbus/internal/look"
)

// flowMap is the drawing of who publishes to which topic and who reads it: three columns of boxes, and lines between them.
type flowMap struct {
	Width, Height           int
	SourceX, TopicX, GroupX int // where the columns begin
	Sources, Topics, Groups []box
	Lines                   []line
	Hidden                  int // boxes that there is no room for
	Rows                    []mapRow
}

// box is a service, a topic or a group.
type box struct {
	Name, Label    string
	Note           string // small, such as a lag
	Title          string
	X, Y, W, H     int
	TextX, TextY   int
	NoteX          int
	Behind, Failed bool
	busy           int64
}

// line is what events flow along.
type line struct {
	Kind     flow
	From, To string
	Path     string
	Behind   bool
}

// mapRow is a topic in the table that says the same as the drawing.
type mapRow struct {
	Topic           string
	Records         int64
	Sources, Groups []string
}

const (
	maxBoxes     = 40 // of a column
	mapWidth     = 1120
	sourceX      = 1 // half a line's width is beside a box
	sourceWidth  = 210
	topicX       = 390
	topicWidth   = 340
	groupX       = 889
	groupWidth   = mapWidth - groupX - 1
	boxHeight    = 30
	boxStep      = 40
	mapTop       = 30 // of the boxes; the names of the columns are above
	mapMargin    = 2
	letterWidth  = 7 // of the font, about
	labelPadding = 12
)

// newMap draws the topics that have something to show, at most so many that a person can still look at them.
func (c *Console) newMap(s survey, seen traffic) flowMap {
	records, letters := map[string]int64{}, map[string]int64{}
	for _, t := range s.topics {
		switch {
		case t.Letters:
			letters[t.Group] += t.Records
		case t.Source == "" && !isSequence(t.Name):
			records[t.Name] = t.Records
		}
	}
	lines := linesOf(s.groups, records, seen)
	m := flowMap{Width: mapWidth, SourceX: sourceX, TopicX: topicX, GroupX: groupX}
	busy := map[string]int64{}
	for _, l := range lines {
		busy[l.To] += seen[edge{l.Kind, l.From, l.To}] + 1
		busy[l.From] += seen[edge{l.Kind, l.From, l.To}] + 1
	}
	shared := sharedPrefix(records)
	for name, n := range records {
		if n > 0 || busy[name] > 0 {
			m.Topics = append(m.Topics, box{Name: name, Label: strings.TrimPrefix(name, shared), Note: short(n), Title: fmt.Sprintf("%s: %s", name, plural(n, "record")), busy: busy[name] + n})
		}
	}
	m.Topics = m.keep(m.Topics, topicX, topicWidth)
	m.columns(s.groups, lines, busy, letters)
	m.connect(lines)
	m.table(lines, records)
	return m
}

func isSequence(name string) bool { _, _, is := sequenceOf(name); return is }

// linesOf are the lines between services, topics and groups, in an order that stays.
func linesOf(groups []look.Group, records map[string]int64, seen traffic) []line {
	var lines []line
	for e := range seen {
		if _, is := records[e.To]; is && e.Kind == flowPublish {
			lines = append(lines, line{Kind: flowPublish, From: e.From, To: e.To})
		}
	}
	for _, g := range groups {
		lag := map[string]int64{}
		for _, p := range g.Partitions {
			if _, is := records[p.Topic]; is {
				lag[p.Topic] += max(0, p.Lag)
			}
		}
		for topic := range lag {
			lines = append(lines, line{Kind: flowConsume, From: topic, To: g.Name, Behind: behind(g) && lag[topic] > 0})
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return lines
}

func (m *flowMap) table(lines []line, records map[string]int64) {
	for _, t := range m.Topics {
		r := mapRow{Topic: t.Name, Records: records[t.Name]}
		for _, l := range lines {
			if l.Kind == flowPublish && l.To == t.Name {
				r.Sources = append(r.Sources, l.From)
			}
			if l.Kind == flowConsume && l.From == t.Name {
				r.Groups = append(r.Groups, l.To)
			}
		}
		m.Rows = append(m.Rows, r)
	}
}

// sharedPrefix is what all topics begin with, up to a dot.
func sharedPrefix(records map[string]int64) string {
	shared, first := "", true
	for name := range records {
		prefix := name[:strings.Index(name, ".")+1]
		if first {
			shared, first = prefix, false
		}
		if prefix != shared {
			return ""
		}
	}
	return shared
}
