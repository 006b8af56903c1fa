package itest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/ledger"
)

// role says what a child does.
type role struct {
	Member    bool // of the group; else it publishes
	Name      string
	Number    int // of the child, from 1
	Ledger    string
	Brokers   []string
	Via       map[string]string // brokers' addresses that are reached through others
	Topic     string
	Group     string
	ByGroup   eventbus.GroupProtocol
	Rate      int  // events a second
	Copies    bool // it handles in transactions, and publishes each event anew
	Sequenced bool // and parks keys; some events are given up by chance
}

// job is the load's event.
type job struct {
	Key string `json:"key"`
	N   int    `json:"n"` // its place among those of its key, from 1
}

const jobSchema = `{
  "type": "object",
  "required": ["key", "n"],
  "properties": {"key": {"type": "string", "minLength": 1}, "n": {"type": "integer", "minimum": 1}}
}`

func jobTopic(name string) *eventbus.Topic[job] {
	return eventbus.NewTopic(name, &eventbus.TopicOptions[job]{Key: func(j job) string { return j.Key }, Schema: []byte(jobSchema)})
}

// playRole returns when stdin ends, which is also how a parent's end is noticed.
func playRole(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fmt.Errorf("%s: %w", roleVariable, err)
	}
	b, err := openBook(r.Ledger, r.Number)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if r.Member {
		return r.handle(ctx, b)
	}
	return r.publish(ctx, b)
}

func (r role) config(hooks eventbus.Hooks, client ...kgo.Opt) eventbus.Config {
	return eventbus.Config{
		Service: r.Name, Instance: "only", Brokers: r.Brokers, Hooks: []eventbus.Hooks{hooks}, Client: append(client, kgo.Dialer(r.dial)),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// dial reaches brokers through the test's proxies where there are some.
func (r role) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if via, ok := r.Via[address]; ok {
		address = via
	}
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
}

// shutdown gives a bus time to end, more than any fault's consequences last.
func shutdown(bus *eventbus.Bus) error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	return bus.Shutdown(ctx)
}

// keysOf is how many keys a publisher has.
const keysOf = 100

// publisher publishes at its rate and writes down what becomes of each event.
type publisher struct {
	role
	book  *book
	topic *eventbus.Topic[job]
	bus   *eventbus.Bus
	next  [keysOf]int

	mu  sync.Mutex
	out map[string]job // by event id, until its result is known
}

