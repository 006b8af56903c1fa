package eventbus_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// sleeper handles orders at once, but for number 1, which lasts for d, or until its ctx ends.
func sleeper(d time.Duration, handled, cancelled *journal) eventbus.Handler[order] {
	return func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		if e.Payload.Number == 1 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				cancelled.add("%d", e.Payload.Number)
				return ctx.Err()
			}
		}
		return handles(handled)(ctx, e)
	}
}

func (w *world) publishNumbers(bus *eventbus.Bus, from, to int) {
	for i := from; i < to; i++ {
		require.NoError(w, bus.Publish(context.Background(), w.order(string(rune('a'+i)), i)))
	}
}

func rebalance(w *world) {
	w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.RebalanceInProgress, Count: 1, TopLevel: true})
}

// The client goes on with its partitions where its group has forgotten it while it joined. They may be others' by then.
func TestAMemberThatIsForgottenWhileItJoinsBeginsAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var handled, cancelled journal
		w.run(bus, sleeper(20*time.Second, &handled, &cancelled), nil, func(s *eventbus.Subscription) { s.SessionTimeout = 8 * time.Second })
		w.publishNumbers(bus, 0, 3)
		w.until("0 and 2 are handled", func() bool { return len(handled.all()) == 2 })
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, w.committed())

		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.UnknownMemberID, Count: 1, TopLevel: true})
		rebalance(w)
		w.until("the handler is cancelled", func() bool { return len(cancelled.all()) == 1 })
		require.Less(t, w.took(), 6*time.Second, "at once, not when the next session begins")
		w.publishNumbers(bus, 3, 8)
		commitAsAnother(w, 5) // the partition may have been somebody else's meanwhile
		w.until("the rest is handled", func() bool { return len(handled.all()) == 5 })
		w.until("and committed", func() bool { return w.committed() == 8 })
		require.ElementsMatch(t, []string{"5", "6", "7"}, handled.all()[2:], "it goes on where the group is")
	})
}

// The client cannot be set forward on a partition of which it has polled nothing: what it brings of before the committed offset is left out.
func TestAMemberThatBeginsAnewSkipsWhatOthersHaveDone(t *testing.T) {
	inWorld(t, func(w *world) {
		bus, unstable := w.bus(nil), w.unstableFetches()
		var handled journal
		w.run(bus, handles(&handled), nil, func(s *eventbus.Subscription) { s.SessionTimeout = 8 * time.Second })
		require.NoError(t, bus.WaitReady(context.Background()))
		var hang atomic.Bool
		hang.Store(true)
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			return nil, nil, hang.Load()
		})
		time.Sleep(2 * time.Second)
		w.publishNumbers(bus, 0, 5)
		commitAsAnother(w, 5)
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.UnknownMemberID, Count: 1, TopLevel: true})
		rebalance(w)
		time.Sleep(20 * time.Second)
		hang.Store(false)
		w.publishNumbers(bus, 5, 6)
		w.until("it goes on", func() bool { return w.committed() == 6 })
		require.Equal(t, []string{"5"}, handled.all())
		require.Zero(t, unstable.Load())
	})
}

// unstableFetches counts requests for committed offsets that a coordinator may answer with older ones: see Bus.committed.
func (w *world) unstableFetches() *atomic.Int32 {
	var n atomic.Int32
	w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if !req.(*kmsg.OffsetFetchRequest).RequireStable {
			n.Add(1)
		}
		return nil, nil, false
	})
	return &n
}

// commitAsAnother has the group's offset be another one than its member thinks.
func commitAsAnother(w *world, offset int64) {
	w.until("the group is empty, or has a new member", func() bool {
		info := w.cluster.GroupInfo("group")
		return info == nil || len(info.Members) == 0 || info.State == "Stable"
	})
	info := w.cluster.GroupInfo("group")
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = "group"
	if len(info.Members) > 0 {
		req.MemberID, req.Generation = info.Members[0].MemberID, info.Epoch
	}
	topic, partition := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	topic.Topic, topic.TopicID, partition.Offset = orders, w.cluster.TopicInfo(orders).TopicID, offset
	partition.LeaderEpoch = w.cluster.PartitionInfo(orders, 0).Epoch
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(context.Background(), w.raw())
	require.NoError(w, err)
	require.Zero(w, resp.Topics[0].Partitions[0].ErrorCode)
}

