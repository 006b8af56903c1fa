package eventbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// transactionTimeout is after which a coordinator aborts a transaction by itself. While one is open, a reader of committed records sees nothing
	// that was written after it.
	transactionTimeout = 15 * time.Second
	// transactionInterval is how long one is open that goes well: from its first result on.
	transactionInterval = 100 * time.Millisecond
)

// transaction is what a consumer of transactional routes has in the place of commits. It is always open, but while it is being ended: then results wait
// for the next one. A try's events are written when it has succeeded, and its event is done when they are acknowledged, so that a transaction
// consists of whole results and waits for no handler. What it commits are the offsets of what is done, and the map above them. One that
// is aborted takes everything with it: all partitions begin anew where the group has committed.
//
// What follows ending is guarded by consumer.mu.
type transaction struct {
	session   *kgo.GroupTransactSession
	handing   sync.WaitGroup     // what is on its way to the client; added to while it is open, or something is flying and it is not broken
	ending    turn               // held while it is ended
	number    int                // how many there have been, with this one
	begun     bool               // the first one has been
	open      bool               // results are taken; not while it is ended, nor until the client can write in the next one
	since     time.Time          // when the first result came; zero: there is none
	due       bool               // it is to be ended
	broken    error              // why it can only be aborted; nil: it can be committed
	timer     *time.Timer        // when it is due
	interrupt context.CancelFunc // of the poll that is under way
	wake      bool               // the next one is interrupted too
	waiting   []func(open bool)  // results that came while it was not open
	flying    int                // results that are not acknowledged
	landed    chan struct{}      // closed when there is none, or it is broken; nil: nobody waits for that
	topics    map[string]bool    // what it writes to
	told      []func(error)      // what to tell of it once it is committed (nil), or aborted
	carried   map[place]tries    // of events that begin anew
	aborted   int                // in a row
	committed time.Time          // when the commit under way began; zero: there is none
	opened    int                // how often a rebalance was let in
	stopped   bool               // all partitions were, for a rebalance that could not wait for the commit
}

// place is where an event is: of those that begin anew.
type place struct {
	topicPartition
	offset int64
}

// newSession makes a transactional client; like any other it begins to join its group.
func (c *consumer) newSession() error {
	opts := append(c.options(c.bus.producerOptions()),
		kgo.OnPartitionsCallbackBlocked(c.onBlocked),
		kgo.TransactionalID(c.bus.transactionalID(c.sub.Group)),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RecordPartitioner(c.resultPartitioner()),
		kgo.MaxBufferedRecords(1<<20), // none may wait for room: what tries keep is bounded
	)
	session, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		return err
	}
	c.txn.session = session
	return nil
}

// transactionalID is what no two clients have at once, and an instance has again when it starts again: what it had left open is aborted then.
func (b *Bus) transactionalID(what string) string {
	return transactionalID(b.cfg.TopicPrefix, b.cfg.Service, b.cfg.Instance, what)
}

// transactionalID of no instance is what the ids of all instances begin with.
func transactionalID(prefix, service, instance, what string) string {
	if instance == "" {
		return prefix + service + "-"
	}
	return prefix + service + "-" + instance + "-" + what
}

// resultPartitioner spreads events by their keys, and leaves dead letters, and what is said of parked keys, where they belong.
func (c *consumer) resultPartitioner() kgo.Partitioner {
	letters := map[string]bool{}
	for _, r := range c.ordered {
		letters[c.letterTopic(r)], letters[c.sequenceTopic(r)] = true, true
	}
	return eitherPartitioner{of: func(topic string) kgo.Partitioner {
		if letters[topic] {
			return c.bus.samePartition()
		}
		return keyPartitioner
	}}
}

// eitherPartitioner is another partitioner for some topics.
type eitherPartitioner struct {
	of func(topic string) kgo.Partitioner
}

// ForTopic implements [kgo.Partitioner].
func (p eitherPartitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return p.of(topic).ForTopic(topic)
}

