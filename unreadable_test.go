package eventbus_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
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
func TestWhatCannotBeReadOfSeveralBrokersHoldsUpNoReading(t *testing.T) {
	const partitions, each = 24, 4
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic[order]("acme.bombs", nil)
		cl := w.raw(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.GzipCompression()))
		for range each {
			var records []*kgo.Record
			for p := range int32(partitions) {
				records = append(records, &kgo.Record{Topic: "acme.bombs.dlq.group", Partition: p, Value: make([]byte, 128<<10)})
			}
			require.NoError(w, cl.ProduceSync(context.Background(), records...).FirstErr())
		}
		bus := w.bus(func(c *eventbus.Config) { c.Client = append(c.Client, kgo.MaxDecompressBatchBytes(64<<10)) })
		letters, err := bus.DeadLetters(topic, "group")
		require.NoError(w, err)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		groups, err := letters.Groups(ctx, eventbus.LetterFilter{})
		require.NoError(w, err)
		require.Len(w, groups, 1)
		require.Equal(w, partitions*each, groups[0].Count)
	}, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(partitions, "acme.bombs", "acme.bombs.dlq.group"))
}
