package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

func readsOlderWriters(t *testing.T, f *fixture) {
	bus := f.ready()
	var seen log
	f.start(bus, f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		seen.add("%s %s %s %s %s", e.EventType, e.Version, e.Source, e.CorrelationID, e.Payload.Amount)
		return nil
	}))
	const id = "123e4567-e89b-12d3-a456-426614174000" // a version 1 UUID
	f.produce(&kgo.Record{Topic: f.placed.Name(), Value: []byte(`{"eventId":"` + id + `","timestamp":"2026-01-07T11:00:00+01:00",
		"payload":{"id":"o","number":1,"amount":1e2,"more":{"of":"it"}},"extra":[1]}`)})
	f.eventually("handled", func() bool { return seen.len() == 1 })
	require.Equal(t, []string{f.placed.Name() + " 1.0 unknown " + id + " 1e2"}, seen.all())
}

func newGroupStartsAtTheEarliest(t *testing.T, f *fixture) {
	bus := f.ready()
	for i := range 5 {
		require.NoError(t, bus.Publish(f.ctx, f.order("o", i)))
	}
	var seen log
	f.start(bus, f.subscription(note(&seen)))
	f.eventually("all five", func() bool { return seen.len() == 5 })
}

// note logs key and number.
func note(l *log) eventbus.Handler[order] {
	return func(_ context.Context, e *eventbus.BaseEvent[order]) error {
		l.add("%s/%d", e.Payload.ID, e.Payload.Number)
		return nil
	}
}

func everyGroupGetsEveryEvent(t *testing.T, f *fixture) {
	bus := f.ready()
	var one, two log
	second := f.subscription(note(&two))
	second.Group += "-2"
	f.start(bus, f.subscription(note(&one)), second)
	for i := range 10 {
		require.NoError(t, bus.Publish(f.ctx, f.order(fmt.Sprint("o-", i), i)))
	}
	f.eventually("both groups", func() bool { return one.len() == 10 && two.len() == 10 })
}

func groupSharesTheWork(t *testing.T, f *fixture) {
	one, two := f.ready(), f.bus(nil)
	var all, first, second log
	handler := func(own *log) eventbus.Handler[order] {
		return func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			own.add("%s", e.Payload.ID)
			return note(&all)(ctx, e)
		}
	}
	f.start(one, f.subscription(handler(&first)))
	f.start(two, f.subscription(handler(&second)))
	f.eventually("both have partitions", func() bool {
		return len(one.Health(f.ctx).Groups[0].Partitions) > 0 && len(two.Health(f.ctx).Groups[0].Partitions) > 0 &&
			len(one.Health(f.ctx).Groups[0].Partitions)+len(two.Health(f.ctx).Groups[0].Partitions) == 4 // the retry topic has one
	})
	for i := range 60 {
		require.NoError(t, one.Publish(f.ctx, f.order(fmt.Sprint("o-", i), i)))
	}
	f.eventually("all handled", func() bool { return all.len() >= 60 })
	require.Equal(t, 60, all.len(), "each by one member")
	require.NotZero(t, first.len())
	require.NotZero(t, second.len())
}

func committedEventsDoNotComeAgain(t *testing.T, f *fixture) {
	bus := f.ready()
	var before, after log
	stop := f.start(bus, f.subscription(note(&before)))
	for i := range 30 {
		require.NoError(t, bus.Publish(f.ctx, f.order(fmt.Sprint("o-", i), i)))
	}
	f.eventually("handled", func() bool { return before.len() == 30 })
	stop()
	require.EqualValues(t, 30, f.committed(), "a clean stop commits everything")
	f.start(bus, f.subscription(note(&after)))
	require.NoError(t, bus.Publish(f.ctx, f.order("new", 1)))
	f.eventually("the new one", func() bool { return after.len() > 0 })
	require.Equal(t, []string{"new/1"}, after.all())
}

