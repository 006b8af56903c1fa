package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/dreamscape/eventbus"
)

var protocols = map[string]eventbus.GroupProtocol{"classic": eventbus.ProtocolClassic, "KIP-848": eventbus.ProtocolConsumer}

// inGroup runs a test for each protocol, with four partitions in acme.four.
func inGroup(
	t *testing.T, test func(w *world, topic *eventbus.Topic[order], member func(*eventbus.Bus, *journal, string) *running), opts ...kfake.Opt,
) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				topic := eventbus.NewTopic("acme.four", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
				test(w, topic, func(bus *eventbus.Bus, seen *journal, instance string) *running {
					return w.run(bus, nil, nil, func(s *eventbus.Subscription) {
						s.Routes = []eventbus.Route{topic.Handle(handles(seen), nil)}
						s.Protocol, s.InstanceID, s.SessionTimeout = protocol, instance, 45*time.Second
					})
				})
			}, append(opts, kfake.SeedTopics(4, "acme.four", "acme.four.dlq.group"))...)
		})
	}
}

// owners are the group's members, by instance or client, with how many partitions each has.
func (w *world) owners() map[string]int {
	owners := map[string]int{}
	if info := w.cluster.GroupInfo("group"); info != nil {
		for _, m := range info.Members {
			name := m.MemberID
			if m.InstanceID != nil {
				name = *m.InstanceID
			}
			owners[name] += m.NumAssigned()
		}
	}
	return owners
}

// assigned are the partitions of each instance.
func (w *world) assigned() map[string]map[string][]int32 {
	assigned := map[string]map[string][]int32{}
	for _, m := range w.cluster.GroupInfo("group").Members {
		assigned[*m.InstanceID] = m.Assignment
	}
	return assigned
}

func (w *world) classic() bool { return strings.HasSuffix(w.Name(), "/classic") }

// A member that ends hands over at once, whatever the protocol, and nothing is lost or doubled on the way.
func TestMembersShareAndHandOver(t *testing.T) {
	inGroup(t, func(w *world, topic *eventbus.Topic[order], member func(*eventbus.Bus, *journal, string) *running) {
		one, two := w.bus(nil), w.bus(nil)
		var byOne, byTwo journal
		publish := func(from, to int) {
			for i := from; i < to; i++ {
				require.NoError(w, one.Publish(context.Background(), topic.New(order{ID: fmt.Sprint("o", i), Number: i})))
			}
		}
		publish(0, 50)
		member(one, &byOne, "")
		w.until("one has all", func() bool { return len(byOne.all()) == 50 })
		second := member(two, &byTwo, "")
		w.until("they share", func() bool { return slices.Equal(slices.Collect(maps.Values(w.owners())), []int{2, 2}) })
		publish(50, 100)
		w.until("both work", func() bool { return len(byOne.all())+len(byTwo.all()) == 100 })
		require.NotEmpty(w, byTwo.all())
		require.NoError(w, second.end())
		left := time.Now()
		w.until("one has all again", func() bool { return slices.Equal(slices.Collect(maps.Values(w.owners())), []int{4}) })
		require.Less(w, time.Since(left), 10*time.Second)
		publish(100, 150)
		w.until("the rest", func() bool { return len(byOne.all())+len(byTwo.all()) == 150 })
		all := append(byOne.all(), byTwo.all()...)
		slices.Sort(all)
		require.Len(w, slices.Compact(all), 150, "each once")
	})
}

// A static member that restarts within SessionTimeout finds its partitions as they were, and the others notice nothing.
func TestAStaticMemberRestartsWithoutARebalance(t *testing.T) {
	restartAStaticMember(t, 4)
}

// Nor do they where there is a retry topic: it is consumed from the start on, and not only when it is found.
func TestAStaticMemberWithARetryTopicRestartsWithoutARebalance(t *testing.T) {
	restartAStaticMember(t, 5, kfake.SeedTopics(1, "acme.four.retry.group"))
}

