package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"time"
)

// task is what a child process does: one contender, one work. It is the child's argument, as JSON, also of those in other languages.
type task struct {
	Contender  string   `json:"contender"`
	Work       kind     `json:"work"`
	Brokers    []string `json:"brokers"`
	Prefix     string   `json:"prefix"`
	Topic      string   `json:"topic"` // with the prefix
	Group      string   `json:"group"`
	Warmup     int      `json:"warmup"` // events before the measurement
	Events     int      `json:"events"` // in it
	Limit      float64  `json:"limit"`  // seconds, of either
	Goroutines int      `json:"goroutines"`
	Rate       int      `json:"rate"`
	HandlerMS  int      `json:"handlerMs"`
	Pretends   bool     `json:"pretends"` // the broker
	Profile    string   `json:"profile"`
	Settings   settings `json:"settings"`
}

func (t task) limit() time.Duration { return time.Duration(t.Limit * float64(time.Second)) }

// result is what a child prints, as one line of JSON.
type result struct {
	Events  int     `json:"events"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"`    // seconds of the process, in that time
	Allocs  float64 `json:"allocs"` // of all events; 0: not known
	P50     float64 `json:"p50"`    // seconds; 0: not measured
	P99     float64 `json:"p99"`
}

func (r result) rate() float64      { return float64(r.Events) / r.Seconds }
func (r result) cpuEach() float64   { return r.CPU / float64(r.Events) }
func (r result) perCPU() float64    { return float64(r.Events) / r.CPU }
func (r result) allocEach() float64 { return r.Allocs / float64(r.Events) }

// closing is how long a client may take to close; what it measured is known by then.
const closing = 10 * time.Second

// child runs a task and prints its result.
func child(argument string) error {
	var t task
	if err := json.Unmarshal([]byte(argument), &t); err != nil {
		return fmt.Errorf("child: %w", err)
	}
	all := contenders()
	i := slices.IndexFunc(all, func(c contender) bool { return c.name == t.Contender })
	if i < 0 {
		return fmt.Errorf("child: no contender %q", t.Contender)
	}
	if t.Profile != "" {
		stop, err := profile(t.Profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	r, err := measure(all[i], t)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func profile(file string) (stop func(), err error) {
	f, err := os.Create(file) // #nosec G304 -- the user of -cpuprofile names it
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

func measure(c contender, t task) (result, error) {
	if t.Work == consume {
		return measureConsumer(c.consume, t)
	}
	p, err := c.publish(t)
	if err != nil {
		return result{}, err
	}
	defer p.close()
	return p.measure(t)
}

// consumeFunc consumes until ctx ends, and calls the handler for every event.
type consumeFunc func(ctx context.Context, t task, h *handler) error

func measureConsumer(run consumeFunc, t task) (result, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := &handler{work: time.Duration(t.HandlerMS) * time.Millisecond, meter: newMeter(t)}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, t, h) }()
	select {
	case <-h.meter.done:
	case err := <-ended:
		return result{}, fmt.Errorf("it ended before it was measured: %w", err)
	case <-time.After(2*t.limit() + 30*time.Second):
		return result{}, fmt.Errorf("only %d events were handled", h.meter.n.Load())
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(closing):
	}
	return h.meter.result(), nil
}

// handler is what every consumer does with an event: nothing, or something that takes a while, and it fails on poison.
type handler struct {
	work  time.Duration
	meter *meter
}

var errPoison = errors.New("poison")

func (h *handler) handle(p payment) error {
	if h.work > 0 {
		time.Sleep(h.work)
	}
	if p.Currency == poisonCurrency {
		return errPoison
	}
	if healthy(p) {
		h.meter.event()
	}
	return nil
}

// handleJSON is for the clients that decode by encoding/json.
func (h *handler) handleJSON(value []byte) error {
	p, err := decode(value)
	if err != nil {
		return err
	}
	return h.handle(p)
}
