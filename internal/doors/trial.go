package doors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dreamscape/eventbus"
)

// trial is a service at work as one user.
type trial struct {
	*house
	user, password string
	prefix         string // an operator makes topics that are not there, so each trial has others
	list           []eventbus.Permission
	complete       bool // with all permissions

	mu   sync.Mutex
	seen map[string]int // how often a handler was done with what, by correlation id, topic and what it was
}

// newTrial is one with all permissions, as a user that nobody was before.
func (h *house) newTrial() *trial {
	h.trials++
	user := fmt.Sprintf("%s%s-%d", h.TopicPrefix, h.Name, h.trials)
	t := &trial{house: h, user: user, password: user + "-secret", prefix: h.TopicPrefix, complete: true, seen: map[string]int{}}
	if h.operates() {
		t.prefix = fmt.Sprintf("%s%d.", h.TopicPrefix, h.trials)
	}
	if t.list = h.Access.Permissions(t.prefix); h.Change != nil {
		t.list = h.Change(t.list)
	}
	return t
}

// leaveOut takes a permission from the list.
func (t *trial) leaveOut(i int) eventbus.Permission {
	p := t.list[i]
	t.list, t.complete = slices.Delete(t.list, i, i+1), false
	return p
}

// try has the service work.
func (t *trial) try(ctx context.Context) error {
	if err := t.admit(ctx, t.user, t.password, t.list); err != nil {
		return fmt.Errorf("admitting %s: %w", t.user, err)
	}
	if t.operates() {
		return t.operate(ctx)
	}
	if err := t.boss.EnsureTopics(ctx, t.topics()...); err != nil {
		return err
	}
	return t.work(ctx)
}

// config is that of a bus which logs in as somebody.
func (h *house) config(user, password, prefix string) eventbus.Config {
	cfg := h.Bus
	cfg.Service, cfg.TopicPrefix, cfg.SASL = user, prefix, login(user, password)
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Retry = eventbus.RetryPolicy{Initial: time.Millisecond, OutageHold: -1}
	return cfg
}

// The kinds of events that the service is given: one that is handled, one that fails twice, one that is given up.
const (
	fine     = "fine"
	stubborn = "stubborn"
	hopeless = "hopeless"
	late     = "late"
)

// handle stands before the service's own handlers, which do not matter here.
func (t *trial) handle(eventbus.RawHandler) eventbus.RawHandler {
	return func(ctx context.Context, e *eventbus.RawEvent) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		kind, ours := strings.CutPrefix(e.CorrelationID, t.user+"/")
		switch {
		case !ours: // of an earlier trial
			return nil
		case d.Redrives > 0:
			kind = "redriven"
		case kind == hopeless:
			return eventbus.Permanent(errors.New("hopeless"))
		case kind == stubborn && d.Attempt < 3:
			return errors.New("once more")
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.seen[d.Topic+" "+kind]++
		return nil
	}
}

func (t *trial) count(topic, kind string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen[topic+" "+kind]
}

// work does everything that a service does, and returns what does not work.
func (t *trial) work(ctx context.Context) error {
	if err := t.session(ctx, t.publishes, t.handles, t.redriven); err != nil {
		return err
	}
	return t.session(ctx, t.goesOn)
}

// session runs the service, from its start to its end.
func (t *trial) session(ctx context.Context, steps ...func(context.Context, *eventbus.Bus) error) error {
	cfg := t.config(t.user, t.password, t.prefix)
	cfg.Middleware = []eventbus.Middleware{t.handle}
	bus, err := eventbus.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	defer func() {
		cancel()
		ended.Wait()
		shutdown(ctx, bus)
	}()
	if t.complete {
		if err := bus.EnsureTopics(ctx, t.topics()...); err != nil {
			return err // they are there, and that the service may find out; without a permission it would end here
		}
	}
	for _, s := range t.Access.Handles {
		ended.Go(func() { _ = bus.Run(ctx, s) }) // health tells
	}
	for _, step := range steps {
		if err := step(ctx, bus); err != nil {
			return err
		}
	}
	return nil
}