func correlationAndCausation(t *testing.T, f *fixture) {
	bus := f.ready()
	var seen log
	sub := f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		return bus.Publish(ctx, f.shipped.New(e.Payload))
	})
	sub.Routes = append(sub.Routes, f.shipped.Handle(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		d, ok := eventbus.DeliveryFrom(ctx)
		seen.add("%s %s %v %d", e.CorrelationID, d.CausationID(), ok, d.Attempt)
		return nil
	}, nil))
	f.start(bus, sub)
	cause, own := f.order("o", 1), f.order("p", 1)
	require.NoError(t, bus.Publish(eventbus.WithCorrelationID(f.ctx, "corr-1"), cause))
	require.NoError(t, bus.Publish(f.ctx, own))
	f.eventually("both shipped", func() bool { return seen.len() == 2 })
	require.ElementsMatch(t, []string{
		"corr-1 " + cause.EventID + " true 1",
		own.EventID + " " + own.EventID + " true 1", // a first event's correlation id is its own
	}, seen.all())
}

func retriesInPlaceAndInOrder(t *testing.T, f *fixture) {
	bus := f.ready()
	var seen log
	sub := f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		seen.add("%d.%d", e.Payload.Number, d.Attempt)
		if e.Payload.Number == 1 && d.Attempt < 4 {
			return errors.New("not yet")
		}
		return nil
	})
	f.start(bus, sub)
	for i := range 3 {
		require.NoError(t, bus.Publish(f.ctx, f.order("o", i)))
	}
	f.eventually("all", func() bool { return seen.len() >= 6 })
	require.Equal(t, []string{"0.1", "1.1", "1.2", "1.3", "1.4", "2.1"}, seen.all(), "first try + 3 retries, its key waits")
	require.Empty(t, f.records(eventbus.DeadLetterTopic(f.placed.Name(), f.group)))
	require.EqualValues(t, 3, bus.Metrics().Retries)
}

const canary = "CANARY-4711"

func deadLettersOfEveryClass(t *testing.T, f *fixture) {
	f.ready()
	bus := f.bus(func(c *eventbus.Config) { c.Retry.OutageHold = -1 }) // no other event has to succeed first
	var tries atomic.Int32
	handler := func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		tries.Add(1)
		switch e.Payload.ID {
		case "permanent":
			return eventbus.Permanent(errors.New("no such account"))
		case "transient":
			return errors.New("database is away")
		case "panic":
			panic(canary)
		case "timeout":
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	sub := f.subscription(nil)
	sub.Routes = []eventbus.Route{f.placed.Handle(handler, &eventbus.HandleOptions{Timeout: 300 * time.Millisecond})}
	f.start(bus, sub)

	valid := func(id string) []byte { return mustEncode(t, bus, f.order(id, 1)) }
	bad := map[string][]byte{
		"permanent": valid("permanent"), "transient": valid("transient"), "panic": valid("panic"), "timeout": valid("timeout"),
		"null":      nil,
		"garbage":   []byte("\xff\x00{" + canary),
		"array":     []byte(`["` + canary + `"]`),
		"duplicate": []byte(`{"eventId":"a","eventId":"` + canary + `"}`),
		"number":    []byte(`{"eventId":"123e4567-e89b-12d3-a456-426614174000","timestamp":"2026-01-07T10:00:00Z","payload":{"id":"x","number":1,"amount":1e10000000}}`),
		"envelope":  []byte(`{"eventId":"` + canary + `","timestamp":"2026-01-07T10:00:00Z","payload":{}}`),
		"schema":    []byte(`{"eventId":"123e4567-e89b-12d3-a456-426614174000","timestamp":"2026-01-07T10:00:00Z","payload":{"id":"` + canary + `","number":-1}}`),
	}
	classes := map[string]eventbus.Class{
		"permanent": eventbus.ClassPermanent, "transient": eventbus.ClassTransient, "panic": eventbus.ClassPanic, "timeout": eventbus.ClassTimeout,
		"null": eventbus.ClassDecode, "garbage": eventbus.ClassDecode, "array": eventbus.ClassDecode, "duplicate": eventbus.ClassDecode,
		"number": eventbus.ClassDecode, "envelope": eventbus.ClassSchema, "schema": eventbus.ClassSchema,
	}
	for key, value := range bad {
		f.produce(&kgo.Record{Topic: f.placed.Name(), Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
			{Key: "traceparent", Value: []byte{0, 1, 0xff}}, {Key: "retryCount", Value: []byte("2")}, {Key: "traceparent", Value: []byte("twice")},
		}})
	}
	require.NoError(t, bus.Publish(f.ctx, f.order("fine", 1)))

	letters := f.read(eventbus.DeadLetterTopic(f.placed.Name(), f.group), len(bad))
	require.Len(t, letters, len(bad))
	for _, r := range letters {
		key := string(r.Key)
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(t, err, key)
		require.Equal(t, bad[key], r.Value, "%s: the value, byte for byte", key)
		require.Equal(t, classes[key], d.Class, key)
		require.Equal(t, f.placed.Name(), d.Topic)
		require.Equal(t, f.group, d.Group)
		require.Equal(t, d.Partition, r.Partition, "%s: the same partition", key)
		require.Equal(t, []kgo.RecordHeader{{Key: "traceparent", Value: []byte{0, 1, 0xff}}, {Key: "traceparent", Value: []byte("twice")}}, r.Headers[:2], key)
		require.NotEmpty(t, d.Fingerprint)
		require.NotEmpty(t, d.Error)
		for _, h := range r.Headers {
			require.NotContains(t, string(h.Value), canary, "%s: header %s shows no value", key, h.Key)
		}
		wantTries, retryCount := 0, "0"
		switch d.Class {
		case eventbus.ClassPermanent:
			wantTries = 1
		case eventbus.ClassTransient, eventbus.ClassPanic, eventbus.ClassTimeout:
			wantTries, retryCount = 4, "3"
		}
		require.Equal(t, wantTries, d.Attempts, key)
		require.Equal(t, retryCount, header(r, "retryCount"), key)
		require.Equal(t, d.Class == eventbus.ClassPanic, d.Stack != "", key)
	}
	f.eventually("every offset is passed", func() bool { return f.committed() == int64(len(bad)+1) })
	require.EqualValues(t, 1+1+4+4+4, tries.Load(), "fine and permanent once; transient, panic and timeout four times")
	require.EqualValues(t, len(bad), bus.Metrics().DeadLettered)
}

