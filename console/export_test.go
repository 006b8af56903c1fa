package console

import "time"

// Seal is what signs tokens, for tests of its time.
type Seal struct{ *seal }

func NewSeal() Seal { return Seal{newSeal()} }

func (s Seal) Sign(action string, lasts time.Duration) string {
	return s.sign(intent{Action: action}, lasts)
}

func (s Seal) Open(token string) error { _, err := s.open(token); return err }

func (s Seal) Spend(token string) error { _, err := s.spend(token); return err }

func (s Seal) Used() int { return len(s.used) }

// Pretty is how payloads are shown.
func Pretty(value []byte) string { return pretty(value) }
