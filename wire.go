package eventbus

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// The members of the envelope, with DreamScape's names.
const (
	memberEventID = iota
	memberEventType
	memberTimestamp
	memberVersion
	memberSource
	memberPayload
	memberCorrelationID
	members
)

var memberNames = [members]string{"eventId", "eventType", "timestamp", "version", "source", "payload", "correlationId"}

// newChecker returns what says of a topic's events that they are certainly valid.
func newChecker(payload *schema) *onepass.Checker {
	c := envelopeChecker()
	if payload != nil {
		c = c.Within(memberNames[memberPayload], onepass.Compile(payload.compiled))
	}
	return c
}

// envelopeChecker lets the members be left out that a reader fills in: what most of today's writers leave out is not to cost more.
var envelopeChecker = sync.OnceValue(func() *onepass.Checker {
	lenient := *envelopeSchema().compiled
	lenient.Required = []string{memberNames[memberEventID], memberNames[memberTimestamp], memberNames[memberPayload]}
	return onepass.Compile(&lenient, memberNames[:]...)
})

const (
	assumedVersion = "1.0"
	assumedSource  = "unknown"
)

// scan says whether a record value is certainly a valid event of the topic, and where its members are.
func (s *topicSpec) scan(value []byte, at *[members]onepass.Span) bool {
	if s.checker == nil || !s.checker.Scan(value, at[:]) {
		return false
	}
	for i, span := range at {
		if i != memberPayload && !span.Plain && span.End > 0 {
			return false
		}
	}
	return at[memberEventType].End == 0 || string(text(value, at[memberEventType])) == s.eventType
}

func text(value []byte, at onepass.Span) []byte { return value[at.Start:at.End] }

// encode writes the record's key and value, and checks it: no less than a reader will, and nothing may be left out. undecided says
// that the validator had to be asked.
func (m *message) encode() (key, value []byte, undecided bool, err error) {
	if m.env.eventType != m.topic.eventType {
		return nil, nil, false, fmt.Errorf("topic %s: %w", m.topic.name, invalid("eventType", "must be "+m.topic.eventType))
	}
	buf := scratches.Get().(*bytes.Buffer)
	defer putScratch(buf)
	if err := m.write(buf); err != nil {
		return nil, nil, false, fmt.Errorf("topic %s: %w", m.topic.name, err)
	}
	var at [members]onepass.Span
	if undecided = !m.topic.scan(buf.Bytes(), &at); undecided {
		if err := checkWritten(m.topic, buf.Bytes()); err != nil {
			return nil, nil, true, fmt.Errorf("topic %s: %w", m.topic.name, err)
		}
	}
	n := buf.Len()
	own := append(append(make([]byte, 0, n+len(m.key)), buf.Bytes()...), m.key...)
	if m.key != "" {
		key = own[n:]
	}
	return key, own[:n:n], undecided, nil
}

// scratches are what events are encoded into before it is known how long they are.
var scratches = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxScratch is how large one may be to be kept.
const maxScratch = 64 << 10

func putScratch(buf *bytes.Buffer) {
	if buf.Cap() <= maxScratch {
		buf.Reset()
		scratches.Put(buf)
	}
}

func (m *message) write(to *bytes.Buffer) error {
	b := append(to.AvailableBuffer(), `{"eventId":`...)
	b, err1 := appendQuote(b, m.env.eventID)
	b = append(b, `,"eventType":`...)
	b, err2 := appendQuote(b, m.env.eventType)
	b = append(b, `,"timestamp":"`...)
	b = appendTime(b, m.env.timestamp)
	b = append(b, `","version":`...)
	b, err3 := appendQuote(b, m.env.version)
	b = append(b, `,"source":`...)
	b, err4 := appendQuote(b, m.env.source)
	b = append(b, `,"payload":`...)
	to.Write(b)
	start := to.Len()
	if err := m.event.writePayload(to); err != nil {
		return err
	}
	if to.Bytes()[start] != '{' {
		return invalid("payload", "must be a JSON object")
	}
	b = to.AvailableBuffer()
	b = append(b, `,"correlationId":`...)
	b, err5 := appendQuote(b, m.env.correlationID)
	to.Write(append(b, '}'))
	if err := cmp.Or(err1, err2, err3, err4, err5); err != nil {
		return asInvalid("event", err)
	}
	return nil
}

// appendQuote appends a JSON string.
func appendQuote(b []byte, s string) ([]byte, error) {
	start := len(b)
	b = append(append(b, '"'), s...)
	if onepass.IsText(b[start+1:]) { // as most are
		return append(b, '"'), nil
	}
	return jsontext.AppendQuote(b[:start], s)
}

// wireTime is what JavaScript's toISOString writes.
const wireTime = "2006-01-02T15:04:05.000Z"

func formatTime(t time.Time) string { return t.UTC().Format(wireTime) }

// appendTime appends what formatTime returns.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, wireTime)
	}
	b = append(appendPair(appendPair(b, year/100), year%100), '-')
	b = append(appendPair(b, int(month)), '-')
	b = append(appendPair(b, day), 'T')
	b = append(appendPair(b, hour), ':')
	b = append(appendPair(b, minute), ':')
	b = append(appendPair(b, second), '.')
	ms := t.Nanosecond() / 1e6
	return append(appendPair(b, ms/10), digit(ms%10), 'Z')
}

func appendPair(b []byte, n int) []byte { return append(b, digit(n/10), digit(n%10)) }

func digit(n int) byte { return byte('0' + n) } // #nosec G115 -- 0 to 9