// beginTransactions waits until the first transaction may begin. What is wrong is named meanwhile; what waiting will not mend ends the consumer.
func (c *consumer) beginTransactions(ctx context.Context) {
	c.give(1) // nobody polls
	defer c.give(-1)
	for fails := 1; ctx.Err() == nil; fails++ {
		err := c.tryBegin(ctx)
		if err == nil {
			c.resolve(transactionTrouble)
			c.bus.change()
			return
		}
		if errors.Is(err, errNoTransactions) && fails > 1 { // a broker that is starting may not know it yet
			c.fail(fmt.Errorf("eventbus: Subscription %q: %w", c.sub.Group, err))
			return
		}
		if ctx.Err() == nil {
			c.trouble(transactionTrouble, err)
		}
		sleep(ctx, min(backOff(fails), time.Second))
	}
}

const transactionTrouble = "transaction"

func (c *consumer) tryBegin(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	if err := beginnable(bounded, c.client, c.bus.transactionalID(c.sub.Group)); err != nil {
		return err
	}
	c.txn.ending.Lock()
	defer c.txn.ending.Unlock()
	if err := c.txn.session.Begin(); err != nil {
		return err
	}
	c.mu.Lock()
	c.txn.begun = true
	c.mu.Unlock()
	return c.openTransaction(ctx)
}

// openTransaction lets results into a transaction that has begun, once the client has an id to write with. It would ask for one itself, but have all its
// connections wait for that, and tell nobody.
func (c *consumer) openTransaction(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	_, _, err := c.client.ProducerID(ctx)
	x := c.txn
	c.mu.Lock()
	defer c.unlock()
	if err != nil {
		if ctx.Err() == nil { // not for waiting: the client says what to do when the next one begins
			c.abortLocked(err)
		}
		c.dueLocked() // try again
		return err
	}
	x.open = true
	waiting := x.waiting
	x.waiting = nil
	for _, f := range waiting {
		c.inTransactionLocked(f)
	}
	return nil
}

// beginnable says why a client cannot begin transactions: brokers are too old, the id is forbidden, nobody answers.
func beginnable(ctx context.Context, client *kgo.Client, id string) error {
	if err := knowsTransactions(ctx, client); err != nil {
		return err
	}
	if _, _, err := client.ProducerID(ctx); err != nil {
		return fmt.Errorf("transactional id %s: %w", id, err)
	}
	return nil
}

var errNoTransactions = errors.New("transactions need Kafka 4.0 with the feature transaction.version 2 (KIP-890): before it, a late answer may commit or abort another transaction")

// knowsTransactions asks a broker for the version of transactions that the cluster has agreed on.
func knowsTransactions(ctx context.Context, client *kgo.Client) error {
	const feature, needed = "transaction.version", 2
	resp, err := askVersions(ctx, client)
	if err != nil {
		return err
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == feature && f.MaxVersionLevel >= needed {
			return nil
		}
	}
	return errNoTransactions
}

// inTransactionLocked has f do what belongs to a transaction: in this one, or in the next. false: there will be none that it belongs to.
func (c *consumer) inTransactionLocked(f func(open bool)) {
	x := c.txn
	if !x.open {
		x.waiting = append(x.waiting, f)
		return
	}
	if x.since.IsZero() {
		x.since = time.Now()
		x.timer = time.AfterFunc(transactionInterval, c.transactionDue)
	}
	f(true)
}

// passOn has a transaction commit what nobody had to handle, such as the markers of the transactions that wrote the topic.
func (c *consumer) passOn() {
	chosen, _ := c.chooseCommits(c.assignments())
	c.mu.Lock()
	idle := len(chosen) == 0 && c.txn.open
	for _, a := range c.assigned {
		idle = idle && !a.ahead && a.part.Queued() == 0 && a.lagLocked() == 0
	}
	if len(chosen) > 0 {
		c.inTransactionLocked(func(bool) {})
	}
	c.unlock()
	if idle { // what failed is another member's by now
		c.resolve(transactionTrouble)
	}
}

