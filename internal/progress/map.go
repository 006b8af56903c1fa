package progress

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// ErrForeign is the error of [Decode] for a text that no [Map] of this version was encoded to: another program's metadata, or a newer one's. It
// says nothing of the committed offset; the caller goes on without a map.
var ErrForeign = errors.New("progress: not a map of what is done")

// Map is what is done above a committed offset, which it does not have: it is worth something only together with it. The zero Map says that
// nothing is done. [Progress.Map] makes it, [Progress.Resume] takes it. It is not changed by anybody and may be copied.
type Map struct {
	// Lineage names the log that the offsets belong to; 0 for none. It is the caller's: who resumes in another one calls [Progress.Forget].
	Lineage uint32
	// Epoch is the highest leader epoch of the records in it, or of those done before where it has gaps only; -1 is unknown.
	Epoch int32
	// runs are relative to the committed offset. They grow and do not touch. Only where a map was resumed and its offsets were not fetched again
	// may the first begin at zero: the committed offset itself is done.
	runs []run
}

// add says that the offsets from inclusive to exclusive are done, which lie above all that it has.
func (m *Map) add(from, to int64) {
	if from == to {
		return
	}
	if n := len(m.runs); n > 0 && m.runs[n-1].to == from {
		m.runs[n-1].to = to
		return
	}
	m.runs = append(m.runs, run{from: from, to: to})
}

// Done is how many offsets it says are done.
func (m Map) Done() int64 {
	var n int64
	for _, r := range m.runs {
		n += r.to - r.from
	}
	return n
}

// Offsets lists what it says is done; a negative committed offset is none, and nothing is done above it.
func (m Map) Offsets(committed int64) []int64 {
	if committed < 0 {
		return nil
	}
	var done []int64
	for _, r := range m.runs {
		for offset := r.from; offset < r.to; offset++ {
			done = append(done, committed+offset)
		}
	}
	return done
}

// The text is "eb1:" and unpadded standard base64 of
//
//	form     1 byte: 0 or 1
//	lineage  4 bytes, big endian
//	epoch    varint (zigzag, as in encoding/binary)
//	body     form 0: uvarints, by turns how many offsets are not done and how many are, from the committed one on
//	         form 1: a bit for each offset from the committed one on, the lowest bit of a byte first; 1 is done
//
// A body ends with what is done. Where nothing is, the form is 0 and there is no body: the text only names the log.
const (
	magic      = "eb1:"
	formRuns   = 0
	formBitmap = 1
	// maxText is the longest string of the protocol. A broker takes 4096 bytes of metadata by default (offset.metadata.max.bytes).
	maxText = math.MaxInt16
	// maxSpan bounds what is believed: sums of offsets stay far from overflow.
	maxSpan = 1 << 40
)

// Encode returns the map as text of at most limit bytes of ASCII, for the metadata of a commit. Where all does not fit, it is the beginning of the
// map that covers most; dropped is how many done offsets were left out, which will be handled again. Where nothing is done or fits, the text only
// names the lineage; it is empty where there is none, or no room for it. The same map and limit give the same text.
func (m Map) Encode(limit int) (metadata string, dropped int64) {
	head := []byte{formRuns}
	head = binary.BigEndian.AppendUint32(head, m.Lineage)
	head = binary.AppendVarint(head, int64(m.Epoch))
	room := base64.RawStdEncoding.DecodedLen(max(min(limit, maxText)-len(magic), 0)) - len(head)
	body, done := m.encodeRuns(room)
	if bitmap, more := m.encodeBitmap(room); more > done || more == done && len(bitmap) < len(body) {
		head[0], body, done = formBitmap, bitmap, more
	}
	dropped = m.Done() - done
	if done == 0 && (m.Lineage == 0 || room < 0) {
		return "", dropped
	}
	return magic + base64.RawStdEncoding.EncodeToString(append(head, body...)), dropped
}

// encodeRuns writes runs while there is room, the last shortened to what fits, and returns how many offsets they cover.
func (m Map) encodeRuns(room int) (body []byte, done int64) {
	var next int64
	for _, r := range m.runs {
		longer := binary.AppendUvarint(body, uint64(r.from-next)) // #nosec G115 -- runs ascend
		left := min(max(room-len(longer), 0), 8)
		n := min(min(r.to, maxSpan)-r.from, 1<<(7*left)-1) // so many bytes say no more
		if n <= 0 {
			break
		}
		body = binary.AppendUvarint(longer, uint64(n))
		done, next = done+n, r.from+n // after one that is shortened, no room is left
	}
	return body, done
}

// encodeBitmap writes the bits that there is room for, and returns how many offsets they cover.
func (m Map) encodeBitmap(room int) (body []byte, done int64) {
	end := int64(max(room, 0)) * 8
	for _, r := range m.runs {
		for i := r.from; i < min(r.to, end); i++ {
			for int64(len(body)) <= i/8 {
				body = append(body, 0)
			}
			body[i/8] |= 1 << (i % 8)
			done++
		}
	}
	return body, done
}

// Decode reads the text that Encode wrote; the empty one is the zero Map. Every other error than nil is [ErrForeign] or wraps it. It takes any
// text, and memory by its length.
func Decode(metadata string) (Map, error) {
	if metadata == "" {
		return Map{}, nil
	}
	text, ok := strings.CutPrefix(metadata, magic)
	if !ok || len(metadata) > maxText {
		return Map{}, ErrForeign
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") || len(raw) < 5 {
		return Map{}, fmt.Errorf("%w: no base64 of one", ErrForeign)
	}
	epoch, n := binary.Varint(raw[5:])
	if n <= 0 || epoch < -1 || epoch > math.MaxInt32 {
		return Map{}, fmt.Errorf("%w: its epoch is none", ErrForeign)
	}
	m := Map{Lineage: binary.BigEndian.Uint32(raw[1:]), Epoch: int32(epoch)}
	if ok = m.decode(raw[0], raw[5+n:]); !ok {
		return Map{}, fmt.Errorf("%w: its runs are none", ErrForeign)
	}
	return m, nil
}

func (m *Map) decode(form byte, body []byte) bool {
	switch form {
	case formRuns:
		return (len(body) > 0 || m.Lineage != 0) && m.decodeRuns(body)
	case formBitmap:
		return m.decodeBitmap(body)
	}
	return false
}

func (m *Map) decodeRuns(body []byte) bool {
	var next int64
	for len(body) > 0 {
		gap, n := binary.Uvarint(body)
		if n <= 0 || gap > maxSpan || gap == 0 && next > 0 {
			return false
		}
		length, k := binary.Uvarint(body[n:])
		if k <= 0 || length == 0 || length > maxSpan {
			return false
		}
		from := next + int64(gap)
		next = from + int64(length)
		if next > maxSpan {
			return false
		}
		m.add(from, next)
		body = body[n+k:]
	}
	return true
}

func (m *Map) decodeBitmap(body []byte) bool {
	if len(body) == 0 || body[len(body)-1] == 0 {
		return false
	}
	for i, b := range body {
		for ; b != 0; b &= b - 1 {
			at := int64(i)*8 + int64(bits.TrailingZeros8(b))
			m.add(at, at+1)
		}
	}
	return true
}