func header(r *kgo.Record, key string) string {
	i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == key })
	if i < 0 {
		return ""
	}
	return string(r.Headers[i].Value)
}

func mustEncode(t *testing.T, bus *eventbus.Bus, e eventbus.AnyEvent) []byte {
	r, err := bus.Encode(context.Background(), e)
	require.NoError(t, err)
	return r.Value
}

func missingDeadLetterTopicHoldsTheOffset(t *testing.T, f *fixture) {
	bus := f.ready()
	var seen log
	sub := f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		seen.add("%d", e.Payload.Number)
		if e.Payload.Number == 1 {
			return eventbus.Permanent(errors.New("no"))
		}
		return nil
	})
	stop, ended := f.startAsIs(bus, sub)
	for i := range 3 {
		require.NoError(t, bus.Publish(f.ctx, f.order("o", i)))
	}
	letters := eventbus.DeadLetterTopic(f.placed.Name(), f.group)
	f.eventually("health names the topic", func() bool {
		h := bus.Health(f.ctx)
		return !h.Ready && slices.ContainsFunc(h.Groups, func(g eventbus.GroupHealth) bool {
			return slices.ContainsFunc(g.Partitions, func(p eventbus.PartitionHealth) bool { return p.Waiting == "dead letter" })
		})
	})
	f.eventually("what is before it is committed", func() bool { return f.committed() == 1 })
	require.Equal(t, []string{"0", "1"}, seen.all(), "its key waits")
	require.NoError(t, bus.EnsureTopics(f.ctx, sub.Topics()...))
	f.eventually("it goes on by itself", func() bool { return seen.len() == 3 })
	require.Len(t, f.read(letters, 1), 1)
	require.NoError(t, bus.WaitReady(f.ctx))
	stop()
	require.NoError(t, <-ended)
	require.EqualValues(t, 3, f.committed())
}