// readWireTime reads the time of an event that is certainly valid.
func readWireTime(b []byte) (time.Time, error) {
	if len(b) != len(wireTime) || b[19] != '.' || b[23] != 'Z' {
		return parseTime(string(b))
	}
	n := func(from, to int) (n int) {
		for _, c := range b[from:to] {
			n = 10*n + int(c-'0')
		}
		return n
	}
	return time.Date(n(0, 4), time.Month(n(5, 7)), n(8, 10), n(11, 13), n(14, 16), n(17, 19), n(20, 23)*1e6, time.UTC), nil
}

// parseTime reads any RFC 3339 date-time, also with a lower-case t or z and with a leap second, which Go's time cannot hold: it
// becomes the second after.
func parseTime(s string) (time.Time, error) {
	s = strings.ToUpper(s)
	leap := len(s) > 19 && s[16:19] == ":60"
	if leap {
		s = s[:16] + ":59" + s[19:]
	}
	t, err := time.Parse(time.RFC3339, s)
	if leap {
		t = t.Add(time.Second)
	}
	return t, err
}

// decodeEvent reads a record value: strictly as JSON, leniently as to what older writers leave out. The returned event is usable
// also when the error is only a broken schema (a [SchemaError]). undecided says that the validator had to be asked. The event shares its payload with value,
// and may be made in room.
func decodeEvent(topic *topicSpec, value []byte, room *RawEvent) (raw *RawEvent, undecided bool, err error) {
	if value == nil {
		return nil, false, &DecodeError{Reason: "the record has no value"}
	}
	var at [members]onepass.Span
	if topic.scan(value, &at) {
		if pickEvent(room, topic, value, &at) {
			return room, false, nil
		}
	}
	raw, err = parseEvent(topic, value)
	return raw, true, err
}

// pickEvent makes an event of what a scan has found; false where its time is none that Go can hold.
func pickEvent(e *RawEvent, topic *topicSpec, value []byte, at *[members]onepass.Span) bool {
	when, err := readWireTime(text(value, at[memberTimestamp]))
	if err != nil {
		return false
	}
	payload := at[memberPayload]
	*e = RawEvent{
		EventID: string(text(value, at[memberEventID])), EventType: topic.eventType, Timestamp: when, Version: topic.version,
		Source: assumedSource, Payload: value[payload.Start:payload.End:payload.End],
	}
	if source := text(value, at[memberSource]); len(source) > 0 {
		e.Source = string(source)
	}
	if version := text(value, at[memberVersion]); len(version) == 0 {
		e.Version = assumedVersion
	} else if string(version) != e.Version {
		e.Version = string(version)
	}
	e.CorrelationID = e.EventID
	if id := text(value, at[memberCorrelationID]); len(id) > 0 && string(id) != e.EventID {
		e.CorrelationID = string(id)
	}
	return true
}

// parseEvent reads a record value that is not certainly a valid event.
func parseEvent(topic *topicSpec, value []byte) (*RawEvent, error) {
	checked, broken := checkEvent(topic, value)
	if checked == nil {
		return nil, broken
	}
	var wire struct {
		EventID   string         `json:"eventId"`
		Timestamp string         `json:"timestamp"`
		Payload   jsontext.Value `json:"payload"`
	}
	if err := json.Unmarshal(value, &wire); err != nil {
		return nil, &DecodeError{Reason: "the envelope's fields do not have the types of an event"}
	}
	at, err := parseTime(wire.Timestamp)
	if err != nil {
		return nil, &DecodeError{Reason: "timestamp: expected an RFC 3339 date-time"}
	}
	return &RawEvent{
		EventID: wire.EventID, EventType: checked["eventType"].(string), Timestamp: at, Version: checked["version"].(string),
		Source: checked["source"].(string), CorrelationID: checked["correlationId"].(string), Payload: []byte(wire.Payload),
	}, broken
}

// checkEvent parses the record value and holds it against the envelope's schema and the payload's. The envelope it returns has
// what was left out filled in. It is nil where the value is no envelope at all; a broken payload schema comes with the envelope.
func checkEvent(topic *topicSpec, value []byte) (map[string]any, error) {
	env, err := parseEnvelope(value)
	if err != nil {
		return nil, err
	}
	fill := func(name string, value any) {
		if s, there := env[name]; !there || s == nil || s == "" {
			env[name] = value
		}
	}
	fill("eventType", topic.eventType)
	fill("version", assumedVersion)
	fill("source", assumedSource)
	fill("correlationId", env["eventId"])
	if err := topic.checkEnvelope(env); err != nil {
		return nil, err
	}
	return env, topic.schema.within("payload").validate(env["payload"])
}

// checkWritten is checkEvent for what is to be published.
func checkWritten(topic *topicSpec, value []byte) error {
	env, err := parseEnvelope(value)
	if err != nil {
		return err
	}
	return cmp.Or(topic.checkEnvelope(env), topic.schema.within("payload").validate(env["payload"]))
}

func parseEnvelope(value []byte) (map[string]any, error) {
	tree, err := parseJSON(value)
	if err != nil {
		return nil, err
	}
	env, ok := tree.(map[string]any)
	if !ok {
		return nil, &DecodeError{Reason: "the value is not a JSON object"}
	}
	return env, nil
}

func (s *topicSpec) checkEnvelope(env map[string]any) error {
	if err := envelopeSchema().validate(env); err != nil {
		return err
	}
	if env["eventType"] != s.eventType {
		return invalid("eventType", "must be "+s.eventType)
	}
	return nil
}
