package eventbus

import (
	"fmt"
	"log/slog"
)

// Secret is a string that shows itself only on the wire: fmt, log/slog, encoding/json and what else uses encoding.TextMarshaler print
// "***". A conversion to string reveals it, and so does fmt where an unexported field holds it, whose methods fmt cannot call. Mark
// its field writeOnly in the schema, so that readers of the JSON mask it too. Do not store an event by encoding/json, which would
// lose the secret; [Bus.Encode] keeps it.
type Secret string

const masked = "***"

// String returns "***".
func (Secret) String() string { return masked }

// GoString returns "***".
func (Secret) GoString() string { return masked }

// Format prints "***" for every verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, masked) }

// MarshalJSON returns "***" in quotes.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + masked + `"`), nil }

// MarshalText returns "***".
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// LogValue returns "***".
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }
