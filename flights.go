package eventbus

import (
	"sync"
	"time"
)

// flights are the events handed over and not yet acknowledged. Make them with newFlights.
type flights struct {
	expire func(*flight) // gives those their result whose time is over
	wake   chan struct{} // has an entry after the first flight came

	mu          sync.Mutex
	count       int
	first, last *flight     // of those that have no result, by their deadlines
	timer       *time.Timer // for all of them: it is set to the first one's deadline, or to that of one that was the first
	set         bool
}

func newFlights(expire func(*flight)) *flights {
	return &flights{expire: expire, wake: make(chan struct{}, 1)}
}

// add takes a flight that is handed over.
func (fs *flights) add(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.insertLocked(f)
	if fs.first == f || !fs.set {
		fs.setLocked()
	}
	if fs.count++; fs.count > 1 {
		return
	}
	select {
	case fs.wake <- struct{}{}:
	default:
	}
}

// insertLocked has few to pass: they come in the order of their deadlines, but for some that waited for room.
func (fs *flights) insertLocked(f *flight) {
	f.before = fs.last
	for f.before != nil && f.before.deadline.After(f.deadline) {
		f.before = f.before.before
	}
	if f.before == nil {
		f.after, fs.first = fs.first, f
	} else {
		f.after, f.before.after = f.before.after, f
	}
	if f.after == nil {
		fs.last = f
	} else {
		f.after.before = f
	}
	f.linked = true
}

func (fs *flights) setLocked() {
	wait := time.Until(fs.first.deadline)
	fs.set = true
	if fs.timer == nil {
		fs.timer = time.AfterFunc(wait, fs.late)
		return
	}
	fs.timer.Reset(wait)
}

// late ends the flights whose time is over.
func (fs *flights) late() {
	fs.mu.Lock()
	now := time.Now()
	var late []*flight
	for f := fs.first; f != nil && !f.deadline.After(now); f = fs.first {
		fs.unlinkLocked(f)
		late = append(late, f)
	}
	if fs.set = fs.first != nil; fs.set {
		fs.setLocked()
	}
	fs.mu.Unlock()
	for _, f := range late {
		fs.expire(f)
	}
}

// landed is told that a flight has its result, which the client may not know.
func (fs *flights) landed(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.unlinkLocked(f)
}

func (fs *flights) unlinkLocked(f *flight) {
	if !f.linked {
		return
	}
	if f.before == nil {
		fs.first = f.after
	} else {
		f.before.after = f.after
	}
	if f.after == nil {
		fs.last = f.before
	} else {
		f.after.before = f.before
	}
	f.linked, f.before, f.after = false, nil, nil
}

// remove is told that the client is done with a flight, which has its result now at the latest.
func (fs *flights) remove(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.count--
	fs.unlinkLocked(f)
}

func (fs *flights) len() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.count
}

// before returns those that started before t and still have no result.
func (fs *flights) before(t time.Time) []*flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var late []*flight
	for f := fs.first; f != nil && f.started.Before(t); f = f.after {
		late = append(late, f)
	}
	return late
}
