package eventbus

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// stint is what a goroutine has taken to do at once: one event, as a rule, and more where events take so little time that goroutines would do nothing
// but wait for each other to take the next. When it takes longer than was expected, it is relieved: what it has not begun, others do.
type stint struct {
	taken time.Time  // guarded by consumer.mu; its goroutine may read it
	next  chan *item // from whoever settles it along with its own; nil until one does

	mu    sync.Mutex  // taken after consumer.mu
	todo  []*item     // that have not begun, the first one last
	done  []tryResult // that have not been judged
	spare []tryResult // the memory of those that were; guarded by consumer.mu
}

// tryResult is what came of a try.
type tryResult struct {
	it        *item
	err       error
	class     Class // of err
	began, at time.Time
}

const (
	// maxStint is how many events a goroutine takes at once at most, and quickEvent what they took on the average, when it takes more than before.
	maxStint   = 16
	quickEvent = 20 * time.Microsecond
	// relieveAfter is how long a stint may take. An event waits for another's handler, or for its result to count, for twice as long at most.
	relieveAfter = time.Millisecond
)

// stintLimit bounds stints so that there are events for all processors, and more. Where an event may have to wait for what becomes of another's, by a
// transaction or by a parked key of another partition, it is taken when it begins.
func (s Subscription) stintLimit() int {
	if s.transactional() || slices.ContainsFunc(s.Routes, func(r Route) bool { return r.order == OrderSequenced }) {
		return 1
	}
	return min(max(s.Concurrency/(2*runtime.GOMAXPROCS(0)), 1), maxStint)
}

// begin returns what to try next, nil when there is nothing left.
func (s *stint) begin() *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.todo) == 0 {
		return nil
	}
	last := len(s.todo) - 1
	it := s.todo[last]
	s.todo[last] = nil
	s.todo = s.todo[:last]
	return it
}

func (s *stint) end(r tryResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, r)
}

// emptyLocked takes what it has done, which is to be judged before it is emptied again, and what it has not begun, the first one last.
func (s *stint) emptyLocked() (done []tryResult, todo []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, todo = s.done, s.todo
	s.done, s.spare = s.spare[:0], done
	if len(todo) > 0 {
		s.todo = nil
	}
	return done, todo
}

// work brings an item a try further, and then others, for as long as there is something to do. A handler may end its goroutine
// (runtime.Goexit, as a test's FailNow does); the rest then goes on on another one.
func (c *consumer) work(s *stint, it *item) {
	ended := false
	began := time.Now()
	defer func() {
		if !ended {
			now := time.Now()
			s.end(it.Value.result(errGoexit, began, now))
			if next, _ := c.settle(s, now); next != nil {
				c.workers.Go(func() { c.work(s, next) })
			}
			runtime.Goexit()
		}
	}()
	for it != nil {
		err := it.Value.try(began)
		now := time.Now()
		s.end(it.Value.result(err, began, now))
		if it, began = nil, now; err == nil && now.Sub(s.taken) < relieveAfter {
			it = s.begin()
		}
		if it == nil {
			it, began = c.settle(s, now)
		}
	}
	ended = true
}

// result is that of a try that ended at now.
func (t *task) result(err error, began, now time.Time) tryResult {
	r := tryResult{it: &t.item, err: err, began: began, at: now}
	if err != nil && t.broken == nil {
		r.class = t.of.route.retry.classify(err)
	}
	return r
}

// feedLocked has a goroutine start what may start. That one has the next one started before it works, so that there are no more of them than handlers
// need.
func (c *consumer) feedLocked() {
	if !c.starting && c.startableLocked() {
		c.starting = true
		c.workers.Go(c.start)
	}
}

func (c *consumer) start() {
	s := new(stint)
	c.mu.Lock()
	c.starting = false
	it := c.takeLocked(s, time.Now())
	c.unlock()
	if it != nil {
		c.work(s, it)
	}
}

// crowd is the goroutines that wait to settle: one of them waits for the lock, and settles what the others have done too. Were each to wait for it, it
// would be passed on from one to the next, which takes longer than what each has to do with it.
type crowd struct {
	mu      sync.Mutex // taken last
	waiting bool       // that one does
	others  []*stint
}

// join says whether somebody settles a stint along with its own. Else the caller is the one who waits for the lock.
func (w *crowd) join(s *stint) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.waiting {
		w.waiting = true
		return false
	}
	if s.next == nil {
		s.next = make(chan *item, 1)
	}
	w.others = append(w.others, s)
	return true
}

