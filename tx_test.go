package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

const copies = "acme.copies"

var copyTopic = eventbus.NewTopic(copies, &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})

// inTx is a world with a topic that transactions write to.
func inTx(t *testing.T, test func(w *world), opts ...kfake.Opt) {
	t.Helper()
	inWorld(t, test, append(opts, kfake.SeedTopics(1, copies))...)
}

func (w *world) instance(name string) func(*eventbus.Config) {
	return func(c *eventbus.Config) { c.Instance, c.Retry.OutageHold = name, -1 }
}

// copying runs a subscription that copies orders; before is called for each, and may fail.
func (w *world) copying(bus *eventbus.Bus, before func(*eventbus.BaseEvent[order]) error, change func(*eventbus.Subscription)) *running {
	return w.run(bus, ignore, nil, func(s *eventbus.Subscription) {
		s.Routes = []eventbus.Route{w.orders.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
			if err := tx.Publish(ctx, copyTopic.New(e.Payload)); err != nil {
				return err
			}
			return before(e)
		}, nil)}
		if change != nil {
			change(s)
		}
	})
}

func fine(*eventbus.BaseEvent[order]) error { return nil }

// committedNumbers are the orders that a reader of committed records finds in a topic.
func (w *world) committedNumbers(topic string) []int {
	var numbers []int
	for _, r := range w.committedRecords(topic) {
		e, err := copyTopic.Decode(r.Value)
		require.NoError(w, err)
		numbers = append(numbers, e.Payload.Number)
	}
	return numbers
}

func (w *world) committedRecords(topic string) []*kgo.Record {
	cl := w.raw(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	var records []*kgo.Record
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
		fetches := cl.PollFetches(ctx)
		cancel()
		if fetches.NumRecords() == 0 {
			return records
		}
		records = append(records, fetches.Records()...)
	}
}

func upTo(n int) []int {
	var numbers []int
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}

func TestATransactionalHandlerCopies(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		w.publishNumbers(bus, 0, 100)
		run := w.copying(bus, fine, nil)
		w.until("all are committed", func() bool { return w.committed() == 100 })
		require.NoError(t, run.end())
		require.ElementsMatch(t, upTo(100), w.committedNumbers(copies))
		m := bus.Metrics()
		require.Equal(t, []int64{200, 100, 0}, []int64{m.MessagesPublished, m.MessagesConsumed, m.PublishErrors})
	})
}

// What a try has published that fails is nobody's.
func TestAFailedTryPublishesNothing(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		w.publishNumbers(bus, 0, 10)
		var failed atomic.Int32
		w.copying(bus, func(e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number%3 == 0 && failed.Add(1) < 8 {
				return errors.New("not yet")
			}
			return nil
		}, nil)
		w.until("all are committed", func() bool { return w.committed() == 10 })
		require.ElementsMatch(t, upTo(10), w.committedNumbers(copies))
		require.EqualValues(t, 10, w.held(copies)-w.markers(copies), "and nothing of the failed ones is in the log")
	})
}

// markers are the control records of a topic's only partition.
func (w *world) markers(topic string) (n int64) {
	cl := w.raw(kgo.ConsumeTopics(topic), kgo.KeepControlRecords(), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	for left := w.held(topic); left > 0; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		for _, r := range cl.PollFetches(ctx).Records() {
			if left--; r.Attrs.IsControl() {
				n++
			}
		}
		cancel()
	}
	return n
}

// A dead letter and the passing of its event are one transaction too.
func TestADeadLetterInATransaction(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		w.publishNumbers(bus, 0, 10)
		w.copying(bus, func(e *eventbus.BaseEvent[order]) error {
			if e.Payload.Number == 4 {
				return eventbus.Permanent(errors.New("never"))
			}
			return nil
		}, nil)
		w.until("all are committed", func() bool { return w.committed() == 10 })
		require.ElementsMatch(t, slices.Delete(upTo(10), 4, 5), w.committedNumbers(copies))
		letters := w.committedRecords(lettersTopic)
		require.Len(t, letters, 1)
		d, err := eventbus.ParseDeadLetter(letters[0])
		require.NoError(t, err)
		require.Equal(t, []any{int64(4), eventbus.ClassPermanent}, []any{d.Offset, d.Class})
		require.EqualValues(t, 1, bus.Metrics().DeadLettered)
	})
}

// Nothing is seen twice where a transaction is aborted, and the tries of an event count on.
func TestAnAbortedTransactionComesAgain(t *testing.T) {
	for name, fault := range map[string]kfake.Fault{
		"the commit is refused":   {Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.CoordinatorNotAvailable, Count: 20},
		"the end is refused":      {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError, Count: 1, TopLevel: true},
		"the end's answer is odd": {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.TransactionAbortable, Count: 1, TopLevel: true},
		"a copy is refused":       {Keys: []kmsg.Key{kmsg.Produce}, Topic: copies, Err: kerr.InvalidRecord, Count: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inTx(t, func(w *world) {
				bus := w.bus(w.instance("one"))
				w.publishNumbers(bus, 0, 50)
				w.cluster.Fault(fault)
				w.copying(bus, fine, nil)
				w.until("all are committed", func() bool { return w.committed() == 50 })
				require.ElementsMatch(t, upTo(50), w.committedNumbers(copies))
				w.recovered(bus)
			})
		})
	}
}

