package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

// both publishes an order and its copy in a transaction.
func (w *world) both(bus *eventbus.Bus, ctx context.Context, number int) error {
	return bus.Transact(ctx, func(ctx context.Context, tx *eventbus.Tx) error {
		if err := tx.Publish(ctx, w.order("o", number)); err != nil {
			return err
		}
		return tx.Publish(ctx, copyTopic.New(order{ID: "o", Number: number}))
	})
}

func TestTransact(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() { require.NoError(w, w.both(bus, context.Background(), i)) })
		}
		all.Wait()
		require.ElementsMatch(t, upTo(20), w.committedNumbers(copies))
		require.Len(t, w.committedRecords(orders), 20)
		require.EqualValues(t, 40, bus.Metrics().MessagesPublished)
	})
}

func TestTransactSendsNothing(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		never := errors.New("never")
		require.Equal(t, never, bus.Transact(context.Background(), func(ctx context.Context, tx *eventbus.Tx) error {
			require.NoError(t, tx.Publish(ctx, copyTopic.New(order{ID: "o"})))
			require.ErrorContains(t, bus.Publish(ctx, copyTopic.New(order{ID: "o"})), "publish by its Tx")
			require.ErrorContains(t, bus.Transact(ctx, nil), "publish by its Tx", "nor is there one within another")
			return never
		}))
		require.NoError(t, bus.Transact(context.Background(), func(context.Context, *eventbus.Tx) error { return nil }))
		require.Panics(t, func() {
			_ = bus.Transact(context.Background(), func(ctx context.Context, tx *eventbus.Tx) error {
				_ = tx.Publish(ctx, copyTopic.New(order{ID: "o"}))
				panic("oh")
			})
		})
		require.Zero(t, w.held(copies))
	})
}

func TestTransactAborts(t *testing.T) {
	for name, fault := range map[string]kfake.Fault{
		"a record is refused":           {Keys: []kmsg.Key{kmsg.Produce}, Topic: copies, Err: kerr.InvalidRecord, Count: 1},
		"the end is refused":            {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.TransactionAbortable, Count: 1, TopLevel: true},
		"the end's outcome is not said": {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError, Count: 1, TopLevel: true},
	} {
		t.Run(name, func(t *testing.T) {
			inTx(t, func(w *world) {
				bus := w.bus(w.instance("one"))
				require.NoError(t, w.both(bus, context.Background(), 0))
				w.cluster.Fault(fault)
				err := w.both(bus, context.Background(), 1)
				require.Error(t, err)
				var each *eventbus.PublishError
				require.ErrorAs(t, err, &each)
				require.Len(t, each.Errors, 2)
				require.NoError(t, w.both(bus, context.Background(), 2))
				numbers := w.committedNumbers(copies)
				require.Len(t, w.committedRecords(orders), len(numbers), "all of it, or nothing")
				if errors.Is(err, eventbus.ErrNotSent) {
					require.Equal(t, []int{0, 2}, numbers)
				} else {
					require.ErrorIs(t, err, eventbus.ErrOutcomeUnknown)
				}
			})
		})
	}
}

// A client that another one has fenced is exchanged; the transaction that noticed is not sent.
func TestTransactAfterAFence(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		require.NoError(t, w.both(bus, context.Background(), 0))
		other := w.raw(kgo.TransactionalID("acme-service-one-tx-1"))
		_, _, err := other.ProducerID(context.Background())
		require.NoError(t, err)
		if err := w.both(bus, context.Background(), 1); err != nil {
			require.ErrorIs(t, err, eventbus.ErrNotSent)
		}
		require.NoError(t, w.both(bus, context.Background(), 2))
		require.Contains(t, w.committedNumbers(copies), 2)
	})
}

// A caller is told in time, and the next one waits no longer than it wants to.
func TestTransactWithoutABroker(t *testing.T) {
	inTx(t, func(w *world) {
		bus := w.bus(w.instance("one"))
		require.NoError(t, w.both(bus, context.Background(), 0))
		silent := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: -1})
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			began := time.Now()
			err := w.both(bus, ctx, 1)
			cancel()
			require.ErrorIs(t, err, eventbus.ErrNotSent)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.LessOrEqual(t, time.Since(began), 3100*time.Millisecond)
		}
		silent.Remove()
		w.until("it goes on", func() bool { return w.both(bus, context.Background(), 2) == nil })
		require.Equal(t, []int{0, 2}, w.committedNumbers(copies))
	})
}

func TestTransactionsThatCannotBeAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		opts []kfake.Opt
		want string
	}{
		"old brokers":                  {[]kfake.Opt{kfake.MaxVersions(kversion.V3_9_0())}, "transactions need Kafka 4.0"},
		"a forbidden transactional id": {user(rights{"group": toRead, orders: toRead, lettersTopic: toWrite, copies: toWrite}), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			inTx(t, func(w *world) {
				login := func(c *eventbus.Config) {
					w.instance("one")(c)
					if name != "old brokers" {
						c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism()
					}
				}
				began := time.Now()
				require.ErrorContains(t, w.both(w.bus(login), context.Background(), 0), test.want)
				require.LessOrEqual(t, time.Since(began), 5*time.Second)

				began = time.Now()
				bus := w.bus(login)
				r := w.copying(bus, fine, func(s *eventbus.Subscription) { s.FailFast = true })
				require.ErrorContains(t, <-r.ended, test.want)
				require.LessOrEqual(t, time.Since(began), 5*time.Second)
			}, test.opts...)
		})
	}
}

// A member that has joined and cannot begin a transaction yet is not ready: FailFast would be over for it.
func TestNotReadyBeforeTransactionsBegin(t *testing.T) {
	inTx(t, func(w *world) {
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: -1})
		bus := w.bus(w.instance("one"))
		w.copying(bus, fine, nil)
		time.Sleep(2 * time.Second) // it has joined, and nothing has failed yet
		require.ErrorContains(w, waitReady(bus, 0), "its first transaction has not begun yet")
		fault.Remove()
		require.NoError(w, waitReady(bus, 10*time.Second))

		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: -1})
		r := w.copying(w.bus(w.instance("two")), fine, func(s *eventbus.Subscription) { s.FailFast = true })
		select {
		case err := <-r.ended:
			require.ErrorContains(w, err, "FailFast")
		case <-time.After(10 * time.Second):
			w.Fatal("FailFast has not ended it")
		}
	})
}

func waitReady(bus *eventbus.Bus, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return bus.WaitReady(ctx)
}

func TestBadTransactions(t *testing.T) {
	inTx(t, func(w *world) {
		anonymous := w.bus(nil)
		require.ErrorContains(t, w.both(anonymous, context.Background(), 0), "Config.Instance: is empty")
		h := func(context.Context, *eventbus.Tx, *eventbus.BaseEvent[order]) error { return nil }
		routes := []eventbus.Route{w.orders.HandleTx(h, nil)}
		require.ErrorContains(t, anonymous.Run(context.Background(), eventbus.Subscription{Group: "g", Routes: routes}), "Config.Instance: is empty")
		bus := w.bus(w.instance("one"))
		mixed := append(routes, copyTopic.Handle(ignore, nil))
		err := bus.Run(context.Background(), eventbus.Subscription{Group: "g", Routes: mixed})
		require.ErrorContains(t, err, fmt.Sprintf("Routes[1] (%s): HandleTx and Handle in one Subscription", copies))
		require.ErrorContains(t, bus.Run(context.Background(), eventbus.Subscription{Group: "g", Routes: []eventbus.Route{w.orders.HandleTx(nil, nil)}}),
			"its handler is nil")
		require.ErrorContains(t, bus.Run(context.Background(), eventbus.Subscription{Group: "tx-1", Routes: routes}), "Group")
		_, err = eventbus.New(eventbus.Config{Service: "s", Instance: "not a name"})
		require.ErrorContains(t, err, "Config.Instance")
	})
}

func TestPermissionsOfTransactions(t *testing.T) {
	h := func(context.Context, *eventbus.Tx, *eventbus.BaseEvent[order]) error { return nil }
	sub := eventbus.Subscription{Group: "g", Routes: []eventbus.Route{copyTopic.HandleTx(h, nil)}}
	for _, a := range []eventbus.Access{
		{Service: "shop", Transacts: true}, {Service: "shop", Handles: []eventbus.Subscription{sub}},
	} {
		var found []eventbus.Permission
		for _, p := range a.Permissions("test.") {
			if p.Resource == "transactional-id" {
				found = append(found, p)
			}
		}
		require.Equal(t, []eventbus.Permission{{Resource: "transactional-id", Name: "test.shop-", Prefixed: true, Operation: "WRITE"}}, found)
		require.Equal(t, "WRITE transactional-id test.shop-*", found[0].String())
		require.Equal(t, []string{
			"--add", "--allow-principal", "User:shop", "--operation", "Write", "--transactional-id", "test.shop-", "--resource-pattern-type", "prefixed",
		}, found[0].Arguments("User:shop"))
		_, err := found[0].ACL("User:shop")
		require.NoError(t, err)
	}
}
