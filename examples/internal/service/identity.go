package service

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dreamscape/eventbus"
)

// Now returns the present time as events have it: UTC, cut to milliseconds.
func Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// NewID returns a new id: a UUID version 7.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// DerivedID returns the same id for the same arguments: a UUID of version 7's form (RFC 9562) with the time at, and a hash of parts in
// place of the random bits.
func DerivedID(at time.Time, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	id := uuid.UUID(sum[:16])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // RFC 9562's variant
	return id.String()
}

// FollowUp gives the event that follows from cause an id that is derived from it, and returns it: made again at the next try, it is
// the same event to whoever remembers ids.
func FollowUp[C, T any](cause *eventbus.BaseEvent[C], e *eventbus.BaseEvent[T]) *eventbus.BaseEvent[T] {
	e.EventID = DerivedID(cause.Timestamp, cause.EventID, e.EventType)
	return e
}
