package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/dreamscape/eventbus"
)

var errPoison = errors.New("poison")

// BenchmarkConsume runs every scenario with each implementation, one after the other.
func BenchmarkConsume(b *testing.B) {
	for _, of := range []struct {
		name    string
		consume func(*testing.B, *load, *watch)
	}{{"eventbus", eventbusConsumes}, {"franz-go", franzGoConsumes}} {
		clean := 0.0 // events a second
		for _, s := range scenarios() {
			b.Run(of.name+"/"+s.name, func(b *testing.B) {
				var rate float64
				for b.Loop() {
					rate = run(b, s, of.consume)
				}
				if s.sick == 0 {
					clean = rate
				}
				b.ReportMetric(0, "ns/op") // it has the loading in it
				b.ReportMetric(rate, "good/s")
				if clean > 0 {
					b.ReportMetric(rate/(clean*float64(s.goods())/events), "of-clean")
				}
			})
		}
	}
}

// run returns the good events a second.
func run(b *testing.B, s scenario, consume func(*testing.B, *load, *watch)) float64 {
	b.Helper()
	l, w := newLoad(b, s), newWatch(s)
	consume(b, l, w)
	return float64(s.goods()) / w.last.Sub(w.first).Seconds()
}

// handle is what both implementations do with an order.
func (l *load) handle(w *watch, o order) error {
	w.began()
	time.Sleep(work)
	if l.poison(o.Number) {
		return errPoison
	}
	w.done(o.Number)
	return nil
}

func eventbusConsumes(b *testing.B, l *load, w *watch) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	bus := l.bus(b)
	go func() {
		ended <- bus.Run(ctx, l.subscription(func(_ context.Context, e *eventbus.BaseEvent[order]) error { return l.handle(w, e.Payload) }))
	}()
	<-w.all
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func decode(value []byte) (order, error) {
	var envelope struct {
		Payload order `json:"payload"`
	}
	err := json.Unmarshal(value, &envelope)
	return envelope.Payload, err
}