// A client that is fenced is exchanged.
func TestAFencedClientIsExchanged(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		w.copying(bus, fine, nil)
		for round := range 3 {
			w.publishNumbers(bus, 10*round, 10*round+10)
			w.until("all are committed", func() bool { return w.committed() == int64(10*round+10) })
			other := w.raw(kgo.TransactionalID("acme-service-one-group"))
			_, _, err := other.ProducerID(context.Background())
			require.NoError(t, err)
		}
		w.publishNumbers(bus, 30, 40)
		w.until("all are committed", func() bool { return w.committed() == 40 })
		require.ElementsMatch(t, upTo(40), w.committedNumbers(copies))
		w.recovered(bus)
	})
}

// Members come and go, and each event is copied once.
func TestTransactionsThroughRebalances(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			inTx(t, func(w *world) {
				publisher := w.bus(nil)
				publish := func(from, to int) {
					for i := from; i < to; i++ {
						require.NoError(w, publisher.Publish(context.Background(), four.New(order{ID: fmt.Sprint("o", i%20), Number: i})))
					}
				}
				member := func(n int) *running {
					return w.run(w.bus(w.instance("i-"+strconv.Itoa(n))), nil, nil, func(s *eventbus.Subscription) {
						s.Protocol = protocol
						s.Routes = []eventbus.Route{four.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
							time.Sleep(time.Duration(e.Payload.Number%7) * 10 * time.Millisecond)
							return tx.Publish(ctx, copyTopic.New(e.Payload))
						}, nil)}
					})
				}
				runs := []*running{member(0)}
				total := 0
				for round := range 8 {
					publish(total, total+100)
					total += 100
					switch round % 4 {
					case 0, 1:
						runs = append(runs, member(round+1))
					case 2:
						require.NoError(t, runs[0].end())
						runs = runs[1:]
					}
					time.Sleep(300 * time.Millisecond)
				}
				w.until("all are committed", func() bool {
					sum := int64(0)
					for p := range int32(4) {
						sum += w.commits("acme.four")[p]
					}
					return sum == int64(total)
				})
				numbers := w.committedNumbers(copies)
				require.ElementsMatch(t, upTo(total), numbers)
				last := map[int]int{}
				for _, n := range numbers {
					require.GreaterOrEqual(t, n, last[n%20], "the order of a key")
					last[n%20] = n
				}
			}, kfake.SeedTopics(4, "acme.four", "acme.four.dlq.group"))
		})
	}
}

func TestPublishingBesideATransactionIsRefused(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		w.publishNumbers(bus, 0, 1)
		results := make(chan error, 3)
		var kept *eventbus.Tx
		w.run(bus, nil, nil, func(s *eventbus.Subscription) {
			s.Routes = []eventbus.Route{w.orders.HandleTx(func(ctx context.Context, tx *eventbus.Tx, e *eventbus.BaseEvent[order]) error {
				results <- bus.Publish(ctx, copyTopic.New(e.Payload))
				bus.PublishAsync(ctx, copyTopic.New(e.Payload), func(err error) { results <- err })
				results <- tx.Publish(ctx, copyTopic.New(order{}))
				kept = tx
				return nil
			}, nil)}
		})
		w.until("it is committed", func() bool { return w.committed() == 1 })
		for _, words := range []string{"publish by its Tx", "publish by its Tx", "key"} {
			err := <-results
			require.ErrorIs(t, err, eventbus.ErrNotSent)
			require.ErrorContains(t, err, words)
		}
		require.ErrorContains(t, kept.Publish(context.Background(), copyTopic.New(order{ID: "late"})), "has returned")
		require.Zero(t, w.held(copies))
	})
}

// What is committed passes what an aborted transaction has left at the end of a topic, though nothing of it is to be handled.
func TestTransactionsPassMarkers(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		require.NoError(t, bus.Transact(context.Background(), func(ctx context.Context, tx *eventbus.Tx) error {
			return tx.Publish(ctx, w.order("o", 1), w.order("o", 2))
		}))
		w.copying(bus, fine, nil)
		w.until("all is committed", func() bool { return w.committed() == w.held(orders) })
		require.EqualValues(t, 3, w.held(orders), "two events and a marker")
		w.abort(orders)
		w.until("that is committed too", func() bool { return w.committed() == w.held(orders) })
		require.EqualValues(t, 5, w.held(orders))
		require.Equal(t, []int{1, 2}, w.committedNumbers(copies))
	})
}
