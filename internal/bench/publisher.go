package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// publisher is a contender's way to publish. send may be nil: then as many goroutines as pay off wait instead.
type publisher struct {
	await func(payment) error
	send  func(payment, func(error))
	close func()
}

const (
	sample    = 16  // of so many pipelined events, one has its latency measured
	instead   = 512 // goroutines, where a client cannot pipeline
	askedEach = 64  // events between two looks at the clock
)

func (p publisher) measure(t task) (result, error) {
	run := func(events int) (result, error) {
		if t.Work == pipelined && p.send != nil {
			return p.pipeline(events, t.Rate, t.limit())
		}
		goroutines := t.Goroutines
		if t.Work == pipelined {
			goroutines = instead
		}
		return p.wait(events, goroutines, t.limit())
	}
	if _, err := run(t.Warmup); err != nil {
		return result{}, fmt.Errorf("warming up: %w", err)
	}
	return run(t.Events)
}

// pipeline ends when all is acknowledged. A rate has events sent once a millisecond.
func (p publisher) pipeline(events, rate int, limit time.Duration) (result, error) {
	var (
		flying sync.WaitGroup
		failed atomic.Pointer[error]
		took   latencies
	)
	done := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		flying.Done()
	}
	begin, sent := look(), 0
	for ; sent < events; sent++ {
		if sent%askedEach == 0 && time.Since(begin.at) > limit {
			break
		}
		if each := rate / 1_000; each > 0 && sent%each == 0 {
			time.Sleep(time.Until(begin.at.Add(time.Duration(sent/each) * time.Millisecond)))
		}
		flying.Add(1)
		if sent%sample != 0 {
			p.send(payments[sent%keys], done)
			continue
		}
		start := time.Now()
		p.send(payments[sent%keys], func(err error) {
			took.add(time.Since(start))
			done(err)
		})
	}
	flying.Wait()
	r := begin.until(look(), int64(sent))
	r.P50, r.P99 = took.at(0.5), took.at(0.99)
	if err := failed.Load(); err != nil {
		return r, *err
	}
	return r, nil
}

// wait has goroutines publish, each one event after the other.
func (p publisher) wait(events, goroutines int, limit time.Duration) (result, error) {
	var (
		running sync.WaitGroup
		next    atomic.Int64
		sent    atomic.Int64
		failed  atomic.Pointer[error]
		took    latencies
	)
	begin := look()
	for range goroutines {
		running.Go(func() {
			var own []time.Duration
			for failed.Load() == nil {
				i := next.Add(1) - 1
				start := time.Now()
				if i >= int64(events) || start.Sub(begin.at) > limit {
					break
				}
				if err := p.await(payments[i%keys]); err != nil {
					failed.CompareAndSwap(nil, &err)
					break
				}
				own = append(own, time.Since(start))
			}
			sent.Add(int64(len(own)))
			took.add(own...)
		})
	}
	running.Wait()
	r := begin.until(look(), sent.Load())
	r.P50, r.P99 = took.at(0.5), took.at(0.99)
	if err := failed.Load(); err != nil {
		return r, *err
	}
	return r, nil
}
