package eventbus_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// batch writes compressed batches whose records are not those that the producer was given, but as many.
type batch struct {
	codec   kgo.CompressionCodecType
	content []byte // compressed
}

func (b batch) Compress(*bytes.Buffer, []byte, ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	return b.content, b.codec
}

// write puts a batch of n records, by what it claims, into the topic's first partition.
func (w *world) write(topic string, n int, b batch) {
	cl := w.raw(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.WithCompressor(b), kgo.ProducerLinger(10*time.Millisecond),
		kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Value: make([]byte, 2*len(b.content)/n+64)} // or the client would find them smaller as they are
	}
	require.NoError(w, cl.ProduceSync(context.Background(), records...).FirstErr())
}

// zipped are records of the batch format (KIP-98) with values of zeros of these sizes and so many empty headers each, without holding them.
func zipped(t testing.TB, headers int, sizes ...int) batch {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	require.NoError(t, err)
	for i, size := range sizes {
		head := binary.AppendVarint([]byte{0, 0}, int64(i)) // attributes, time, offset
		head = binary.AppendVarint(binary.AppendVarint(head, -1), int64(size))
		tail := binary.AppendVarint(nil, int64(headers))
		length := binary.AppendVarint(nil, int64(len(head)+size+len(tail)+2*headers))
		_, err = io.Copy(z, io.MultiReader(bytes.NewReader(length), bytes.NewReader(head), io.LimitReader(zeros{}, int64(size)),
			bytes.NewReader(tail), io.LimitReader(zeros{}, int64(2*headers))))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return batch{kgo.CodecGzip, out.Bytes()}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// What cannot be decompressed within bounds is dead-lettered by reference, and the partition goes on.
func TestWhatCannotBeReadIsDeadLetteredByReference(t *testing.T) {
	for name, test := range map[string]struct {
		n int
		b batch
	}{
		"200 MiB":          {3, zipped(t, 0, 100, 200<<20, 100)},
		"8 MiB of headers": {1, zipped(t, 4<<20, 1)},
		"garbage":          {2, batch{kgo.CodecGzip, []byte("\x1f\x8bno gzip")}},
		"no records":       {1, batch{kgo.CodecGzip, packed(t, kgo.GzipCompression(), []byte("this is no record at all"))}},
		"garbage of lz4":   {1, batch{kgo.CodecLz4, []byte("no lz4")}},
		"snappy that lies": {1, batch{kgo.CodecSnappy, []byte("\xff\xff\xff\xff\x0f")}},
		"snappy in frames": {1, batch{kgo.CodecSnappy, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff")}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(nil)
				publish(w, bus, 2)
				w.write(orders, test.n, test.b)
				require.NoError(w, bus.Publish(context.Background(), w.order("o", 2)))
				var seen journal
				w.run(bus, handles(&seen), nil, nil)
				w.until("all is committed", func() bool { return w.committed() == int64(3+test.n) })
				require.ElementsMatch(t, []string{"0", "1", "2"}, seen.all())
				r := w.read(orders+".dlq.group", 1)[0]
				d, err := eventbus.ParseDeadLetter(r)
				require.NoError(t, err)
				require.Equal(t, eventbus.ClassUnreadable, d.Class)
				require.Equal(t, []any{orders, int32(0), int64(2), int64(2 + test.n)}, []any{d.Topic, d.Partition, d.Offset, d.Until})
				require.Contains(t, d.Error, fmt.Sprintf("from offset 2 up to before %d cannot be read", 2+test.n))
				require.Zero(t, d.Timestamp)
				require.Nil(t, r.Value)
				require.EqualValues(t, 1, bus.Metrics().DeadLettered)
				require.Empty(t, bus.Health(context.Background()).Groups[0].Problems)
			})
		})
	}
}

