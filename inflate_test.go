package eventbus_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

// FuzzInflate has no bytes of a compressed batch crash a consumer, none take more than the bounds, and all that does not decompress be a batch that
// can be passed.
func FuzzInflate(f *testing.F) {
	plain := []byte("\x12\x00\x00\x00\x01\x06abc\x02\x02\x00")
	frames := []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff")
	seeds := [][]byte{nil, plain, frames, []byte("\xff\xff\xff\xff\x0f"), zipped(f, 3, 1, 0, 9).content}
	for codec, c := range map[kgo.CompressionCodecType]kgo.CompressionCodec{
		kgo.CodecGzip: kgo.GzipCompression(), kgo.CodecSnappy: kgo.SnappyCompression(), kgo.CodecLz4: kgo.Lz4Compression(),
		kgo.CodecZstd: kgo.ZstdCompression(),
	} {
		packed := packed(f, c, make([]byte, 10_000))
		for _, seed := range append(seeds, packed, packed[:len(packed)/2], append(packed[:len(packed):len(packed)], packed...)) {
			f.Add(uint8(codec), seed)
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		if weight, err := eventbus.WeighForTest(data); err == nil {
			require.LessOrEqual(t, weight, 150*len(data))
		}
		out, weight, err := eventbus.InflateForTest(kgo.CompressionCodecType(codec%8), data)
		switch {
		case err == nil:
			require.LessOrEqual(t, len(out), 32<<20)
			require.LessOrEqual(t, weight, 128<<20)
		case codec%8 <= uint8(kgo.CodecZstd):
			require.ErrorIs(t, err, kgo.ErrMaxDecompress)
		default:
			require.NotErrorIs(t, err, kgo.ErrMaxDecompress, "a codec of the future is not passed over")
		}
	})
}

// A bomb takes memory by the bound, not by what it would become: this is all that is allocated while it is found out, garbage included.
func TestABombTakesMemoryByTheBound(t *testing.T) {
	large := make([]byte, 40<<20)
	for name, c := range map[string]struct {
		codec kgo.CompressionCodecType
		data  []byte
	}{
		"gzip":            {kgo.CodecGzip, zipped(t, 0, 200<<20).content},
		"snappy":          {kgo.CodecSnappy, packed(t, kgo.SnappyCompression(), large)},
		"lz4":             {kgo.CodecLz4, packed(t, kgo.Lz4Compression(), large)},
		"zstd":            {kgo.CodecZstd, packed(t, kgo.ZstdCompression(), large)},
		"gzip of headers": {kgo.CodecGzip, zipped(t, 4<<20, 1).content},
	} {
		require.Less(t, len(c.data), 4<<20, name)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := eventbus.InflateForTest(c.codec, c.data)
		runtime.ReadMemStats(&after)
		t.Logf("%s: %d MiB", name, (after.TotalAlloc-before.TotalAlloc)>>20)
		require.ErrorIs(t, err, kgo.ErrMaxDecompress, name)
		bound := uint64(192 << 20)
		if underRace { // buffers grow by other sizes
			bound *= 2
		}
		require.Less(t, after.TotalAlloc-before.TotalAlloc, bound, name)
	}
}

// inflate has a broker's batch of a topic decompressed as the client does it, and says whether there was room for it.
func inflate(t *testing.T, i *eventbus.Inflater, broker int32, topic string, batch []byte) bool {
	_, err := i.Decompress(batch, kgo.CodecGzip)
	require.NotErrorIs(t, err, kgo.ErrMaxDecompress)
	i.OnFetchBatchRead(kgo.BrokerMetadata{NodeID: broker}, topic, 0, kgo.FetchBatchMetrics{CompressedBytes: len(batch), CompressionType: uint8(kgo.CodecGzip)})
	return err == nil
}

// Many batches, each within its bound, are bounded together, whatever other brokers answer meanwhile.
func TestWhatWasNotPolledIsBounded(t *testing.T) {
	i, err := eventbus.InflaterForTest()
	require.NoError(t, err)
	bomb, small := zipped(t, 0, 20<<20).content, zipped(t, 0, 100).content
	read := func(broker int32) {
		i.OnBrokerRead(kgo.BrokerMetadata{NodeID: broker}, int16(kmsg.Fetch), 0, 0, 0, nil)
	}
	bombs := 0
	for range 20 {
		if inflate(t, i, 1, "bombs", bomb) {
			bombs++
		}
		read(2)
		inflate(t, i, 2, "others", small)
		i.Polled("others")
	}
	require.Equal(t, 4, bombs, "of 20 MiB each")
	i.Polled("bombs")
	require.Zero(t, i.Held())
	require.True(t, inflate(t, i, 1, "bombs", bomb))
	read(1)
	require.Zero(t, i.Held(), "what was dropped and not polled")
}

// What is not records to its last byte is an error: the client would pass over it without a word.
func TestOnlyRecordsWeigh(t *testing.T) {
	record := "\x12\x00\x00\x00\x01\x06abc\x00"
	for name, batch := range map[string]string{
		"text":                   "hello, this is no record at all",
		"one and garbage":        record + "garbage",
		"one and half of one":    record + record[:5],
		"a length of nothing":    "\x00",
		"a negative length":      "\x01",
		"bytes after its end":    "\x14\x00\x00\x00\x01\x06abc\x00\x00",
		"a header that is not":   "\x12\x00\x00\x00\x01\x06abc\x02",
		"a negative header name": "\x12\x00\x00\x00\x01\x06abc\x01",
	} {
		_, err := eventbus.WeighForTest([]byte(batch))
		require.ErrorIs(t, err, kgo.ErrMaxDecompress, name)
	}
	weight, err := eventbus.WeighForTest([]byte(record + record))
	require.NoError(t, err)
	require.Equal(t, 2*(len(record)+256), weight)
}

// packed compresses data as the client does.
func packed(t testing.TB, codec kgo.CompressionCodec, data []byte) []byte {
	c, err := kgo.DefaultCompressor(codec)
	require.NoError(t, err)
	out, _ := c.Compress(new(bytes.Buffer), data)
	return out
}
