package eventbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// producer writes records by a client, and follows a topic that was deleted and made again: the client (franz-go 1.22) sticks to the first, and
// refuses for ever what is meant for the other. It has the client forget the topic, and hands over once more what was refused.
type producer struct {
	client *kgo.Client
	log    *slog.Logger
	count  *counters

	mu      sync.Mutex
	outlets map[string]*outlet // by Kafka's topics
	changed chan struct{}      // closed when one of them has become idle; nil: nobody waits for that
}

// outlet is a topic that is written to. While the client is to forget it, what comes is held: nothing overtakes what was refused, and
// nothing is in the client when it forgets, which would fail all of it.
type outlet struct {
	flying  int
	stale   bool       // a record was refused, and the client has not forgotten the topic since
	busy    bool       // renew runs
	refused []*writing // in the order that the client had them
	held    []*writing // those that came since
}

// writing is a record on its way.
type writing struct {
	ctx       context.Context
	record    *kgo.Record
	partition int32 // that it was given with
	outlet    *outlet
	result    result
	err       error // why it was refused; it is handed over once more, and no oftener
}

// result is told what became of a record, once.
type result interface{ produced(*kgo.Record, error) }

type resultFunc func(*kgo.Record, error)

func (f resultFunc) produced(r *kgo.Record, err error) { f(r, err) }

func newProducer(client *kgo.Client, log *slog.Logger, count *counters) *producer {
	return &producer{client: client, log: log, count: count, outlets: map[string]*outlet{}}
}

// Produce writes a record, as [kgo.Client.Produce] does.
func (p *producer) Produce(ctx context.Context, record *kgo.Record, done func(*kgo.Record, error)) {
	p.produce(&writing{ctx: ctx, record: record, result: resultFunc(done)})
}

// produce is Produce; w is the caller's memory, and the producer's until the result is told.
func (p *producer) produce(w *writing) {
	w.partition = w.record.Partition
	if p.admit(w) {
		p.write(w)
	}
}

// admit counts a record as flying. false: it is held.
func (p *producer) admit(w *writing) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.outlets[w.record.Topic]
	if o == nil {
		o = &outlet{}
		p.outlets[w.record.Topic] = o
	}
	w.outlet = o
	if o.stale || o.busy {
		o.held = append(o.held, w)
		return false
	}
	o.flying++
	return true
}

func (p *producer) write(w *writing) {
	w.record.Partition = w.partition
	p.client.Produce(w.ctx, w.record, func(r *kgo.Record, err error) {
		if !p.landed(w, err) {
			w.result.produced(r, err)
		}
	})
}

// landed says whether a record is to be handed over once more.
func (p *producer) landed(w *writing, err error) (again bool) {
	o := w.outlet
	p.mu.Lock()
	defer p.mu.Unlock()
	o.flying--
	if errors.Is(err, kerr.UnknownTopicID) {
		o.stale = true
		if again = w.err == nil; again {
			w.err = err
			o.refused = append(o.refused, w)
		}
	}
	if o.stale && o.flying == 0 && !o.busy {
		o.busy = true
		go p.renew(w.record.Topic)
	}
	p.tidyLocked(o)
	return again
}

// tidyLocked tells whoever waits for it that nothing is on its way to an outlet.
func (p *producer) tidyLocked(o *outlet) {
	if o.idle() && p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (o *outlet) idle() bool { return o.flying == 0 && !o.stale && !o.busy }

// renew has the client forget a topic that it holds nothing for, and hands over what was refused, and then what was held. Where one of these is
// refused too, the rest waits until that can be done again.
func (p *producer) renew(topic string) {
	for p.purge(topic); ; {
		batch, o := p.next(topic)
		switch o {
		case outletOpen:
			return
		case outletStale:
			p.purge(topic)
		}
		for _, w := range batch {
			p.write(w)
		}
	}
}

// purge has the client forget a topic. What was refused is the first to be handed over once more, where it is certain not to have been written.
func (p *producer) purge(topic string) {
	definite := p.namesTopicsByID()
	p.client.PurgeTopicsFromProducing(topic)
	p.mu.Lock()
	o := p.outlets[topic]
	refused := o.refused
	o.stale, o.refused = false, nil
	if definite {
		o.held = slices.Concat(refused, o.held)
	}
	p.mu.Unlock()
	p.count.recreated.Add(1)
	p.log.Warn("a topic is gone, or was made again: the client forgets the one that it knew", "topic", topic, "count", len(refused), "again", definite)
	if definite {
		return
	}
	for _, w := range refused {
		w.result.produced(w.record, fmt.Errorf("%w: %w", errEitherTopic, w.err))
	}
}

// errEitherTopic is of a record that a broker which knows topics by name only may have written to the other topic of that name.
var errEitherTopic = errors.New("the topic was deleted and made again meanwhile")

type outletState int

const (
	outletHolds outletState = iota // there is more to hand over
	outletStale                    // the client is to forget the topic again
	outletOpen                     // records go their way
)

// next takes what is to be handed over.
func (p *producer) next(topic string) ([]*writing, outletState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.outlets[topic]
	switch {
	case o.stale && o.flying == 0:
		return nil, outletStale
	case !o.stale && len(o.held) > 0:
		batch := o.held
		o.held, o.flying = nil, o.flying+len(batch)
		return batch, outletHolds
	}
	o.busy = false // where it is stale, the last that lands begins anew
	p.tidyLocked(o)
	return nil, outletOpen
}

// byTopicID is the version of Produce that names topics by their id (KIP-516): no broker writes what is meant for a topic to another of its name.
const byTopicID = 13

// namesTopicsByID says whether records are sent so. Where nobody answers, they are not.
func (p *producer) namesTopicsByID() bool {
	if most, ok := p.client.OptValue(kgo.MaxVersions).(*kversion.Versions); ok && most != nil {
		if v, known := most.LookupMaxKeyVersion(kmsg.Produce.Int16()); !known || v < byTopicID {
			return false
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), contactTimeout)
	defer cancel()
	resp, err := askVersions(ctx, p.client)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(resp.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool {
		return kmsg.Key(k.ApiKey) == kmsg.Produce && k.MaxVersion >= byTopicID
	})
}

// Flush waits until every record has its result.
func (p *producer) Flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return err
	}
	return p.wait(ctx, func(o *outlet) bool { return o.idle() })
}

// wait waits until something is so of every outlet.
func (p *producer) wait(ctx context.Context, so func(*outlet) bool) error {
	for {
		p.mu.Lock()
		if !slices.ContainsFunc(slices.Collect(maps.Values(p.outlets)), func(o *outlet) bool { return !so(o) }) {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Buffered is how many records have no result yet.
func (p *producer) Buffered() int64 {
	n := p.client.BufferedProduceRecords()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.outlets {
		n += int64(len(o.refused) + len(o.held))
	}
	return n
}

// Close closes the client, which gives every record its result.
func (p *producer) Close() {
	p.client.Close()
	_ = p.wait(context.Background(), func(o *outlet) bool { return !o.busy })
}