// leave takes the others along.
func (w *crowd) leave() []*stint {
	w.mu.Lock()
	defer w.mu.Unlock()
	others := w.others
	w.waiting, w.others = false, nil
	return others
}

func (w *crowd) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

// takeLocked takes what to try next, and returns the first of it: nil if there is nothing. Somebody is left to take what may start beside it: who waits for
// mu, where events take so little time that this is enough, or a new goroutine.
func (c *consumer) takeLocked(s *stint, now time.Time) *item {
	it := c.nextLocked(now)
	if it == nil {
		return nil
	}
	s.taken = now
	if !it.Value.probe {
		c.takeMoreLocked(s, min(c.more, c.engine.Waiting()/c.procs), now)
	}
	if !c.quick || !c.crowd.any() {
		c.feedLocked()
	}
	return it
}

// takeMoreLocked takes n further ones, or as many as may start.
func (c *consumer) takeMoreLocked(s *stint, n int, now time.Time) {
	for range n { // nobody else knows the stint yet
		it := c.nextReadyLocked(now)
		if it == nil {
			break
		}
		s.todo = append(s.todo, it)
	}
	if len(s.todo) == 0 {
		return
	}
	slices.Reverse(s.todo)
	c.stints = append(c.stints, s)
	switch {
	case c.relieving:
	case c.relief == nil:
		c.relief = time.AfterFunc(relieveAfter, c.relieve)
	default:
		c.relief.Reset(relieveAfter)
	}
	c.relieving = true
}

// settle does what the results of a stint ask for, and returns what to try next, and since when. now is when the last of its tries ended.
func (c *consumer) settle(s *stint, now time.Time) (*item, time.Time) {
	if c.mu.TryLock() {
		defer c.unlock()
		c.paceLocked(s, c.endLocked(s), now)
		return c.takeLocked(s, now), now
	}
	if c.crowd.join(s) {
		return <-s.next, time.Now()
	}
	c.mu.Lock()
	defer c.unlock()
	others := c.crowd.leave()
	c.paceLocked(s, c.endLocked(s), now)
	for _, other := range others {
		c.endLocked(other)
	}
	now = time.Now()
	it := c.takeLocked(s, now)
	c.sendOnLocked(others, now)
	return it, now
}

// sendOnLocked tells the others what to try next.
func (c *consumer) sendOnLocked(others []*stint, now time.Time) {
	if len(others) == 0 {
		return
	}
	next := make([]*item, len(others))
	if !c.quick { // else there are enough without them
		for i, s := range others {
			next[i] = c.takeLocked(s, now)
		}
	}
	c.firstLocked(func() { // before hooks, which may take their time
		for i, s := range others {
			s.next <- next[i]
		}
	})
}

// paceLocked decides how many events a goroutine takes at once, by a stint of n of them that has just ended.
func (c *consumer) paceLocked(s *stint, n int, now time.Time) {
	if c.quick = now.Sub(s.taken) <= time.Duration(n)*quickEvent; c.quick {
		c.more = min(2*c.more+1, c.stintLimit-1)
		return
	}
	c.more = 0
}

// endLocked gives back what a stint has not begun, and judges what it has done. It returns how much that is.
func (c *consumer) endLocked(s *stint) int {
	if i := slices.Index(c.stints, s); i >= 0 {
		c.stints = slices.Delete(c.stints, i, i+1)
	}
	done, todo := s.emptyLocked()
	for _, it := range todo {
		c.engine.Return(it)
	}
	for i, r := range done {
		a := r.it.Value.of
		c.judgeLocked(r)
		if i == len(done)-1 || done[i+1].it.Value.of != a {
			a.idleLocked()
			c.fetchingLocked(a)
		}
	}
	clear(done)
	return len(done)
}

// relieve ends the stints that take too long. What they are at they go on with.
func (c *consumer) relieve() {
	c.mu.Lock()
	defer c.unlock()
	c.relieveLocked(relieveAfter)
	if c.relieving = len(c.stints) > 0; c.relieving {
		c.relief.Reset(relieveAfter)
	}
}

// relieveLocked ends the stints that were taken so long ago. With 0, as before anything is kept from being begun, nothing is taken any longer that has
// not begun.
func (c *consumer) relieveLocked(ago time.Duration) {
	now := time.Now()
	for _, s := range slices.Clone(c.stints) {
		if now.Sub(s.taken) >= ago {
			c.endLocked(s)
		}
	}
	c.feedLocked()
}
