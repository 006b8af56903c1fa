package eventbus_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/dreamscape/eventbus"
)

// numbersHeld is what acme.orders holds now: the numbers of each id, in the order of their offsets.
func (w *world) numbersHeld(partitions int) map[string][]int {
	n := 0
	for p := range partitions {
		n += int(w.cluster.PartitionInfo(orders, int32(p)).HighWatermark)
	}
	held := map[string][]int{}
	for _, r := range w.read(orders, n) {
		e, err := w.orders.Decode(r.Value)
		require.NoError(w, err)
		held[e.Payload.ID] = append(held[e.Payload.ID], e.Payload.Number)
	}
	return held
}

// Publishers of all keys publish on while their topic is deleted and made again: nobody is told of an error, nothing is doubled, the keys keep their
// order, and what is published after the topic was made is in it.
func TestPublishersFollowATopicMadeAgain(t *testing.T) {
	for name, partitions := range map[string]int{"as many partitions": 3, "more": 7, "less": 1} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.remake(3, 0)
				bus := w.bus(nil)
				var failed atomic.Int64
				var landed sync.WaitGroup
				stop, remade := make(chan struct{}), atomic.Bool{}
				sure := map[string]int{} // the first number that each key published when the topic was made again
				var mu sync.Mutex
				var publishers sync.WaitGroup
				last := map[string]int{}
				for k := range 5 {
					publishers.Go(func() {
						id := fmt.Sprint("k", k)
						for i := 0; ; i++ {
							select {
							case <-stop:
								return
							case <-time.After(20 * time.Millisecond):
							}
							mu.Lock()
							if _, has := sure[id]; remade.Load() && !has {
								sure[id] = i
							}
							last[id] = i
							mu.Unlock()
							landed.Add(1)
							bus.PublishAsync(context.Background(), w.order(id, i), func(err error) {
								if err != nil {
									failed.Add(1)
								}
								landed.Done()
							})
						}
					})
				}
				time.Sleep(time.Second)
				w.remake(partitions, 0)
				remade.Store(true)
				time.Sleep(2 * time.Second)
				close(stop)
				publishers.Wait()
				landed.Wait()
				require.Zero(t, failed.Load())
				held := w.numbersHeld(partitions)
				for id, first := range sure {
					got := held[id]
					require.LessOrEqual(t, got[0], first)
					require.Len(t, got, last[id]-got[0]+1, "each once")
					for i, n := range got {
						require.Equal(t, got[0]+i, n, "in order, without a gap")
					}
				}
				require.Len(t, sure, 5)
				require.Positive(t, bus.Metrics().Recreated)
			})
		})
	}
}

// A topic that is deleted and not made again is named, and the events are certainly not sent.
func TestPublishingToADeletedTopicIsNamed(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		publish(w, bus, 3)
		require.NoError(t, w.cluster.DeleteTopic(orders))
		deleted := time.Now()
		err := bus.Publish(context.Background(), w.order("o", 1))
		require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
		require.LessOrEqual(t, time.Since(deleted), 5*time.Second)
		require.NoError(t, w.cluster.CreateTopic(orders, 1, nil))
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 1)))
		require.EqualValues(t, 1, w.held(orders))
	})
}

// A broker that knows topics by their names only may have written an event to the other topic: nobody publishes it once more but who has been told.
func TestWithoutTopicIDsNothingIsPublishedOnceMore(t *testing.T) {
	for name, test := range map[string]struct {
		broker *kversion.Versions
		client []kgo.Opt
	}{
		"an older broker": {broker: kversion.V3_9_0()},
		"an older client": {broker: kversion.Tip(), client: []kgo.Opt{kgo.MaxVersions(kversion.V3_9_0())}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { c.Client = append(c.Client, test.client...) })
				publish(w, bus, 3)
				fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Err: kerr.NotEnoughReplicas, Count: -1})
				result := make(chan error, 1)
				bus.PublishAsync(context.Background(), w.order("o", 4), func(err error) { result <- err })
				time.Sleep(time.Second)
				w.remake(1, 0)
				err := <-result
				require.ErrorIs(t, err, kerr.UnknownTopicID)
				require.ErrorIs(t, err, eventbus.ErrOutcomeUnknown)
				fault.Remove()
				require.NoError(t, bus.Publish(context.Background(), w.order("o", 5)))
				require.EqualValues(t, 1, w.held(orders))
			}, kfake.MaxVersions(test.broker))
		})
	}
}

// A shutdown waits for what is published once more, as for everything that was handed over.
func TestAShutdownWaitsForWhatIsPublishedOnceMore(t *testing.T) {
	for name, bounded := range map[string]bool{"until it is written": false, "until its ctx ends": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				publish(w, bus, 3)
				var answer atomic.Bool
				defer func() {
					answer.Store(true)
					time.Sleep(time.Second)
				}()
				w.cluster.ControlKey(int16(kmsg.ApiVersions), func(kmsg.Request) (kmsg.Response, error, bool) {
					w.cluster.KeepControl()
					w.cluster.SleepControl(func() {
						for !answer.Load() {
							time.Sleep(10 * time.Millisecond)
						}
					})
					return nil, nil, false
				})
				w.remake(1, 0)
				results := make(chan error, 3)
				for i := range 3 {
					bus.PublishAsync(context.Background(), w.order("o", 10+i), func(err error) { results <- err })
				}
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if bounded {
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				} else {
					time.AfterFunc(time.Second, func() { answer.Store(true) })
				}
				began := time.Now()
				err := bus.Shutdown(ctx)
				require.LessOrEqual(t, time.Since(began), 10*time.Second)
				answer.Store(true)
				for range 3 {
					require.Equal(t, bounded, <-results != nil)
				}
				if bounded {
					require.ErrorContains(t, err, "3 events were not acknowledged")
					return
				}
				require.NoError(t, err)
				require.EqualValues(t, 3, w.held(orders))
			})
		})
	}
}
