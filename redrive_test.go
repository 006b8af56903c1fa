package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// withRetryTopic gives the world the retry topic of acme.orders.
func withRetryTopic() kfake.Opt { return kfake.SeedTopics(1, retryTopic) }

func (w *world) redrive(d *eventbus.DeadLetters, opts eventbus.RedriveOptions) eventbus.RedriveReport {
	opts.Send = true
	report, err := d.Redrive(context.Background(), opts)
	require.NoError(w, err)
	require.True(w, report.Finished)
	return report
}

// sentBack counts, by value, what fill's letters have become in the retry topic.
func (w *world) sentBack() map[string]int {
	times := map[string]int{}
	if n := int(w.held(retryTopic)); n > 0 {
		for _, r := range w.read(retryTopic, n) {
			times[string(r.Value)]++
		}
	}
	return times
}

// requireSent says that each of n letters was sent, and at most so many twice.
func (w *world) requireSent(n, twice int) {
	w.Helper()
	total := 0
	times := w.sentBack()
	for i := range n {
		require.GreaterOrEqual(w, times[strconv.Itoa(i)], 1, "letter %d is lost", i)
		total += times[strconv.Itoa(i)]
	}
	require.Len(w, times, n)
	require.LessOrEqual(w, total-n, twice, "sent twice")
}

// after lets n requests pass.
func after(n int) func(kmsg.Request) bool {
	return func(kmsg.Request) bool {
		n--
		return n < 0
	}
}

// An event goes the whole way: it fails, is found, sent back, fails again, and is left once it was sent back often enough.
func TestADeadLetterGoesBackToItsGroup(t *testing.T) {
	inWorld(t, func(w *world) {
		bus, ctx, unstable := w.bus(noHold), context.Background(), w.unstableFetches()
		var seen journal
		mended := atomic.Bool{}
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			seen.add("%s/%d/%d redrives %d attempt %d number %d key %s", d.Topic, d.Partition, d.Offset, d.Redrives, d.Attempt, e.Payload.Number, d.Key)
			if mended.Load() {
				return nil
			}
			return eventbus.Permanent(errors.New("no stock of 4711"))
		}, nil, nil)
		require.NoError(t, bus.Publish(ctx, w.order("o-1", 7)))
		w.until("dead-lettered", func() bool { return w.held(lettersTopic) == 1 })

		d := w.letters(bus)
		groups, err := d.Groups(ctx, eventbus.LetterFilter{})
		require.NoError(t, err)
		require.Len(t, groups, 1)
		mine := eventbus.LetterFilter{Fingerprint: groups[0].Fingerprint, Class: eventbus.ClassPermanent}
		require.Equal(t, []int64{0}, w.offsets(d, mine))
		letter, err := d.Show(ctx, groups[0].Sample.Partition, groups[0].Sample.Offset)
		require.NoError(t, err)
		require.Equal(t, []any{orders, int64(0), "no stock of 4711", 0}, []any{letter.Topic, letter.DeadLetter.Offset, letter.Error, letter.Redrives})

		report, err := d.Redrive(ctx, eventbus.RedriveOptions{Filter: mine})
		require.NoError(t, err)
		require.Equal(t, []any{true, true, 1, 1}, []any{report.DryRun, report.Finished, report.Matched, report.Sent})
		require.Zero(t, w.held(retryTopic), "a dry run sends nothing")
		require.Nil(t, w.cluster.GroupInfo(report.Cursor), "and moves no cursor")

		for round := 1; round <= 3; round++ {
			report = w.redrive(d, eventbus.RedriveOptions{Filter: mine})
			require.Equal(t, []int{1, 1}, []int{report.Matched, report.Sent}, "only what came since")
			w.until("failed again", func() bool { return w.held(lettersTopic) == int64(round)+1 })
			letter, err = d.Show(ctx, 0, int64(round))
			require.NoError(t, err)
			require.Equal(t, []any{orders, int64(0), round}, []any{letter.Topic, letter.DeadLetter.Offset, letter.Redrives})
			require.Equal(t, groups[0].Fingerprint, letter.Fingerprint)
		}
		report = w.redrive(d, eventbus.RedriveOptions{Filter: mine})
		require.Equal(t, []int{1, 0, 1}, []int{report.Matched, report.Sent, report.Quarantined})
		require.Equal(t, []eventbus.LetterLeft{{Offset: 3, Why: "sent back 3 times already, MaxRedrives is 3"}}, report.Left)

		mended.Store(true)
		report = w.redrive(d, eventbus.RedriveOptions{Name: "after-the-fix", MaxRedrives: 4, Filter: eventbus.LetterFilter{MinRedrives: 3}})
		require.Equal(t, 1, report.Sent)
		w.until("handled", func() bool { return bus.Metrics().MessagesConsumed == 1 })
		var want []string
		for redrives := range 5 {
			want = append(want, fmt.Sprintf("acme.orders/0/0 redrives %d attempt 1 number 7 key o-1", redrives))
		}
		require.Equal(t, want, seen.all())
		require.Zero(t, unstable.Load())
		first, last := w.read(orders, 1)[0], w.read(retryTopic, 4)[3]
		require.Equal(t, []any{first.Key, first.Value}, []any{last.Key, last.Value}, "byte for byte")
		require.Equal(t, int64(1), w.held(orders), "nothing went to the topic itself")
		require.Equal(t, int64(4), w.held(lettersTopic))
	}, withRetryTopic())
}