func (r role) publish(ctx context.Context, b *book) error {
	p := &publisher{role: r, book: b, topic: jobTopic(r.Topic), out: map[string]job{}}
	var err error
	if p.bus, err = eventbus.New(r.config(eventbus.Hooks{Published: p.note})); err != nil {
		return err
	}
	const every = 10 * time.Millisecond
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for ctx.Err() == nil {
		for range max(1, r.Rate*int(every)/int(time.Second)) {
			p.one()
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
	return shutdown(p.bus)
}

// one hands an event over. It may wait for room, not for the result.
func (p *publisher) one() {
	k := rand.IntN(keysOf)
	p.next[k]++
	e := p.topic.New(job{Key: fmt.Sprintf("%s-%d", p.Name, k), N: p.next[k]})
	p.mu.Lock()
	p.out[e.EventID] = e.Payload
	p.mu.Unlock()
	p.bus.PublishAsync(context.Background(), e, func(error) {}) // the hook has its result
}

func (p *publisher) note(i eventbus.PublishedInfo) {
	p.mu.Lock()
	j := p.out[i.EventID]
	delete(p.out, i.EventID)
	p.mu.Unlock()
	e := ledger.Entry{
		Kind: ledger.Published, Member: p.Name, ID: i.EventID, Key: j.Key, N: j.N, Topic: p.Topic, Partition: i.Partition, Offset: i.Offset,
		Result: ledger.OK,
	}
	switch {
	case errors.Is(i.Err, eventbus.ErrNotSent):
		e.Result = ledger.Failed
	case i.Err != nil:
		e.Result = ledger.Unknown
	}
	p.book.add(e)
}

// handler is a member of the group.
type handler struct {
	role
	book *book
}

func (r role) handle(ctx context.Context, b *book) error {
	h := &handler{r, b}
	bus, err := eventbus.New(r.config(eventbus.Hooks{}, kgo.WithHooks(h)))
	if err != nil {
		return err
	}
	opts := &eventbus.HandleOptions{Timeout: 4 * time.Second, Retry: &eventbus.RetryPolicy{Initial: 20 * time.Millisecond}}
	route := jobTopic(r.Topic).Handle(h.try, opts)
	if r.Sequenced {
		opts.Order = eventbus.OrderSequenced
	}
	if r.Copies {
		route = jobTopic(r.Topic).HandleTx(r.copies(jobTopic(copyTopic(r.Topic))), opts)
	}
	if err := bus.Run(ctx, eventbus.Subscription{
		Group: r.Group, Routes: []eventbus.Route{route}, Protocol: r.ByGroup, SessionTimeout: sessionTimeout, DrainTimeout: 2 * time.Second,
		RebalanceTimeout: 15 * time.Second,
	}); err != nil {
		return err
	}
	return shutdown(bus)
}

// OnProduceRecordUnbuffered is the client's word that a record is acknowledged; the engine hears it afterwards.
func (h *handler) OnProduceRecordUnbuffered(r *kgo.Record, err error) {
	if err != nil || !strings.HasSuffix(r.Topic, ".dlq."+h.Group) {
		return
	}
	if d, err := eventbus.ParseDeadLetter(r); err == nil {
		h.book.add(ledger.Entry{Kind: ledger.Letter, Member: h.Name, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset})
	}
}

var errSometimes = errors.New("as it goes sometimes")

// try takes up to 20 ms, fails the first time for one event in a hundred, and always for one in a thousand.
func (h *handler) try(ctx context.Context, e *eventbus.BaseEvent[job]) error {
	d, _ := eventbus.DeliveryFrom(ctx)
	entry := ledger.Entry{
		Member: h.Name, Topic: h.Topic, Partition: d.Partition, Offset: d.Offset, ID: e.EventID, Key: e.Payload.Key, N: e.Payload.N,
		Attempt: d.Attempt,
	}
	entry.Try = h.book.begin(entry)
	result, err := perform(ctx, e.EventID, d.Attempt)
	entry.Kind, entry.Result = ledger.Ended, result
	h.book.add(entry)
	return err
}

func perform(ctx context.Context, id string, attempt int) (ledger.Result, error) {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(id))
	luck := sum.Sum32()
	select {
	case <-time.After(time.Duration(luck%20_000) * time.Microsecond):
	case <-ctx.Done():
		return ledger.GaveUp, ctx.Err()
	}
	switch {
	case luck%1000 == 1:
		return ledger.Failed, eventbus.Permanent(errSometimes)
	case luck%100 == 2 && attempt == 1:
		return ledger.Failed, errSometimes
	}
	return ledger.OK, nil
}

// copies publishes each event anew and takes its time. It fails as try does.
func (r role) copies(to *eventbus.Topic[job]) eventbus.TxHandler[job] {
	interval := copyInterval
	if r.Sequenced {
		interval *= 4 // there are fewer
	}
	return func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[job]) error {
		if r.Sequenced && e.Payload.N%100 == 7 && rand.N(2) == 0 {
			return eventbus.Permanent(errSometimes) // it may be handled when it is released
		}
		if err := tx.Publish(ctx, to.New(e.Payload)); err != nil {
			return err
		}
		select {
		case <-time.After(rand.N(2 * interval)):
		case <-ctx.Done():
			return ctx.Err()
		}
		d, _ := eventbus.DeliveryFrom(ctx)
		_, err := perform(ctx, e.EventID, d.Attempt)
		return err
	}
}
