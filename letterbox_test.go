package eventbus_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

const (
	lettersTopic = orders + ".dlq.group"
	retryTopic   = orders + ".retry.group"
)

// dead makes a dead letter as the engine does, of an event that is at an offset of acme.orders.
func (w *world) dead(offset int64, err error) *kgo.Record {
	value, e := w.bus(nil).Encode(context.Background(), w.order(fmt.Sprint("o-", offset), int(offset)))
	require.NoError(w, e)
	return deadLetter(&kgo.Record{Topic: orders, Offset: offset, Timestamp: time.Now(), Key: value.Key, Value: value.Value}, err)
}

func deadLetter(r *kgo.Record, err error) *kgo.Record {
	return eventbus.DeadLetterForTest(r, lettersTopic, "group", err)
}

// put writes records as they are, each to its own partition, in order.
func (w *world) put(records ...*kgo.Record) {
	cl := w.raw(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(w, cl.ProduceSync(context.Background(), records...).FirstErr())
	for _, r := range records {
		r.Attrs, r.Context = kgo.RecordAttrs{}, nil
	}
}

// fill makes a topic with n small dead letters, 0 to n-1.
func (w *world) fill(topic string, n int) {
	var records []*kgo.Record
	for i := range n {
		r := deadLetter(&kgo.Record{Topic: orders, Offset: int64(i), Key: []byte(strconv.Itoa(i)), Value: []byte(strconv.Itoa(i))}, errors.New("no"))
		r.Topic = topic
		records = append(records, r)
	}
	w.put(records...)
}

func (w *world) letters(bus *eventbus.Bus) *eventbus.DeadLetters {
	d, err := bus.DeadLetters(w.orders, "group")
	require.NoError(w, err)
	return d
}

// offsets lists the letters that a filter lets through.
func (w *world) offsets(d *eventbus.DeadLetters, f eventbus.LetterFilter) []int64 {
	var found []int64
	for l, err := range d.List(context.Background(), f) {
		require.NoError(w, err)
		found = append(found, l.Offset)
	}
	return found
}

func TestListReadsEveryPartitionInOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		topic := eventbus.NewTopic[order]("acme.four", nil)
		d, err := bus.DeadLetters(topic, "group")
		require.NoError(t, err)
		var records []*kgo.Record
		for i := range 40 {
			r := deadLetter(&kgo.Record{Topic: "acme.four", Partition: int32(i % 4), Offset: int64(i)}, errors.New("no"))
			r.Topic = d.Name()
			records = append(records, r)
		}
		w.put(records...)
		var got []string
		for l, err := range d.List(context.Background(), eventbus.LetterFilter{}) {
			require.NoError(t, err)
			require.Equal(t, l.Partition, l.DeadLetter.Partition)
			got = append(got, fmt.Sprint(l.Partition, "/", l.Offset))
		}
		require.Len(t, got, 40)
		require.True(t, slices.IsSorted(got), got)
		for l, err := range d.List(context.Background(), eventbus.LetterFilter{}) {
			require.NoError(t, err)
			require.Equal(t, int64(0), l.Offset)
			break // the caller may stop at once
		}
	}, kfake.SeedTopics(4, "acme.four", "acme.four.dlq.group"))
}

