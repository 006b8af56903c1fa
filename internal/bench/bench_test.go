package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dreamscape/eventbus"
)

var errPoison = errors.New("poison")

// BenchmarkConsume runs all scenarios with each implementation, in turn, as often as -benchtime says (9x), and reports medians: good events a
// second, and what that is of the clean run before it, for the share of its events that are good.
func BenchmarkConsume(b *testing.B) {
	for _, of := range []struct {
		name    string
		consume func(*testing.B, *load, *watch)
	}{{"eventbus", eventbusConsumes}, {"franz-go", franzGoConsumes}} {
		b.Run(of.name, func(b *testing.B) {
			rates, ofClean := map[string][]float64{}, map[string][]float64{}
			for b.Loop() {
				clean := 0.0
				for _, s := range scenarios() {
					rate := run(b, s, of.consume)
					if s.sick == 0 {
						clean = rate
					}
					rates[s.name] = append(rates[s.name], rate)
					ofClean[s.name] = append(ofClean[s.name], rate/(clean*float64(s.goods())/events))
				}
			}
			b.ReportMetric(0, "ns/op") // it has the loading in it
			for _, s := range scenarios() {
				b.ReportMetric(median(rates[s.name]), s.name+"-good/s")
				if s.sick > 0 {
					b.ReportMetric(median(ofClean[s.name]), s.name+"-of-clean")
				}
			}
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// run returns the good events a second.
func run(b *testing.B, s scenario, consume func(*testing.B, *load, *watch)) float64 {
	b.Helper()
	l, w := newLoad(b, s), newWatch(s)
	defer l.close()
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
