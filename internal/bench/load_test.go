package bench_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/embedded"
)

const (
	events     = 60_000
	keys       = 1_000
	partitions = 12
	oneIn      = 1_000 // events, poison
	work       = time.Millisecond
	group      = "bench-group"
)

// order is a payload of about 200 bytes.
type order struct {
	ID       string           `json:"id"`
	Number   int              `json:"number"`
	Amount   eventbus.Decimal `json:"amount"`
	Customer string           `json:"customer"`
	Street   string           `json:"street"`
	City     string           `json:"city"`
	Items    []item           `json:"items"`
}

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

const orderSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["id", "number", "amount", "items"],
  "properties": {
    "id": {"type": "string", "minLength": 1},
    "number": {"type": "integer", "minimum": 0},
    "amount": {"type": "number", "minimum": 0},
    "customer": {"type": "string"},
    "items": {
      "type": "array",
      "items": {
        "type": "object",
        "required": ["sku", "quantity"],
        "properties": {"sku": {"type": "string", "minLength": 1}, "quantity": {"type": "integer", "minimum": 1}}
      }
    }
  }
}`

// scenario says which events are poison. Keys are numbered from 0; those below sick have all of the poison.
type scenario struct {
	name string
	sick int
}

func scenarios() []scenario {
	return []scenario{{"clean", 0}, {"spread", 100}, {"one_key", 1}}
}

// key of the i-th event: in turn, but that poison goes to the sick keys alone.
func (s scenario) key(i int) int {
	if s.sick > 0 && i%oneIn == 0 {
		return i / oneIn % s.sick
	}
	return i % keys
}

func (s scenario) poison(i int) bool { return s.sick > 0 && i%oneIn == 0 }

func (s scenario) good(i int) bool { return s.key(i) >= s.sick }

func (s scenario) goods() int {
	n := 0
	for i := range events {
		if s.good(i) {
			n++
		}
	}
	return n
}

// load is a broker that has a scenario's events.
type load struct {
	scenario
	broker *embedded.Broker
	topic  *eventbus.Topic[order]
	ends   []func() // the first last
}

// close ends the broker and the buses: a benchmark has many loads, one after the other.
func (l *load) close() {
	for _, end := range slices.Backward(l.ends) {
		end()
	}
}

func newLoad(b *testing.B, s scenario) *load {
	b.Helper()
	broker, err := embedded.Start(embedded.Options{Topics: []string{}})
	if err != nil {
		b.Fatal(err)
	}
	l := &load{scenario: s, broker: broker, ends: []func(){broker.Close}, topic: eventbus.NewTopic("bench.orders.placed", &eventbus.TopicOptions[order]{
		Key: func(o order) string { return o.ID }, Schema: []byte(orderSchema),
	})}
	bus := l.bus(b)
	if err := bus.EnsureTopics(b.Context(), l.subscription(nil).Topics()...); err != nil {
		b.Fatal(err)
	}
	const batch = 1_000
	for from := 0; from < events; from += batch {
		var placed []eventbus.AnyEvent
		for i := from; i < min(from+batch, events); i++ {
			placed = append(placed, l.topic.New(l.order(i)))
		}
		if err := bus.Publish(b.Context(), placed...); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func (l *load) order(i int) order {
	amount, err := eventbus.ParseDecimal(fmt.Sprintf("%d.%02d", i%900+10, i%100))
	if err != nil {
		panic(err)
	}
	return order{
		ID: fmt.Sprintf("order-%04d", l.key(i)), Number: i, Amount: amount, Customer: "Ada Lovelace", Street: "12 St James's Square", City: "London",
		Items: []item{{"engine-analytical-1", 1}, {"card-punched-80", 400}},
	}
}

func (l *load) bus(b *testing.B) *eventbus.Bus {
	b.Helper()
	bus, err := eventbus.New(eventbus.Config{
		Service: "bench", Brokers: l.broker.Brokers(), Logger: slog.New(slog.DiscardHandler),
		NewTopics: eventbus.TopicDefaults{Partitions: partitions}, Retry: eventbus.RetryPolicy{Jitter: -1},
	})
	if err != nil {
		b.Fatal(err)
	}
	l.ends = append(l.ends, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := bus.Shutdown(ctx); err != nil {
			b.Error(err)
		}
	})
	return bus
}

func (l *load) subscription(h eventbus.Handler[order]) eventbus.Subscription {
	if h == nil {
		h = func(context.Context, *eventbus.BaseEvent[order]) error { return nil }
	}
	return eventbus.Subscription{Group: group, Routes: []eventbus.Route{l.topic.Handle(h, nil)}}
}

// watch is when a run's good events were handled. It is safe for concurrent use.
type watch struct {
	all chan struct{} // closed when the last good event was handled

	mu          sync.Mutex
	left        map[int]bool // numbers of good events that are not handled
	first, last time.Time
}

func newWatch(s scenario) *watch {
	w := &watch{all: make(chan struct{}), left: map[int]bool{}}
	for i := range events {
		if s.good(i) {
			w.left[i] = true
		}
	}
	return w
}

func (w *watch) began() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first.IsZero() {
		w.first = time.Now()
	}
}

func (w *watch) done(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.left[i] {
		return
	}
	delete(w.left, i)
	if len(w.left) == 0 {
		w.last = time.Now()
		close(w.all)
	}
}