// publishes an event to each topic.
func (t *trial) publishes(ctx context.Context, bus *eventbus.Bus) error {
	for _, topic := range t.Access.Publishes {
		e, err := t.samples.event(topic, t.user+"/published")
		if err != nil {
			return err
		}
		err = bus.Publish(ctx, e)
		if Names(err, eventbus.Permission{Resource: "topic", Name: topic.Name()}) { // publishers know it by that
			err = fmt.Errorf("topic %s%s: %w", t.TopicPrefix, topic.Name(), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sources are the topics that the service handles.
func (t *trial) sources() []eventbus.AnyTopic {
	var topics []eventbus.AnyTopic
	for _, s := range t.Access.Handles {
		for i, topic := range s.Topics() {
			if i%3 == 0 {
				topics = append(topics, topic)
			}
		}
	}
	return topics
}

// give publishes what the service is to handle.
func (t *trial) give(ctx context.Context, kinds ...string) error {
	for _, topic := range t.sources() {
		for _, kind := range kinds {
			e, err := t.samples.event(topic, t.user+"/"+kind)
			if err != nil {
				return err
			}
			if err := t.boss.Publish(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// handles what it is given: at once, at the third try, or not, which makes a dead letter.
func (t *trial) handles(ctx context.Context, bus *eventbus.Bus) error {
	if len(t.Access.Handles) == 0 {
		return nil
	}
	if err := t.await(ctx, bus, patience, "ready", func() bool {
		h := bus.Health(ctx)
		return h.Ready && len(h.Groups) > 0
	}); err != nil {
		return err
	}
	if err := t.give(ctx, fine, stubborn, hopeless); err != nil {
		return err
	}
	for _, topic := range t.sources() {
		name := topic.Name()
		err := t.await(ctx, bus, patience, "topic "+name+" is handled", func() bool { return t.count(name, fine) == 1 && t.count(name, stubborn) == 1 })
		if err != nil {
			return err
		}
	}
	return t.await(ctx, bus, patience, "dead letters", func() bool { return bus.Metrics().DeadLettered == int64(len(t.sources())) })
}

// redriven events are taken from the retry topics.
func (t *trial) redriven(ctx context.Context, bus *eventbus.Bus) error {
	for _, topic := range t.sources() {
		group := t.Access.Handles[0].Group
		letters, err := t.boss.DeadLetters(topic, group)
		if err != nil {
			return err
		}
		if _, err := letters.Redrive(ctx, eventbus.RedriveOptions{Send: true, Name: "doors", Rate: 1000}); err != nil {
			return err
		}
		name := topic.Name()
		err = t.await(ctx, bus, patience, "what was redriven is handled", func() bool { return t.count(name, "redriven") == 1 })
		if err != nil {
			return err
		}
	}
	return nil
}

// goesOn after a restart, where it was: what was committed does not come again.
func (t *trial) goesOn(ctx context.Context, bus *eventbus.Bus) error {
	if err := t.give(ctx, late); err != nil {
		return err
	}
	for _, topic := range t.sources() {
		name := topic.Name()
		if err := t.await(ctx, bus, patience, "topic "+name+" is handled after a restart", func() bool { return t.count(name, late) == 1 }); err != nil {
			return err
		}
		for _, kind := range []string{fine, stubborn, "redriven"} {
			if n := t.count(name, kind); n != 1 {
				return fmt.Errorf("topic %s: the %s event came %d times", name, kind, n)
			}
		}
	}
	return nil
}

// await waits for something. That it is forbidden ends the waiting.
func (t *trial) await(ctx context.Context, bus *eventbus.Bus, within time.Duration, what string, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := until(ctx, what, func() (bool, error) {
		for _, g := range bus.Health(ctx).Groups {
			for _, p := range g.Problems {
				if strings.Contains(p, "_AUTHORIZATION_FAILED") {
					return false, errors.New(p)
				}
			}
		}
		return condition(), nil
	})
	if h := bus.Health(ctx); err != nil && h.Error != "" {
		return fmt.Errorf("%w; health: %s", err, h.Error)
	}
	return err
}
