package console

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

// job is a redrive or a purge that was confirmed. It goes on where its browser leaves.
type job struct {
	ID      string
	What    string // a sentence
	Began   time.Time
	Done    bool
	Failed  bool
	Outcome string // a sentence, once it is done
	done    chan struct{}
}

// jobs are those of this process that are told of: all that run, and the last ones that have ended.
type jobs struct {
	ended <-chan struct{}

	mu      sync.Mutex
	all     []*job // the oldest first
	closed  bool
	running sync.WaitGroup
}

const (
	keptJobs   = 20
	maxRunning = 4
	jobWait    = 8 * time.Second // that a browser is kept waiting for the outcome
)

func newJobs(ended <-chan struct{}) *jobs { return &jobs{ended: ended} }

// start runs do on its own, until it ends or the console is closed. nil: too many run, or the console is closed.
func (j *jobs) start(what string, do func(context.Context) (outcome string, err error)) *job {
	j.mu.Lock()
	defer j.mu.Unlock()
	running := 0
	for _, one := range j.all {
		if !one.Done {
			running++
		}
	}
	if running >= maxRunning || j.closed {
		return nil
	}
	if len(j.all) >= keptJobs {
		at := slices.IndexFunc(j.all, func(one *job) bool { return one.Done })
		j.all = slices.Delete(j.all, at, at+1)
	}
	one := &job{ID: rand.Text(), What: what, Began: time.Now(), done: make(chan struct{})}
	j.all = append(j.all, one)
	j.running.Go(func() { j.run(one, do) })
	return one
}

func (j *jobs) run(one *job, do func(context.Context) (string, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-j.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	outcome, err := do(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	one.Done, one.Failed, one.Outcome = true, err != nil, outcome
	close(one.done)
}

// told are the jobs to tell of on a page: the one that it names, and those that run.
func (j *jobs) told(id string) (told []job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.ID == id || !one.Done {
			told = append(told, *one)
		}
	}
	return told
}

// await waits until a job has ended, for a moment at most.
func (one *job) await(ctx context.Context) {
	select {
	case <-one.done:
	case <-ctx.Done():
	case <-time.After(jobWait):
	}
}

// close waits until all have ended.
func (j *jobs) close() {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.running.Wait()
}
