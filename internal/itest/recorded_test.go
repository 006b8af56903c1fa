package itest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/recorded"
)

// TestRecorded compares a folder that scripts/record-letters has just filled with the fixtures that the root's tests read: apart from when
// it was and where in the programs, they say the same.
func TestRecorded(t *testing.T) {
	folder := os.Getenv("EVENTBUS_RECORDED")
	if folder == "" {
		t.Skip("EVENTBUS_RECORDED is not set: fill a folder with scripts/record-letters")
	}
	fresh, err := recorded.Load(folder)
	require.NoError(t, err)
	kept, err := recorded.Load("../../testdata/letters")
	require.NoError(t, err)
	for name := range fresh {
		require.Contains(t, kept, name)
	}
	for name, want := range kept {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, fresh, name)
			got := fresh[name]
			require.Equal(t, want.RecordedBy, got.RecordedBy)
			require.Equal(t, want.Original, got.Original)
			require.Equal(t, names(want.Letter), names(got.Letter))
			require.Equal(t, [][]byte{want.Letter.Key, want.Letter.Value}, [][]byte{got.Letter.Key, got.Letter.Value})
			require.Equal(t, parsed(t, want.Letter), parsed(t, got.Letter))
		})
	}
}

// names are those of a record's headers, in order.
func names(r *kgo.Record) (keys []string) {
	for _, h := range r.Headers {
		keys = append(keys, h.Key)
	}
	return keys
}

// parsed is what a dead letter says but for when it was written, and of its stack the first line.
func parsed(t *testing.T, r *kgo.Record) eventbus.DeadLetter {
	d, err := eventbus.ParseDeadLetter(r)
	require.NoError(t, err)
	if !d.FailedAt.IsZero() {
		require.Equal(t, r.Timestamp, d.FailedAt)
		d.FailedAt = time.Unix(0, 0)
	}
	d.Stack, _, _ = strings.Cut(d.Stack, "\n")
	return d
}
