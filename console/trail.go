package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dreamscape/eventbus/internal/look"
)

// trailView is the section of a correlation id's trail.
type trailView struct {
	Correlation string
	Problem     string // what is wrong with the question
	Note        string
	Steps       []step
	Took        time.Duration // from the first event to the last
	Services    int
	status      int // of the answer, where there is a problem
}

// step is an event of the trail, with where its bar is, in thousandths: it begins where the event's cause was published, and ends where the event was.
type step struct {
	look.Step
	Level       int // how far it is indented
	Bar, Length int
}

const (
	maxSteps     = 300
	maxLevel     = 6
	maxQueryText = 1024
)

func (c *Console) newTrail(ctx context.Context, correlation string) trailView {
	v := trailView{Correlation: correlation}
	if correlation == "" {
		return v
	}
	if len(correlation) > maxQueryText {
		v.status = http.StatusBadRequest
		v.Correlation, v.Problem = "", fmt.Sprintf("A correlation id has at most %d characters here: copy it anew from an event.", maxQueryText)
		return v
	}
	var trail look.Trail
	var err, unread error
	searched := time.Duration(0)
	for _, back := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, c.opts.Since} { // what is new first: an id is mostly taken from there
		if back = min(back, c.opts.Since); back <= searched {
			continue
		}
		var found look.Trail
		opts := look.TailOptions{Since: time.Now().Add(-back), Trouble: func(err error) { unread = cmp.Or(unread, err) }}
		if found, err = c.look.Trail(ctx, correlation, opts); err != nil {
			if len(found.Steps) > len(trail.Steps) {
				trail = found
			}
			break
		}
		trail, searched = found, back
	}
	v.take(trail.Steps)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		v.Note = "Only what was read in time is shown: `eventbus trail` takes more of it."
		if searched > 0 {
			v.Note = fmt.Sprintf("Only what was read in time is shown, all of the last %s: `eventbus trail` looks further.", hours(searched))
		}
	case cmp.Or(err, unread) != nil:
		v.Note = "Not all of it could be read: " + c.why(ctx, cmp.Or(err, unread))
	case len(trail.Steps) == 0:
		v.Note = fmt.Sprintf("No event of the last %s has this correlation id: check it, or look further back by Options.Since.", hours(c.opts.Since))
	}
	return v
}

// hours is how far back is looked.
func hours(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// take lays the steps out.
func (v *trailView) take(steps []look.Step) {
	if len(steps) == 0 {
		return
	}
	for _, s := range steps {
		v.Took = max(v.Took, s.After)
	}
	if len(steps) > maxSteps {
		v.Note = fmt.Sprintf("The first %d events of %d are shown.", maxSteps, len(steps))
		steps = steps[:maxSteps]
	}
	services, came := map[string]bool{}, map[string]time.Duration{}
	for _, s := range steps {
		services[s.Source] = true
		if _, there := came[s.EventID]; !there {
			came[s.EventID] = s.After
		}
		one := step{Step: s, Level: min(s.Depth, maxLevel)}
		begin, caused := came[s.CausationID]
		if !caused || begin > s.After {
			begin = s.After
		}
		one.Length = max(10, share(s.After-begin, v.Took))
		one.Bar = min(share(begin, v.Took), 1000-one.Length)
		v.Steps = append(v.Steps, one)
	}
	v.Services = len(services)
}

// share is d of the whole, in thousandths.
func share(d, whole time.Duration) int {
	if whole <= 0 {
		return 0
	}
	return int(1000 * max(0, d) / whole)
}
