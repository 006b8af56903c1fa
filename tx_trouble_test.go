package eventbus_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

var four = eventbus.NewTopic("acme.four", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})

// copyingFour runs a member that copies a topic of four partitions.
func (w *world) copyingFour(name string, change func(*eventbus.Subscription)) (*eventbus.Bus, *running) {
	bus := w.bus(w.instance(name))
	return bus, w.run(bus, nil, nil, func(s *eventbus.Subscription) {
		s.Routes = []eventbus.Route{four.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
			return tx.Publish(ctx, copyTopic.New(e.Payload))
		}, nil)}
		if change != nil {
			change(s)
		}
	})
}

func (w *world) publishFour(from, to int) {
	publisher := w.bus(nil)
	for i := from; i < to; i++ {
		require.NoError(w, publisher.Publish(context.Background(), four.New(order{ID: "o" + strconv.Itoa(i%20), Number: i})))
	}
}

// committedFour is the sum of the group's offsets.
func (w *world) committedFour() (sum int64) {
	for _, at := range w.commits("acme.four") {
		sum += at
	}
	return sum
}

var fourPartitions = kfake.SeedTopics(4, "acme.four", "acme.four.dlq.group")

// A rebalance that begins while a transaction is being committed does not wait for it for ever, nor it for the rebalance.
func TestARebalanceWhileATransactionIsCommitted(t *testing.T) {
	needDurableLocks(t)
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			inTx(t, func(w *world) {
				by := func(s *eventbus.Subscription) { s.Protocol = protocol }
				bus, _ := w.copyingFour("one", by)
				require.NoError(t, waitReady(bus, time.Minute))
				held := make(chan struct{}, 1)
				w.cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
					select {
					case held <- struct{}{}:
						w.cluster.SleepControl(func() { time.Sleep(15 * time.Second) })
					default: // another one meanwhile
					}
					return nil, nil, false
				})
				w.publishFour(0, 100)
				<-held
				w.copyingFour("two", by)
				w.until("all are committed", func() bool { return w.committedFour() == 100 })
				time.Sleep(15 * time.Second) // for the broker to end what it holds
				require.ElementsMatch(t, upTo(100), w.committedNumbers(copies))
			}, fourPartitions)
		})
	}
}

// Where nobody takes what is published, partitions can be given up all the same.
func TestARebalanceWhileNothingCanBeWritten(t *testing.T) {
	needDurableLocks(t)
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			inTx(t, func(w *world) {
				by := func(s *eventbus.Subscription) { s.Protocol = protocol }
				bus, _ := w.copyingFour("one", by)
				require.NoError(t, waitReady(bus, time.Minute))
				away := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: copies, Err: kerr.NotLeaderForPartition, Count: -1})
				w.publishFour(0, 100)
				time.Sleep(time.Second)
				_, other := w.copyingFour("two", by)
				w.until("the group has two members", func() bool { return w.ownersOfFour() == 2 })
				began := time.Now()
				require.NoError(t, other.end())
				require.Less(t, time.Since(began), 30*time.Second)
				away.Remove()
				w.until("all are committed", func() bool { return w.committedFour() == 100 })
				require.ElementsMatch(t, upTo(100), w.committedNumbers(copies))
				w.recovered(bus)
			}, fourPartitions)
		})
	}
}

// unanswered has two members copy while nothing of a kind of request is answered, a rebalance included; answer ends that.
func (w *world) unanswered(request kmsg.Key, protocol eventbus.GroupProtocol) (one, two *running, answer func()) {
	by := func(s *eventbus.Subscription) { s.Protocol = protocol }
	bus, one := w.copyingFour("one", by)
	require.NoError(w, waitReady(bus, time.Minute))
	var cut atomic.Bool
	w.cluster.ControlKey(int16(request), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		p, is := r.(*kmsg.ProduceRequest)
		return nil, errors.New("cut"), cut.Load() && (!is || p.TransactionID != nil)
	})
	cut.Store(true)
	w.publishFour(0, 100)
	time.Sleep(time.Second)
	_, two = w.copyingFour("two", by)
	time.Sleep(5 * time.Minute)
	return one, two, func() { cut.Store(false) }
}

var neverAnswered = map[string]kmsg.Key{"publishing": kmsg.Produce, "its end": kmsg.EndTxn}

// Whatever of a transaction is not answered for minutes: when it is again, members go on, and nothing is lost or doubled.
func TestARebalanceWhileNothingIsAnswered(t *testing.T) {
	needDurableLocks(t)
	for name, protocol := range protocols {
		for what, request := range neverAnswered {
			t.Run(what+", "+name, func(t *testing.T) {
				inTx(t, func(w *world) {
					_, _, answer := w.unanswered(request, protocol)
					answer()
					require.True(w, within(5*time.Minute, func() bool { return w.committedFour() == 100 }), "%d are committed", w.committedFour())
					require.ElementsMatch(w, upTo(100), w.committedNumbers(copies))
				}, fourPartitions)
			})
		}
	}
}

// And members end, whether it is ever answered or not.
func TestARebalanceWhileNothingIsAnsweredEnds(t *testing.T) {
	needDurableLocks(t)
	for name, protocol := range protocols {
		for what, request := range neverAnswered {
			t.Run(what+", "+name, func(t *testing.T) {
				inTx(t, func(w *world) {
					one, two, answer := w.unanswered(request, protocol)
					for _, member := range []*running{one, two} {
						began := time.Now()
						_ = member.end() // what it leaves undone is not the question
						require.Less(w, time.Since(began), time.Minute)
					}
					answer() // for the world to end
				}, fourPartitions)
			})
		}
	}
}