func shutdownDrains(t *testing.T, f *fixture) {
	bus := f.ready()
	started, finish := make(chan struct{}), make(chan struct{})
	var seen log
	sub := f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		close(started) // once: a second event would panic
		<-finish
		seen.add("%v", ctx.Err())
		return nil
	})
	require.NoError(t, bus.EnsureTopics(f.ctx, sub.Topics()...))
	stop, ended := f.startAsIs(bus, sub)
	require.NoError(t, bus.WaitReady(f.ctx))
	require.NoError(t, bus.Publish(f.ctx, f.order("o", 1)))
	<-started
	go func() {
		time.AfterFunc(50*time.Millisecond, func() { close(finish) })
	}()
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, []string{"<nil>"}, seen.all(), "the running handler ends in peace")
	require.EqualValues(t, 1, f.committed())
}

func shutdownIsNoFailure(t *testing.T, f *fixture) {
	bus := f.ready()
	var seen log
	sub := f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		seen.add("%d", e.Payload.Number)
		<-ctx.Done()
		return ctx.Err()
	})
	sub.DrainTimeout = 50 * time.Millisecond
	require.NoError(t, bus.EnsureTopics(f.ctx, sub.Topics()...))
	stop, ended := f.startAsIs(bus, sub)
	require.NoError(t, bus.Publish(f.ctx, f.order("o", 1)))
	f.eventually("the handler runs", func() bool { return seen.len() == 1 })
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, 1, seen.len(), "no second try")
	require.Zero(t, f.committed())
	require.Empty(t, f.records(eventbus.DeadLetterTopic(f.placed.Name(), f.group)))
	var again log
	f.start(bus, f.subscription(note(&again)))
	f.eventually("it comes again", func() bool { return again.len() == 1 })
}

func memberJoinsAndLeaves(t *testing.T, f *fixture) {
	one := f.ready()
	var seen log
	handler := func(_ context.Context, e *eventbus.BaseEvent[order]) error {
		seen.add("%s %d", e.Payload.ID, e.Payload.Number)
		return nil
	}
	f.start(one, f.subscription(handler))
	const keys, each = 5, 60
	publishing := make(chan error, 1)
	go func() {
		for i := range each {
			for k := range keys {
				if err := one.Publish(f.ctx, f.order(fmt.Sprint("key-", k), i)); err != nil {
					publishing <- err
					return
				}
			}
		}
		publishing <- nil
	}()
	for range 3 {
		two := f.bus(nil)
		stop := f.start(two, f.subscription(handler))
		f.eventually("the second member has work", func() bool {
			h := two.Health(f.ctx)
			return len(h.Groups) > 0 && len(h.Groups[0].Partitions) > 0
		})
		stop()
	}
	require.NoError(t, <-publishing)
	f.eventually("all committed", func() bool { return f.committed() == keys*each })
	for k := range keys {
		got := seen.of(fmt.Sprintf("key-%d ", k))
		want := make([]string, each)
		for i := range want {
			want[i] = fmt.Sprint(i)
		}
		require.Equal(t, want, got, "each once and in order: members that leave cleanly hand over what they committed")
	}
}

func missingTopicIsNamedAndRecovers(t *testing.T, f *fixture) {
	bus := f.bus(nil)
	var seen log
	sub := f.subscription(note(&seen))
	f.startAsIs(bus, sub)
	f.eventually("health names the topic", func() bool {
		h := bus.Health(f.ctx)
		return h.Live && !h.Ready && len(h.Groups) > 0 && slices.ContainsFunc(h.Groups[0].Problems, func(p string) bool {
			return contains(p, f.placed.Name(), "UNKNOWN_TOPIC_OR_PARTITION")
		})
	})
	require.NoError(t, bus.EnsureTopics(f.ctx, sub.Topics()...))
	require.NoError(t, bus.WaitReady(f.ctx))
	require.NoError(t, bus.Publish(f.ctx, f.order("o", 1)))
	f.eventually("handled", func() bool { return seen.len() == 1 })
}

func failFastNamesTheTopic(t *testing.T, f *fixture) {
	bus := f.bus(nil)
	sub := f.subscription(note(new(log)))
	sub.FailFast = true
	_, ended := f.startAsIs(bus, sub)
	err := <-ended
	require.ErrorContains(t, err, f.placed.Name())
	require.ErrorContains(t, err, "UNKNOWN_TOPIC_OR_PARTITION")
}