func TestLetterFilter(t *testing.T) {
	inWorld(t, func(w *world) {
		d, start := w.letters(w.bus(nil)), time.Now()
		for i, err := range []error{
			errors.New("no stock of 4711"), eventbus.Permanent(errors.New("no such user")), errors.New("no stock of 4712"), errors.New("timeout of db-1"),
		} {
			r := w.dead(int64(i), err)
			r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "eb-redrives" })
			r.Headers = append(r.Headers, header("eb-redrives", strconv.Itoa(i)))
			w.put(r)
			time.Sleep(time.Minute)
		}
		w.put(&kgo.Record{Topic: lettersTopic, Key: []byte("stray"), Value: []byte("no letter")})
		second, err := d.Show(context.Background(), 0, 1)
		require.NoError(t, err)
		e, err := w.orders.Decode(second.Record.Value)
		require.NoError(t, err)
		for name, c := range map[string]struct {
			filter eventbus.LetterFilter
			want   []int64
		}{
			"all":                  {eventbus.LetterFilter{}, []int64{0, 1, 2, 3, 4}},
			"fingerprint":          {eventbus.LetterFilter{Fingerprint: w.fingerprint(d, 0)}, []int64{0, 2}},
			"class":                {eventbus.LetterFilter{Class: eventbus.ClassPermanent}, []int64{1}},
			"error":                {eventbus.LetterFilter{Error: "stock"}, []int64{0, 2}},
			"since":                {eventbus.LetterFilter{Since: start.Add(time.Minute)}, []int64{1, 2, 3, 4}},
			"until":                {eventbus.LetterFilter{Until: start.Add(time.Minute)}, []int64{0}},
			"since and until":      {eventbus.LetterFilter{Since: start.Add(time.Second), Until: start.Add(3 * time.Minute)}, []int64{1, 2}},
			"from":                 {eventbus.LetterFilter{Partitions: []int32{0}, From: 3}, []int64{3, 4}},
			"to":                   {eventbus.LetterFilter{Partitions: []int32{0}, To: 2}, []int64{0, 1}},
			"from beyond the end":  {eventbus.LetterFilter{Partitions: []int32{0}, From: 99}, nil},
			"key":                  {eventbus.LetterFilter{Key: "o-2"}, []int64{2}},
			"key hash":             {eventbus.LetterFilter{KeyHash: eventbus.KeyHash([]byte("o-3"))}, []int64{3}},
			"event id":             {eventbus.LetterFilter{EventID: e.EventID}, []int64{1}},
			"min redrives":         {eventbus.LetterFilter{MinRedrives: 2}, []int64{2, 3}},
			"max redrives":         {eventbus.LetterFilter{MaxRedrives: 1}, []int64{0, 1, 4}},
			"never redriven":       {eventbus.LetterFilter{MaxRedrives: -1}, []int64{0, 4}},
			"unreadable":           {eventbus.LetterFilter{Error: "none of the headers"}, []int64{4}},
			"a partition twice":    {eventbus.LetterFilter{Partitions: []int32{0, 0}, Key: "o-1"}, []int64{1}},
			"two that contradict":  {eventbus.LetterFilter{Class: eventbus.ClassPermanent, Error: "stock"}, nil},
			"of a class with none": {eventbus.LetterFilter{Class: eventbus.ClassPanic}, nil},
		} {
			require.Equal(t, c.want, w.offsets(d, c.filter), name)
		}
	})
}

func (w *world) fingerprint(d *eventbus.DeadLetters, offset int64) string {
	l, err := d.Show(context.Background(), 0, offset)
	require.NoError(w, err)
	return l.Fingerprint
}

func TestLetterFilterNamesTheField(t *testing.T) {
	inWorld(t, func(w *world) {
		d, now := w.letters(w.bus(nil)), time.Now()
		for field, f := range map[string]eventbus.LetterFilter{
			"Class":                       {Class: "odd"},
			"Until":                       {Since: now, Until: now},
			"Partitions: none":            {Partitions: []int32{-1}},
			"Partitions: 1 is not there":  {Partitions: []int32{0, 1}},
			"Partitions: From and To":     {From: 1},
			"Partitions: From and To nee": {To: 1, Partitions: []int32{0, 1}},
			"From":                        {Partitions: []int32{0}, From: -1},
			"To":                          {Partitions: []int32{0}, From: 5, To: 5},
			"KeyHash":                     {KeyHash: "x"},
			"MinRedrives":                 {MinRedrives: -1},
			"MaxRedrives":                 {MinRedrives: 2, MaxRedrives: -1},
		} {
			for _, err := range d.List(context.Background(), f) {
				require.ErrorContains(t, err, "field "+field)
			}
			_, err := d.Groups(context.Background(), f)
			require.ErrorContains(t, err, "field "+field)
			_, err = d.Redrive(context.Background(), eventbus.RedriveOptions{Filter: f})
			require.ErrorContains(t, err, "field "+field)
		}
	})
}

func TestGroups(t *testing.T) {
	inWorld(t, func(w *world) {
		d, start := w.letters(w.bus(nil)), time.Now()
		for i, err := range []error{
			eventbus.Permanent(errors.New("no such user")), errors.New("no stock of 4711"), errors.New("no stock of 4712"),
			errors.New("no stock of 3f2a9b1c-0e1d-4c3b-9d8e-7f6a5b4c3d2e"),
		} {
			w.put(w.dead(int64(i), err))
			time.Sleep(time.Minute)
		}
		w.put(&kgo.Record{Topic: lettersTopic, Value: []byte("no letter")})
		groups, err := d.Groups(context.Background(), eventbus.LetterFilter{})
		require.NoError(t, err)
		require.Len(t, groups, 3)
		stock := groups[0]
		require.Equal(t, 3, stock.Count)
		require.WithinDuration(t, start.Add(time.Minute), stock.First, time.Second)
		require.WithinDuration(t, start.Add(3*time.Minute), stock.Last, time.Second)
		require.Equal(t, eventbus.Sample{
			Offset: 3, Family: eventbus.FamilyEventbus, Class: eventbus.ClassTransient, Error: "no stock of 3f2a9b1c-0e1d-4c3b-9d8e-7f6a5b4c3d2e",
		}, stock.Sample)
		for _, g := range groups {
			require.Len(t, w.offsets(d, eventbus.LetterFilter{Fingerprint: g.Fingerprint}), g.Count)
		}
	})
}