// restartAStaticMember has one of two restart that share so many partitions.
func restartAStaticMember(t *testing.T, partitions int, opts ...kfake.Opt) {
	inGroup(t, func(w *world, topic *eventbus.Topic[order], member func(*eventbus.Bus, *journal, string) *running) {
		w.refuseNamelessGoodbyes()
		var byOne, byTwo, byThree journal
		one, two, three := w.bus(nil), w.bus(nil), w.bus(nil)
		member(one, &byOne, "pod-1")
		member(two, &byTwo, "pod-2")
		var shared map[string]int
		w.until("they share", func() bool {
			shared = w.owners()
			return min(shared["pod-1"], shared["pod-2"]) == 2 && shared["pod-1"]+shared["pod-2"] == partitions
		})
		time.Sleep(10 * time.Second)
		before, epoch := w.assigned(), w.cluster.GroupInfo("group").Epoch

		require.NoError(w, two.Shutdown(context.Background()))
		for i := range 100 {
			require.NoError(w, one.Publish(context.Background(), topic.New(order{ID: fmt.Sprint("o", i), Number: i})))
		}
		time.Sleep(20 * time.Second)
		require.Equal(w, shared, w.owners(), "it keeps its partitions")
		mine := len(byOne.all())
		require.Less(w, mine, 100)
		member(three, &byThree, "pod-2")
		w.until("it goes on with its own", func() bool { return len(byThree.all()) == 100-mine })
		require.Equal(w, before, w.assigned())
		if w.classic() { // the fake compares what a member says of itself, where Kafka compares the protocols: it shares out once more
			epoch++
		}
		require.LessOrEqual(w, w.cluster.GroupInfo("group").Epoch, epoch, "no rebalance")
	}, opts...)
}

// refuseNamelessGoodbyes has the fake refuse, as Kafka does, a static member's last heartbeat that does not say of which instance it is.
func (w *world) refuseNamelessGoodbyes() {
	w.cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		beat := req.(*kmsg.ConsumerGroupHeartbeatRequest)
		if beat.MemberEpoch != -2 || beat.InstanceID != nil {
			return nil, nil, false
		}
		resp := beat.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil, true
	})
}

// ScaleDown takes a static member out of its group at once, one whose Run has ended before too.
func TestScaleDownFreesAStaticMembersPartitions(t *testing.T) {
	for name, early := range map[string]bool{"that runs": false, "whose Run has ended": true} {
		t.Run(name, func(t *testing.T) {
			inGroup(t, func(w *world, _ *eventbus.Topic[order], member func(*eventbus.Bus, *journal, string) *running) {
				one, two := w.bus(nil), w.bus(nil)
				member(one, new(journal), "pod-1")
				second := member(two, new(journal), "pod-2")
				w.until("they share", func() bool { return maps.Equal(w.owners(), map[string]int{"pod-1": 2, "pod-2": 2}) })
				if early {
					require.NoError(w, second.end())
				}
				require.NoError(w, two.ScaleDown(context.Background()))
				left := time.Now()
				w.until("one has all", func() bool { return maps.Equal(w.owners(), map[string]int{"pod-1": 4}) })
				require.Less(w, time.Since(left), 10*time.Second)
				require.NoError(w, two.ScaleDown(context.Background()), "again")
			})
		})
	}
}

// ScaleDown is about the process that it is called in, not about another one that has its place by now.
func TestScaleDownLeavesAReplacementInPeace(t *testing.T) {
	inGroup(t, func(w *world, _ *eventbus.Topic[order], member func(*eventbus.Bus, *journal, string) *running) {
		fenceLeaving(w)
		one, two := w.bus(nil), w.bus(nil)
		first := member(one, new(journal), "pod-1")
		w.until("it has all", func() bool { return maps.Equal(w.owners(), map[string]int{"pod-1": 4}) })
		require.NoError(w, first.end())
		member(two, new(journal), "pod-1")
		require.NoError(w, two.WaitReady(context.Background()))
		now := w.cluster.GroupInfo("group").Members[0].MemberID
		require.NoError(w, one.ScaleDown(context.Background()))
		time.Sleep(10 * time.Second)
		require.Equal(w, now, w.cluster.GroupInfo("group").Members[0].MemberID)
		require.True(w, two.Health(context.Background()).Ready)
	})
}

// fenceLeaving has the cluster refuse a member that says it leaves in the name of another one, as Kafka does and kfake does not.
func fenceLeaving(w *world) {
	w.cluster.ControlKey(int16(kmsg.LeaveGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req := r.(*kmsg.LeaveGroupRequest)
		leaves := req.Members[0]
		for _, m := range w.cluster.GroupInfo("group").Members {
			if leaves.InstanceID == nil || m.InstanceID == nil || *m.InstanceID != *leaves.InstanceID || leaves.MemberID == "" || m.MemberID == leaves.MemberID {
				continue
			}
			resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
			fenced := kmsg.NewLeaveGroupResponseMember()
			fenced.MemberID, fenced.InstanceID, fenced.ErrorCode = leaves.MemberID, leaves.InstanceID, kerr.FencedInstanceID.Code
			resp.Members = append(resp.Members, fenced)
			return resp, nil, true
		}
		return nil, nil, false
	})
}

