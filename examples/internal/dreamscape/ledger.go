package dreamscape

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dreamscape/eventbus"
)

// ledger keeps what the services' hooks tell: which events this run has published, and which groups are done with them. It is safe
// for concurrent use.
type ledger struct {
	mu        sync.Mutex
	published []eventbus.PublishedInfo // the acknowledged ones, in the order of their acknowledgements
	times     map[eventRef]int         // how often each was published
	handled   map[handling]int
	letters   []eventbus.HandledInfo // the dead-lettered ones
}

// eventRef is an event on its topic.
type eventRef struct{ topic, id string }

// handling is an event and a group that handles it.
type handling struct {
	eventRef
	group string
}

func newLedger() *ledger {
	return &ledger{times: map[eventRef]int{}, handled: map[handling]int{}}
}

func (l *ledger) hooks() eventbus.Hooks {
	return eventbus.Hooks{Published: l.notePublished, Handled: l.noteHandled}
}

func (l *ledger) notePublished(p eventbus.PublishedInfo) {
	if p.Err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published = append(l.published, p)
	l.times[eventRef{p.Topic, p.EventID}]++
}

func (l *ledger) noteHandled(h eventbus.HandledInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.DeadLetter != "" {
		l.letters = append(l.letters, h)
		return
	}
	l.handled[handling{eventRef{h.Topic, h.EventID}, h.Group}]++
}

// events returns the distinct events published so far, in the order of their first acknowledgements.
func (l *ledger) events() []eventbus.PublishedInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[eventRef]bool{}
	return slices.DeleteFunc(slices.Clone(l.published), func(p eventbus.PublishedInfo) bool {
		ref := eventRef{p.Topic, p.EventID}
		defer func() { seen[ref] = true }()
		return seen[ref]
	})
}

// publishedTimes returns how often each event was published.
func (l *ledger) publishedTimes() map[eventRef]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.times)
}

// count is how many events were published so far.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.published)
}

// handledBy is how often the group has handled an event of this run on the topic.
func (l *ledger) handledBy(topic, group string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h, times := range l.handled {
		if h.topic == topic && h.group == group && l.times[h.eventRef] > 0 {
			n += times
		}
	}
	return n
}

// unsettled names an event that a group has not handled as often as it was published; "" where all is done.
func (l *ledger) unsettled() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range consumptions {
		for ref, times := range l.times {
			if ref.topic == c.topicName() && l.handled[handling{ref, c.group()}] < times {
				return fmt.Sprintf("%s %s by %s", c.event, shortID(ref.id), c.service)
			}
		}
	}
	return ""
}

// deadLetter names an event of this run that a group has given up, "" for none.
func (l *ledger) deadLetter() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.letters {
		if l.times[eventRef{d.Topic, d.EventID}] > 0 {
			return fmt.Sprintf("%s %s was dead-lettered by %s: %s", shortTopic(d.Topic), shortID(d.EventID), d.Group, d.DeadLetter)
		}
	}
	return ""
}
