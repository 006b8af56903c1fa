package eventbus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A parked key that is released has its dead letters handled by whoever has the partition, in their order, in lanes and by tries like any event. How
// far that is, is written to the sequence topic with each one's results. The key's new events follow meanwhile. When nothing is left, they are held,
// what has followed until then is handled too, and with the end of the sequence they go on as usual.

// drainBatch is how many dead letters of a sequence are read at once.
const drainBatch = 100

// releaseInterval is how often a request to release a key is looked for, while there are parked keys.
const releaseInterval = time.Second

// releaseLoop brings releases further, until ctx ends.
func (c *consumer) releaseLoop(ctx context.Context) {
	var before map[string]error
	for ctx.Err() == nil {
		troubles := map[string]error{}
		for _, a := range c.parking() {
			if err := c.drainSequences(ctx, a); err != nil && ctx.Err() == nil && a.ctx.Err() == nil {
				troubles[fmt.Sprintf("release %s %d", a.topic, a.partition)] = fmt.Errorf("a release waits: %w", err)
			}
		}
		for what := range before {
			if troubles[what] == nil {
				c.resolve(what)
			}
		}
		for what, err := range troubles {
			c.trouble(what, err)
		}
		before = troubles
		t := time.NewTimer(releaseInterval)
		select {
		case <-t.C:
		case <-c.releases:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// lookForReleases has the loop look now.
func (c *consumer) lookForReleases() {
	select {
	case c.releases <- struct{}{}:
	default:
	}
}

// parking returns the assignments that have parked keys.
func (c *consumer) parking() (as []*assignment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.assigned {
		if len(a.sequences) > 0 && !a.part.Stopped() && a.begunLocked() {
			as = append(as, a)
		}
	}
	return as
}

// drainSequences takes requests, and has what was released be handled.
func (c *consumer) drainSequences(ctx context.Context, a *assignment) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	if err := c.takeRequests(ctx, a); err != nil {
		return err
	}
	c.mu.Lock()
	var released []*sequence
	for _, s := range a.sequences {
		if s.request != nil && !s.ending && (s.drain == nil || s.drain.part.Queued() == 0) {
			released = append(released, s)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(released, func(x, y *sequence) int { return int(x.From - y.From) })
	for _, s := range released {
		if err := c.drainSequence(ctx, a, s); err != nil {
			return err
		}
	}
	return nil
}

// takeRequests reads what has been written to the sequence topic since the last look.
func (c *consumer) takeRequests(ctx context.Context, a *assignment) error {
	c.mu.Lock()
	from := a.seen
	c.mu.Unlock()
	found, end, err := c.bus.readSequences(ctx, c.sequenceTopic(a.route), a.partition, from)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.seen = end
	for key, request := range found.releases {
		if s := a.sequences[key]; s != nil && !s.ending && request.of(s.parked) {
			s.request = &request
			c.skipSoonLocked(s)
		}
	}
	return nil
}

// skipSoonLocked has the event that is to be skipped not wait for its next try.
func (c *consumer) skipSoonLocked(s *sequence) {
	if s.drain == nil || !s.request.skips(s.parked) {
		return
	}
	for _, it := range s.drain.part.Waiting() {
		if it.Parked() && it.Value.behind == nil {
			it.Value.quiet()
			c.engine.Unpark(it)
		}
	}
	c.feedLocked()
}

// drainSequence reads the next dead letters of a released key. Where none are left, it has new events wait, and once nothing can follow any more and
// still none are left, it ends the sequence.
func (c *consumer) drainSequence(ctx context.Context, a *assignment, s *sequence) error {
	name := c.letterTopic(a.route)
	known, err := c.bus.describeTopics(ctx, []string{name})
	if err == nil && known[name].err != nil {
		err = fmt.Errorf("topic %s: %w", name, known[name].err)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	switch is := logID(known[name]); {
	case s.Log == "":
		s.Log = is
	case is != "" && is != s.Log: // it was made again: what was handled of it is not in this one
		s.Log, s.Next, s.read, a.letterLog = is, 0, 0, is
		s.dropDrainLocked()
	}
	from, last := s.read, c.quietLocked(a, s)
	c.mu.Unlock()
	letters, upTo, err := c.readLetters(ctx, a, s.key, from)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	if a.sequences[s.key] != s || a.part.Stopped() || s.request == nil || c.draining {
		return nil
	}
	s.read = upTo
	if len(letters) < drainBatch && !s.closing { // else a key with steady traffic would never be through
		s.closing = true
		c.lookForReleases()
	}
	switch {
	case len(letters) > 0:
		c.handOutLocked(a, s, letters)
	case last:
		c.endSequenceLocked(a, s)
	}
	return nil
}

// quietLocked says whether nothing follows a key any more: its new events are held, and those that have followed are committed.
func (c *consumer) quietLocked(a *assignment, s *sequence) bool {
	if !s.closing || s.follows == c.txn.number && !c.txn.since.IsZero() {
		return false
	}
	for it := range a.part.Items {
		if it.Keyed && it.Key == s.key && it.Value.letter != nil {
			return false
		}
	}
	return true
}

// readLetters reads the next dead letters of a sequence, drainBatch at most, and says up to where it has looked.
func (c *consumer) readLetters(ctx context.Context, a *assignment, key string, from int64) (letters []*kgo.Record, upTo int64, err error) {
	var broken error
	end, err := c.bus.readWhole(ctx, c.letterTopic(a.route), a.partition, from, func(r *kgo.Record, unread error) bool {
		if broken = unread; broken != nil {
			return false
		}
		if c.ofSequence(r, a, key) {
			letters = append(letters, r)
			upTo = r.Offset + 1
		}
		return len(letters) < drainBatch
	})
	if err = cmp.Or(err, broken); err == nil && end < from { // by a broker that has just begun to lead, say
		err = fmt.Errorf("it ends at offset %d, and was read up to %d", end, from)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("topic %s, partition %d: %w", c.letterTopic(a.route), a.partition, err)
	}
	if len(letters) < drainBatch {
		upTo = end
	}
	return letters, upTo, nil
}

// ofSequence says whether a dead letter is of a key's sequence.
func (c *consumer) ofSequence(r *kgo.Record, a *assignment, key string) bool {
	h := &letterHeaders{of: r.Headers}
	return h.last(headerSequence) == sequenceHash(key) && h.last(headerGroup) == c.group && h.last(headerTopic) == a.topic
}

// handOutLocked has dead letters of a released key be handled.
func (c *consumer) handOutLocked(a *assignment, s *sequence, letters []*kgo.Record) {
	if s.drain == nil {
		s.drain = newDrain(a)
	}
	for _, r := range letters {
		t := s.drain.admit(r)
		t.item.Key, t.item.Keyed = s.key, true
		if d, err := ParseDeadLetter(r); err == nil && d.Until > 0 {
			t.broken = &failure{class: ClassUnreadable, err: fmt.Errorf("the dead letter has no record; it is at offset %d of %s alone", d.Offset, d.Topic), first: time.Now()}
		}
		c.recallLocked(t)
		c.engine.Add(s.drain.part, &t.item)
	}
	c.feedLocked()
}

// newDrain returns an assignment of a released key's dead letters, beside that of its source. It lives as long as that, and commits nothing.
func newDrain(of *assignment) *assignment {
	c := of.consumer
	a := &assignment{
		consumer: c, route: of.route, source: of, topic: c.letterTopic(of.route), partition: of.partition, idle: make(chan struct{}),
		part: c.engine.Assign(of.route.n), start: -1, idleAt: -1, void: true,
	}
	a.ctx, a.cancel = context.WithCancel(of.ctx)
	return a
}

// dropDrainLocked gives up what is handled of the sequence: it is to begin elsewhere among the dead letters.
func (s *sequence) dropDrainLocked() {
	if s.drain == nil {
		return
	}
	s.drain.stopLocked()
	s.drain.cancel()
	s.drain = nil
}

// eachLocked yields all assignments, and the drains beside them.
func (c *consumer) eachLocked(yield func(*assignment) bool) {
	for _, a := range c.assigned {
		for _, each := range a.withDrainsLocked() {
			if !yield(each) {
				return
			}
		}
	}
}

// withDrainsLocked returns the assignment and the drains beside it.
func (a *assignment) withDrainsLocked() []*assignment {
	return append([]*assignment{a}, a.drainsLocked()...)
}

func (a *assignment) drainsLocked() (as []*assignment) {
	for _, s := range a.sequences {
		if s.drain != nil {
			as = append(as, s.drain)
		}
	}
	return as
}

// passedLocked has an event of a released sequence that is to be skipped be passed, in place of being tried.
func (c *consumer) passedLocked(it *item) bool {
	s := it.Value.of.source.sequences[it.Key]
	if s == nil || !s.request.skips(s.parked) {
		return false
	}
	c.engine.Settle(it)
	it.Value.writing = true
	c.inTransactionLocked(func(open bool) {
		if open && !it.Over() {
			c.drainedLocked(it)
		}
	})
	return true
}

// drainRecord is what is written with the results of an event of a released sequence; nil for any other event.
func (c *consumer) drainRecord(it *item) *kgo.Record {
	a := it.Value.of.source
	if a == nil {
		return nil
	}
	s := a.sequences[it.Key]
	if s == nil {
		return nil
	}
	next := s.parked
	next.Next = it.Offset + 1
	return sequenceRecord(c.sequenceTopic(a.route), a.partition, parkedPrefix, s.key, next)
}

// drainedLocked passes an event without results.
func (c *consumer) drainedLocked(it *item) {
	a := it.Value.of
	c.writeSequenceLocked(a.source, it, func() {
		c.passLocked(it)
		c.engine.Done(it)
		a.idleLocked()
		c.feedLocked()
	}, c.drainRecord(it))
}

// passLocked notes that an event of a released sequence is done.
func (c *consumer) passLocked(it *item) {
	if s := it.Value.of.source.sequences[it.Key]; s != nil {
		s.Next = it.Offset + 1
		c.engine.Recommit(it.Value.of.source.part)
		if it.Value.of.part.Queued() <= 1 {
			c.lookForReleases()
		}
	}
}

// parkAgainLocked is for an event of a released sequence that is given up once more: its key stays parked from it on. Its dead letter is there already.
func (c *consumer) parkAgainLocked(it *item, f failure) {
	t := it.Value
	a := t.of.source
	s := a.sequences[it.Key]
	t.letter = &f
	c.engine.Settle(it)
	c.inTransactionLocked(func(open bool) {
		if !open || it.Over() || s == nil {
			return
		}
		next := s.parked
		next.Next, next.Round, next.Error = it.Offset, s.Round+1, f.text()
		c.writeSequenceLocked(a, it, func() {
			s.parked, s.request, s.read, s.closing = next, nil, next.Next, false
			c.engine.Done(it)
			s.dropDrainLocked()
			c.letGoLocked(a, s)
			c.log.Warn("a released key is parked again", "topic", a.topic, "partition", a.partition, "key_hash", KeyHash([]byte(s.key)),
				"class", string(f.class), "error", f.err)
		}, sequenceRecord(c.sequenceTopic(a.route), a.partition, parkedPrefix, s.key, next))
	})
}

// endSequenceLocked ends a sequence of which nothing is left.
func (c *consumer) endSequenceLocked(a *assignment, s *sequence) {
	s.ending = true
	topic := c.sequenceTopic(a.route)
	c.inTransactionLocked(func(open bool) {
		if !open || a.part.Stopped() || a.sequences[s.key] != s {
			return
		}
		c.writeSequenceLocked(a, nil, func() {
			delete(a.sequences, s.key)
			if s.drain != nil {
				s.drain.cancel()
			}
			c.letGoLocked(a, s)
			c.log.Info("a released key goes on", "topic", a.topic, "partition", a.partition, "key_hash", KeyHash([]byte(s.key)))
		}, sequenceRecord(topic, a.partition, parkedPrefix, s.key, nil), sequenceRecord(topic, a.partition, followedPrefix, s.key, nil),
			sequenceRecord(topic, a.partition, releasePrefix, s.key, nil))
	})
}

// letGoLocked has the source's event go on that waits for the end of a release.
func (c *consumer) letGoLocked(a *assignment, s *sequence) {
	for it := range a.part.Items {
		if it.Keyed && it.Key == s.key && it.Value.held {
			it.Value.held = false
			c.engine.Unpark(it)
		}
	}
	c.feedLocked()
}
