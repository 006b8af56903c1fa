package eventbus

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
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
	// fetchWeight is what the batches may weigh that were decompressed and that no poll has taken yet; the batch that reaches it is the last, and the
	// rest of its fetch is fetched again.
	fetchWeight = 64 << 20

	recordWeight, headerWeight = 256, 40
)

// inflater decompresses batches within these bounds. It is safe for concurrent use.
//
// The client decompresses an answer's batches one after the other, answers of several brokers at the same time, and does not say whose a batch is
// before it is decompressed.
type inflater struct {
	inner kgo.Decompressor

	mu    sync.Mutex
	held  int                     // what all below weigh
	count int                     // batches that it has refused
	fresh []inflated              // OnFetchBatchRead has not told yet whose they are
	parts map[topicPartition]heap // what waits to be polled
}

// inflated is a batch that was decompressed.
type inflated struct {
	compressed int // its bytes; 0 where OnFetchBatchRead counts more than those
	weight     int
}

// heap is what was decompressed of a partition since it was polled last.
type heap struct {
	broker int32
	weight int
}

var (
	_ kgo.Decompressor       = (*inflater)(nil)
	_ kgo.HookBrokerRead     = (*inflater)(nil)
	_ kgo.HookFetchBatchRead = (*inflater)(nil)
)

// errFetchFull says that fetches have given enough. The client keeps what it has, and fetches again from there.
var errFetchFull = fmt.Errorf("eventbus: fetches decompress to more than %d bytes: the rest is fetched again", fetchWeight)

// inflater returns a new one around the user's decompressor, or the client's own, which obeys kgo.MaxDecompressBatchBytes. It is for one client, which
// reads with its options, and whose polls it is told of.
func (b *Bus) inflater() *inflater {
	inner, _ := b.client.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	return &inflater{inner: inner, parts: map[topicPartition]heap{}}
}

func (i *inflater) options() []kgo.Opt { return []kgo.Opt{kgo.WithDecompressor(i), kgo.WithHooks(i)} }

// polled is told of what a poll has taken.
func (i *inflater) polled(fetches kgo.Fetches) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, f := range fetches {
		for _, t := range f.Topics {
			for _, p := range t.Partitions {
				i.releaseLocked(topicPartition{t.Topic, p.Partition})
			}
		}
	}
}

func (i *inflater) releaseLocked(key topicPartition) {
	i.held -= i.parts[key].weight
	delete(i.parts, key)
}

// OnBrokerRead implements [kgo.HookBrokerRead]. A broker is asked again when its last answer was polled: what is left of that was dropped, as what an
// aborted transaction wrote.
func (i *inflater) OnBrokerRead(broker kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) != kmsg.Fetch {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for key, held := range i.parts {
		if held.broker == broker.NodeID {
			i.releaseLocked(key)
		}
	}
}

// OnFetchBatchRead implements [kgo.HookFetchBatchRead]: it is called for each batch as soon as that has been decompressed.
func (i *inflater) OnFetchBatchRead(broker kgo.BrokerMetadata, topic string, partition int32, batch kgo.FetchBatchMetrics) {
	if batch.CompressionType == uint8(kgo.CodecNone) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	at := slices.IndexFunc(i.fresh, func(b inflated) bool { return b.compressed == batch.CompressedBytes })
	if at < 0 {
		at = slices.IndexFunc(i.fresh, func(b inflated) bool { return b.compressed == 0 })
	}
	if at < 0 {
		return // it was not decompressed
	}
	key := topicPartition{topic, partition}
	i.parts[key] = heap{broker: broker.NodeID, weight: i.parts[key].weight + i.fresh[at].weight}
	i.fresh = slices.Delete(i.fresh, at, at+1)
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
		i.refuse()
		return nil, fmt.Errorf("%w: %w", kgo.ErrMaxDecompress, err)
	case codec == kgo.CodecNone:
		return batch, nil
	}
	made := inflated{compressed: len(src)}
	if isMessageSet(batch) {
		made = inflated{weight: len(batch)}
	} else if made.weight, err = weigh(batch); err != nil || made.weight > maxBatchWeight {
		i.refuse()
		return nil, cmp.Or(err, kgo.ErrMaxDecompress)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held += made.weight
	i.fresh = append(i.fresh, made)
	return batch, nil
}

func (i *inflater) refuse() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
}

// refused is how many batches it has refused.
func (i *inflater) refused() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count
}

func (i *inflater) room() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held < fetchWeight
}

// isMessageSet says whether a batch is of a format before Kafka 0.11, which has an offset, a size, a checksum and its version first.
func isMessageSet(batch []byte) bool {
	if len(batch) < 18 || batch[16] > 1 {
		return false
	}
	size := int64(binary.BigEndian.Uint32(batch[8:]))
	return size >= 6 && size <= int64(len(batch)-12)
}

// weigh is about what the records of a batch (KIP-98's format) will take in memory. What is not of that format to its last byte would be passed over by
// the client without a word.
func weigh(batch []byte) (int, error) {
	weight := len(batch)
	for len(batch) > 0 {
		length, n := binary.Varint(batch)
		if n <= 0 || length <= 0 || length > int64(len(batch)-n) {
			return 0, errNoRecords
		}
		headers, ok := headerCount(batch[n : n+int(length)])
		if !ok {
			return 0, errNoRecords
		}
		weight += recordWeight + headerWeight*headers
		batch = batch[n+int(length):]
	}
	return weight, nil
}

var errNoRecords = fmt.Errorf("%w: it does not decompress to records", kgo.ErrMaxDecompress)

// headerCount is how many headers a record has; false for what is no record.
func headerCount(record []byte) (int, bool) {
	rest := record[1:] // its attributes
	for range 2 {      // its time and its offset
		if _, rest = varint(rest); rest == nil {
			return 0, false
		}
	}
	for range 2 { // its key and its value
		if rest = skipBytes(rest); rest == nil {
			return 0, false
		}
	}
	n, rest := varint(rest)
	if rest == nil || n < 0 || n > int64(len(rest)/2) { // each takes two bytes at least
		return 0, false
	}
	if n > maxBatchWeight/headerWeight {
		return int(n), true // too many, whatever they are
	}
	for range 2 * n { // their names and values
		if rest = skipBytes(rest); rest == nil {
			return 0, false
		}
	}
	return int(n), len(rest) == 0
}

// skipBytes passes a length, where a negative one is that of nothing, and what is of that length; nil where that is not there.
func skipBytes(b []byte) []byte {
	length, rest := varint(b)
	if rest == nil || length > int64(len(rest)) {
		return nil
	}
	return rest[max(length, 0):]
}

// varint reads a number; rest is nil where there is none.
func varint(b []byte) (n int64, rest []byte) {
	n, size := binary.Varint(b)
	if size <= 0 {
		return 0, nil
	}
	return n, b[size:]
}
