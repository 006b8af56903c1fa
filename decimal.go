package eventbus

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Decimal is an exact decimal number, such as an amount of money. It is never a float: it keeps the digits that it was given,
// 19.90 stays 19.90 on the wire. It is immutable and safe for concurrent use; its zero value is 0. Compare with Cmp, not ==
// (1.5 and 1.50 are equal numbers with different digits). At most 64 characters, exponents from -400 to 400; a sum that is longer
// cannot be published.
type Decimal struct{ text string }

// ParseDecimal reads a number in JSON's form: digits, a point, an exponent, no spaces, no plus sign.
func ParseDecimal(s string) (Decimal, error) {
	if !isJSONNumber(s) {
		return Decimal{}, fmt.Errorf("eventbus: not a decimal number such as 19.90")
	}
	if err := checkNumber(s); err != nil {
		return Decimal{}, fmt.Errorf("eventbus: decimal: %w", err)
	}
	return Decimal{text: s}, nil
}

// isJSONNumber says whether s is a number by RFC 8259.
func isJSONNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	rest := afterDigits(s)
	if whole := len(s) - len(rest); whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	if fraction, found := strings.CutPrefix(rest, "."); found {
		if rest = afterDigits(fraction); len(rest) == len(fraction) {
			return false
		}
	}
	if rest == "" {
		return true
	}
	if rest[0] != 'e' && rest[0] != 'E' {
		return false
	}
	exponent := rest[1:]
	if exponent != "" && (exponent[0] == '+' || exponent[0] == '-') {
		exponent = exponent[1:]
	}
	return exponent != "" && afterDigits(exponent) == ""
}

func afterDigits(s string) string {
	for i, c := range []byte(s) {
		if c < '0' || c > '9' {
			return s[i:]
		}
	}
	return ""
}

// MustDecimal is [ParseDecimal] for constants: it panics on an error.
func MustDecimal(s string) Decimal {
	d, err := ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

// String returns the number as it was given.
func (d Decimal) String() string {
	if d.text == "" {
		return "0"
	}
	return d.text
}

// Rat returns the exact value, the caller's to keep.
func (d Decimal) Rat() *big.Rat {
	r, _ := new(big.Rat).SetString(d.String())
	return r
}

// Cmp returns -1, 0 or 1 as d is less than, equal to or greater than other.
func (d Decimal) Cmp(other Decimal) int { return d.Rat().Cmp(other.Rat()) }

// Sign returns -1, 0 or 1.
func (d Decimal) Sign() int { return d.Rat().Sign() }

// Add returns d + other, with the decimals of the finer one.
func (d Decimal) Add(other Decimal) Decimal {
	return exact(new(big.Rat).Add(d.Rat(), other.Rat()), max(d.decimals(), other.decimals()))
}

// Sub returns d - other, with the decimals of the finer one.
func (d Decimal) Sub(other Decimal) Decimal {
	return exact(new(big.Rat).Sub(d.Rat(), other.Rat()), max(d.decimals(), other.decimals()))
}

// decimals counts the digits after the point, enough of them to be exact where there is an exponent.
func (d Decimal) decimals() int {
	mantissa, _, hasExponent := strings.Cut(strings.ToLower(d.text), "e")
	if hasExponent {
		n, _ := d.Rat().FloatPrec()
		return n
	}
	_, fraction, _ := strings.Cut(mantissa, ".")
	return len(fraction)
}

func exact(r *big.Rat, decimals int) Decimal { return Decimal{text: r.FloatString(decimals)} }

// MarshalJSON writes the number with the digits that it was given.
func (d Decimal) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }

// MarshalJSONTo is MarshalJSON for JSON version 2 (github.com/go-json-experiment/json), without an allocation.
func (d Decimal) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteValue(append(e.AvailableBuffer(), d.String()...))
}

// UnmarshalJSON reads a JSON number; a string or null is refused.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	if jsontext.Value(b).Kind() != '0' {
		return fmt.Errorf("eventbus: decimal: expected a JSON number")
	}
	parsed, err := ParseDecimal(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
