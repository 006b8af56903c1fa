package eventbus

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kilobytes of a compressed batch may become gigabytes, and so may a fetch of many batches each of which is within its bound. These bound both.
const (
	// maxBatchBytes is what a batch may decompress to; a user's own kgo.MaxDecompressBatchBytes wins. Reading takes up to three times as much.
	maxBatchBytes = 32 << 20
	// maxBatchWeight bounds what it takes once it is records: of headers without a name and a value, 32 MB would become 600.
	maxBatchWeight = 128 << 20
	// fetchWeight is what the batches of one fetch may weigh; the batch that reaches it is the last, and the rest is fetched again.
	fetchWeight = 64 << 20

	recordWeight, headerWeight = 256, 40
)

// inflater decompresses batches within these bounds. It is safe for concurrent use.
type inflater struct {
	inner kgo.Decompressor

	mu   sync.Mutex
	left int // of fetchWeight, since the last fetch arrived
}

var (
	_ kgo.Decompressor   = (*inflater)(nil)
	_ kgo.HookBrokerRead = (*inflater)(nil)
)

// errFetchFull says that the fetch has given enough. The client keeps what it has, and fetches again from there.
var errFetchFull = fmt.Errorf("eventbus: a fetch decompresses to more than %d bytes: the rest of it is fetched again", fetchWeight)

// inflating are the options of a client that reads.
func (b *Bus) inflating() []kgo.Opt {
	i := b.inflater()
	return []kgo.Opt{kgo.WithDecompressor(i), kgo.WithHooks(i)}
}

// inflater returns a new one around the user's decompressor, or the client's own, which obeys kgo.MaxDecompressBatchBytes.
func (b *Bus) inflater() *inflater {
	inner, _ := b.client.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	return &inflater{inner: inner, left: fetchWeight}
}

// OnBrokerRead is called for each response, before what is in it is decompressed.
func (i *inflater) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == kmsg.Fetch {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.left = fetchWeight
	}
}

// Decompress returns an error that is kgo.ErrMaxDecompress, upon which the client lets the batch be skipped, where it is too large or garbage:
// its checksum is right, so that it will be the same each time. One by a codec that the client does not know stays an error: another version
// may read it.
func (i *inflater) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if !i.room() {
		return nil, errFetchFull
	}
	var batch []byte
	err := catch(func() (err error) { // a panic here would end the process, each time it reads this
		batch, err = i.inner.Decompress(src, codec)
		return err
	})
	switch {
	case err != nil && codec > kgo.CodecZstd:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", kgo.ErrMaxDecompress, err)
	case codec == kgo.CodecNone:
		return batch, nil
	}
	weight := weigh(batch)
	if weight > maxBatchWeight {
		return nil, kgo.ErrMaxDecompress
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.left -= weight
	return batch, nil
}

func (i *inflater) room() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.left > 0
}

// weigh is about what the records of a batch (KIP-98's format) will take in memory. What is not of that format weighs what it has.
func weigh(batch []byte) int {
	weight := len(batch)
	for len(batch) > 0 {
		length, n := binary.Varint(batch)
		if n <= 0 || length <= 0 || length > int64(len(batch)-n) {
			break
		}
		weight += recordWeight + headerWeight*headerCount(batch[n:n+int(length)])
		batch = batch[n+int(length):]
	}
	return weight
}

// headerCount is how many headers a record says that it has, at most as many as there is room for: each takes two bytes.
func headerCount(record []byte) int {
	if len(record) == 0 {
		return 0
	}
	rest := record[1:] // its attributes
	for range 2 {      // its time and its offset
		if _, rest = varint(rest); rest == nil {
			return 0
		}
	}
	for range 2 { // its key and its value
		var length int64
		if length, rest = varint(rest); rest == nil || length > int64(len(rest)) {
			return 0
		}
		rest = rest[max(length, 0):]
	}
	n, rest := varint(rest)
	return int(min(max(n, 0), int64(len(rest)/2)))
}

// varint reads a number; rest is nil where there is none.
func varint(b []byte) (n int64, rest []byte) {
	n, size := binary.Varint(b)
	if size <= 0 {
		return 0, nil
	}
	return n, b[size:]
}
