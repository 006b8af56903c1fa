package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/dreamscape/eventbus"
)

const (
	actionRedrive = "redrive"
	actionPurge   = "purge"

	maxFormBytes = 64 << 10
	dryRunTakes  = 30 * time.Second
)

// confirmView is the second question.
type confirmView struct {
	Title       string
	Action      string
	Topic       string
	Fingerprint string
	Redrive     *eventbus.RedriveReport
	Purge       *eventbus.PurgeReport
	Letters     int64
	Token       string
}

// serveAction asks a second time, with what a dry run says, and does what was confirmed then.
func (c *Console) serveAction(w http.ResponseWriter, r *http.Request) {
	action := actionRedrive
	if r.URL.Path == actionPurge || r.URL.Path == "/"+actionPurge {
		action = actionPurge
	}
	if action == actionRedrive && !c.opts.AllowRedrive || action == actionPurge && !c.opts.AllowPurge {
		c.refuse(w, http.StatusForbidden, fmt.Sprintf("This console may not %s: its service allows it by console.Options.", action))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(headerTimeout)) // of a server that can: a form may never come
	err := r.ParseForm()
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		c.refuse(w, http.StatusBadRequest, "This form cannot be read: go back to the console and use its buttons.")
		return
	}
	if token := r.PostForm.Get("confirm"); token != "" {
		c.carryOut(w, r, action, token)
		return
	}
	if i, err := c.seal.open(r.PostForm.Get("token")); err != nil || i.Action != pageForm {
		c.refuse(w, http.StatusForbidden, "This form does not come from a page of this console, or that page is too old: load the console again and use its buttons.")
		return
	}
	ctx, cancel := c.untilClosed(r.Context(), dryRunTakes)
	defer cancel()
	v, err := c.rehearse(ctx, action, r.PostForm.Get("topic"), r.PostForm.Get("fingerprint"))
	if err != nil {
		c.refuse(w, http.StatusUnprocessableEntity, fmt.Sprintf("There is nothing to %s: %s.", action, c.why(ctx, err)))
		return
	}
	render(w, http.StatusOK, "confirm", v)
}

// lettersOf returns the dead letters of a topic that is one of those.
func (c *Console) lettersOf(ctx context.Context, topic string) (*eventbus.DeadLetters, error) {
	topics, err := c.look.Topics(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range topics {
		if t.Letters && t.Name == topic {
			return c.look.Letters(topic)
		}
	}
	return nil, fmt.Errorf("there is no dead-letter topic %q", cut(topic, 100))
}

// rehearse says what would be done, and makes the token that does exactly that.
func (c *Console) rehearse(ctx context.Context, action, topic, fingerprint string) (*confirmView, error) {
	letters, err := c.lettersOf(ctx, topic)
	if err != nil {
		return nil, err
	}
	v := &confirmView{Title: c.opts.Title, Action: action, Topic: topic}
	i := intent{Action: action, Topic: topic}
	if action == actionRedrive {
		if fingerprint == "" {
			return nil, errors.New("no fingerprint says which letters")
		}
		report, err := letters.Redrive(ctx, eventbus.RedriveOptions{Filter: eventbus.LetterFilter{Fingerprint: fingerprint}})
		if err != nil {
			return nil, err
		}
		v.Fingerprint, v.Redrive, v.Letters = fingerprint, &report, int64(report.Sent)
		i.Fingerprint = fingerprint
	} else {
		report, err := letters.Purge(ctx, eventbus.PurgeOptions{All: true})
		if err != nil {
			return nil, err
		}
		v.Purge, v.Letters = &report, report.Letters
		i.Offsets = map[int32]int64{}
		for _, p := range report.Partitions {
			if p.To > p.From {
				i.Offsets[p.Partition] = p.To
			}
		}
	}
	if i.Letters = v.Letters; v.Letters > 0 {
		v.Token = c.seal.sign(i, intentLasts)
	}
	return v, nil
}

// carryOut does what a token says, once, and sends the browser back to the page, which tells of it.
func (c *Console) carryOut(w http.ResponseWriter, r *http.Request, action, token string) {
	i, err := c.seal.spend(token)
	if err == nil && i.Action != action {
		err = errForged
	}
	if err != nil {
		c.refuse(w, http.StatusForbidden, fmt.Sprintf("This confirmation does not count: %v. Nothing was done; go back to the console and ask anew.", err))
		return
	}
	do, what := c.redrive, fmt.Sprintf("Redrive of %s of %s, fingerprint %s", plural(i.Letters, "letter"), i.Topic, i.Fingerprint)
	if action == actionPurge {
		do, what = c.purge, fmt.Sprintf("Purge of %s of %s", plural(i.Letters, "letter"), i.Topic)
	}
	one := c.jobs.start(what, func(ctx context.Context) (string, error) { return do(ctx, i) })
	if one == nil {
		c.refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d redrives or purges run already: wait until one has ended, and ask anew. Nothing was done.", maxRunning))
		return
	}
	one.await(r.Context())
	// a relative address stays one: http.Redirect would resolve it against a path that StripPrefix has cut
	w.Header().Set("Location", "./?job="+url.QueryEscape(one.ID)+"#letters")
	c.refuse(w, http.StatusSeeOther, "It is under way.")
}

func (c *Console) redrive(ctx context.Context, i intent) (string, error) {
	letters, err := c.look.Letters(i.Topic)
	if err != nil {
		return err.Error(), err
	}
	report, err := letters.Redrive(ctx, eventbus.RedriveOptions{Send: true, Filter: eventbus.LetterFilter{Fingerprint: i.Fingerprint}})
	outcome := plural(report.Sent, "letter") + " sent back to the group"
	if left := report.Quarantined + report.Strangers + report.Skipped; left > 0 {
		outcome += fmt.Sprintf(", %d left", left)
	}
	if err != nil {
		return fmt.Sprintf("%s, then it stopped: %s. Ask again to go on from there", outcome, c.why(ctx, err)), err
	}
	return outcome, nil
}

func (c *Console) purge(ctx context.Context, i intent) (string, error) {
	letters, err := c.look.Letters(i.Topic)
	if err != nil {
		return err.Error(), err
	}
	report, err := letters.Purge(ctx, eventbus.PurgeOptions{Delete: true, Offsets: i.Offsets})
	outcome := plural(report.Letters, "letter") + " deleted"
	if err != nil {
		return fmt.Sprintf("%s, then it stopped: %s", outcome, c.why(ctx, err)), err
	}
	return outcome, nil
}
