package eventbus_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

const produce = kmsg.Produce

func TestPublishNamesAWrongPassword(t *testing.T) {
	inWorld(t, func(w *world) {
		// kfake closes the connection at a wrong password; a broker answers.
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1, TopLevel: true})
		bus := w.bus(func(c *eventbus.Config) { c.SASL = plain.Auth{User: "ada", Pass: "wrong-password"}.AsMechanism() })
		err := bus.Publish(context.Background(), w.order("o", 1))
		require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
		require.ErrorIs(t, err, eventbus.ErrOutcomeUnknown, "it is written once the password is mended")
		require.Less(t, w.took(), 5*time.Second)
		require.NotContains(t, err.Error(), "wrong-password")
		h := bus.Health(context.Background())
		require.Equal(t, "disconnected", h.Kafka)
		require.Contains(t, h.Error, "SASL_AUTHENTICATION_FAILED")
		require.True(t, h.Live, "a restart mends no password")

		result := make(chan error, 1)
		started := time.Now()
		bus.PublishAsync(context.Background(), w.order("o", 2), func(err error) { result <- err })
		require.ErrorIs(t, <-result, kerr.SaslAuthenticationFailed)
		require.Less(t, time.Since(started), 5*time.Second)
	}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "ada", "right"))
}

func TestPublishNamesAForbiddenTopic(t *testing.T) {
	for name, acls := range map[string][]kfake.ACL{
		"nothing allowed": nil,
		"only describe":   {{Resource: kmsg.ACLResourceTypeTopic, Name: orders, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism() })
				err := bus.Publish(context.Background(), w.order("o", 1))
				require.True(t, errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed), "%v", err)
				require.Less(t, w.took(), 5*time.Second)
			}, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "bob", "bob", acls...))
		})
	}
}

func TestPublishReturnsAtItsDeadlineAndTheEventIsThereOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 0)))
		release := make(chan struct{})
		w.cluster.ControlKey(int16(produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.SleepControl(func() { <-release })
			return nil, nil, false
		})
		started := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		err := bus.Publish(ctx, w.order("o", 1), w.order("p", 2))
		require.Equal(t, 3*time.Second, time.Since(started))
		require.ErrorIs(t, err, eventbus.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(release)
		w.until("both are written", func() bool { return w.held(orders) >= 3 })
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, w.held(orders), "once each")
	})
}

func TestPublishTimeoutEndsTheWait(t *testing.T) {
	inWorld(t, func(w *world) {
		w.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done() // swallows everything, as a frozen broker does
			return nil, ctx.Err()
		}
		bus := w.bus(func(c *eventbus.Config) { c.PublishTimeout = 7 * time.Second })
		result := make(chan error, 1)
		bus.PublishAsync(context.Background(), w.order("o", 1), func(err error) { result <- err })
		err := bus.Publish(context.Background(), w.order("o", 2))
		require.ErrorIs(t, err, eventbus.ErrOutcomeUnknown)
		require.ErrorContains(t, err, "PublishTimeout")
		require.ErrorIs(t, <-result, eventbus.ErrOutcomeUnknown)
		require.Equal(t, 7*time.Second, w.took())
		require.EqualValues(t, 2, bus.Metrics().PublishErrors)
	})
}

func TestOneCancelledCallerFailsNobodyElse(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		errs := make([]error, 50)
		for i := range errs {
			wg.Go(func() {
				own := context.Background()
				if i == 0 {
					own = ctx
				}
				errs[i] = bus.Publish(own, w.order("o", i))
			})
		}
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		fault.Remove()
		wg.Wait()
		require.ErrorIs(t, errs[0], eventbus.ErrOutcomeUnknown)
		require.ErrorIs(t, errs[0], context.Canceled)
		for _, err := range errs[1:] {
			require.NoError(t, err)
		}
		require.EqualValues(t, 50, w.held(orders))
	})
}

func TestLostRepliesDoubleNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.RequestTimedOut, Count: 50}) // answered after the append
		for i := range 100 {
			require.NoError(t, bus.Publish(context.Background(), w.order("o", i)))
		}
		require.EqualValues(t, 50, fault.Hits())
		require.EqualValues(t, 100, w.held(orders))
	})
}

func TestFullBufferIsNotSent(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.MaxBufferedEvents = 2 })
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		results := make(chan error, 2)
		for i := range 2 {
			bus.PublishAsync(context.Background(), w.order("o", i), func(err error) { results <- err })
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := bus.Publish(ctx, w.order("o", 3))
		require.ErrorIs(t, err, eventbus.ErrNotSent)
		require.NotErrorIs(t, err, eventbus.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, w.took())
		require.EqualValues(t, 2, bus.Metrics().Buffered)
		fault.Remove()
		require.NoError(t, <-results)
		require.NoError(t, <-results)
		require.EqualValues(t, 2, w.held(orders))
	})
}

func TestTooLargeAnEventIsNotSent(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.MaxBufferedBytes = 4 << 20 })
		for _, size := range []int{2 << 20, 5 << 20} { // above Kafka's limit, above the buffer's
			err := bus.Publish(context.Background(), w.order(strings.Repeat("x", size), 1))
			require.ErrorIs(t, err, eventbus.ErrNotSent)
			require.ErrorIs(t, err, kerr.MessageTooLarge)
			require.Less(t, len(err.Error()), 300)
		}
		require.NoError(t, bus.Publish(context.Background(), w.order("neighbour", 1)))
	})
}

