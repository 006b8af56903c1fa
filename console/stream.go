package console

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dreamscape/eventbus/internal/look"
)

const (
	batchEvery    = 200 * time.Millisecond
	keepAlive     = 15 * time.Second
	writeTakes    = 10 * time.Second // before a browser that takes nothing is given up
	retryAfter    = 2 * time.Second  // that a browser waits before it connects again
	maxShownEdges = 200              // of one batch
)

// epoch tells the numbers of this process's streams from those of another.
var epoch = rand.Text()[:8]

// filterOf says which events are meant, or what is wrong with the question, and what to do.
func filterOf(topic, correlation, key string) (look.Filter, string) {
	if len(topic)+len(correlation)+len(key) > maxQueryText {
		return look.Filter{}, fmt.Sprintf("A filter has at most %d characters: give less of it.", maxQueryText)
	}
	f := look.Filter{Topic: strings.TrimSpace(topic), Correlation: strings.TrimSpace(correlation), Key: key}
	if f.Check() != nil {
		return f, fmt.Sprintf("%q is no name and no pattern: write a topic, or a pattern such as dreamscape.payment.* (close each bracket).", topic)
	}
	return f, ""
}

func filterQuery(v streamView) string {
	q := url.Values{}
	for name, value := range map[string]string{"topic": v.Topic, "correlation": v.Correlation, "key": v.Key} {
		if value != "" && v.status != http.StatusBadRequest {
			q.Set(name, value)
		}
	}
	return q.Encode()
}

// serveStream sends what moves, as server-sent events, until the browser leaves or the console is closed: "rows", "flow", the parts of the page by their
// names, and "trouble".
func (c *Console) serveStream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f, problem := filterOf(q.Get("topic"), q.Get("correlation"), q.Get("key"))
	if problem != "" {
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	number, _ := strings.CutPrefix(r.Header.Get("Last-Event-ID"), epoch+"-")
	after, _ := strconv.ParseUint(number, 10, 64) // of another process: from the beginning; the page knows which rows it has
	watcher, ok := c.hub.watch(f, after)
	if !ok {
		http.Error(w, fmt.Sprintf("%d browsers watch already: close some, or reload the page for what is new.", maxWatchers), http.StatusServiceUnavailable)
		return
	}
	defer c.hub.leave(watcher)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	out := &sender{w: w, control: http.NewResponseController(w)}
	fmt.Fprintf(&out.buffer, "retry: %d\n\n", retryAfter.Milliseconds())
	c.stream(r, out, watcher)
}

func (c *Console) stream(r *http.Request, out *sender, watcher *watcher) {
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for sent := time.Now(); out.flush() == nil; {
		select {
		case <-r.Context().Done():
			return
		case <-c.ended:
			return
		case <-tick.C:
		}
		out.batch(c.hub.next(watcher))
		if out.buffer.Len() > 0 {
			sent = time.Now()
		} else if time.Since(sent) >= keepAlive {
			out.buffer.WriteString(": still here\n\n")
			sent = time.Now()
		}
	}
}

// sender writes server-sent events. One that cannot write in time is of a browser that is gone.
type sender struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buffer  bytes.Buffer
}

func (s *sender) flush() error {
	if s.buffer.Len() == 0 {
		return nil
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTakes)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	defer s.buffer.Reset()
	if _, err := s.w.Write(s.buffer.Bytes()); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	_ = s.control.SetWriteDeadline(time.Time{}) // HTTP/2 would end a stream that has nothing to say until then
	return nil
}

// send adds an event; no line of data is taken for a field.
func (s *sender) send(name, id string, data []byte) {
	fmt.Fprintf(&s.buffer, "event: %s\n", name)
	if id != "" {
		fmt.Fprintf(&s.buffer, "id: %s\n", id)
	}
	data = bytes.ReplaceAll(data, []byte("\r"), nil)
	for line := range bytes.Lines(data) {
		fmt.Fprintf(&s.buffer, "data: %s\n", bytes.TrimSuffix(line, []byte("\n")))
	}
	s.buffer.WriteString("\n")
}

func (s *sender) batch(b batch) {
	if len(b.Rows) > 0 || b.Skipped > 0 {
		if html, err := fragment("rows", b); err == nil {
			s.send("rows", fmt.Sprintf("%s-%d", epoch, b.newest), html)
		}
	}
	if len(b.flow) > 0 {
		s.send("flow", "", b.flow.json())
	}
	for _, p := range b.parts {
		s.send(p.name, "", p.html)
	}
	if b.trouble != nil {
		text, _ := json.Marshal(*b.trouble)
		s.send("trouble", "", text)
	}
}

// json writes the busiest edges, and how many events flowed in all: [{"kind","from","to","n"}], n.
func (t traffic) json() []byte {
	type flowed struct {
		Kind flow   `json:"kind"`
		From string `json:"from"`
		To   string `json:"to"`
		N    int64  `json:"n"`
	}
	var all struct {
		Edges []flowed `json:"edges"`
		Total int64    `json:"total"` // of events
	}
	for e, n := range t {
		all.Edges = append(all.Edges, flowed{e.Kind, e.From, e.To, n})
		if e.Kind != flowConsume {
			all.Total += n
		}
	}
	slices.SortFunc(all.Edges, func(a, b flowed) int { return int(b.N - a.N) })
	all.Edges = all.Edges[:min(len(all.Edges), maxShownEdges)]
	text, _ := json.Marshal(all) // texts and numbers
	return text
}

// withSlash says where the page is whose address lacks the slash that relative links need: /console for /console/.
func withSlash(r *http.Request) (location string, bare bool) {
	asked, err := url.ParseRequestURI(r.RequestURI)
	if err != nil || r.URL.Path != "" || asked.Path == "" || strings.HasSuffix(asked.Path, "/") {
		return "", false
	}
	to := url.URL{Path: "./" + path.Base(asked.Path) + "/", RawQuery: asked.RawQuery}
	return to.String(), true
}