func (c *consumer) transactionDue() {
	c.mu.Lock()
	defer c.unlock()
	c.dueLocked()
}

// dueLocked has the poll loop end the transaction.
func (c *consumer) dueLocked() {
	c.txn.due = true
	if c.txn.interrupt != nil {
		c.txn.interrupt()
	}
}

// interruptBy has a transaction that becomes due end the poll.
func (c *consumer) interruptBy(cancel context.CancelFunc) {
	if c.txn == nil {
		return
	}
	c.mu.Lock()
	defer c.unlock()
	if c.txn.interrupt = cancel; c.txn.due || c.txn.wake {
		cancel()
	}
	c.txn.wake = false
}

// wakePollLocked has the poll loop look after itself.
func (c *consumer) wakePollLocked() {
	c.txn.wake = true
	if c.txn.interrupt != nil {
		c.txn.interrupt()
	}
}

// endDue ends the transaction between two polls, and returns what to wait before the next one. It may outlast ctx by what a last commit may take.
func (c *consumer) endDue(ctx context.Context) (wait time.Duration) {
	if c.txn == nil {
		return 0
	}
	c.mu.Lock()
	due := c.txn.due
	c.mu.Unlock()
	if !due {
		return 0
	}
	ctx, cancel := outlast(ctx, commitTimeout)
	defer cancel()
	c.holdRebalance()
	c.endTransaction(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.txn.aborted > 1 {
		return backOff(c.txn.aborted - 1)
	}
	return 0
}

// holdRebalance waits for a rebalance under way, and has none begin until the client allows it. A poll that has brought nothing need not have done so.
func (c *consumer) holdRebalance() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	c.client.PollRecords(over, 1)
}

// allowRebalance ends what holdRebalance, or a poll, has begun.
func (c *consumer) allowRebalance() {
	if c.txn != nil {
		c.mu.Lock()
		c.txn.opened++
		c.mu.Unlock()
	}
	c.client.AllowRebalance()
}

// blockedGrace is how long a rebalance waits for a commit under way.
const blockedGrace = time.Second

// onBlocked is told, on a goroutine of its own, that a rebalance waits for the poll loop. The poll loop may be ending a transaction, and wait for the next
// heartbeat; where partitions are to be revoked by KIP-848, or the member is not known any more, the client sends none before that rebalance is
// over. So that is let in: the session aborts the transaction then. Its callbacks are called under a lock that the end of the transaction wants
// too, so handlers are given their time to end before.
func (c *consumer) onBlocked(ctx context.Context, _ *kgo.Client) {
	x := c.txn
	c.mu.Lock()
	opened := x.opened
	c.mu.Unlock()
	for sleep(ctx, blockedGrace) {
		c.mu.Lock()
		over := x.opened != opened
		stuck := !over && !x.committed.IsZero() && time.Since(x.committed) >= blockedGrace
		as := slices.Collect(maps.Values(c.assigned))
		x.stopped = x.stopped || stuck
		c.mu.Unlock()
		if stuck {
			c.log.Warn("a rebalance is let in while a transaction is being committed, which aborts it: the group does not answer before")
			c.stop(as, 0)
			c.allowRebalance()
		}
		if over || stuck {
			return
		}
	}
}

// breakLocked has the transaction be aborted, where there is anything in it.
func (c *consumer) breakLocked(why error) {
	if c.txn != nil && !c.txn.since.IsZero() {
		c.abortLocked(why)
	}
}

func (c *consumer) abortLocked(why error) {
	if c.txn.broken == nil {
		c.txn.broken = why
	}
	c.txn.wakeLocked()
	c.dueLocked()
}

// noteLoss has the transaction be aborted, even if there is nothing in it: the session will not commit any more, nor tell of a further loss, until then.
func (c *consumer) noteLoss() {
	if c.txn == nil {
		return
	}
	c.mu.Lock()
	defer c.unlock()
	c.abortLocked(errGivenUp)
}
