package eventbus_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// FuzzInflate has no bytes of a compressed batch crash a consumer, none take more than the bounds, and all that does not decompress be a batch that
// can be passed.
func FuzzInflate(f *testing.F) {
	plain := []byte("\x12\x00\x00\x00\x01\x06abc\x02\x02\x00")
	seeds := [][]byte{nil, plain, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff"), []byte("\xff\xff\xff\xff\x0f"), zipped(f, 3, 1, 0, 9).content}
	for codec, c := range map[kgo.CompressionCodecType]kgo.CompressionCodec{
		kgo.CodecGzip: kgo.GzipCompression(), kgo.CodecSnappy: kgo.SnappyCompression(), kgo.CodecLz4: kgo.Lz4Compression(), kgo.CodecZstd: kgo.ZstdCompression(),
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

// packed compresses data as the client does.
func packed(t testing.TB, codec kgo.CompressionCodec, data []byte) []byte {
	c, err := kgo.DefaultCompressor(codec)
	require.NoError(t, err)
	out, _ := c.Compress(new(bytes.Buffer), data)
	return out
}
