package eventbus

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Health is what a bus knows of itself; it is read from memory. Status, Kafka and Error have the names and values of the TypeScript
// package.
type Health struct {
	Status string `json:"status"`          // "healthy" or "unhealthy": Live and Ready
	Kafka  string `json:"kafka"`           // "connected" or "disconnected"
	Error  string `json:"error,omitempty"` // the first thing that is wrong
	// Live says that the process can make progress; restart it if not. A broker that is away, a refused login, a lag: all live.
	Live bool `json:"live"`
	// Ready says that brokers answer, and that every group has joined and finds its topics.
	Ready  bool          `json:"ready"`
	Groups []GroupHealth `json:"groups,omitempty"` // by name
}

// GroupHealth is the state of a subscription.
type GroupHealth struct {
	Group      string            `json:"group"` // Kafka's name
	Joined     bool              `json:"joined"`
	Lag        int64             `json:"lag"`                // in records
	LagTime    time.Duration     `json:"-"`                  // the largest of its partitions; in JSON: lagSeconds
	Paused     string            `json:"paused,omitempty"`   // "by Pause", or "downstream": what handlers call is down; else ""
	Detached   int               `json:"detached,omitempty"` // handlers that were left behind and still run
	Problems   []string          `json:"problems,omitempty"` // what is wrong, such as a missing topic
	Partitions []PartitionHealth `json:"partitions"`         // those assigned to this member, by topic and number
}

// PartitionHealth is the state of an assigned partition.
type PartitionHealth struct {
	Topic     string `json:"topic"` // Kafka's name
	Partition int32  `json:"partition"`
	Position  int64  `json:"position"`  // the offset of the first record not done; -1 before the first
	Committed int64  `json:"committed"` // the offset last committed by this member; -1 for none
	Lag       int64  `json:"lag"`
	// LagTime is how much older the first record not done is than the newest of the partition. In JSON: lagSeconds.
	LagTime time.Duration `json:"-"`
	// Oldest is the age of the first record not done, by its timestamp; 0 where none is fetched. In JSON: oldestSeconds.
	Oldest time.Duration `json:"-"`
	Queued int           `json:"queued"` // records fetched and not done
	Bytes  int           `json:"bytes"`  // memory that they take
	Span   int64         `json:"span"`   // from Position to the last record fetched
	// Paused says why the partition is not fetched: a limit that is reached ("records in flight", "bytes in flight", "span", "in flight on
	// the bus"), "downstream", "by Pause", or "to begin anew", for as long as it is not known from where. "" while it is.
	Paused string `json:"paused,omitempty"`
	// Waiting says what the first event that waits, waits for: its next try, its dead letter, or the end of a handler of its key that was
	// left behind when the partition was away.
	Waiting string `json:"waiting,omitempty"`
	// ParkedKeys counts the keys whose first event waits for another try, and Parked has the first ten of them, by offset.
	ParkedKeys int         `json:"parkedKeys"`
	Parked     []ParkedKey `json:"parked,omitempty"`
	// Sequences counts the keys that are parked among the dead letters: see OrderSequenced and DeadLetters.Sequences.
	Sequences int `json:"sequences,omitempty"`
}

// MarshalJSON writes LagTime and Oldest in seconds.
func (p PartitionHealth) MarshalJSON() ([]byte, error) {
	type plain PartitionHealth
	return json.Marshal(struct {
		plain
		LagSeconds    float64 `json:"lagSeconds"`
		OldestSeconds float64 `json:"oldestSeconds"`
	}{plain(p), p.LagTime.Seconds(), p.Oldest.Seconds()})
}

// MarshalJSON writes LagTime in seconds.
func (g GroupHealth) MarshalJSON() ([]byte, error) {
	type plain GroupHealth
	return json.Marshal(struct {
		plain
		LagSeconds float64 `json:"lagSeconds"`
	}{plain(g), g.LagTime.Seconds()})
}

// Health returns the state of this moment, from memory; it never blocks and never asks Kafka. ctx is not used.
func (b *Bus) Health(_ context.Context) Health {
	connected, broken := b.link.connected()
	h := Health{Kafka: "connected", Live: !b.closed.Load(), Ready: connected && !b.closed.Load()}
	if !connected {
		h.Kafka = "disconnected"
	}
	if broken != nil && !connected {
		h.Error = broken.Error()
	}
	if h.Error == "" {
		if wrong := b.link.certificate(); wrong != nil {
			h.Error = wrong.Error()
		}
	}
	if b.closed.Load() {
		h.Error = ErrClosed.Error()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.groups {
		g, live := c.health()
		h.Live = h.Live && live
		h.Ready = h.Ready && c.unready() == ""
		h.Groups = append(h.Groups, g)
	}
	slices.SortFunc(h.Groups, func(a, b GroupHealth) int { return cmp.Compare(a.Group, b.Group) })
	for _, g := range h.Groups {
		if h.Error == "" && len(g.Problems) > 0 {
			h.Error = g.Group + ": " + g.Problems[0]
		}
	}
	h.Status = "unhealthy"
	if h.Live && h.Ready {
		h.Status = "healthy"
	}
	return h
}

// HealthHandler serves the state from memory, whatever the method: a path that ends in /live answers 200 while Live, one that ends
// in /ready while Ready, else 503, both without details; every other path answers the whole [Health] as JSON, 200 while healthy.
// Details name topics and groups: serve them to operators only.
func (b *Bus) HealthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := b.Health(r.Context())
		switch {
		case strings.HasSuffix(r.URL.Path, "/live"):
			answer(w, h.Live, map[string]bool{"live": h.Live})
		case strings.HasSuffix(r.URL.Path, "/ready"):
			answer(w, h.Ready, map[string]bool{"ready": h.Ready})
		default:
			answer(w, h.Status == "healthy", h)
		}
	})
}

func answer(w http.ResponseWriter, ok bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// stallAfter is after how long without a sign of life a group counts as stalled.
const stallAfter = time.Minute
