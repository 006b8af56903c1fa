package eventbus_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestEventIDsAreUUIDv7(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const step = 250 * time.Microsecond
		ids, last := map[string]bool{}, ""
		for range 100 {
			for range 100 { // in the same instant
				e := booking()
				require.False(t, ids[e.EventID], "it is unique")
				ids[e.EventID] = true
				require.Greater(t, e.EventID[:18], last, "ids are in the order of time, to a quarter of a microsecond")
				id, err := uuid.Parse(e.EventID)
				require.NoError(t, err)
				require.Equal(t, uuid.Version(7), id.Version())
				require.Equal(t, uuid.RFC4122, id.Variant())
				seconds, nanoseconds := id.Time().UnixTime()
				require.True(t, e.Timestamp.Equal(time.Unix(seconds, nanoseconds)), "%v: %v", id, e.Timestamp)
			}
			last = booking().EventID[:18]
			time.Sleep(step)
		}
	})
}
