package doors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/dreamscape/eventbus"
)

// Operator is one of few topics: what it needs of others is the same.
func Operator() Service {
	handled := eventbus.Subscription{Group: "doors-group", Routes: []eventbus.Route{
		eventbus.UserCreated.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }, nil),
		eventbus.UserDeleted.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserDeletedPayload]) error { return nil }, nil),
	}}
	subs := []eventbus.Subscription{handled}
	return Service{Name: "operator", Access: eventbus.Access{
		Makes: append(handled.Topics(), eventbus.AuthLogin), Redrives: subs, Purges: subs, Reads: []eventbus.AnyTopic{eventbus.AuthLogin, eventbus.UserUpdated},
	}}
}

// operates says whether an operator is tried.
func (s Service) operates() bool {
	return len(s.Access.Makes)+len(s.Access.Redrives)+len(s.Access.Purges)+len(s.Access.Reads) > 0
}

// operation is a trial's operator at work, and who does for it what others do.
type operation struct {
	*trial
	bus, boss *eventbus.Bus
}

// operate does everything that an operator does, and returns what does not work.
func (t *trial) operate(ctx context.Context) (err error) {
	bus, err := eventbus.New(t.config(t.user, t.password, t.prefix))
	if err != nil {
		return err
	}
	defer shutdown(ctx, bus)
	cfg := t.config(t.Admin, t.AdminPassword, t.prefix)
	cfg.Middleware = []eventbus.Middleware{func(eventbus.RawHandler) eventbus.RawHandler {
		return func(context.Context, *eventbus.RawEvent) error { return eventbus.Permanent(errors.New(hopeless)) }
	}}
	boss, err := eventbus.New(cfg)
	if err != nil {
		return err
	}
	defer shutdown(ctx, boss)
	o := operation{t, bus, boss}
	defer func() { err = errors.Join(err, o.clear(context.WithoutCancel(ctx))) }()
	for _, step := range []func(context.Context) error{o.makes, o.reads, o.redrives, o.purges} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// isSource says whether a topic stands beside no other.
func (o operation) isSource(t eventbus.AnyTopic) bool { return o.samples[t.Name()].event != nil }

// limit is how large an event may be, in the topics that the operator makes dead-letter topics for: more than a broker's own.
const limit = 2 << 20

// makes the topics: first those that the others stand beside, which then get a limit that the others have to know.
func (o operation) makes(ctx context.Context) error {
	var theirs, sources []eventbus.AnyTopic
	for _, t := range o.uses() {
		made := slices.ContainsFunc(o.Access.Makes, func(m eventbus.AnyTopic) bool { return m.Name() == t.Name() })
		switch {
		case made && o.isSource(t):
			sources = append(sources, t)
		case !made && o.isSource(t):
			theirs = append(theirs, t)
		}
	}
	if err := o.boss.EnsureTopics(ctx, theirs...); err != nil {
		return err
	}
	if err := o.bus.EnsureTopics(ctx, sources...); err != nil {
		return err
	}
	for _, t := range append(theirs, sources...) {
		if err := o.widen(ctx, o.prefix+t.Name()); err != nil {
			return err
		}
	}
	if err := o.bus.EnsureTopics(ctx, o.Access.Makes...); err != nil {
		return err
	}
	for _, t := range o.Access.Makes {
		if err := o.isWide(ctx, t); err != nil {
			return err
		}
	}
	return o.boss.EnsureTopics(ctx, o.uses()...)
}

// uses are the topics that the operator needs.
func (o operation) uses() []eventbus.AnyTopic {
	topics := slices.Concat(o.Access.Makes, o.Access.Reads)
	for _, s := range slices.Concat(o.Access.Redrives, o.Access.Purges) {
		topics = append(topics, s.Topics()...)
	}
	return topics
}

// widen lets larger events into a topic.
func (o operation) widen(ctx context.Context, topic string) error {
	altered, err := o.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr(strconv.Itoa(limit))},
	}, topic)
	if err == nil {
		_, err = altered.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return fmt.Errorf("widening topic %s: %w", topic, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, "topic "+topic+" is wide", func() (bool, error) {
		n, err := o.maxMessageBytes(ctx, topic)
		return n == limit, err
	})
}