// Two processes with one InstanceID: the broker fences the older one, which says so by name.
func TestAnInstanceIDThatIsUsedTwiceIsNamed(t *testing.T) {
	inGroup(t, func(w *world, _ *eventbus.Topic[order], member func(*eventbus.Bus, *journal, string) *running) {
		one, two := w.bus(nil), w.bus(nil)
		member(one, new(journal), "pod-1")
		w.until("one has all", func() bool { return maps.Equal(w.owners(), map[string]int{"pod-1": 4}) })
		member(two, new(journal), "pod-1")
		began := time.Now()
		named := func(bus *eventbus.Bus) bool {
			h := bus.Health(context.Background())
			return len(h.Groups) == 1 && !h.Ready && strings.Contains(fmt.Sprint(h.Groups[0].Problems), `Subscription.InstanceID "pod-1"`)
		}
		w.until("one of them is told", func() bool { return named(one) || named(two) })
		require.Less(w, time.Since(began), 30*time.Second)
	})
}

func TestABrokerTooOldForTheProtocolIsNamed(t *testing.T) {
	old := kfake.MaxVersions(kversion.V3_9_0())
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		var seen journal
		w.run(bus, handles(&seen), nil, func(s *eventbus.Subscription) { s.Protocol = eventbus.ProtocolConsumer })
		publish(w, bus, 1)
		w.until("named", func() bool {
			h := bus.Health(context.Background())
			return len(h.Groups) == 1 && strings.Contains(fmt.Sprint(h.Groups[0].Problems), "too old for ProtocolConsumer, which needs Kafka 4.0")
		})
		require.LessOrEqual(t, w.took(), 5*time.Second)
		require.False(t, bus.Health(context.Background()).Ready)

		r := w.run(w.bus(nil), ignore, nil, func(s *eventbus.Subscription) { s.Protocol, s.FailFast = eventbus.ProtocolConsumer, true })
		began := time.Now()
		require.ErrorIs(t, <-r.ended, kerr.UnsupportedVersion)
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
	}, old)
}

// What a redrive brings back is of the topic that it failed in: so it is handled, and so it fails again.
func TestARetryTopicIsHandledAsItsOrigin(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(noHold)
		var seen journal
		r, err := bus.Encode(context.Background(), w.order("o", 7))
		require.NoError(t, err)
		again := r
		again.Topic = orders + ".retry.group"
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			d, ok := eventbus.DeliveryFrom(ctx)
			require.True(t, ok)
			seen.add("%s %d", d.Topic, d.Redrives)
			return eventbus.Permanent(errors.New("no"))
		}, nil, nil)
		require.NoError(t, w.raw().ProduceSync(context.Background(), again).FirstErr())
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		require.Equal(t, []string{orders + " 0"}, seen.all())
		d, err := eventbus.ParseDeadLetter(w.read(orders+".dlq.group", 1)[0])
		require.NoError(t, err)
		require.Equal(t, orders, d.Topic)
		require.Zero(t, w.held(orders))
	}, kfake.SeedTopics(1, orders+".retry.group"))
}

// A handler that ignores the end of its ctx is left behind: its partition goes, what it returns counts for nothing.
func TestAHandlerThatIgnoresItsCtxIsLeftBehind(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.bus(nil), w.bus(nil)
		hold, began := make(chan struct{}), make(chan struct{}, 1)
		var byTwo journal
		first := w.run(one, func(context.Context, *eventbus.BaseEvent[order]) error {
			began <- struct{}{}
			<-hold
			return nil
		}, &eventbus.HandleOptions{Timeout: time.Second}, func(s *eventbus.Subscription) { s.DrainTimeout = 2 * time.Second })
		publish(w, one, 1)
		<-began
		stop := time.Now()
		require.Error(t, first.end())
		require.Less(t, time.Since(stop), 15*time.Second, "bounded")
		require.EqualValues(t, 1, one.Metrics().Detached)
		w.run(two, handles(&byTwo), nil, nil)
		w.until("another does it", func() bool { return w.committed() == 1 })
		close(hold)
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"0"}, byTwo.all())
		require.EqualValues(t, 0, one.Metrics().MessagesConsumed)
	})
}