// Order holds within the retry topic, and a key that is parked on the topic holds up nothing of it.
func TestRedrivenEventsOfAKeyAreInOrderBesideItsParkedOne(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(noHold)
		var handled journal
		parked := atomic.Bool{}
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			switch d, _ := eventbus.DeliveryFrom(ctx); {
			case e.Payload.Number == 99:
				parked.Store(true)
				return eventbus.RetryAfter(errors.New("later"), time.Hour)
			case d.Redrives == 0:
				return eventbus.Permanent(errors.New("no"))
			}
			return handles(&handled)(ctx, e)
		}, nil, nil)
		publish(w, bus, 50)
		require.NoError(t, bus.Publish(context.Background(), w.order("o", 99)))
		w.until("parked", parked.Load)
		require.Equal(t, 50, w.redrive(w.letters(bus), eventbus.RedriveOptions{}).Sent)
		w.until("handled", func() bool { return len(handled.all()) == 50 })
		for i, number := range handled.all() {
			require.Equal(t, strconv.Itoa(i), number)
		}
		require.EqualValues(t, 1, bus.Metrics().ParkedKeys)
	}, withRetryTopic())
}

// A redrive disturbs nobody else: another group of the topic neither gets its events nor loses its own dead letters.
func TestARedriveIsForOneGroup(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(noHold)
		var one, other journal
		fails := func(j *journal) eventbus.Handler[order] {
			return func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
				d, _ := eventbus.DeliveryFrom(ctx)
				j.add("%d", d.Redrives)
				return eventbus.Permanent(errors.New("no"))
			}
		}
		w.run(bus, fails(&one), nil, nil)
		w.run(bus, fails(&other), nil, func(s *eventbus.Subscription) { s.Group = "other" })
		publish(w, bus, 1)
		w.until("both gave up", func() bool { return w.held(lettersTopic) == 1 && w.held(orders+".dlq.other") == 1 })
		w.redrive(w.letters(bus), eventbus.RedriveOptions{})
		w.until("once more", func() bool { return w.held(lettersTopic) == 2 })
		time.Sleep(time.Minute)
		require.Equal(t, []string{"0", "1"}, one.all())
		require.Equal(t, []string{"0"}, other.all())
		require.Equal(t, int64(1), w.held(orders+".dlq.other"))
	}, withRetryTopic(), kfake.SeedTopics(1, orders+".dlq.other", orders+".retry.other"))
}

func TestARedriveKeepsItsPace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 300)
		d := w.letters(w.bus(nil))
		for name, c := range map[string]struct {
			rate int
			want time.Duration
		}{"default": {0, 3 * time.Second}, "slow": {10, 30 * time.Second}, "fast": {3000, 100 * time.Millisecond}} {
			began := time.Now()
			require.Equal(t, 300, w.redrive(d, eventbus.RedriveOptions{Name: name, Rate: c.rate}).Sent)
			require.InDelta(t, c.want, time.Since(began), float64(200*time.Millisecond), name)
		}
		began := time.Now()
		_, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Name: "dry"})
		require.NoError(t, err)
		require.Less(t, time.Since(began), time.Second, "a dry run is not slowed down")
	}, withRetryTopic())
}

func TestAnInterruptedRedriveGoesOnWhereItWas(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 1000)
		d := w.letters(w.bus(nil))
		ctx, cancel := context.WithTimeout(context.Background(), 2550*time.Millisecond)
		defer cancel()
		report, err := d.Redrive(ctx, eventbus.RedriveOptions{Send: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, report.Finished)
		require.InDelta(t, 255, report.Sent, 20)
		require.EqualValues(t, report.Sent, report.Partitions[0].Next)
		require.EqualValues(t, report.Sent, w.held(retryTopic))

		again := w.redrive(w.letters(w.bus(nil)), eventbus.RedriveOptions{}) // another process
		require.Equal(t, report.Partitions[0].Next, again.Partitions[0].From)
		require.Equal(t, 1000-report.Sent, again.Sent)
		w.requireSent(1000, 0)
		require.Zero(t, w.redrive(d, eventbus.RedriveOptions{}).Matched, "all is done")
		require.Equal(t, 1000, w.redrive(d, eventbus.RedriveOptions{Name: "anew"}).Sent, "another name begins again")
	}, withRetryTopic())
}

