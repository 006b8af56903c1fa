package progress_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dreamscape/eventbus/internal/progress"
)

func text(form byte, body ...byte) string {
	raw := append([]byte{form, 0, 0, 0, 9, 6}, body...) // lineage 9, epoch 3
	return "eb1:" + base64.RawStdEncoding.EncodeToString(raw)
}

func TestEncodeOnTheWire(t *testing.T) {
	alternating := []int64{0, 2, 4, 6, 8, 10, 12, 14}
	for name, test := range map[string]struct {
		head       int64
		incomplete []int64
		want       string
	}{
		"nothing":              {1, nil, ""},
		"nothing done":         {2, []int64{0, 1}, ""},
		"a run":                {200, []int64{0}, "eb1:AAAAAAkCAccB"},
		"one bit":              {2, []int64{0}, "eb1:AQAAAAkCAg"},
		"every other, as bits": {16, alternating, "eb1:AQAAAAkCqqo"},
	} {
		t.Run(name, func(t *testing.T) {
			got, dropped := started(test.head, test.incomplete...).Map(9).Encode(4096)
			require.Equal(t, test.want, got)
			require.Zero(t, dropped)
		})
	}
}

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want [][2]int64 // nil: foreign
	}{
		"empty":                      {"", [][2]int64{}},
		"runs":                       {text(0, 1, 2, 3, 4), [][2]int64{{1, 3}, {6, 10}}},
		"runs from the committed":    {text(0, 0, 2), [][2]int64{{0, 2}}},
		"bits":                       {text(1, 0b110, 0b1), [][2]int64{{1, 3}, {8, 9}}},
		"bits across bytes":          {text(1, 0x80, 0x01), [][2]int64{{7, 9}}},
		"a member's id":              {"eventbus-7c9e6679-7425-40de-944b-e07fc1f90ae7", nil},
		"another version":            {"eb2:AAAAAAkCAccB", nil},
		"magic alone":                {"eb1:", nil},
		"no base64":                  {"eb1:****", nil},
		"padded":                     {text(0, 1, 2) + "=", nil},
		"in lines":                   {text(0, 1, 2) + "\n", nil},
		"too short":                  {"eb1:AAAA", nil},
		"without an epoch":           {"eb1:AAAAAAk", nil},
		"an epoch below -1":          {"eb1:" + base64.RawStdEncoding.EncodeToString([]byte{0, 0, 0, 0, 9, 3, 1, 1}), nil},
		"an epoch too high":          {"eb1:" + base64.RawStdEncoding.EncodeToString([]byte{0, 0, 0, 0, 9, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 1}), nil},
		"another form":               {text(2, 1, 2), nil},
		"without a body":             {text(0), nil},
		"a run that is not there":    {text(0, 1, 2, 3), nil},
		"an empty run":               {text(0, 1, 0), nil},
		"runs that touch":            {text(0, 1, 1, 0, 1), nil},
		"a number that has no end":   {text(0, 1, 0x80), nil},
		"a run beyond all":           {text(0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), nil},
		"a number beyond all":        {text(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1), nil},
		"runs that are beyond it":    {text(0, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20), nil},
		"the longest span":           {text(0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20), [][2]int64{{0, progress.MaxSpan}}},
		"bits that end with nothing": {text(1, 1, 0), nil},
		"longer than a string is":    {text(1, []byte(strings.Repeat("\x01", 1<<15))...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := progress.Decode(test.text)
			if test.want == nil {
				require.ErrorIs(t, err, progress.ErrForeign)
				require.Equal(t, progress.Map{}, m)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, m.Runs())
		})
	}
}

// maps draws maps of many shapes: dense and sparse, short and long.
func maps() *rapid.Generator[progress.Map] {
	return rapid.Custom(func(t *rapid.T) progress.Map {
		p := progress.New()
		epoch := rapid.Int32Range(-1, 1<<31-1).Draw(t, "epoch")
		most := rapid.SampledFrom([]int64{1, 2, 4, 200, 100_000, 1 << 45}).Draw(t, "longest run")
		gaps := rapid.SliceOfN(rapid.Int64Range(0, most), 0, 300).Draw(t, "runs")
		head := int64(0)
		for _, gap := range gaps {
			p.Add(head, epoch)
			head += 1 + gap
		}
		if p.Add(head, epoch); len(gaps) > 0 {
			p.Done(head)
		}
		return p.Map(rapid.Uint32().Draw(t, "lineage"))
	})
}

func TestEncodedIsTheBeginningThatFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := maps().Draw(t, "map")
		limit := rapid.OneOf(rapid.IntRange(0, 60), rapid.IntRange(60, 5000)).Draw(t, "limit")
		text, dropped := m.Encode(limit)
		require.LessOrEqual(t, len(text), limit)
		require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return r < '!' || r > '~' }), "printable ASCII")
		got, err := progress.Decode(text)
		require.NoError(t, err)
		require.Equal(t, m.Done()-dropped, got.Done())
		require.Equal(t, beginning(m, got.Done()), got.Runs())
		if text != "" {
			require.Equal(t, []any{m.Lineage, m.Epoch}, []any{got.Lineage, got.Epoch})
		}
		_, less := m.Encode(limit - 1)
		require.GreaterOrEqual(t, less, dropped, "with less room less is covered")
		again, _ := m.Encode(limit)
		require.Equal(t, text, again)
	})
}

// beginning is the first of the done offsets of m, as runs.
func beginning(m progress.Map, done int64) [][2]int64 {
	runs := [][2]int64{}
	for _, r := range m.Runs() {
		n := min(r[1]-r[0], done)
		if n == 0 {
			break
		}
		runs = append(runs, [2]int64{r[0], r[0] + n})
		done -= n
	}
	return runs
}

func TestRoundTripIsWholeAndShort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := maps().Draw(t, "map")
		text, dropped := m.Encode(1 << 20)
		got, err := progress.Decode(text)
		require.NoError(t, err)
		if runs := m.Runs(); len(runs) == 0 || runs[len(runs)-1][1] <= progress.MaxSpan {
			require.Zero(t, dropped)
			require.Equal(t, m.Runs(), got.Runs())
		}
		canonical, dropped := got.Encode(len(text))
		require.Equal(t, text, canonical)
		require.Zero(t, dropped)
	})
}

// A broker's usual limit holds what a busy partition has, whatever is done of it.
func TestLimitOfABroker(t *testing.T) {
	random := started(1)
	var bits uint64 = 88172645463325252 // xorshift: no map is harder to write than one without a pattern
	for o := int64(1); o < 50_000; o++ {
		random.Add(o, 1)
		bits ^= bits << 13
		bits ^= bits >> 7
		bits ^= bits << 17
		if bits&1 == 1 {
			random.Done(o)
		}
	}
	m := random.Map(lineage)
	text, dropped := m.Encode(4096)
	require.LessOrEqual(t, len(text), 4096)
	require.Greater(t, len(text), 4090)
	require.InDelta(t, 12_000, m.Done()-dropped, 500, "a bit each of 3063 bytes, half of them done")
	text, dropped = started(1_000_000, 0).Map(lineage).Encode(4096)
	require.Less(t, len(text), 20, "one that hangs costs nothing")
	require.Zero(t, dropped)
}

func FuzzDecode(f *testing.F) {
	for _, m := range []progress.Map{
		started(2, 0).Map(1), started(1_000_000, 0, 10, 777).Map(lineage), started(40, 0, 2, 4, 7, 9, 11, 30).Map(lineage),
	} {
		whole, _ := m.Encode(4096)
		part, _ := m.Encode(len(whole) - 1)
		f.Add(whole)
		f.Add(part)
	}
	for _, s := range []string{
		"", "eb1:", "eb2:AAAA", "eventbus-7c9e6679", "NO_METADATA", `{"consumer":"spring"}`, "AgAAAAAAAAAA", "eb1:" + strings.Repeat("q", 32<<10),
		"eb1:\xff", "EB1:AAAAAAkCAccB", "eb1:AAAAAAkCAccB\n", "eb1:AAAAAAkCAccB=", "eb1:" + strings.Repeat("V", 4096), "\x00",
		text(0, 1, 0x80), text(1, 0, 0), text(0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := progress.Decode(s)
		if err != nil {
			require.ErrorIs(t, err, progress.ErrForeign)
			require.Equal(t, progress.Map{}, m)
			return
		}
		require.LessOrEqual(t, len(m.Runs()), 3*len(s), "memory by the length of the text")
		last := int64(-1)
		for _, r := range m.Runs() {
			require.Less(t, last, r[0])
			require.Less(t, r[0], r[1])
			require.LessOrEqual(t, r[1], int64(progress.MaxSpan))
			last = r[1]
		}
		again, dropped := m.Encode(len(s))
		require.Zero(t, dropped)
		back, err := progress.Decode(again)
		require.NoError(t, err)
		require.Equal(t, m, back)
		p := progress.New()
		p.Resume(1<<62, -1, m)
		require.Equal(t, m.Runs(), p.Map(m.Lineage).Runs())
	})
}
