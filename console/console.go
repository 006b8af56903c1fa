// Package console is one page that shows an operator what happens on the cluster of a bus: a live map of services, topics and groups, the stream of
// events, the trail of a correlation id across services, groups and how far they are behind, blocked keys, dead letters beside the events that failed, and
// health. It is an [http.Handler] that a service mounts:
//
//	page, err := console.New(bus, nil)
//	mux.Handle("/console/", http.StripPrefix("/console", page))
//
// It has no login of its own: whoever reaches it sees every event of the cluster, so mount it behind yours. Secrets are masked: the fields that a topic's
// schema marks writeOnly, and where there is no schema, what is named like a secret.
//
// It reads the cluster beside any group and only while somebody looks; it hooks into nothing, so publishers and handlers never wait for it. It changes
// something only where [Options.AllowRedrive] or [Options.AllowPurge] says so, after it has asked a second time.
package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

// Options are the properties of a console; the zero value works, and changes nothing on the cluster.
type Options struct {
	// Topics are those whose events are decoded and checked; those of other topics are shown as they are, with what is named like a secret masked.
	// nil: [eventbus.Catalogue].
	Topics []eventbus.AnyTopic
	// AllowRedrive allows dead letters to be sent back to their group, after a second question. Default: false; the page has no button for it, and a request is refused.
	AllowRedrive bool
	// AllowPurge allows dead letters to be deleted, likewise. Default: false.
	AllowPurge bool
	// Title is shown at the top. Default: "eventbus".
	Title string
	// Since is how far back the stream and the trail look. Default: 24 h.
	Since time.Duration
	// Hosts are further names under which [Console.ListenAndServe] answers, such as "console.internal". Default: none.
	Hosts []string
}

// Console is the page, and what it needs to be live. Make one with [New], end it with [Console.Close]. It is safe for concurrent use; its zero value is not
// usable.
type Console struct {
	bus   *eventbus.Bus
	look  *look.Cluster
	opts  Options
	hub   *hub
	seal  *seal
	jobs  *jobs
	guard *http.CrossOriginProtection
	room  chan struct{} // for the pages that are made at once

	ended chan struct{} // closed by Close: streams and jobs end
	close func()
}

// New returns a console of the cluster that bus connects to. opts may be nil. It asks nobody yet: a broker that is away is said on the page. The error says
// what is wrong with the arguments. bus stays the caller's, and must not be shut down before [Console.Close] has returned.
func New(bus *eventbus.Bus, opts *Options) (*Console, error) {
	if bus == nil {
		return nil, errors.New("console: bus is nil")
	}
	c := &Console{bus: bus, ended: make(chan struct{}), guard: http.NewCrossOriginProtection(), room: make(chan struct{}, atOnce)}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.Since < 0 {
		return nil, fmt.Errorf("console: field Since: %v is negative", c.opts.Since)
	}
	if c.opts.Since == 0 {
		c.opts.Since = 24 * time.Hour
	}
	if c.opts.Title == "" {
		c.opts.Title = "eventbus"
	}
	var err error
	if c.look, err = look.New(bus, c.opts.Topics); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	c.seal, c.jobs = newSeal(), newJobs(c.ended)
	c.hub = newHub(c.look, c.observe)
	c.close = sync.OnceFunc(func() {
		close(c.ended)
		c.hub.close()
		c.jobs.close()
		c.look.Close()
	})
	return c, nil
}

// Close ends what is live: streams to browsers, reading, and a redrive that is under way, which goes on where it stopped when it is asked for again. It blocks until all of that
// has ended, a few seconds at most. Call it before the bus is shut down, and before [http.Server.Shutdown], which would wait for the streams. Requests that come
// later are answered 503. Calling it again does nothing.
func (c *Console) Close() { c.close() }

// policy has browsers load nothing but what this handler serves, and run no script that is written into the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves the page and what belongs to it. All its addresses are relative, so it works under any prefix that [http.StripPrefix] takes away. A page
// takes 5 s at most, also where no broker answers; the question before a redrive or a purge, which counts the letters, 30 s; a stream lasts until the browser
// leaves or Close is called. A redrive that takes longer than 8 s goes on behind the page, which says so.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	select {
	case <-c.ended:
		c.refuse(w, http.StatusServiceUnavailable, "This console is closed: its service is shutting down.")
		return
	default:
	}
	if err := c.guard.Check(r); err != nil {
		c.refuse(w, http.StatusForbidden, "This request came from another site and was refused: use the buttons of the console's own page.")
		return
	}
	c.route(w, r, strings.TrimPrefix(r.URL.Path, "/"))
}

func (c *Console) route(w http.ResponseWriter, r *http.Request, name string) {
	serve, method := http.HandlerFunc(nil), http.MethodGet
	switch name {
	case "":
		serve = c.servePage
	case "stream":
		serve = c.serveStream
	case actionRedrive, actionPurge:
		serve, method = c.serveAction, http.MethodPost
	default:
		if f, ok := static[name]; ok {
			serve = f.serve
		}
	}
	switch {
	case serve == nil:
		c.refuse(w, http.StatusNotFound, "There is no such page here: the console is a single one.")
	case r.Method != method && (r.Method != http.MethodHead || method != http.MethodGet):
		w.Header().Set("Allow", method)
		c.refuse(w, http.StatusMethodNotAllowed, "This address answers "+method+" only: go back to the console.")
	default:
		serve(w, r)
	}
}

// refuse answers with a sentence.
func (c *Console) refuse(w http.ResponseWriter, status int, sentence string) {
	render(w, status, "refusal", struct{ Title, Sentence string }{c.opts.Title, sentence})
}

// untilClosed ends with ctx, after d, or when the console is closed.
func (c *Console) untilClosed(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	go func() {
		select {
		case <-c.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
