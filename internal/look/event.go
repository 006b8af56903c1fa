package look

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/masking"
)

// Event is a record as it is shown.
type Event struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"timestamp"` // the envelope's; where there is none, the record's
	Key       string    `json:"key"`
	Size      int       `json:"bytes"` // of the value
	// What the envelope says, "" where the record is no event.
	EventID       string `json:"eventId,omitempty"`
	EventType     string `json:"eventType,omitempty"`
	Version       string `json:"version,omitempty"`
	Source        string `json:"source,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
	CausationID   string `json:"causationId,omitempty"`
	// Payload is what the envelope has, as JSON, or where there is no envelope the whole value; what is no JSON is a string, what is no text base64.
	// "null" for a tombstone. Secrets are masked.
	Payload json.RawMessage `json:"payload"`
	// Headers are the record's, those that are named like secrets masked.
	Headers []Header `json:"headers,omitempty"`
	// Problem is why it is not a valid event of its topic, where that is declared.
	Problem string `json:"problem,omitempty"`
	// Letter is what a dead letter's headers say, nil for others; Group is of dead letters and of what was sent back, the group's name.
	Letter *eventbus.DeadLetter `json:"deadLetter,omitempty"`
	Group  string               `json:"group,omitempty"`
}

// Header is a record header.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// maxShownValue bounds what is shown of a value that is no JSON.
const maxShownValue = 64 << 10

// Event shows a record. The envelope is read also where the payload breaks its schema: a person wants to see just that.
func (c *Cluster) Event(r *kgo.Record) Event {
	e := Event{
		Topic: strings.TrimPrefix(r.Topic, c.prefix), Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UTC(),
		Key: shownText(r.Key), Size: len(r.Value), Headers: headers(r.Headers),
	}
	source, group, letters := c.besides(e.Topic)
	e.Group = group
	if letters {
		if l, err := eventbus.ParseDeadLetter(r); err == nil {
			e.Letter = &l
			source = strings.TrimPrefix(l.Topic, c.prefix)
		}
	}
	if source == "" {
		source = e.Topic
	}
	declared, known := c.known[source]
	for _, h := range r.Headers {
		if h.Key == causationHeader {
			e.CausationID = string(h.Value)
		}
	}
	if known && len(r.Value) > 0 {
		if _, err := declared.DecodeRaw(r.Value); err != nil {
			e.Problem = err.Error()
		}
	}
	redact := byName
	if known { // by name as well: a schema marks what it knows, and an event may have more
		redact = func(payload []byte) []byte { return byName(declared.Redact(payload)) }
	}
	e.read(r.Value, redact)
	return e
}

// causationHeader is that of the envelope: see eventbus.Delivery.CausationID.
const causationHeader = "causationId"

// envelope is what is looked at of an event's.
type envelope struct {
	EventID       string          `json:"eventId"`
	EventType     string          `json:"eventType"`
	Timestamp     time.Time       `json:"timestamp"`
	Version       string          `json:"version"`
	Source        string          `json:"source"`
	CorrelationID string          `json:"correlationId"`
	Payload       json.RawMessage `json:"payload"`
}

// read fills in what the value says.
func (e *Event) read(value []byte, redact func([]byte) []byte) {
	var env envelope
	switch {
	case value == nil:
		e.Payload = json.RawMessage("null")
	case !jsontext.Value(value).IsValid(jsontext.AllowDuplicateNames(true)):
		e.Payload = quoted(value)
	case json.Unmarshal(value, &env) != nil || env.EventID == "" || env.EventType == "" || env.Payload == nil:
		// by name also where a schema is known: it speaks of payloads, and this may hold one anywhere
		e.Payload = byName(value)
	default:
		e.EventID, e.EventType, e.Version, e.Source, e.CorrelationID = env.EventID, env.EventType, env.Version, env.Source, env.CorrelationID
		if !env.Timestamp.IsZero() {
			e.Time = env.Timestamp.UTC()
		}
		e.Payload = redact(env.Payload)
	}
}

// quoted shows what is no JSON. Where it seems to have been meant as such, and may name a secret, none of it is shown.
func quoted(value []byte) json.RawMessage {
	shown := shownText(value[:cutAt(value, maxShownValue)])
	if namesSecret(value) {
		shown = masking.Masked
	}
	text, _ := json.Marshal(shown)
	return text
}

// memberName is what may be the name of a member of a broken JSON object.
var memberName = regexp.MustCompile(`[\w.-]+["']?\s*[:=]`)

func namesSecret(value []byte) bool {
	if bytes.Contains(value, []byte(`\u`)) && bytes.ContainsAny(value, ":=") {
		return true // a name may be written in escapes
	}
	for _, name := range memberName.FindAll(bytes.ToValidUTF8(value, nil), -1) {
		if masking.Secret(string(name)) {
			return true
		}
	}
	return false
}

// cutAt is where text is cut: not within a rune.
func cutAt(value []byte, most int) int {
	if len(value) <= most {
		return len(value)
	}
	for most > 0 && !utf8.RuneStart(value[most]) {
		most--
	}
	return most
}

// shownText is text as it is, and what is none in base64.
func shownText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return "base64:" + base64.StdEncoding.EncodeToString(b)
}

func headers(hs []kgo.RecordHeader) []Header {
	shown := make([]Header, 0, len(hs))
	for _, h := range hs {
		value := masking.Masked
		if !masking.Secret(h.Key) {
			value = shownText(h.Value[:cutAt(h.Value, maxShownValue)])
		}
		shown = append(shown, Header{Name: h.Key, Value: value})
	}
	return shown
}

// byName copies valid JSON with the values of members masked that are named like secrets.
func byName(value []byte) []byte {
	var out bytes.Buffer
	d := jsontext.NewDecoder(bytes.NewReader(value), jsontext.AllowDuplicateNames(true))
	e := jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true))
	for {
		kind, n := d.StackIndex(d.StackDepth())
		if kind == '{' && n%2 == 1 && masking.Secret(lastName(d)) {
			if err := d.SkipValue(); err != nil {
				return []byte(`"` + masking.Masked + `"`)
			}
			_ = e.WriteToken(jsontext.String(masking.Masked))
			continue
		}
		token, err := d.ReadToken()
		if err != nil {
			break
		}
		if err := e.WriteToken(token); err != nil {
			return []byte(`"` + masking.Masked + `"`)
		}
	}
	return bytes.TrimSpace(out.Bytes())
}

// lastName is the member whose value comes next.
func lastName(d *jsontext.Decoder) string { return d.StackPointer().LastToken() }