// The client tells of each such batch once, with what it has fetched, and drops that when it is set behind another one, at another broker.
func TestWhatCannotBeReadOfSeveralBrokersHoldsUpNoFold(t *testing.T) {
	const topics, times = 6, 4
	var names []string
	for i := range topics {
		names = append(names, fmt.Sprint("acme.bombs-", i))
	}
	inWorld(t, func(w *world) {
		bus := w.bus(small)
		var steps []eventbus.FoldStep[int]
		for _, name := range names {
			topic := eventbus.NewTopic(name, &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
			steps = append(steps, eventbus.On(topic, func(n int, _ *eventbus.BaseEvent[order]) int { return n + 1 }))
			for i := range times {
				w.bombs(name, 1)
				require.NoError(w, bus.Publish(context.Background(), topic.New(order{ID: "k", Number: i})))
			}
		}
		began := time.Now()
		n, err := eventbus.Fold(context.Background(), bus, "k", 0, steps...)
		require.Equal(w, topics*times, n)
		require.Equal(w, topics*times, strings.Count(err.Error(), "cannot be read"))
		require.LessOrEqual(w, time.Since(began), 5*time.Second)
	}, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(1, names...))
}

// bombs puts a batch that cannot be read into every partition of a topic.
func (w *world) bombs(topic string, partitions int32) {
	cl := w.raw(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	var records []*kgo.Record
	for p := range partitions {
		records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: make([]byte, 128<<10)})
	}
	require.NoError(w, cl.ProduceSync(context.Background(), records...).FirstErr())
}

// small has a bus read only small batches.
func small(c *eventbus.Config) { c.Client = append(c.Client, kgo.MaxDecompressBatchBytes(64<<10)) }

func TestWhatCannotBeReadOfSeveralBrokersStopsNoPartition(t *testing.T) {
	const partitions, times, between = 12, 3, 300
	topic := eventbus.NewTopic("acme.bombs", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
	for name, test := range map[string]struct {
		route  eventbus.Route
		within time.Duration
	}{
		"":                {topic.Handle(ignore, nil), 5 * time.Second},
		"in transactions": {topic.HandleTx(func(context.Context, *eventbus.Tx, *eventbus.BaseEvent[order]) error { return nil }, nil), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { small(c); w.instance("1")(c) })
				for range times {
					var events []eventbus.AnyEvent
					for i := range between * partitions {
						events = append(events, topic.New(order{ID: fmt.Sprint("o-", i%100), Number: i}))
					}
					require.NoError(w, bus.Publish(context.Background(), events...))
					w.bombs("acme.bombs", partitions)
				}
				w.run(bus, nil, nil, func(s *eventbus.Subscription) { s.Routes = []eventbus.Route{test.route} })
				w.until("all is handled or dead-lettered", func() bool {
					m := bus.Metrics()
					return m.MessagesConsumed == times*between*partitions && m.DeadLettered == times*partitions
				})
				require.LessOrEqual(w, w.took(), test.within)
			}, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(partitions, "acme.bombs", "acme.bombs.dlq.group"))
		})
	}
}

// A pause throws away what was fetched, and what is wrong with it.
func TestWhatCannotBeReadBehindAPauseStopsNoPartition(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(small)
		w.run(bus, ignore, nil, nil)
		require.NoError(w, bus.WaitReady(context.Background()))
		require.NoError(w, bus.Publish(context.Background(), w.order("o", 1)))
		w.until("handled", func() bool { return bus.Metrics().MessagesConsumed == 1 })
		time.Sleep(time.Second) // a fetch waits at the broker
		require.NoError(w, bus.Pause("group"))
		w.bombs(orders, 1)
		require.NoError(w, bus.Publish(context.Background(), w.order("o", 2)))
		time.Sleep(time.Second)
		require.NoError(w, bus.Resume("group"))
		w.until("the second is handled", func() bool { m := bus.Metrics(); return m.MessagesConsumed == 2 && m.DeadLettered == 1 })
	})
}

// A poll takes a part of what was fetched, and is told of the batch behind all of it.
func TestWhatComesBeforeWhatCannotBeReadIsHandled(t *testing.T) {
	inWorld(t, func(w *world) {
		const before, behind = 3_500, 10
		bus := w.bus(small)
		publish := func(n int) {
			var events []eventbus.AnyEvent
			for i := range n {
				events = append(events, w.order(fmt.Sprint("o-", i%100), i))
			}
			require.NoError(w, bus.Publish(context.Background(), events...))
		}
		publish(before)
		w.bombs(orders, 1)
		publish(behind)
		w.run(bus, ignore, nil, nil)
		w.until("what is behind it is handled", func() bool { return w.committed() == before+1+behind })
		require.Equal(w, int64(before+behind), bus.Metrics().MessagesConsumed)
		require.Equal(w, int64(1), bus.Metrics().DeadLettered)
	})
}
