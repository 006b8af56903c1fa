package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// topicMadeAgainIsFollowed deletes a topic under a consumer and a publisher, and makes it again, with other partitions, at once and after a while:
// all that is published to it is handled, in order, and the other topic of the group goes on.
func topicMadeAgainIsFollowed(t *testing.T, f *fixture) {
	bus := f.ready()
	var seen log
	sub := f.subscription(note(&seen))
	sub.Routes = append(sub.Routes, f.shipped.Handle(note(&seen), nil))
	f.start(bus, sub)
	f.state = func() string {
		return fmt.Sprintf("seen %v, committed %d, health %+v", seen.all(), f.committed(), bus.Health(f.ctx))
	}
	for round, partitions := range []int32{2, 4} {
		f.publishAll(bus, round)
		f.eventually("handled and committed", func() bool { return len(seen.of(fmt.Sprint(round))) == keys*each && f.committed() == keys*each })
		_, err := f.admin.DeleteTopics(f.ctx, f.placed.Name())
		require.NoError(t, err)
		if round == 1 {
			f.eventually("named", func() bool { return f.problem(bus, "UNKNOWN_TOPIC_OR_PARTITION") })
		}
		shipped := fmt.Sprint("other-", round)
		require.NoError(t, bus.Publish(f.ctx, f.shipped.New(order{ID: shipped, Amount: eventbus.MustDecimal("1")})))
		f.eventually("the other topic goes on", func() bool { return len(seen.of(shipped)) == 1 })
		f.create(partitions)
	}
	f.publishAll(bus, 2)
	f.eventually("handled and committed", func() bool { return len(seen.of("2")) >= keys*each && f.committed() == keys*each })
	for k := range keys {
		want := make([]string, each)
		for i := range want {
			want[i] = fmt.Sprint(i)
		}
		for round := range 3 {
			require.Equal(t, want, seen.of(fmt.Sprintf("%d-%d/", round, k)), "each once and in order")
		}
	}
	require.NoError(t, bus.WaitReady(f.ctx))
	require.GreaterOrEqual(t, bus.Metrics().Recreated, int64(2))
}

const keys, each = 5, 10

func (f *fixture) publishAll(bus *eventbus.Bus, round int) {
	for i := range each {
		for k := range keys {
			require.NoError(f.t, bus.Publish(f.ctx, f.order(fmt.Sprintf("%d-%d", round, k), i)))
		}
	}
}

// create makes placed again; a cluster that is not yet done with deleting it refuses that. It returns when every broker knows of it: until then one serves
// the topic that was deleted.
func (f *fixture) create(partitions int32) {
	var made kadm.CreateTopicResponse
	f.eventually("made again", func() bool {
		var err error
		made, err = f.admin.CreateTopic(f.ctx, partitions, -1, nil, f.placed.Name())
		return err == nil
	})
	brokers, err := f.admin.ListBrokers(f.ctx)
	require.NoError(f.t, err)
	for _, b := range brokers {
		f.eventually("known", func() bool {
			ask := kmsg.NewPtrMetadataRequest()
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr(f.placed.Name())
			ask.Topics = append(ask.Topics, topic)
			resp, err := f.client.Broker(int(b.NodeID)).RetriableRequest(f.ctx, ask)
			if err != nil {
				return false
			}
			found := resp.(*kmsg.MetadataResponse).Topics[0]
			return found.ErrorCode == 0 && found.TopicID == made.ID && len(found.Partitions) == int(partitions)
		})
	}
}

// problem says whether health names placed with that.
func (f *fixture) problem(bus *eventbus.Bus, with string) bool {
	return slices.ContainsFunc(bus.Health(f.ctx).Groups[0].Problems, func(p string) bool { return contains(p, f.placed.Name(), with) })
}

// topicMadeAgainWhileNobodyRuns has a group begin a topic at its beginning that was made again since it committed.
func topicMadeAgainWhileNobodyRuns(t *testing.T, f *fixture) {
	bus := f.ready()
	var before, after log
	stop := f.start(bus, f.subscription(note(&before)))
	f.publishAll(bus, 0)
	f.eventually("committed", func() bool { return f.committed() == keys*each })
	stop()
	_, err := f.admin.DeleteTopics(f.ctx, f.placed.Name())
	require.NoError(t, err)
	f.create(3)
	require.NoError(t, bus.Publish(f.ctx, f.order("new", 0), f.order("new", 1)))
	f.start(bus, f.subscription(note(&after)))
	f.eventually("the new topic's", func() bool { return after.len() == 2 && f.committed() == 2 })
	require.Equal(t, []string{"new/0", "new/1"}, after.all())
}

// publishersFollowATopicMadeAgain has many publish while their topic is made again: who is told of success after that has published to it.
func publishersFollowATopicMadeAgain(t *testing.T, f *fixture) {
	bus := f.ready()
	f.publishAll(bus, 0)
	_, err := f.admin.DeleteTopics(f.ctx, f.placed.Name())
	require.NoError(t, err)
	f.create(3)
	results := make(chan error, keys*each)
	for i := range each {
		for k := range keys {
			bus.PublishAsync(context.WithoutCancel(f.ctx), f.order(fmt.Sprintf("k-%d", k), i), func(err error) { results <- err })
		}
	}
	for range keys * each {
		require.NoError(t, <-results)
	}
	numbers := map[string][]int{}
	for _, r := range f.records(f.placed.Name()) {
		e, err := f.placed.Decode(r.Value)
		require.NoError(t, err)
		numbers[e.Payload.ID] = append(numbers[e.Payload.ID], e.Payload.Number)
	}
	require.Len(t, numbers, keys)
	for k, got := range numbers {
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, got, "key %s: each once and in order", k)
	}
}
