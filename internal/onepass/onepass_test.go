package onepass_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// compile compiles a schema as the bus does.
func compile(t testing.TB, source string) *jsonschema.Schema {
	t.Helper()
	s, err := tryCompile(source, nil)
	require.NoError(t, err)
	return s
}

var members = []string{"eventId", "eventType", "timestamp", "version", "source", "payload", "correlationId"}

func envelope(t testing.TB) *onepass.Checker {
	file, err := os.ReadFile(filepath.Join("..", "..", "schemas", "envelope.json"))
	require.NoError(t, err)
	payload, err := os.ReadFile(filepath.Join("..", "..", "schemas", "voyage.booking.created.json"))
	require.NoError(t, err)
	return onepass.Compile(compile(t, string(file)), members...).Within("payload", onepass.Compile(compile(t, string(payload))))
}

const event = `{"eventId":"019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d","eventType":"voyage.booking.created","timestamp":"2026-01-07T10:00:00.000Z",` +
	`"version":"1.0","source":"voyage-service","payload":{"bookingId":"b-1","userId":"u-1","flightId":"f-1","hotelId":"h-1","amount":19.90,` +
	`"currency":"EUR"},"correlationId":"019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d"}`

func TestScan(t *testing.T) {
	var spans [7]onepass.Span
	require.True(t, envelope(t).Scan([]byte(event), spans[:]))
	var got []string
	for _, s := range spans {
		got = append(got, event[s.Start:s.End])
	}
	require.Equal(t, []string{
		"019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d", "voyage.booking.created", "2026-01-07T10:00:00.000Z", "1.0", "voyage-service",
		`{"bookingId":"b-1","userId":"u-1","flightId":"f-1","hotelId":"h-1","amount":19.90,"currency":"EUR"}`, "019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d",
	}, got)
	require.False(t, envelope(t).Valid(bytes.Replace([]byte(event), []byte("EUR"), []byte("eur"), 1)))
	require.False(t, envelope(t).Valid(bytes.Replace([]byte(event), []byte("19.90"), []byte("-1"), 1)))
	require.False(t, envelope(t).Valid(bytes.Replace([]byte(event), []byte(`"userId":"u-1",`), nil, 1)))
}

func TestScanAllocatesNothing(t *testing.T) {
	c, text := envelope(t), []byte(event)
	var spans [7]onepass.Span
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if !c.Scan(text, spans[:]) {
			t.Fatal("not decided")
		}
	}))
}

// A checker is everybody's, and learns of each text.
func TestScanIsSafeForConcurrentUse(t *testing.T) {
	c := envelope(t)
	for i := range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			text := bytes.ReplaceAll([]byte(event), []byte("EUR"), fmt.Appendf(nil, "EU%c", 'A'+i))
			if i%2 == 1 {
				text = bytes.Replace(bytes.Replace(text, []byte(`"version":"1.0",`), nil, 1), []byte(`,"correlationId"`), []byte(`,"version":"2.1","correlationId"`), 1)
			}
			wrong := bytes.Replace(text, []byte("19.90"), []byte("-1"), 1)
			for range 2000 {
				var spans [7]onepass.Span
				require.True(t, c.Scan(text, spans[:]))
				require.Equal(t, "voyage-service", string(text[spans[4].Start:spans[4].End]))
				require.False(t, c.Valid(wrong))
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	c, text := envelope(b), []byte(event)
	var spans [7]onepass.Span
	b.ReportAllocs()
	for b.Loop() {
		if !c.Scan(text, spans[:]) {
			b.Fatal("uncertain")
		}
	}
}
