package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
)

// intent is what somebody was shown and asked about. Only what was shown is done.
type intent struct {
	Action      string          `json:"action"`
	Topic       string          `json:"topic"`                 // of the dead letters, without the bus's prefix
	Fingerprint string          `json:"fingerprint,omitempty"` // of a redrive
	Offsets     map[int32]int64 `json:"offsets,omitempty"`     // of a purge: up to where, by partition
	Letters     int64           `json:"letters"`
	Expires     time.Time       `json:"expires"`
	Nonce       string          `json:"nonce"`
}

const (
	intentLasts = 5 * time.Minute
	pageLasts   = 12 * time.Hour
)

// pageForm is the action of the token that forms of a page have: it says that they come from a page of this console, and nothing of what is asked for.
const pageForm = "page"

var (
	errForged  = errors.New("it was not made by this console, or the service has been started again since")
	errExpired = errors.New("it is too old")
	errUsed    = errors.New("it was used already")
)

// seal signs intents with a key that only this process has.
type seal struct {
	key []byte

	mu   sync.Mutex
	used map[string]time.Time // nonces until they expire
}

func newSeal() *seal {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: it ends the program
	return &seal{key: key, used: map[string]time.Time{}}
}

// sign returns a token of an intent that lasts so long.
func (s *seal) sign(i intent, lasts time.Duration) string {
	i.Expires, i.Nonce = time.Now().Add(lasts), rand.Text()
	body, _ := json.Marshal(i) // numbers, texts and a time of now
	return base64.RawURLEncoding.EncodeToString(body) + "." + base64.RawURLEncoding.EncodeToString(s.mac(body))
}

func (s *seal) mac(body []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write(body)
	return m.Sum(nil)
}

// open returns what a token was made of, where it still holds.
func (s *seal) open(token string) (i intent, err error) {
	text, signature, _ := strings.Cut(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return intent{}, errForged
	}
	mac, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(mac, s.mac(body)) || json.Unmarshal(body, &i) != nil {
		return intent{}, errForged
	}
	if time.Now().After(i.Expires) {
		return intent{}, errExpired
	}
	return i, nil
}

// spend opens a token that holds once.
func (s *seal) spend(token string) (intent, error) {
	i, err := s.open(token)
	if err != nil {
		return intent{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for nonce, expires := range s.used {
		if now.After(expires) {
			delete(s.used, nonce)
		}
	}
	if _, was := s.used[i.Nonce]; was {
		return intent{}, errUsed
	}
	s.used[i.Nonce] = i.Expires
	return i, nil
}