func TestTooManyGroupsAreAnError(t *testing.T) {
	inWorld(t, func(w *world) {
		var records []*kgo.Record
		for i := range 10_001 {
			r := deadLetter(&kgo.Record{Topic: orders, Offset: int64(i)}, errors.New("no"))
			r.Headers = append(r.Headers, header("eb-fingerprint", strconv.Itoa(i)))
			records = append(records, r)
		}
		w.put(records...)
		d := w.letters(w.bus(nil))
		_, err := d.Groups(context.Background(), eventbus.LetterFilter{})
		require.ErrorContains(t, err, "narrow the filter")
		groups, err := d.Groups(context.Background(), eventbus.LetterFilter{Partitions: []int32{0}, To: 10_000})
		require.NoError(t, err)
		require.Len(t, groups, 10_000)
	})
}

func TestShow(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		d := w.letters(bus)
		w.fill(lettersTopic, 4)
		l, err := d.Show(context.Background(), 0, 2)
		require.NoError(t, err)
		require.Equal(t, "2", string(l.Record.Value))
		require.Equal(t, "no", l.Error)
		_, err = d.Purge(context.Background(), eventbus.PurgeOptions{Delete: true, Offsets: map[int32]int64{0: 2}})
		require.NoError(t, err)
		for at, want := range map[[2]int64]string{
			{0, 1}: "partition 0, offset 1: deleted, the partition begins at 2", {0, 4}: "not there, the partition ends before 4",
			{1, 0}: "field Partitions: 1 is not there, the topic has 1", {-1, 0}: "field Partitions",
		} {
			_, err = d.Show(context.Background(), int32(at[0]), at[1])
			require.ErrorContains(t, err, want)
		}
		w.abort(lettersTopic)
		_, err = d.Show(context.Background(), 0, 4)
		require.ErrorContains(t, err, "offset 4: no letter, but a gap")
	})
}

// abort writes a letter that does not count, and the marker that says so.
func (w *world) abort(topic string) {
	cl := w.raw(kgo.TransactionalID("tx"))
	require.NoError(w, cl.BeginTransaction())
	require.NoError(w, cl.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Value: []byte("aborted")}).FirstErr())
	require.NoError(w, cl.EndTransaction(context.Background(), kgo.TryAbort))
}

func TestLettersAfterTransactions(t *testing.T) {
	inWorld(t, func(w *world) {
		d := w.letters(w.bus(nil))
		w.abort(lettersTopic)
		w.fill(lettersTopic, 2)
		w.abort(lettersTopic)
		require.Equal(t, []int64{2, 3}, w.offsets(d, eventbus.LetterFilter{}))
	})
}

// What retention or a purge takes away while it is read does not hold the reader for ever.
func TestAListOutlivesADeletion(t *testing.T) {
	inWorld(t, func(w *world) {
		d := w.letters(w.bus(nil))
		w.fill(lettersTopic, 10)
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.DropControl()
			w.cluster.SleepControl(func() { w.delete(lettersTopic, 10) })
			return nil, nil, false
		})
		started := time.Now()
		require.Empty(t, w.offsets(d, eventbus.LetterFilter{}))
		require.Less(t, time.Since(started), 15*time.Second)
	})
}

func (w *world) delete(topic string, before int64) {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, At: before})
	results, err := kadm.NewClient(w.raw()).DeleteRecords(context.Background(), offsets)
	require.NoError(w, cmp.Or(err, results.Error()))
}

