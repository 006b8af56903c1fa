package eventbus_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

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
		require.LessOrEqual(t, eventbus.WeighForTest(data), 150*len(data))
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

// packed compresses data as the client does.
func packed(t testing.TB, codec kgo.CompressionCodec, data []byte) []byte {
	c, err := kgo.DefaultCompressor(codec)
	require.NoError(t, err)
	out, _ := c.Compress(new(bytes.Buffer), data)
	return out
}
