package eventbus

import (
	"sync"
	"time"
)

// flights are the events handed over and not yet acknowledged.
type flights struct {
	mu   sync.Mutex
	all  map[*flight]struct{}
	wake chan struct{} // has an entry after the first flight came
}

func (fs *flights) add(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.all == nil {
		fs.all = map[*flight]struct{}{}
	}
	fs.all[f] = struct{}{}
	if len(fs.all) > 1 {
		return
	}
	select {
	case fs.wake <- struct{}{}:
	default:
	}
}

func (fs *flights) remove(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.all, f)
}

func (fs *flights) len() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.all)
}

// before returns those that started before t and still have no result.
func (fs *flights) before(t time.Time) []*flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var late []*flight
	for f := range fs.all {
		if f.started.Before(t) && !f.ended.Load() {
			late = append(late, f)
		}
	}
	return late
}
