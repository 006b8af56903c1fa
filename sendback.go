package eventbus

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sendBack sends records to a group's retry topic and knows which of them are not acknowledged yet. It belongs to one goroutine.
type sendBack struct {
	bus     *Bus
	topic   string // Kafka's name
	flying  []flyingLetter
	bytes   int // of them
	settled time.Time
}

// flyingLetter is sent and not acknowledged.
type flyingLetter struct {
	offset int64
	result chan error
}

// They are waited for after so many, after so long, and before more than letterWindow would fly.
const (
	settleLetters = 100
	settleEvery   = time.Second
)

// due says whether it is time to settle.
func (s *sendBack) due() bool {
	return len(s.flying) >= settleLetters || time.Since(s.settled) >= settleEvery
}

// crowded says whether a record has to wait for those that fly: what flies at once is one batch, which must not be too large.
func (s *sendBack) crowded(r *kgo.Record) bool {
	return s.bytes > 0 && s.bytes+recordBytes(r) > letterWindow
}

// send sends what was read at an offset.
func (s *sendBack) send(ctx context.Context, offset int64, r *kgo.Record) {
	f := flyingLetter{offset: offset, result: make(chan error, 1)}
	s.flying, s.bytes = append(s.flying, f), s.bytes+recordBytes(r)
	// One that flies cannot be called back: its ctx never ends.
	s.bus.letters.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) { f.result <- err })
}

// settle waits for all that flies, and says how many are acknowledged and up to where nothing is missing: reached, or the first that is not.
func (s *sendBack) settle(ctx context.Context, reached int64) (upTo int64, sent int, failed error) {
	upTo = reached
	for _, f := range s.flying {
		err := f.await(ctx) // also of those behind one that failed: what flies on would be written after the next call has begun
		switch {
		case failed != nil:
		case err != nil:
			upTo, failed = f.offset, fmt.Errorf("offset %d: not acknowledged by %s: %w", f.offset, s.topic, err)
		default:
			sent++
		}
	}
	s.flying, s.bytes, s.settled = nil, 0, time.Now()
	return upTo, sent, failed
}

func (f flyingLetter) await(ctx context.Context) error {
	select {
	case err := <-f.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
