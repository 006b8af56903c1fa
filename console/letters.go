package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

// lettersView is the section of dead letters.
type lettersView struct {
	Topic, Fingerprint, Letter string // what is asked for
	Problem                    string // what is wrong with that
	Topics                     []letterTopic
	Hidden                     int // topics that there is no room for
	Letters                    []letter
	More                       int // letters of the kind beside these
	AllowRedrive, AllowPurge   bool
	Token                      string // of the forms
	status                     int    // of the answer, where there is a problem
}

// letterTopic is a topic of dead letters, with the kinds of failures in it.
type letterTopic struct {
	look.Topic
	Kinds []eventbus.LetterGroup
	Wrong string
}

// Redrivable says whether its name tells whom its letters are sent back to.
func (t letterTopic) Redrivable() bool { return t.Source != "" && t.Group != "" }

// letter is a dead letter beside its event. Its value is shown by Event alone, which masks secrets.
type letter struct {
	eventbus.DeadLetter
	At    string // partition:offset
	Event look.Event
	Lost  bool // it is only a reference, or cannot be read: there is no event
}

const (
	maxLetters      = 20
	maxLetterTopics = 40
)

// fillLetters finds the dead letters that are asked for, or the kinds of all.
func (c *Console) fillLetters(ctx context.Context, v *lettersView) {
	if v.AllowRedrive || v.AllowPurge {
		v.Token = c.seal.sign(intent{Action: pageForm}, pageLasts)
	}
	topics, err := c.look.Topics(ctx)
	if err != nil {
		v.Problem, v.status = "The topics cannot be listed: "+c.why(ctx, err), http.StatusServiceUnavailable
		return
	}
	v.choose(topics)
	c.kinds(ctx, v.Topics)
	switch {
	case v.status != 0 || v.Topic == "":
	case v.Letter != "":
		c.showLetter(ctx, v)
	case v.Fingerprint != "":
		c.listLetters(ctx, v)
	}
}

// choose keeps the topics that are asked for.
func (v *lettersView) choose(topics []look.Topic) {
	for _, t := range topics {
		if t.Letters && (t.Name == v.Topic || v.Topic == "" && t.Records > 0) {
			v.Topics = append(v.Topics, letterTopic{Topic: t})
		}
	}
	switch {
	case v.Topic != "" && len(v.Topics) == 0:
		v.problem(http.StatusNotFound, "There is no dead-letter topic %s on this cluster: choose one of the list.", cut(v.Topic, 100))
		v.Topic = ""
		v.choose(topics)
	case v.Topic == "" && v.status == 0 && (v.Fingerprint != "" || v.Letter != ""):
		v.problem(http.StatusBadRequest, "A fingerprint or a letter is one of a topic: choose the topic first.")
	}
	if v.Hidden = max(0, len(v.Topics)-maxLetterTopics); v.Hidden > 0 {
		slices.SortStableFunc(v.Topics, func(a, b letterTopic) int { return int(min(1, max(-1, b.Records-a.Records))) })
		v.Topics = v.Topics[:maxLetterTopics]
	}
}

func (v *lettersView) problem(status int, format string, args ...any) {
	v.Problem, v.status = fmt.Sprintf(format, args...), status
}

// kinds counts the letters of topics by fingerprint, of some at once.
func (c *Console) kinds(ctx context.Context, topics []letterTopic) {
	var reading sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for i := range topics {
		reading.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			t := &topics[i]
			letters, err := c.look.Letters(t.Name)
			if err == nil {
				t.Kinds, err = letters.Groups(ctx, eventbus.LetterFilter{})
			}
			t.Wrong = c.why(ctx, err)
		})
	}
	reading.Wait()
}

// listLetters finds the newest letters of a kind.
func (c *Console) listLetters(ctx context.Context, v *lettersView) {
	letters, err := c.look.Letters(v.Topic)
	if err != nil {
		v.problem(http.StatusBadRequest, "These dead letters cannot be read: %s.", c.why(ctx, err))
		return
	}
	var newest []eventbus.Letter
	for l, err := range letters.List(ctx, eventbus.LetterFilter{Fingerprint: v.Fingerprint}) {
		if err != nil {
			v.Problem = "Not all of them could be read: " + c.why(ctx, err)
			break
		}
		if newest = append(newest, l); len(newest) >= 4*maxLetters {
			v.More += len(newest) - maxLetters
			newest = newestLetters(newest)
		}
	}
	v.More += max(0, len(newest)-maxLetters)
	for _, l := range newestLetters(newest) {
		v.Letters = append(v.Letters, c.letter(l))
	}
	if len(v.Letters) == 0 && v.Problem == "" {
		v.problem(http.StatusNotFound, "No dead letter of %s has this fingerprint any longer: choose one of the list.", v.Topic)
	}
}

// newestLetters keeps those that failed last, the last first.
func newestLetters(letters []eventbus.Letter) []eventbus.Letter {
	slices.SortStableFunc(letters, func(a, b eventbus.Letter) int { return b.FailedAt.Compare(a.FailedAt) })
	return slices.Clone(letters[:min(len(letters), maxLetters)])
}

func (c *Console) showLetter(ctx context.Context, v *lettersView) {
	partition, offset, err := letterPlace(v.Letter)
	if err != nil {
		v.problem(http.StatusBadRequest, "%q is no place of a letter: write PARTITION:OFFSET, such as 0:42.", cut(v.Letter, 100))
		return
	}
	letters, err := c.look.Letters(v.Topic)
	if err != nil {
		v.problem(http.StatusBadRequest, "This dead letter cannot be read: %s.", c.why(ctx, err))
		return
	}
	l, err := letters.Show(ctx, partition, offset)
	if ctx.Err() != nil {
		v.problem(http.StatusServiceUnavailable, "This dead letter could not be read in time: load the page again.")
		return
	}
	if err != nil {
		v.problem(http.StatusNotFound, "There is no letter at %s: %s. Choose one of the list.", v.Letter, c.why(ctx, err))
		return
	}
	v.Letters = []letter{c.letter(l)}
}

func letterPlace(text string) (partition int32, offset int64, err error) {
	before, behind, _ := strings.Cut(text, ":")
	p, err := strconv.ParseInt(before, 10, 32)
	o, also := strconv.ParseInt(behind, 10, 64)
	if err = errors.Join(err, also); err == nil && (p < 0 || o < 0) {
		err = errors.New("negative")
	}
	return int32(p), o, err
}

func (c *Console) letter(l eventbus.Letter) letter {
	shown := letter{DeadLetter: l.DeadLetter, At: fmt.Sprintf("%d:%d", l.Partition, l.Offset), Lost: l.Until > 0 || l.Record == nil || l.Record.Topic == ""}
	if !shown.Lost {
		shown.Event = c.look.Event(l.Record)
	}
	shown.Event.Partition, shown.Event.Offset = l.Partition, l.Offset
	return shown
}
