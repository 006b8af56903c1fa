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
	taken   time.Time     // guarded by consumer.mu; its goroutine may read it
	settled chan struct{} // has an entry: somebody has settled it along with another one; nil until one did
	after   []func()      // what its goroutine is to do then

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
	// relieveAfter is how long a stint may take before it is relieved, which may be twice as late.
	relieveAfter = time.Millisecond
)

// stintLimit bounds stints so that there are events for all processors, and more. Where an event may have to wait for what becomes of another's, by a
// transaction or by a parked key of another partition, it is taken when it begins.
func (s Subscription) stintLimit(procs int) int {
	if s.transactional() {
		return 1
	}
	return min(max(s.Concurrency/(2*procs), 1), maxStint)
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

// takeBack takes what has not begun, the first one last.
func (s *stint) takeBack() []*item {
	s.mu.Lock()
	defer s.mu.Unlock()
	todo := s.todo
	if len(todo) > 0 {
		s.todo = nil
	}
	return todo
}

// takeDoneLocked takes what has ended, which is to be judged before it is called again.
func (s *stint) takeDoneLocked() []tryResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.done
	s.done, s.spare = s.spare[:0], done
	return done
}

// work does a stint, and then others, for as long as there is something to do; the last try has ended at began. A handler, or a hook, may end its goroutine
// (runtime.Goexit, as a test's FailNow does); the rest then goes on on another one.
func (c *consumer) work(s *stint, began time.Time) {
	var it *item
	ended := false
	defer func() {
		if ended {
			return
		}
		now := time.Now()
		if it != nil {
			s.end(it.Value.result(errGoexit, began, now))
		}
		c.workers.Go(func() { c.work(s, now) })
		runtime.Goexit()
	}()
	for {
		if it = s.begin(); it == nil {
			began = c.settle(s, began)
			if it = s.begin(); it == nil {
				break
			}
		}
		err := it.Value.try(began)
		now := time.Now()
		s.end(it.Value.result(err, began, now))
		it, began = nil, now
		if err != nil || now.Sub(s.taken) >= relieveAfter {
			began = c.settle(s, now)
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
	s, now := new(stint), time.Now()
	c.mu.Lock()
	c.starting = false
	taken := c.takeLocked(s, now)
	if taken && len(c.after) > 0 {
		c.watchLocked(s)
	}
	c.unlock()
	if taken {
		c.work(s, now)
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
	if s.settled == nil {
		s.settled = make(chan struct{}, 1)
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

// takeLocked takes what to try next; false: there is nothing. Somebody is left to take what may start beside it: who waits for mu, where events take so
// little time that this is enough, or a new goroutine.
func (c *consumer) takeLocked(s *stint, now time.Time) bool {
	it := c.nextLocked(now)
	if it == nil {
		return false
	}
	s.taken = now
	todo := append(s.todo, it) // nobody else knows the stint yet
	if !it.Value.probe {
		for range min(c.more, c.engine.Waiting()/c.procs) {
			if it = c.nextReadyLocked(now); it == nil {
				break
			}
			todo = append(todo, it)
		}
	}
	slices.Reverse(todo)
	if s.todo = todo; len(todo) > 1 {
		c.watchLocked(s)
	}
	if !c.quick || !c.crowd.any() {
		c.feedLocked()
	}
	return true
}

// watchLocked has a stint relieved if it takes long: because of an event of it that others wait for, or of a hook that its first event waits for.
func (c *consumer) watchLocked(s *stint) {
	if slices.Contains(c.stints, s) {
		return
	}
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

// settle does what the results of a stint ask for, and takes the next one. now is when the last of its tries ended. It returns when the next may begin.
func (c *consumer) settle(s *stint, now time.Time) time.Time {
	var others []*stint
	if !c.mu.TryLock() {
		if c.crowd.join(s) {
			<-s.settled
			c.do(s.after)
			return time.Now()
		}
		c.mu.Lock()
		others = c.crowd.leave()
	}
	c.paceLocked(s, c.endLocked(s), now)
	if len(others) > 0 {
		c.endOthersLocked(others)
		now = time.Now()
	}
	taken := c.takeLocked(s, now) // once all are judged: what is next may be of a key of theirs
	c.resumeLocked(others, now)
	if len(c.after) == 0 {
		c.unlock()
		return now
	}
	if taken {
		c.watchLocked(s)
	}
	c.unlock()
	return time.Now()
}

// endOthersLocked ends stints of other goroutines. What there is to be done without the lock, such as to call hooks, each of them does itself.
func (c *consumer) endOthersLocked(others []*stint) {
	own := c.after
	for _, s := range others {
		c.after = nil
		c.endLocked(s)
		s.after = c.after
	}
	c.after = own
}

// resumeLocked has goroutines whose stints were ended go on, with another one where it is needed.
func (c *consumer) resumeLocked(others []*stint, now time.Time) {
	for _, s := range others {
		taken := !c.quick && c.takeLocked(s, now) // else there are enough without it
		if taken && len(s.after) > 0 {
			c.watchLocked(s)
		}
		s.settled <- struct{}{}
	}
}

// paceLocked decides how many events a goroutine takes at once, by a stint of n of them that has just ended.
func (c *consumer) paceLocked(s *stint, n int, now time.Time) {
	if n == 0 {
		return
	}
	if c.quick = now.Sub(s.taken) <= time.Duration(n)*quickEvent; c.quick {
		c.more = min(2*c.more+1, c.stintLimit-1)
		return
	}
	c.more = 0
}

// endLocked gives back what a stint has not begun, and judges what it has done. It returns how much that is.
func (c *consumer) endLocked(s *stint) int {
	if i := slices.Index(c.stints, s); i >= 0 { // else there is nothing, or its partition may have been stopped since
		c.stints = slices.Delete(c.stints, i, i+1)
		c.giveBackLocked(s)
	}
	return c.judgeStintLocked(s)
}

func (c *consumer) judgeStintLocked(s *stint) int {
	done := s.takeDoneLocked()
	n := len(done)
	if n > 1 && done[n-1].err != nil { // the only one that has failed; its dead letter is not to wait for the others' hooks
		c.judgeAllLocked(done[n-1:])
		c.judgeAllLocked(done[:n-1])
	} else {
		c.judgeAllLocked(done)
	}
	clear(done)
	return n
}

func (c *consumer) judgeAllLocked(done []tryResult) {
	for i, r := range done {
		a := r.it.Value.of
		c.judgeLocked(r)
		if i == len(done)-1 || done[i+1].it.Value.of != a {
			a.idleLocked()
			c.fetchingLocked(a)
		}
	}
}

func (c *consumer) giveBackLocked(s *stint) {
	for _, it := range s.takeBack() {
		c.engine.Return(it)
	}
}

// takeBackAllLocked has nothing taken that has not begun: before anything is kept from being begun.
func (c *consumer) takeBackAllLocked() {
	for _, s := range c.stints {
		c.giveBackLocked(s)
	}
	c.feedLocked()
}

// relieve ends the stints that take too long. What they are at they go on with; what they have done, others settle.
func (c *consumer) relieve() {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	for _, s := range slices.Clone(c.stints) {
		if now.Sub(s.taken) < relieveAfter {
			continue
		}
		c.quick, c.more = false, 0 // nobody may settle for a while
		c.giveBackLocked(s)
		c.stints = slices.DeleteFunc(c.stints, func(other *stint) bool { return other == s })
		c.workers.Go(func() {
			c.mu.Lock()
			defer c.unlock()
			c.judgeStintLocked(s)
			c.feedLocked()
		})
	}
	if c.relieving = len(c.stints) > 0; c.relieving {
		c.relief.Reset(relieveAfter)
	}
	c.feedLocked()
}
