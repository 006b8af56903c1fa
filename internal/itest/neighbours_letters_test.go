package itest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// theirDeadLettersAreRead has the service give two events up, as it does: three times to the topic again, then to the dead letters. A Go
// service reads them, and takes over from it.
func theirDeadLettersAreRead(t *testing.T, s *street) {
	const group, dlq = "auth-service-group", eventbus.TopicUserCreated + ".dlq"
	bus, got := s.bus(nil), &arrivals{}
	sub := eventbus.Subscription{Group: group, Routes: []eventbus.Route{arriving(eventbus.UserCreated, got)}}
	s.topics(2, dlq)
	require.NoError(t, bus.EnsureTopics(s.ctx, sub.Topics()...))
	service := s.neighbour()
	service.subscribe(group, command{"failing": []string{"u-1", "u-2"}}, eventbus.TopicUserCreated)
	sent := s.publishUsers(bus, "u-1", "u-2", "u-3")

	letters, err := bus.DeadLettersIn(s.prefix+dlq, eventbus.UserCreated, group)
	require.NoError(t, err)
	s.awaitLetters(letters, 2)
	tries := map[string]int{}
	for _, e := range service.handled(group, 0) {
		tries[string(e.Key)]++
	}
	require.Equal(t, map[string]int{"u-1": 4, "u-2": 4, "u-3": 1}, tries)
	s.requireTheirs(letters, map[string]*kgo.Record{"u-1": sent["u-1"], "u-2": sent["u-2"]})

	service.unsubscribe(group)
	report, err := letters.Redrive(s.ctx, eventbus.RedriveOptions{Send: true})
	require.NoError(t, err)
	require.Equal(t, []int{2, 2, 0, 0}, []int{report.Matched, report.Sent, report.Strangers, report.Skipped})
	end := s.run(bus, sub)
	last := s.publishUsers(bus, "u-4") // so that what is behind the offsets that the service has committed would be seen
	s.eventually("all are handled", func() (bool, string) { return got.len() >= 2+len(last), fmt.Sprint(got.len()) })
	require.NoError(t, end())
	redrives := map[string]int{}
	for _, a := range got.list() {
		require.Equal(t, []string{eventbus.TopicUserCreated, group}, []string{a.delivery.Topic, a.delivery.Group})
		redrives[string(a.delivery.Key)] = a.delivery.Redrives
	}
	require.Equal(t, map[string]int{"u-1": 1, "u-2": 1, "u-4": 0}, redrives, "nothing that it has handled itself")
}

// publishUsers publishes an event of each user and returns their records.
func (s *street) publishUsers(bus *eventbus.Bus, users ...string) map[string]*kgo.Record {
	sent := map[string]*kgo.Record{}
	for _, id := range users {
		e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: id, Email: "ada@example.com"})
		record, err := bus.Encode(s.ctx, e)
		require.NoError(s.t, err)
		sent[id] = record
		require.NoError(s.t, bus.Publish(s.ctx, e))
	}
	return sent
}

// awaitLetters waits until n letters of a service in TypeScript are there, all of one kind.
func (s *street) awaitLetters(letters *eventbus.DeadLetters, n int) {
	var kinds []eventbus.LetterGroup
	s.eventually("they are given up", func() (bool, string) {
		var err error
		kinds, err = letters.Groups(s.ctx, eventbus.LetterFilter{})
		require.NoError(s.t, err)
		return len(kinds) > 0 && kinds[0].Count == n, fmt.Sprintf("%+v", kinds)
	})
	require.Len(s.t, kinds, 1)
	require.Equal(s.t, eventbus.FamilyKafkaJS, kinds[0].Sample.Family)
}

// requireTheirs holds the letters against the records that were given up, by key.
func (s *street) requireTheirs(letters *eventbus.DeadLetters, originals map[string]*kgo.Record) {
	keys := map[string]bool{}
	for l, err := range letters.List(s.ctx, eventbus.LetterFilter{Topic: s.prefix + eventbus.TopicUserCreated}) {
		require.NoError(s.t, err)
		key := string(l.Record.Key)
		require.Contains(s.t, originals, key)
		require.Equal(s.t, string(originals[key].Value), string(l.Record.Value))
		require.Equal(s.t, []any{4, "", l.Partition, l.Offset}, []any{l.Attempts, l.Group, l.DeadLetter.Partition, l.DeadLetter.Offset})
		require.WithinDuration(s.t, time.Now(), l.FailedAt, 2*neighbourPatience)
		keys[key] = true
	}
	require.Len(s.t, keys, len(originals))
}
