package dreamscape

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dreamscape/eventbus"
)

// eventLog writes a line for every event that was published, and one for every group that is done with it. No line shows a payload
// or a key.
type eventLog struct {
	out io.Writer // safe for concurrent use
}

func newEventLog(out io.Writer) *eventLog { return &eventLog{out: out} }

func (l *eventLog) hooks() eventbus.Hooks {
	return eventbus.Hooks{
		Published: func(p eventbus.PublishedInfo) {
			var note string
			if p.Err != nil {
				note = "  not published: " + p.Err.Error()
			}
			l.write(p.Source, p.Topic, "", p.KeyHash, p.CorrelationID, note)
		},
		Handled: func(h eventbus.HandledInfo) {
			var note string
			if h.DeadLetter != "" {
				note = fmt.Sprintf("  dead letter: %s", h.DeadLetter)
			}
			l.write(h.Source, h.Topic, " → "+strings.TrimPrefix(h.Group, "dreamscape-"), h.KeyHash, h.CorrelationID, note)
		},
	}
}

func (l *eventLog) write(source, topic, group, keyHash, correlation, note string) {
	at := time.Now().Format("15:04:05.000")
	fmt.Fprintf(l.out, "%s %-15s → %-29s%-24s  key %-8s  corr %s%s\n",
		at, source, shortTopic(topic), group, keyHash, shortID(correlation), note)
}

// shortTopic is the topic's name without what all of them have.
func shortTopic(name string) string { return strings.TrimPrefix(name, "dreamscape.") }

// shortID is the start and the end of an id: ids made at about the same time have the same start.
func shortID(id string) string {
	if len(id) <= 9 {
		return id
	}
	return id[:4] + "…" + id[len(id)-4:]
}
