package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/dreamscape/eventbus/internal/look"
)

// pageView is the page.
type pageView struct {
	Title   string
	Made    time.Time
	Since   string
	Trouble string // why the cluster does not answer
	Jobs    []job
	Health  healthView
	Map     flowMap
	Stream  streamView
	Trail   trailView
	Groups  groupsView
	Blocked blockedView
	Letters lettersView
	Topics  []look.Topic // to choose from
	Status  int
}

// streamView is the section of the stream.
type streamView struct {
	Topic, Correlation, Key string
	Problem                 string // what is wrong with the topic that is asked for
	Note                    string
	Rows                    []look.Event // the newest first
	Live                    string       // the address of the stream
	status                  int          // of the answer, where there is a problem
}

const (
	connectTakes = 3 * time.Second
	pageTakes    = 4500 * time.Millisecond
)

// servePage asks the cluster everything at once, with one deadline.
func (c *Console) servePage(w http.ResponseWriter, r *http.Request) {
	if location, bare := withSlash(r); bare {
		w.Header().Set("Location", location)
		c.refuse(w, http.StatusPermanentRedirect, "The console is at an address with a slash at its end.")
		return
	}
	ctx, cancel := c.untilClosed(r.Context(), pageTakes)
	defer cancel()
	select {
	case c.room <- struct{}{}:
	case <-ctx.Done():
		c.refuse(w, http.StatusServiceUnavailable, "Many load this page at once, or the cluster is slow: load it again in a moment.")
		return
	}
	p := c.load(ctx, r.URL.Query()) // before it is sent there is room again: a browser may take its time
	render(w, p.Status, "page", p)
}

// load makes the page, and leaves the room that was taken for that.
func (c *Console) load(ctx context.Context, q url.Values) *pageView {
	defer func() { <-c.room }()
	p := &pageView{Title: c.opts.Title, Made: time.Now(), Since: hours(c.opts.Since), Status: http.StatusOK, Jobs: c.jobs.told(q.Get("job"))}
	p.Stream = streamView{Topic: q.Get("topic"), Correlation: q.Get("correlation"), Key: q.Get("key")}
	p.Trail.Correlation = q.Get("trail")
	p.Letters = lettersView{Topic: q.Get("letters"), Fingerprint: q.Get("fingerprint"), Letter: q.Get("letter"), AllowRedrive: c.opts.AllowRedrive, AllowPurge: c.opts.AllowPurge}
	if p.Trouble = c.connect(ctx); p.Trouble == "" {
		c.fill(ctx, p)
	} else {
		p.Status = http.StatusServiceUnavailable
		p.Health = c.newHealth(c.bus.Health(ctx), survey{topicsWrong: p.Trouble})
		p.Blocked = c.newBlocked(p.Health.Health, survey{})
	}
	p.Stream.Live = "stream?" + filterQuery(p.Stream)
	return p
}

// connect says why no broker answers, "" where one does.
func (c *Console) connect(ctx context.Context) string {
	within, cancel := context.WithTimeout(ctx, connectTakes)
	defer cancel()
	err := c.look.Connect(within)
	if err == nil {
		return ""
	}
	why := cmp.Or(c.bus.Health(ctx).Error, fmt.Sprintf("none answered within %v", connectTakes))
	if !errors.Is(err, context.DeadlineExceeded) {
		why = err.Error()
	}
	return why
}

func (c *Console) fill(ctx context.Context, p *pageView) {
	var s survey
	var events []look.Event // for the map
	var asking sync.WaitGroup
	asking.Go(func() { s = c.survey(ctx) })
	asking.Go(func() { events = c.fillStream(ctx, p) })
	asking.Go(func() { p.Trail = c.newTrail(ctx, p.Trail.Correlation) })
	asking.Go(func() { c.fillLetters(ctx, &p.Letters) })
	asking.Wait()
	h := c.bus.Health(ctx)
	p.Topics, p.Groups = s.topics, newGroups(s)
	p.Health, p.Blocked = c.newHealth(h, s), c.newBlocked(h, s)
	p.Map = c.newMap(s, c.hub.learn(events))
	p.Status = cmp.Or(p.Stream.status, p.Trail.status, p.Letters.status, p.Status)
}

const (
	lastOfEach         = 25   // records of each partition that a page looks at
	lastOfEachSearched = 2000 // likewise, where few of them pass
)

// fillStream finds the newest events that pass. It returns all that were looked at.
func (c *Console) fillStream(ctx context.Context, p *pageView) (looked []look.Event) {
	v := &p.Stream
	f, problem := filterOf(v.Topic, v.Correlation, v.Key)
	if problem != "" {
		v.Problem, v.status = problem, http.StatusBadRequest
		f = look.Filter{}
	}
	opts := look.TailOptions{Since: time.Now().Add(-c.opts.Since), Last: lastOfEach, Filter: f}
	if f.Topic != "" {
		opts.Topics = []string{f.Topic}
	}
	if f.Correlation != "" || f.Key != "" {
		opts.Last = lastOfEachSearched
	}
	var newest []look.Event
	learned := traffic{}
	err := c.look.Tail(ctx, opts, func(e look.Event) bool {
		trim(&e)
		if at := flowOf(&e); learned[at] == 0 && len(learned) < maxEdges {
			learned[at]++
			looked = append(looked, e)
		}
		if newest = append(newest, e); len(newest) >= 8*maxRows {
			newest = newestOf(newest)
		}
		return true
	})
	v.Rows = newestOf(newest)
	slices.Reverse(v.Rows)
	switch {
	case errors.Is(err, look.ErrNoTopic):
		v.status = http.StatusNotFound
		v.Problem = fmt.Sprintf("There is no topic %s on this cluster: choose one of the list, or a pattern such as dreamscape.payment.*", cut(v.Topic, 100))
	case errors.Is(err, context.DeadlineExceeded):
		v.Note = "Only what was read in time is shown; what comes from now on follows."
	case err != nil:
		v.Note = "Not all of it could be read: " + c.why(ctx, err)
	}
	return looked
}

// newestOf keeps the newest events that a page has room for, by their times, the oldest first.
func newestOf(events []look.Event) []look.Event {
	slices.SortStableFunc(events, func(a, b look.Event) int { return a.Time.Compare(b.Time) })
	if over := len(events) - maxRows; over > 0 {
		events = append(events[:0], events[over:]...)
	}
	return events
}