func (o operation) maxMessageBytes(ctx context.Context, topic string) (int, error) {
	configs, err := o.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, err
	}
	config, err := configs.On(topic, nil)
	if err != nil {
		return 0, err
	}
	for _, c := range config.Configs {
		if c.Key == "max.message.bytes" {
			return strconv.Atoi(c.MaybeValue())
		}
	}
	return 0, errors.Join(config.Err, fmt.Errorf("topic %s: no max.message.bytes", topic))
}

// isWide says whether a topic takes what that which it stands beside takes. EnsureTopics goes on where it may not ask for that.
func (o operation) isWide(ctx context.Context, topic eventbus.AnyTopic) error {
	for _, infix := range []string{".dlq.", ".retry."} {
		source, group, beside := strings.Cut(topic.Name(), infix)
		if !beside {
			continue
		}
		n, err := o.maxMessageBytes(ctx, o.prefix+source+infix+o.prefix+group)
		if err == nil && n <= limit {
			err = fmt.Errorf("%s takes %d bytes: how many topic %s takes was not seen", topic.Name(), n, o.prefix+source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reads the events of a key.
func (o operation) reads(ctx context.Context) error {
	for _, topic := range o.Access.Reads {
		e, err := o.samples.event(topic, o.user)
		if err != nil {
			return err
		}
		record, err := o.boss.Encode(ctx, e)
		if err != nil {
			return err
		}
		if err := o.boss.Publish(ctx, e); err != nil {
			return err
		}
		n, err := o.samples[topic.Name()].count(ctx, o.bus, string(record.Key))
		if err == nil && n != 1 {
			err = fmt.Errorf("topic %s%s: %d events were read, not the one that is there", o.prefix, topic.Name(), n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// redrives what the groups gave up, and once more, when nothing is left.
func (o operation) redrives(ctx context.Context) error {
	return o.each(o.Access.Redrives, func(letters *eventbus.DeadLetters, topic eventbus.AnyTopic, group string) error {
		if err := o.giveUp(ctx, topic, group); err != nil {
			return err
		}
		for _, want := range []int{1, 0} {
			report, err := letters.Redrive(ctx, eventbus.RedriveOptions{Send: true, Name: "doors"})
			if err == nil && report.Sent != want {
				err = fmt.Errorf("topic %s: %d letters were sent back, not %d", letters.Name(), report.Sent, want)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// giveUp has a group write a dead letter.
func (o operation) giveUp(ctx context.Context, topic eventbus.AnyTopic, group string) error {
	e, err := o.samples.event(topic, o.user)
	if err != nil {
		return err
	}
	before := o.boss.Metrics().DeadLettered
	ctx, cancel := context.WithTimeout(ctx, patience)
	var ended sync.WaitGroup
	defer ended.Wait()
	defer cancel()
	for _, s := range slices.Concat(o.Access.Redrives, o.Access.Purges) {
		if s.Group == group {
			ended.Go(func() { _ = o.boss.Run(ctx, s) })
			break
		}
	}
	if err := o.boss.Publish(ctx, e); err != nil {
		return err
	}
	return until(ctx, "group "+group+" gave up", func() (bool, error) { return o.boss.Metrics().DeadLettered > before, nil })
}

// purges what was not given up any more.
func (o operation) purges(ctx context.Context) error {
	return o.each(o.Access.Purges, func(letters *eventbus.DeadLetters, topic eventbus.AnyTopic, group string) error {
		if err := o.giveUp(ctx, topic, group); err != nil {
			return err
		}
		report, err := letters.Purge(ctx, eventbus.PurgeOptions{Delete: true, All: true})
		if err == nil && report.Letters == 0 {
			err = fmt.Errorf("topic %s: no letter was deleted", letters.Name())
		}
		return err
	})
}

// each calls do for every route of subscriptions.
func (o operation) each(subs []eventbus.Subscription, do func(letters *eventbus.DeadLetters, topic eventbus.AnyTopic, group string) error) error {
	for _, s := range subs {
		for _, topic := range s.Topics() {
			if !o.isSource(topic) {
				continue
			}
			letters, err := o.bus.DeadLetters(topic, s.Group)
			if err != nil {
				return err
			}
			if err := do(letters, topic, s.Group); err != nil {
				return err
			}
		}
	}
	return nil
}

// clear deletes the topics of the trial.
func (o operation) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	topics, err := o.admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	ours := slices.DeleteFunc(topics.Names(), func(name string) bool { return !strings.HasPrefix(name, o.prefix) })
	if len(ours) == 0 {
		return nil
	}
	_, err = o.admin.DeleteTopics(ctx, ours...)
	return err
}