func TestShutdownSaysWhatItGaveUp(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		results := make(chan error, 3)
		for i := range 3 {
			bus.PublishAsync(context.Background(), w.order("o", i), func(err error) { results <- err })
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		require.ErrorContains(t, bus.Shutdown(ctx), "3 events were not acknowledged")
		require.Less(t, w.took(), 4*time.Second)
		for range 3 {
			require.ErrorIs(t, <-results, eventbus.ErrOutcomeUnknown)
		}
		err := bus.Publish(context.Background(), w.order("o", 4))
		require.ErrorIs(t, err, eventbus.ErrClosed)
		require.ErrorIs(t, err, eventbus.ErrNotSent)
		require.NoError(t, bus.Shutdown(ctx), "again is a no-op")
	})
}

func TestShutdownFlushes(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for i := range 500 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		require.NoError(t, bus.Shutdown(context.Background()))
		require.EqualValues(t, 500, w.held(orders))
	})
}

func TestPublishAsyncWithATinyTimeout(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.PublishTimeout = time.Nanosecond })
		results := make(chan error, 50)
		for i := range cap(results) {
			bus.PublishAsync(context.Background(), w.order("o", i), func(err error) { results <- err })
		}
		for range cap(results) {
			if err := <-results; err != nil {
				require.ErrorIs(t, err, eventbus.ErrOutcomeUnknown)
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		}
		w.until("written all the same", func() bool { return w.held(orders) == 50 })
	})
}

func TestAPublishThatWaitsForRoomIsToldOfTheShutdown(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.MaxBufferedEvents = 1 })
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		bus.PublishAsync(context.Background(), w.order("o", 1), func(error) {})
		waiting := make(chan error, 1)
		go func() { waiting <- bus.Publish(context.Background(), w.order("o", 2)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var calls sync.WaitGroup
		for range 3 { // at once: one does it, the others wait for it
			calls.Go(func() { _ = bus.Shutdown(ctx) })
		}
		calls.Wait()
		err := <-waiting
		require.ErrorIs(t, err, eventbus.ErrNotSent)
		require.ErrorIs(t, err, eventbus.ErrClosed)
		require.ErrorIs(t, bus.WaitReady(context.Background()), eventbus.ErrClosed)
		require.ErrorIs(t, bus.EnsureTopics(context.Background(), w.orders), eventbus.ErrClosed)
	})
}

func TestPublishingGoesOnAfterATopicWasMadeAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 1)))
		require.NoError(t, w.cluster.DeleteTopic(orders))
		require.NoError(t, w.cluster.CreateTopic(orders, 1, nil))
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 2)))
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 3)))
		require.EqualValues(t, 2, w.held(orders))
		require.EqualValues(t, 1, bus.Metrics().Recreated)
		require.Zero(t, bus.Metrics().PublishErrors)
		require.Less(t, w.took(), 5*time.Second)
	})
}

func TestPublishAsyncBlocksForPublishTimeoutAtMost(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.MaxBufferedEvents = 1; c.PublishTimeout = 5 * time.Second })
		fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		bus.PublishAsync(context.Background(), w.order("o", 1), nil)
		var result journal
		returned := make(chan time.Duration, 1)
		go func() {
			bus.PublishAsync(context.Background(), w.order("o", 2), func(err error) { result.add("%v: not sent %v", w.took(), errors.Is(err, eventbus.ErrNotSent)) })
			returned <- w.took()
		}()
		time.Sleep(60 * time.Second)
		t.Log(result.all())
		fault.Remove()
		at := <-returned
		w.until("written", func() bool { return w.held(orders) >= 1 })
		time.Sleep(time.Minute)
		t.Logf("returned at %v; the topic holds %d", at, w.held(orders))
		require.LessOrEqual(t, at, 5*time.Second)
		require.Equal(t, []string{"5s: not sent true"}, result.all())
		require.EqualValues(t, 1, w.held(orders))
	})
}

func TestNothingIsCompressedUnlessAsked(t *testing.T) {
	for name, test := range map[string]struct {
		opts []kgo.Opt
		want uint8
	}{"none": {nil, 0}, "gzip": {[]kgo.Opt{kgo.ProducerBatchCompression(kgo.GzipCompression())}, 1}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { c.Client = append(c.Client, test.opts...) })
				require.NoError(t, bus.Publish(context.Background(), w.order(strings.Repeat("o", 10_000), 1)))
				require.Equal(t, test.want, w.read(orders, 1)[0].Attrs.CompressionType(), "kafkajs dies on snappy")
			})
		})
	}
}

func TestNothingIsKeptOfAnAcknowledgedEvent(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 100)
		require.Zero(t, bus.FlightsForTest())
		require.Zero(t, bus.Metrics().Buffered)
	})
}

func TestAnEventAboveTheTopicsLimitIsNotSent(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		err := bus.Publish(context.Background(), w.order(strings.Repeat("o", 2<<20), 1)) // NULs would be six times as long in JSON
		require.ErrorIs(t, err, eventbus.ErrNotSent)
		require.NotErrorIs(t, err, eventbus.ErrOutcomeUnknown)
		require.ErrorIs(t, err, kerr.MessageTooLarge)
	})
}