// A request that nobody answers: by the time the client gives it up, the member's session is long over.
func TestAMemberThatHearsNothingWhileItJoinsGivesUp(t *testing.T) {
	for name, key := range map[string]kmsg.Key{"join": kmsg.JoinGroup, "sync": kmsg.SyncGroup} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				var handled, cancelled journal
				w.run(bus, sleeper(time.Minute, &handled, &cancelled), &eventbus.HandleOptions{Timeout: 30 * time.Second},
					func(s *eventbus.Subscription) { s.SessionTimeout = 8 * time.Second })
				w.publishNumbers(bus, 0, 2)
				w.until("0 is handled", func() bool { return len(handled.all()) == 1 })
				hang, joins := true, false
				w.cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
					w.cluster.KeepControl()
					joins = true
					return nil, nil, hang && key == kmsg.JoinGroup
				})
				w.cluster.ControlKey(int16(kmsg.SyncGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
					w.cluster.KeepControl()
					return nil, nil, hang && key == kmsg.SyncGroup
				})
				w.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
					w.cluster.KeepControl()
					return nil, nil, hang && joins
				})
				began := w.took()
				rebalance(w)
				w.until("the handler is cancelled", func() bool { return len(cancelled.all()) == 1 })
				require.Less(t, w.took()-began, 13*time.Second, "a heartbeat and SessionTimeout")
				hang = false
				require.NoError(t, bus.WaitReady(context.Background()))
				time.Sleep(2 * time.Minute) // what was asked before is answered, and all can end
			})
		})
	}
}

// Heartbeats that nobody answers: the client goes on for longer than the group waits for it.
func TestAMemberWhoseHeartbeatsAreNotAnsweredGivesUp(t *testing.T) {
	for name, protocol := range map[string]eventbus.GroupProtocol{"classic": eventbus.ProtocolClassic, "consumer": eventbus.ProtocolConsumer} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var hang atomic.Bool
				for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.ConsumerGroupHeartbeat} {
					w.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
						w.cluster.KeepControl()
						return nil, nil, hang.Load()
					})
				}
				bus := w.bus(nil)
				var handled, cancelled journal
				w.run(bus, sleeper(time.Minute, &handled, &cancelled), &eventbus.HandleOptions{Timeout: 30 * time.Second},
					func(s *eventbus.Subscription) { s.SessionTimeout, s.Protocol = 12*time.Second, protocol })
				w.publishNumbers(bus, 0, 2)
				w.until("0 is handled", func() bool { return len(handled.all()) == 1 })
				began := w.took()
				hang.Store(true)
				w.until("the handler is cancelled", func() bool { return len(cancelled.all()) == 1 })
				require.Less(t, w.took()-began, 12*time.Second, "before the group gives its partitions to another member")
				require.Greater(t, w.took()-began, 7*time.Second)
				hang.Store(false)
				require.NoError(t, bus.WaitReady(context.Background()))
				w.publishNumbers(bus, 2, 4)
				w.until("it goes on", func() bool { return len(handled.all()) >= 3 })
				time.Sleep(2 * time.Minute) // what was asked before is answered, and all can end
			})
		})
	}
}

// A rebalance may last longer than SessionTimeout, for a member that has a longer one and is missed. Who waits keeps what it has.
func TestALongRebalanceCancelsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		link := newLink(&w.net)
		one, two, three := w.bus(nil), w.bus(func(cfg *eventbus.Config) { cfg.Client = link.options() }), w.bus(nil)
		session := func(d time.Duration) func(*eventbus.Subscription) {
			return func(s *eventbus.Subscription) { s.SessionTimeout = d }
		}
		var handled, cancelled journal
		w.run(one, sleeper(25*time.Second, &handled, &cancelled), nil, session(8*time.Second))
		require.NoError(t, one.WaitReady(context.Background()))
		w.run(two, ignore, nil, session(45*time.Second))
		require.NoError(t, two.WaitReady(context.Background()))
		w.until("the group is at rest", func() bool {
			info := w.cluster.GroupInfo("group")
			return info.State == "Stable" && len(info.Members) == 2
		})
		w.publishNumbers(one, 0, 2)
		link.cut()
		w.run(three, ignore, nil, session(45*time.Second))
		w.until("the group waits", func() bool { return w.cluster.GroupInfo("group").State == "PreparingRebalance" })
		time.Sleep(20 * time.Second)
		require.Equal(t, "PreparingRebalance", w.cluster.GroupInfo("group").State)
		w.until("the handler ends", func() bool { return len(handled.all()) == 2 })
		require.Empty(t, cancelled.all())
		link.mend()
		time.Sleep(2 * time.Minute) // all are at rest, and can end
		require.EqualValues(t, 2, w.committed())
	})
}
