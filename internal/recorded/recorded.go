// Package recorded reads the dead letters that scripts/record-letters has recorded from the programs that wrote them.
package recorded

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Fixture is a record and the dead letter that became of it, byte for byte.
type Fixture struct {
	RecordedBy string // programs and versions
	Original   *kgo.Record
	Letter     *kgo.Record
}

// Load reads the fixtures of a folder, by name without .json. An empty folder is an error.
func Load(folder string) (map[string]Fixture, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no fixtures in %s", folder)
	}
	fixtures := map[string]Fixture{}
	for _, path := range paths {
		f, err := read(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		fixtures[strings.TrimSuffix(filepath.Base(path), ".json")] = f
	}
	return fixtures, nil
}

func read(path string) (Fixture, error) {
	file, err := os.Open(path) // #nosec G304 -- the fixtures of the tests
	if err != nil {
		return Fixture{}, err
	}
	defer file.Close()
	var f struct {
		RecordedBy       string
		Original, Letter record
	}
	d := json.NewDecoder(file)
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Fixture{}, err
	}
	return Fixture{RecordedBy: f.RecordedBy, Original: f.Original.kafka(), Letter: f.Letter.kafka()}, nil
}

// record is as the recorder writes it.
type record struct {
	Topic         string
	Partition     int32
	Offset        int64
	Timestamp     int64 // Unix time in milliseconds
	TimestampType string
	Key, Value    *content // nil for null
	Headers       []struct {
		Key   string
		Value *content
	}
}

func (r record) kafka() *kgo.Record {
	k := &kgo.Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: time.UnixMilli(r.Timestamp).UTC(),
		Key: r.Key.bytes(), Value: r.Value.bytes(),
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value.bytes()})
	}
	return k
}

// content is bytes, shown as text where that loses nothing.
type content []byte

func (c *content) UnmarshalJSON(data []byte) error {
	var shown struct{ Text, Base64 *string }
	if err := json.Unmarshal(data, &shown); err != nil {
		return err
	}
	if shown.Text != nil {
		*c = content(*shown.Text)
		return nil
	}
	if shown.Base64 == nil {
		return fmt.Errorf("expected text or base64, not %s", data)
	}
	b, err := base64.StdEncoding.DecodeString(*shown.Base64)
	*c = b
	return err
}

func (c *content) bytes() []byte {
	if c == nil {
		return nil
	}
	return append([]byte{}, *c...)
}