// A topic of any size is read in pieces: when the caller stops, at most two fetches were made.
func TestAListHoldsNoMoreThanAFetch(t *testing.T) {
	inWorld(t, func(w *world) {
		const n = 100_000
		w.fill(lettersTopic, n)
		var fetches atomic.Int64
		w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			fetches.Add(1)
			return nil, nil, false
		})
		d, seen := w.letters(w.bus(nil)), 0
		for _, err := range d.List(context.Background(), eventbus.LetterFilter{}) {
			require.NoError(t, err)
			seen++
			if seen == 1 {
				synctest.Wait()
				require.LessOrEqual(t, fetches.Load(), int64(2), "one read, one ahead")
			}
		}
		require.Equal(t, n, seen)
		require.Greater(t, fetches.Load(), int64(4), "in pieces")
		groups, err := d.Groups(context.Background(), eventbus.LetterFilter{})
		require.NoError(t, err)
		require.Len(t, groups, 1)
		require.Equal(t, n, groups[0].Count)
	})
}

func TestDeadLettersNamesWhatIsWrong(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		_, err := bus.DeadLetters(nil, "group")
		require.ErrorContains(t, err, "topic is nil")
		_, err = bus.DeadLetters(w.orders, "gr oup")
		require.ErrorContains(t, err, "group")
		_, err = bus.DeadLettersIn("", nil, "")
		require.ErrorContains(t, err, "name")
		letters := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}}.Topics()[1]
		_, err = bus.DeadLetters(letters, "group")
		require.ErrorContains(t, err, "acme.orders.dlq.group stands beside acme.orders")

		missing, err := bus.DeadLettersIn("nowhere-dlt", nil, "")
		require.NoError(t, err)
		started := time.Now()
		for what, err := range all(missing) {
			require.ErrorIs(t, err, kerr.UnknownTopicOrPartition, what)
			require.ErrorContains(t, err, "topic nowhere-dlt", what)
		}
		require.Less(t, time.Since(started), 5*time.Second)
	})
}

// all are the errors of every method.
func all(d *eventbus.DeadLetters) map[string]error {
	ctx, errs := context.Background(), map[string]error{}
	for _, err := range d.List(ctx, eventbus.LetterFilter{}) {
		errs["list"] = err
	}
	_, errs["groups"] = d.Groups(ctx, eventbus.LetterFilter{})
	_, errs["show"] = d.Show(ctx, 0, 0)
	_, errs["purge"] = d.Purge(ctx, eventbus.PurgeOptions{Delete: true, All: true})
	return errs
}

func TestAWrongPasswordIsNamedByTheDeadLetters(t *testing.T) {
	inWorld(t, func(w *world) {
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1, TopLevel: true})
		bus := w.bus(func(c *eventbus.Config) { c.SASL = plain.Auth{User: "u", Pass: "wrong"}.AsMechanism() })
		started := time.Now()
		_, err := w.letters(bus).Show(context.Background(), 0, 0)
		require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
		require.Less(t, time.Since(started), 5*time.Second)
	}, kfake.EnableSASL())
}

func TestShutdownEndsAList(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.fill(lettersTopic, 1000)
		var last error
		for l, err := range w.letters(bus).List(context.Background(), eventbus.LetterFilter{}) {
			if last = err; err == nil && l.Offset == 0 {
				require.NoError(t, bus.Shutdown(context.Background()))
			}
		}
		require.NoError(t, last, "what was fetched is still given")
		for _, err := range w.letters(bus).List(context.Background(), eventbus.LetterFilter{}) {
			require.ErrorIs(t, err, eventbus.ErrClosed)
		}
	})
}

func TestListObeysItsCtxWhileTheBrokerIsFrozen(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fill(lettersTopic, 1)
		d := w.letters(w.bus(nil))
		for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
			w.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				return nil, nil, true
			})
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			started := time.Now()
			for _, err := range d.List(ctx, eventbus.LetterFilter{}) {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			require.Less(t, time.Since(started), 22*time.Second, fmt.Sprint(key))
		}
	})
}

func TestDeadLettersWithAPrefix(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.TopicPrefix = "p." })
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}}
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		d := w.letters(bus)
		require.Equal(t, "p.acme.orders.dlq.p.group", d.Name())
		for i := range 10 { // until one is in the partition that is looked at below
			r := eventbus.DeadLetterForTest(&kgo.Record{Topic: "p.acme.orders", Offset: int64(i)}, d.Name(), "p.group", errors.New("no"))
			w.put(r)
		}
		report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.NoError(t, err)
		require.Equal(t, 10, report.Sent)
		sent := w.read("p.acme.orders.retry.p.group", 10)[0]
		require.Equal(t, "p.group", headers(sent)["eb-group"])
		require.Equal(t, "p.acme.orders", headers(sent)["eb-orig-topic"])
	})
}

func headers(r *kgo.Record) map[string]string {
	all := map[string]string{}
	for _, h := range r.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}