// ownersOfFour is how many members have partitions.
func (w *world) ownersOfFour() (n int) {
	for _, m := range w.cluster.GroupInfo("group").Members {
		if len(m.Assignment) > 0 {
			n++
		}
	}
	return n
}

// A dead-letter topic that is away holds up nobody else: what others do in that time is not undone.
func TestADeadLetterThatCannotBeWrittenUndoesNothing(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		away := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: lettersTopic, Err: kerr.InvalidRecord, Count: -1})
		require.NoError(t, bus.Publish(context.Background(), w.order("bad", 0), w.order("slow", 1)))
		var slow atomic.Int32
		w.copying(bus, func(e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 0 {
				return eventbus.Permanent(errors.New("never"))
			}
			slow.Add(1)
			time.Sleep(10 * time.Second)
			return nil
		}, nil)
		w.until("the slow one is done", func() bool { return len(w.committedNumbers(copies)) == 1 })
		require.EqualValues(t, 1, slow.Load())
		away.Remove()
		w.until("all are committed", func() bool { return w.committed() == 2 })
		require.EqualValues(t, 1, slow.Load())
		require.Len(t, w.committedRecords(lettersTopic), 1)
		w.recovered(bus)
	})
}

// A topic that is written to in transactions may be deleted and made again.
func TestTransactionsIntoATopicThatIsMadeAgain(t *testing.T) {
	again := func(w *world, topic string) {
		require.NoError(w, w.cluster.DeleteTopic(topic))
		time.Sleep(time.Second)
		require.NoError(w, w.cluster.CreateTopic(topic, 1, nil))
	}
	t.Run("HandleTx", func(t *testing.T) {
		inTx(t, func(w *world) {
			bus := w.bus(w.instance("one"))
			w.copying(bus, func(e *eventbus.BaseEvent[order]) error {
				if e.Payload.Number%10 == 9 {
					return eventbus.Permanent(errors.New("never"))
				}
				return nil
			}, nil)
			held := map[string]int{} // one at a time is made again: the fake broker panics at a request with two topics that it does not know
			for round := range 4 {
				w.publishNumbers(bus, 10*round, 10*round+10)
				w.until("all are committed", func() bool { return w.committed() == int64(10*round+10) })
				held[copies], held[lettersTopic] = held[copies]+9, held[lettersTopic]+1
				require.Len(t, w.committedRecords(copies), held[copies])
				require.Len(t, w.committedRecords(lettersTopic), held[lettersTopic])
				topic := []string{copies, lettersTopic}[round%2]
				again(w, topic)
				held[topic] = 0
			}
			w.recovered(bus)
		})
	})
	t.Run("Transact", func(t *testing.T) {
		inTx(t, func(w *world) {
			bus := w.bus(w.instance("one"))
			for round := range 3 {
				w.until("it is published", func() bool { return w.both(bus, context.Background(), round) == nil })
				require.Equal(t, []int{round}, w.committedNumbers(copies))
				again(w, copies)
			}
		})
	})
}

// A commit whose metadata the broker finds too large is made with less of it.
func TestTransactionsWithLessMetadata(t *testing.T) {
	inTx(t, func(w *world) {
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: 2})
		bus := w.bus(w.instance("one"))
		w.publishNumbers(bus, 0, 20)
		w.copying(bus, fine, nil)
		w.until("all are committed", func() bool { return w.committed() == 20 })
		require.ElementsMatch(t, upTo(20), w.committedNumbers(copies))
		require.Positive(t, bus.Metrics().MapsCut)
		w.recovered(bus)
	})
}

// While a transaction is being completed, the coordinator refuses offsets for the next one. The client would abort it then, and all that was done in it
// would be handled again.
func TestATransactionOfOffsetsAloneWaitsForTheOneBefore(t *testing.T) {
	inTx(t, func(w *world) {
		var completing atomic.Bool
		w.cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			completing.Store(true)
			time.AfterFunc(300*time.Millisecond, func() { completing.Store(false) })
			return nil, nil, false
		})
		w.cluster.ControlKey(int16(kmsg.DescribeTransactions), func(r kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			if !completing.Load() {
				return nil, nil, false
			}
			answer := r.ResponseKind().(*kmsg.DescribeTransactionsResponse)
			state := kmsg.NewDescribeTransactionsResponseTransactionState()
			state.TransactionalID, state.State = r.(*kmsg.DescribeTransactionsRequest).TransactionalIDs[0], "PrepareCommit"
			answer.TransactionStates = append(answer.TransactionStates, state)
			return answer, nil, true
		})
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.ConcurrentTransactions, Count: -1, When: func(kmsg.Request) bool { return completing.Load() }})
		var calls atomic.Int64
		bus := w.bus(w.instance("one"))
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{four.HandleTx(func(context.Context, *eventbus.Tx, *eventbus.BaseEvent[order]) error {
				calls.Add(1)
				return nil
			}, nil)}
		})
		require.NoError(t, waitReady(bus, time.Minute))
		for i := range 10 {
			w.publishFour(i*10, i*10+10)
			time.Sleep(70 * time.Millisecond)
		}
		w.until("all are committed", func() bool { return w.committedFour() == 100 })
		require.EqualValues(t, 100, calls.Load())
		require.Zero(t, bus.Metrics().Aborted)
		require.NotZero(t, bus.Metrics().Commits)
	}, fourPartitions)
}
