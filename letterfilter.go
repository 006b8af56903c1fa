package eventbus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// LetterFilter says which dead letters are meant. A letter passes that passes every field; its zero value lets all pass.
type LetterFilter struct {
	// Fingerprint is that of a [LetterGroup]. Default: any.
	Fingerprint string
	// Class is why they failed. Default: any.
	Class Class
	// Error is a part of the error's text. Default: any.
	Error string
	// Topic is Kafka's name of the topic that they were of. Default: any.
	Topic string
	// Group is Kafka's name of the group that gave them up. Default: any.
	Group string
	// Since leaves out those that failed before. Letters of Connect and Streams do not tell when they failed: their record's time
	// counts, which is the original's. Default: any time.
	Since time.Time
	// Until leaves out those that failed then or later. Default: any time.
	Until time.Time
	// Partitions are those of the dead-letter topic to look into. Default: all.
	Partitions []int32
	// From is the first offset to look at; Partitions must be one. Default: the beginning.
	From int64
	// To is the first offset to look at no more; Partitions must be one. Default: the end.
	To int64
	// Key is the record key. Default: any.
	Key string
	// KeyHash is the record key's hash, as logs have it: see [KeyHash]. Default: any.
	KeyHash string
	// EventID is the event's id, where the value is an event. Default: any.
	EventID string
	// MinRedrives leaves out those that were sent back less often. Default: 0.
	MinRedrives int
	// MaxRedrives leaves out those that were sent back more often; negative: all that were ever sent back. Default: any number.
	MaxRedrives int
}

func (f LetterFilter) check() error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("field %s: "+format, append([]any{field}, args...)...)
	}
	classes := []Class{"", ClassPermanent, ClassTransient, ClassDecode, ClassSchema, ClassTimeout, ClassPanic, ClassUnreadable}
	switch {
	case !slices.Contains(classes, f.Class):
		return fail("Class", "%q is no class of failures", string(f.Class))
	case !f.Until.IsZero() && !f.Until.After(f.Since):
		return fail("Until", "is not after Since")
	case slices.ContainsFunc(f.Partitions, func(p int32) bool { return p < 0 }):
		return fail("Partitions", "none may be negative")
	case f.From < 0:
		return fail("From", "%d is negative", f.From)
	case f.To < 0 || f.To != 0 && f.To <= f.From:
		return fail("To", "%d is not after From", f.To)
	case (f.From != 0 || f.To != 0) && len(f.Partitions) != 1:
		return fail("Partitions", "From and To need exactly one, not %d", len(f.Partitions))
	case f.KeyHash != "" && len(f.KeyHash) != 8:
		return fail("KeyHash", "expected 8 hexadecimal digits")
	case f.MinRedrives < 0:
		return fail("MinRedrives", "%d is negative", f.MinRedrives)
	case f.MaxRedrives != 0 && f.MinRedrives > max(f.MaxRedrives, 0):
		return fail("MaxRedrives", "is less than MinRedrives")
	}
	return nil
}

// clip leaves of s what the filter's offsets leave.
func (f LetterFilter) clip(s span) span {
	s.start = min(max(s.start, f.From), s.end)
	if f.To != 0 {
		s.end = max(s.start, min(s.end, f.To))
	}
	return s
}

// passes holds everything but the place against a letter.
func (f LetterFilter) passes(l Letter) bool {
	at := l.at()
	switch {
	case f.Fingerprint != "" && f.Fingerprint != l.Fingerprint,
		f.Class != "" && f.Class != l.Class,
		!strings.Contains(l.Error, f.Error),
		f.Topic != "" && f.Topic != l.Topic,
		f.Group != "" && f.Group != l.Group,
		!f.Since.IsZero() && at.Before(f.Since),
		!f.Until.IsZero() && !at.Before(f.Until),
		f.Key != "" && f.Key != string(l.Record.Key),
		f.KeyHash != "" && f.KeyHash != KeyHash(l.Record.Key),
		f.MinRedrives > l.Redrives,
		f.MaxRedrives != 0 && max(f.MaxRedrives, 0) < l.Redrives:
		return false
	}
	return f.EventID == "" || f.EventID == eventID(l.Record.Value)
}

// eventID is that of an event, "" where the value is none.
func eventID(value []byte) string {
	var event struct {
		EventID string `json:"eventId"`
	}
	if err := json.Unmarshal(value, &event); err != nil {
		return ""
	}
	return event.EventID
}

// name stands for the filter: equal filters have the same.
func (f LetterFilter) name() (string, error) {
	f.Since, f.Until = f.Since.UTC(), f.Until.UTC()
	f.Partitions = slices.Sorted(slices.Values(f.Partitions))
	text, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("fields Since, Until: %w", err) // a year that JSON has no text for
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}