// What a crash leaves is that the cursor did not move past what was sent.
func TestACrashSendsTwiceOnlyWhatWasInFlight(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 1000)
		d := w.letters(w.bus(nil))
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, When: after(8)})
		report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.ErrorIs(t, err, kerr.GroupAuthorizationFailed)
		require.ErrorContains(t, err, "group "+report.Cursor+": the cursor cannot be committed")
		require.Greater(t, w.held(retryTopic), report.Partitions[0].Next)
		require.NotZero(t, report.Partitions[0].Next, err)
		w.redrive(w.letters(w.bus(nil)), eventbus.RedriveOptions{})
		w.requireSent(1000, 100)
	}, withRetryTopic())
}

func TestNothingPassesALetterThatIsNotAcknowledged(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 500)
		d := w.letters(w.bus(nil))
		refused := w.cluster.Fault(kfake.Fault{
			Keys: []kmsg.Key{produce}, Topic: retryTopic, Err: kerr.TopicAuthorizationFailed, When: after(120), Count: -1,
		})
		report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
		next := report.Partitions[0].Next
		require.ErrorContains(t, err, fmt.Sprintf("partition 0: offset %d: not acknowledged by %s", next, retryTopic))
		require.Equal(t, next, int64(report.Sent))
		refused.Remove()
		require.Equal(t, next, w.redrive(d, eventbus.RedriveOptions{}).Partitions[0].From)
		w.requireSent(500, 0)
	}, withRetryTopic())
}

// Of two processes that redrive at once, the later takes over.
func TestTwoRedrivesAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 1000)
		first, second := w.letters(w.bus(nil)), w.letters(w.bus(nil))
		ended := make(chan error, 1)
		go func() {
			_, err := first.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
			ended <- err
		}()
		time.Sleep(3500 * time.Millisecond)
		w.redrive(second, eventbus.RedriveOptions{})
		require.ErrorContains(t, <-ended, "the cursor was moved by another")
		w.requireSent(1000, 100)
	}, withRetryTopic())
}

func TestShutdownEndsARedriveAndKeepsItsPlace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 500)
		bus := w.bus(nil)
		d, ended := w.letters(bus), make(chan error, 1)
		var report eventbus.RedriveReport
		go func() {
			var err error
			report, err = d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
			ended <- err
		}()
		time.Sleep(1234 * time.Millisecond)
		require.NoError(t, bus.Shutdown(context.Background()))
		require.ErrorIs(t, <-ended, eventbus.ErrClosed)
		require.EqualValues(t, w.held(retryTopic), report.Partitions[0].Next)
		_, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.ErrorIs(t, err, eventbus.ErrClosed)
		w.redrive(w.letters(w.bus(nil)), eventbus.RedriveOptions{})
		w.requireSent(500, 0)
	}, withRetryTopic())
}

// A redrive ends with its ctx, whatever the broker does meanwhile.
func TestARedriveObeysItsCtxWhileTheBrokerIsFrozen(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.OffsetFetch, kmsg.OffsetCommit, kmsg.Fetch, kmsg.Produce} {
		inWorld(t, func(w *world) {
			w.fill(lettersTopic, 300)
			d := w.letters(w.bus(nil))
			w.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				return nil, nil, true
			})
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			began := time.Now()
			_, err := d.Redrive(ctx, eventbus.RedriveOptions{Send: true})
			require.Error(t, err)
			require.Less(t, time.Since(began), 32*time.Second, fmt.Sprint(key))
			synctest.Wait()
		}, withRetryTopic())
	}
}

// Letters that another program gave up are redriven where they are of this topic and group, or where that is asked for.
func TestForeignLettersAreRedriven(t *testing.T) {
	const dlt = orders + "-dlt"
	inWorld(t, func(w *world) {
		bus := w.bus(noHold)
		var seen journal
		w.run(bus, func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			seen.add("%d: %s/%d/%d redrives %d", e.Payload.Number, d.Topic, d.Partition, d.Offset, d.Redrives)
			return nil
		}, nil, nil)
		connect := []kgo.RecordHeader{
			header("__connect.errors.topic", orders), header("__connect.errors.partition", "0"), header("__connect.errors.offset", "12"),
		}
		for i, headers := range [][]kgo.RecordHeader{
			w.spring(orders, "group", 10), w.spring(orders, "java", 11), connect, w.spring("acme.others", "group", 13), nil,
		} {
			r, err := bus.Encode(context.Background(), w.order("o", i))
			require.NoError(t, err)
			w.put(&kgo.Record{Topic: dlt, Key: r.Key, Value: r.Value, Headers: headers})
		}
		d, err := bus.DeadLettersIn(dlt, w.orders, "group")
		require.NoError(t, err)
		require.Equal(t, []int64{1}, w.offsets(d, eventbus.LetterFilter{Group: "java"}))
		require.Equal(t, []int64{3}, w.offsets(d, eventbus.LetterFilter{Topic: "acme.others"}))
		report := w.redrive(d, eventbus.RedriveOptions{})
		require.Equal(t, []int{5, 2, 2, 1}, []int{report.Matched, report.Sent, report.Strangers, report.Skipped})
		require.Equal(t, []eventbus.LetterLeft{
			{Offset: 1, Why: "of group java, not group"}, {Offset: 3, Why: "of topic acme.others, not acme.orders"},
		}, report.Left[:2])
		require.Contains(t, report.Left[2].Why, "none of the headers")
		w.until("handled", func() bool { return len(seen.all()) == 2 })
		require.Equal(t, []string{"0: acme.orders/0/10 redrives 1", "2: acme.orders/0/12 redrives 1"}, seen.all())

		report = w.redrive(d, eventbus.RedriveOptions{Name: "take-over", AnyOrigin: true, Filter: eventbus.LetterFilter{Group: "java"}})
		require.Equal(t, 1, report.Sent)
		w.until("handled", func() bool { return len(seen.all()) == 3 })
		require.Equal(t, "1: acme.orders/0/11 redrives 1", seen.all()[2])

		readOnly, err := bus.DeadLettersIn(dlt, nil, "")
		require.NoError(t, err)
		_, err = readOnly.Redrive(context.Background(), eventbus.RedriveOptions{})
		require.ErrorContains(t, err, "no topic and group to redrive to")
	}, withRetryTopic(), kfake.SeedTopics(1, dlt))
}

// spring is what Spring writes to a record that it gives up.
func (w *world) spring(topic, group string, offset int64) []kgo.RecordHeader {
	return []kgo.RecordHeader{
		header("kafka_dlt-original-topic", topic), header("kafka_dlt-original-partition", bigEndian(int32(0))),
		header("kafka_dlt-original-offset", bigEndian(offset)), header("kafka_dlt-original-consumer-group", group),
		header("kafka_dlt-exception-fqcn", "java.lang.IllegalStateException"),
	}
}

func TestARedriveNamesWhatIsWrong(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		d := w.letters(bus)
		for field, opts := range map[string]eventbus.RedriveOptions{
			"Rate": {Rate: -1}, "MaxRedrives": {MaxRedrives: -1}, "Name": {Name: "a b"},
			"Until": {Filter: eventbus.LetterFilter{Until: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		} {
			_, err := d.Redrive(context.Background(), opts)
			require.ErrorContains(t, err, field)
			require.ErrorContains(t, err, "eventbus: DeadLetters acme.orders.dlq.group: Redrive: field")
		}
		w.fill(lettersTopic, 1)
		_, err := d.Redrive(context.Background(), eventbus.RedriveOptions{})
		require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
		require.ErrorContains(t, err, "topic acme.orders.retry.group: ")
		require.ErrorContains(t, err, "EnsureTopics makes it, with Subscription.Topics")
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}}
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		require.Equal(t, 1, w.redrive(d, eventbus.RedriveOptions{}).Sent)
	})
}

// Letters of every partition go to the partition that they came from, and the cursor is one a partition.
func TestARedriveOfManyPartitions(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		d, err := bus.DeadLetters(eventbus.NewTopic[order]("acme.four", nil), "group")
		require.NoError(t, err)
		for i := range 40 {
			r := deadLetter(&kgo.Record{Topic: "acme.four", Partition: int32(i % 4), Offset: int64(i)}, errors.New("no"))
			r.Topic = d.Name()
			w.put(r)
		}
		w.abort(d.Name()) // the cursor passes what transactions leave
		report := w.redrive(d, eventbus.RedriveOptions{Filter: eventbus.LetterFilter{Partitions: []int32{2}}})
		require.Equal(t, 10, report.Sent)
		report = w.redrive(d, eventbus.RedriveOptions{})
		require.Equal(t, 40, report.Sent)
		for _, p := range report.Partitions {
			require.Equal(t, p.End, p.Next)
		}
		for _, r := range w.read("acme.four.retry.group", 50) {
			require.Equal(t, headers(r)["eb-orig-partition"], fmt.Sprint(r.Partition))
		}
	}, kfake.SeedTopics(4, "acme.four.dlq.group", "acme.four.retry.group"))
}
