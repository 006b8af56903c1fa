package eventbus_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

func TestParseDecimal(t *testing.T) {
	for _, text := range []string{
		"0", "-0", "1", "19.90", "-19.90", "0.1", "1e3", "1E+3", "1.50e-7", "1e400", "1e-400", "1e0000400",
		"9007199254740993", strings.Repeat("9", 64), "0." + strings.Repeat("0", 62),
	} {
		d, err := eventbus.ParseDecimal(text)
		require.NoError(t, err, text)
		require.Equal(t, text, d.String(), "the digits stay as they are")
		want, ok := new(big.Rat).SetString(text)
		require.True(t, ok)
		require.Zero(t, want.Cmp(d.Rat()))
	}
	for _, text := range []string{
		"", " ", "1 ", " 1", "+1", "01", "-01", "00", "1.", ".5", "1.e3", "1e", "1e+", "0x1", "1_000", "1,5", "NaN", "Infinity", "-",
		"1e401", "1e-401", "1e10000000", "1e99999999999999999999", strings.Repeat("9", 65), "0." + strings.Repeat("0", 63), "1\n", "１",
	} {
		_, err := eventbus.ParseDecimal(text)
		require.Error(t, err, "%q", text)
		require.NotContains(t, err.Error(), "99999", "an error text has no value")
		require.Panics(t, func() { eventbus.MustDecimal(text) })
	}
}

func TestDecimalZeroValue(t *testing.T) {
	var zero eventbus.Decimal
	require.Equal(t, "0", zero.String())
	require.Zero(t, zero.Sign())
	require.Zero(t, zero.Cmp(eventbus.MustDecimal("-0.00")))
	text, err := json.Marshal(zero)
	require.NoError(t, err)
	require.Equal(t, "0", string(text))
	require.Equal(t, "1.50", zero.Add(eventbus.MustDecimal("1.50")).String())
}

func TestDecimalArithmetic(t *testing.T) {
	for _, tt := range []struct {
		a, b, sum, difference string
		cmp                   int
	}{
		{"0.1", "0.2", "0.3", "-0.1", -1},
		{"19.90", "0.10", "20.00", "19.80", 1},
		{"1.5", "1.50", "3.00", "0.00", 0},
		{"9007199254740993", "0.01", "9007199254740993.01", "9007199254740992.99", 1},
		{"-1", "1", "0", "-2", -1},
		{"1e3", "1", "1001", "999", 1},
		{"1e-3", "1", "1.001", "-0.999", -1},
		{"1.5e1", "0.25", "15.25", "14.75", 1},
	} {
		a, b := eventbus.MustDecimal(tt.a), eventbus.MustDecimal(tt.b)
		require.Equal(t, tt.sum, a.Add(b).String())
		require.Equal(t, tt.difference, a.Sub(b).String())
		require.Equal(t, tt.cmp, a.Cmp(b))
		require.Equal(t, tt.cmp, a.Sub(b).Sign())
	}
	sum := eventbus.MustDecimal("1e400").Add(eventbus.MustDecimal("1e-400"))
	require.Len(t, sum.String(), 401+1+400)
}

func TestDecimalRatIsTheCallers(t *testing.T) {
	d := eventbus.MustDecimal("1.5")
	d.Rat().SetInt64(7)
	require.Equal(t, "1.5", d.Rat().FloatString(1))
}

func TestDecimalJSON(t *testing.T) {
	type invoice struct {
		Amount eventbus.Decimal  `json:"amount"`
		Tip    *eventbus.Decimal `json:"tip,omitzero"`
	}
	for _, text := range []string{`{"amount":19.90}`, `{"amount":1E+2,"tip":0}`, `{"amount":12345678901234567890.12345678901234567890}`} {
		var got invoice
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		again, err := json.Marshal(got)
		require.NoError(t, err)
		require.Equal(t, text, string(again))
	}
	for _, text := range []string{`{"amount":"19.90"}`, `{"amount":null}`, `{"amount":{}}`, `{"amount":[1]}`, `{"amount":true}`, `{"amount":1e401}`} {
		require.Error(t, json.Unmarshal([]byte(text), new(invoice)), text)
	}
}

// FuzzDecimal has every text either refused or kept, with the exact value, through JSON and arithmetic.
func FuzzDecimal(f *testing.F) {
	for _, seed := range []string{"0", "-0.00", "19.90", "1e3", "1E-400", "1e10000000", "01", "+1", "0x1p-2", "1/3", "-", "1e", "1e-", "０", "1\n", "9e400", "-0e0", strings.Repeat("9", 1<<10), strings.Repeat("9", 65)} {
		f.Add(seed, "0.01")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err := eventbus.ParseDecimal(a)
		if err != nil {
			number := json.Valid([]byte(a)) && strings.Trim(a, "-.0123456789") == ""
			require.False(t, number && len(a) <= 64, "%q is a number within the limits", a)
			return
		}
		require.Equal(t, a, x.String())
		require.True(t, json.Valid([]byte(a)))
		text, err := json.Marshal(struct{ V eventbus.Decimal }{x})
		require.NoError(t, err)
		var back struct{ V eventbus.Decimal }
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, x, back.V)
		require.Equal(t, a, fmt.Sprint(back.V))

		y, err := eventbus.ParseDecimal(b)
		if err != nil {
			return
		}
		require.Zero(t, x.Add(y).Sub(y).Cmp(x))
		require.Equal(t, x.Cmp(y), -y.Cmp(x))
		require.Equal(t, x.Cmp(y), x.Sub(y).Sign())
	})
}
