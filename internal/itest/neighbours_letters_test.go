package itest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// theirDeadLettersAreRead has the service give two events up, as it does: three times to the topic again, then to the dead letters. A Go service reads
// them, and takes over from it.
func theirDeadLettersAreRead(t *testing.T, s *street) {
	const group, dlq = "auth-service-group", eventbus.TopicUserCreated + ".dlq"
	bus := s.bus(nil)
	handled := make(chan eventbus.Delivery, 100)
	sub := eventbus.Subscription{Group: group, Routes: []eventbus.Route{eventbus.UserCreated.Handle(
		func(ctx context.Context, _ *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			handled <- d
			return nil
		}, nil)}}
	s.topics(2, dlq)
	require.NoError(t, bus.EnsureTopics(s.ctx, sub.Topics()...))
	service := s.neighbour()
	service.subscribe(group, command{"failing": []string{"u-1", "u-2"}}, eventbus.TopicUserCreated)
	sent := map[string]*kgo.Record{}
	for _, id := range []string{"u-1", "u-2", "u-3"} {
		of := made(eventbus.UserCreated, eventbus.UserCreatedPayload{UserID: id, Email: "ada@example.com"})[0]
		record, err := bus.Encode(s.ctx, of.event)
		require.NoError(t, err)
		sent[id] = record
		require.NoError(t, bus.Publish(s.ctx, of.event))
	}

	letters, err := bus.DeadLettersIn(s.prefix+dlq, eventbus.UserCreated, group)
	require.NoError(t, err)
	var kinds []eventbus.LetterGroup
	s.eventually("both are given up", func() (bool, string) {
		kinds, err = letters.Groups(s.ctx, eventbus.LetterFilter{})
		require.NoError(t, err)
		return len(kinds) > 0 && kinds[0].Count == 2, fmt.Sprintf("%+v", kinds)
	})
	require.Len(t, kinds, 1)
	require.Equal(t, eventbus.FamilyKafkaJS, kinds[0].Sample.Family)
	tries := map[string]int{}
	for _, e := range service.handled(group, 0) {
		tries[string(e.Key)]++
	}
	require.Equal(t, map[string]int{"u-1": 4, "u-2": 4, "u-3": 1}, tries)
	for l, err := range letters.List(s.ctx, eventbus.LetterFilter{Topic: s.prefix + eventbus.TopicUserCreated}) {
		require.NoError(t, err)
		original := sent[string(l.Record.Key)]
		require.Equal(t, string(original.Value), string(l.Record.Value))
		require.Equal(t, []any{4, "", l.Partition, l.Offset}, []any{l.Attempts, l.Group, l.DeadLetter.Partition, l.DeadLetter.Offset})
		require.WithinDuration(t, time.Now(), l.FailedAt, 2*neighbourPatience)
		delete(sent, string(l.Record.Key))
	}
	require.Len(t, sent, 1, "both were listed")

	service.unsubscribe(group)
	report, err := letters.Redrive(s.ctx, eventbus.RedriveOptions{Send: true})
	require.NoError(t, err)
	require.Equal(t, []int{2, 2, 0, 0}, []int{report.Matched, report.Sent, report.Strangers, report.Skipped})
	end := s.run(bus, sub)
	for range 2 {
		select {
		case d := <-handled:
			require.Equal(t, []any{eventbus.TopicUserCreated, group, 1}, []any{d.Topic, d.Group, d.Redrives})
			require.NotContains(t, sent, string(d.Key))
		case <-s.ctx.Done():
			require.FailNow(t, "not redriven")
		}
	}
	require.NoError(t, end())
	require.Empty(t, handled, "nothing that it has handled itself")
}
