package eventbus_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

func TestParseKeepsWhatIsThere(t *testing.T) {
	for text, want := range map[string]any{
		`{}`:                    map[string]any{},
		` [ ] `:                 []any{},
		`null`:                  nil,
		`"\u00e9\ud83d\ude00"`:  "é😀",
		`[true,false,null,"x"]`: []any{true, false, nil, "x"},
		`{"a":{"b":[1]}}`:       map[string]any{"a": map[string]any{"b": []any{json.Number("1")}}},
		`9007199254740993`:      json.Number("9007199254740993"),
		`-0.10e+1`:              json.Number("-0.10e+1"),
		`1e400`:                 json.Number("1e400"),
		strings.Repeat("9", 64): json.Number(strings.Repeat("9", 64)),
		nested(64):              nil, // compared by length only
		`{"":1,"~/%":2}`:        map[string]any{"": json.Number("1"), "~/%": json.Number("2")},
	} {
		got, err := eventbus.ParseForTest([]byte(text))
		require.NoError(t, err, text)
		if text != nested(64) {
			require.Equal(t, want, got, text)
		}
	}
}

// nested is an array in an array, n deep.
func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// members are so many of an object.
func members(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"%d":0`, i)
	}
	return all
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, reason string }{
		{"nothing", ``, "ends too early"},
		{"space", " \n", "ends too early"},
		{"not JSON", `hello`, "malformed JSON"},
		{"cut", `{"a":`, "ends too early"},
		{"cut in a string", `{"a":"b`, "ends too early"},
		{"trailing comma", `{"a":1,}`, "malformed JSON"},
		{"comment", `{} // x`, "more than one value"},
		{"trailing data", `{}{}`, "more than one value"},
		{"trailing bracket", `{}]`, "more than one value"},
		{"NUL behind", "{}\x00", "more than one value"},
		{"byte order mark", "\xef\xbb\xbf{}", "malformed JSON"},
		{"UTF-16", "{\x00}\x00", "malformed JSON"},
		{"single quotes", `{'a':1}`, "malformed JSON"},
		{"NaN", `{"a":NaN}`, "malformed JSON"},
		{"plus", `+1`, "malformed JSON"},
		{"leading zero", `{"a":01}`, "malformed JSON"},
		{"raw newline", "\"a\nb\"", "malformed JSON"},
		{"duplicate name", `{"a":1,"a":2}`, "a name appears twice"},
		{"duplicate name, escaped", `{"a":1,"\u0061":2}`, "a name appears twice"},
		{"duplicate name, deep", `{"x":[{"a":1,"a":1}]}`, "a name appears twice"},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "invalid UTF-8"},
		{"invalid UTF-8 in a name", "{\"\xc3\x28\":1}", "invalid UTF-8"},
		{"overlong UTF-8", "\"\xc0\x80\"", "invalid UTF-8"},
		{"raw surrogate", "\"\xed\xa0\x80\"", "invalid UTF-8"},
		{"lone high surrogate", `"\ud800"`, "surrogate"},
		{"lone low surrogate", `"\udc00x"`, "surrogate"},
		{"two high surrogates", `"\ud800\ud800"`, "surrogate"},
		{"exponent", `{"amount":1e10000000}`, "exponent"},
		{"negative exponent", `{"amount":1E-401}`, "exponent"},
		{"endless exponent", `1e` + strings.Repeat("9", 60), "exponent"},
		{"long number", strings.Repeat("9", 65), "64 characters"},
		{"endless number", strings.Repeat("9", 1<<20), "64 characters"},
		{"long fraction", `{"a":[0.` + strings.Repeat("1", 63) + `]}`, "64 characters"},
		{"65537 values", `[` + strings.Repeat("0,", 1<<16-1) + `0]`, "more than 65536 values"},
		{"65537 members", `[{` + strings.Join(members(1<<16-1), ",") + `}]`, "more than 65536 values"},
		{"depth 65", nested(66), "nested deeper than 64"},
		{"depth 9000", nested(9000), "nested deeper than 64"},
		{"depth 9000, objects", strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), "nested deeper than 64"},
		{"depth 1000000, open", strings.Repeat("[", 1_000_000), "nested deeper than 64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := eventbus.ParseForTest([]byte(tt.text))
			var decodeError *eventbus.DecodeError
			require.ErrorAs(t, err, &decodeError)
			require.Contains(t, decodeError.Reason, tt.reason)
			require.Less(t, len(err.Error()), 120)
		})
	}
}

const (
	testEventID  = "0190a7c5-1111-7abc-8def-0123456789ab"
	testEnvelope = `{"eventId":"` + testEventID + `","timestamp":"2026-01-07T10:00:00.000Z","payload":%s}`
)

// inEnvelope is a record value with the least that an envelope needs.
func inEnvelope(payload string) []byte { return fmt.Appendf(nil, testEnvelope, payload) }

// noteTopic has no schema.
func noteTopic[T any]() *eventbus.Topic[T] { return eventbus.NewTopic[T]("acme.notes", nil) }

func TestDecodeFillsInWhatOlderWritersLeaveOut(t *testing.T) {
	for _, value := range []string{
		string(inEnvelope(`{}`)),
		`{"eventId":"` + testEventID + `","timestamp":"2026-01-07T11:00:00+01:00","payload":{},` +
			`"eventType":null,"version":"","source":null,"correlationId":"","x":[]}`,
	} {
		e, err := noteTopic[map[string]any]().Decode([]byte(value))
		require.NoError(t, err)
		require.Equal(t, testEventID, e.EventID)
		require.Equal(t, testEventID, e.CorrelationID)
		require.Equal(t, "acme.notes", e.EventType)
		require.Equal(t, "1.0", e.Version)
		require.Equal(t, "unknown", e.Source)
		require.True(t, e.Timestamp.Equal(time.Date(2026, 1, 7, 10, 0, 0, 0, time.UTC)))
	}
}

func TestDecodeRefuses(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(string(inEnvelope(`{"a":1}`)), old, new, 1) }
	for _, tt := range []struct{ name, value, text string }{
		{"an array", `[]`, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"ping", `ping`, "malformed JSON"},
		{"nothing in it", `{}`, "eventId: is required; payload: is required; timestamp: is required"},
		{"no uuid", change(testEventID, "42"), `eventId: format "uuid"`},
		{"a number as id", change(`"`+testEventID+`"`, "42"), `eventId: type "string"`},
		{"no time", change("2026-01-07T10:00:00.000Z", "today"), `timestamp: format "date-time"`},
		{"no payload", change(`{"a":1}`, "null"), `payload: type "object"`},
		{"payload of another shape", change(`{"a":1}`, "[]"), `payload: type "object"`},
		{"another type", change(`"payload"`, `"eventType":"acme.other","payload"`), "eventType: must be acme.notes"},
		{"a number as type", change(`"payload"`, `"eventType":7,"payload"`), `eventType: type "string"`},
		{"a version", change(`"payload"`, `"version":"one","payload"`), "version: pattern"},
		{"a source", change(`"payload"`, `"source":[],"payload"`), `source: type "string"`},
		{"a correlation", change(`"payload"`, `"correlationId":1,"payload"`), `correlationId: type "string"`},
		{"names in another case", strings.ReplaceAll(change("", ""), "eventId", "EventID"), "eventId: is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := noteTopic[map[string]any]().Decode([]byte(tt.value))
			require.ErrorContains(t, err, tt.text)
		})
	}
	_, err := noteTopic[map[string]any]().Decode(nil)
	require.ErrorContains(t, err, "no value")
}

func TestDecodeIntoTypesThatDoNotFit(t *testing.T) {
	type number struct {
		N    int         `json:"n"`
		Text json.Number `json:"text"`
	}
	for _, payload := range []string{
		`{"n":"canary"}`, `{"n":1.5}`, `{"n":99999999999999999999}`, `{"n":{"canary":1}}`, `{"text":"canary"}`, `{"text":[]}`,
	} {
		_, err := noteTopic[number]().Decode(inEnvelope(payload))
		var decodeError *eventbus.DecodeError
		require.ErrorAs(t, err, &decodeError, payload)
		require.Contains(t, err.Error(), "payload: ")
		require.NotContains(t, err.Error(), "canary")
		require.NotContains(t, err.Error(), "99999")
	}
	for _, payload := range []string{`{"n":1,"text":1.50}`, `{"N":"other case"}`, `{"text":null}`} {
		_, err := noteTopic[number]().Decode(inEnvelope(payload))
		require.NoError(t, err, payload)
	}
}

func TestNumbersAreExact(t *testing.T) {
	type exact struct {
		Big    int64          `json:"big"`
		Huge   uint64         `json:"huge"`
		Number json.Number    `json:"number"`
		Any    any            `json:"any"`
		List   []any          `json:"list"`
		Open   map[string]any `json:"open"`
	}
	const payload = `{"big":9007199254740993,"huge":18446744073709551615,"number":1.10,"any":9007199254740993.10,` +
		`"list":[0.10,1E5],"open":{"a":{"b":-9007199254740993}}}`
	topic := noteTopic[exact]()
	e, err := topic.Decode(inEnvelope(payload))
	require.NoError(t, err)
	require.Equal(t, int64(9007199254740993), e.Payload.Big)
	require.Equal(t, uint64(math.MaxUint64), e.Payload.Huge)
	require.Equal(t, json.Number("9007199254740993.10"), e.Payload.Any)
	_, value, err := eventbus.EncodeForTest(e)
	require.NoError(t, err)
	require.Contains(t, string(value), `"payload":`+payload)
}

func TestEncodeRefuses(t *testing.T) {
	for name, payload := range map[string]any{
		"invalid UTF-8":      map[string]any{"a": "canary\xff"},
		"name not UTF-8":     map[string]any{"canary\xff": 1},
		"NaN":                map[string]any{"canary": math.NaN()},
		"a channel":          map[string]any{"canary": make(chan int)},
		"a func":             struct{ F func() }{func() {}},
		"not an object":      "canary",
		"a list":             []string{"canary"},
		"nil":                nil,
		"a number's text":    map[string]any{"a": json.Number(`{"canary":1}`)},
		"a long number":      map[string]any{"a": json.Number(strings.Repeat("7", 65))},
		"names that collide": struct{ A, B json.RawMessage }{json.RawMessage(`{"canary":1,"canary":2}`), nil},
		"too deep":           json.RawMessage(`{"a":` + nested(70) + `}`),
		"a failing method":   failing{},
		"a float's exponent": json.RawMessage(`{"a":1e999}`),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := eventbus.EncodeForTest(noteTopic[any]().New(payload))
			require.Error(t, err)
			require.NotContains(t, err.Error(), "canary")
			require.NotContains(t, err.Error(), "777")
			require.Contains(t, err.Error(), "acme.notes")
		})
	}
}

type failing struct{}

func (failing) MarshalJSON() ([]byte, error) { return nil, errors.New("canary") }

func TestEncodeWritesWhatJavaScriptReads(t *testing.T) {
	topic := noteTopic[map[string]any]()
	e := topic.New(map[string]any{"html": "<b>&\u2028", "zero": json.Number("")})
	e.EventID, e.Timestamp, e.Source = testEventID, time.Date(2026, 1, 7, 11, 0, 0, 999, time.FixedZone("CET", 3600)), "note-service"
	_, value, err := eventbus.EncodeForTest(e)
	require.NoError(t, err)
	require.Equal(t, `{"eventId":"`+testEventID+`","eventType":"acme.notes","timestamp":"2026-01-07T10:00:00.000Z","version":"1.0",`+
		`"source":"note-service","payload":{"html":"<b>&`+"\u2028"+`","zero":0},"correlationId":"`+testEventID+`"}`, string(value))

	for name, breakIt := range map[string]func(*eventbus.BaseEvent[map[string]any]){
		"eventId":   func(e *eventbus.BaseEvent[map[string]any]) { e.EventID = "42" },
		"eventType": func(e *eventbus.BaseEvent[map[string]any]) { e.EventType = "acme.other" },
		"version":   func(e *eventbus.BaseEvent[map[string]any]) { e.Version = "one" },
		"timestamp": func(e *eventbus.BaseEvent[map[string]any]) {
			e.Timestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		},
	} {
		broken := topic.New(nil)
		breakIt(broken)
		_, _, err := eventbus.EncodeForTest(broken)
		require.ErrorContains(t, err, "topic acme.notes: invalid event: "+name)
	}
	_, _, err = eventbus.EncodeForTest(new(eventbus.BaseEvent[map[string]any]))
	require.ErrorContains(t, err, "make it with Topic.New")
}

// FuzzParse holds the strict parser against the standard library's: what that refuses is refused, what is accepted means the same, and no error
// shows more than a place.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"amount":1e10000000}`, `{"a":` + strings.Repeat("9", 1000) + `}`, nested(9000), strings.Repeat(`{"a":`, 9000), `{"a":1,"a":2}`,
		`{"a":1,"\u0061":2}`, "{\"\xff\":1}", `"\ud800"`, `"\ud83d\ude00"`, `{}{}`, `[1,2,{"x":[null,true,false,-0.0e-0]}] `, "\xef\xbb\xbf{}", "{\x00}\x00",
		"\"\u2028\x7f\"", `{"":{"":{"":[[]]}}}`, `1E+400`, `-`, `{"a":tru`, "\"\xed\xa0\x80\"", `[` + strings.Repeat(`{},`, 100) + `{}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var (
			got any
			err error
		)
		allocs := testing.AllocsPerRun(1, func() { got, err = eventbus.ParseForTest(data) })
		require.LessOrEqual(t, allocs, float64(100+4*len(data)), "bounded by the length")
		if err != nil {
			var decodeError *eventbus.DecodeError
			require.ErrorAs(t, err, &decodeError)
			require.Regexp(t, `^[ -~±]{1,100}$`, decodeError.Reason)
			return
		}
		require.True(t, utf8.Valid(data))
		var want any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		require.NoError(t, d.Decode(&want))
		require.Equal(t, want, got)
		require.True(t, json.Valid(data), "nothing behind it")
	})
}

// A hostile value of a megabyte takes memory in proportion to what it is, and no more.
func TestHostileJSONTakesMemoryByItsLength(t *testing.T) {
	const size = 1 << 20
	fill := func(head, again, tail string) []byte {
		return []byte(head + strings.Repeat(again, (size-len(head)-len(tail))/len(again)) + tail)
	}
	unique := []byte{'{'}
	for i := 0; len(unique) < size-16; i++ {
		unique = fmt.Appendf(unique, `"%x":0,`, i)
	}
	for name, c := range map[string]struct {
		data  []byte
		times int // of its length, as measured and twice that
	}{
		"a number":              {fill("", "9", ""), 8},
		"an exponent":           {fill("1e", "9", ""), 8},
		"deep":                  {fill("", "[", ""), 8},
		"deep objects":          {fill("", `{"a":`, ""), 8},
		"one string":            {fill(`"`, "x", `"`), 8},
		"one escaped string":    {fill(`"`, `\u00e9`, `"`), 8},
		"duplicate names":       {fill(`{`, `"a":1,`, `"a":1}`), 8},
		"many empty objects":    {fill(`[`, `{},`, `{}]`), 16},
		"many empty arrays":     {fill(`[`, `[],`, `[]]`), 16},
		"many small numbers":    {fill(`[`, `0,`, `0]`), 16},
		"many names":            {append(unique, `"":0}`...), 32},
		"invalid in the middle": {fill(`["`, "x", "\xff\"]"), 8},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := eventbus.ParseForTest(c.data)
		runtime.ReadMemStats(&after)
		t.Logf("%-22s %6.1f times its length, %v", name, float64(after.TotalAlloc-before.TotalAlloc)/float64(len(c.data)), err)
		require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(c.times*len(c.data)), name)
	}
}

// FuzzDecodeEvent has no value crash a topic of the catalogue, and what one accepts stay the same through encoding and decoding. A
// text is tried as the payload of an envelope, or as the whole value.
func FuzzDecodeEvent(f *testing.F) {
	all := catalogue()
	for i, c := range all {
		payload, with := onTheWire(f, c)
		f.Add(uint8(i), []byte(asText(f, payload)), false)
		if i%9 == 0 {
			f.Add(uint8(i), with(payload), true)
		}
	}
	for _, seed := range []string{
		`ping`, `{"amount":1e10000000}`, nested(100), nested(9000), `{"userId":"u","userId":"v"}`, `{"userId":"u"} {}`, `{"userId":{"userId":[]}}`,
		`{"userId":"\u0000\u001b[2J"}`, `{"userId":"u","USERID":"v"}`, `{"eventId":"` + testEventID + `","payload":{"userId":"u"},"timestamp":"2026-12-31T23:59:60Z"}`, "{\"\xff\":1}", `{"userId":"\ud800"}`, `{"userId":"u","changes":{"a":1E+9,"~":-0,"":{}}}`,
	} {
		f.Add(uint8(7), []byte(seed), false)
		f.Add(uint8(7), []byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, which uint8, value []byte, whole bool) {
		c := all[int(which)%len(all)]
		if !whole {
			value = inEnvelope(string(value))
		}
		e, payload, err := c.decode(value)
		if err != nil {
			require.Regexp(t, `^[ -~±\n]+$`, err.Error())
			return
		}
		_, first, err := eventbus.EncodeForTest(e)
		if err != nil && (bytes.Contains(value, []byte("0000-")) || bytes.Contains(value, []byte("9999-"))) {
			return // a time zone may move it beyond the years that RFC 3339 can write
		}
		require.NoError(t, err)
		again, same, err := c.decode(first)
		require.NoError(t, err)
		_, second, err := eventbus.EncodeForTest(again)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		require.Equal(t, fmt.Sprint(e), fmt.Sprint(again))
		require.Equal(t, asText(t, payload), asText(t, same))
	})
}

func asText(t testing.TB, payload any) string {
	t.Helper()
	text, err := json.Marshal(payload)
	require.NoError(t, err)
	return string(text)
}

func TestEveryRFC3339TimeIsRead(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-07T10:00:00.000Z":         "2026-01-07T10:00:00.000Z",
		"2026-01-07t10:00:00z":             "2026-01-07T10:00:00.000Z",
		"2026-01-07T10:00:00.123456+02:00": "2026-01-07T08:00:00.123Z",
		"1998-12-31T23:59:60Z":             "1999-01-01T00:00:00.000Z",
	} {
		e, err := eventbus.UserDeleted.Decode([]byte(`{"eventId":"123e4567-e89b-12d3-a456-426614174000","timestamp":"` + text +
			`","payload":{"userId":"u","deletedAt":"` + text + `"}}`))
		require.NoError(t, err, text)
		for _, at := range []time.Time{e.Timestamp, e.Payload.DeletedAt} {
			require.Equal(t, want, at.UTC().Format("2006-01-02T15:04:05.000Z"), text)
		}
	}
}

func TestNoVerbPrintsAPayload(t *testing.T) {
	e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "canary@example.com"})
	raw := eventbus.RawEvent{EventID: "id", Payload: []byte("canary")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.NotContains(t, fmt.Sprintf(verb+verb+verb+verb, e, *e, raw, &raw), "canary", verb)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "e", e, "f", *e, "g", raw)
	require.NotContains(t, log.String(), "canary")
	require.Contains(t, log.String(), e.EventID)
}

func TestNewJSONMakesAnEventOfText(t *testing.T) {
	e, err := eventbus.UserCreated.NewJSON([]byte(`{"userId":"u-1","email":"ada@example.com"}`))
	require.NoError(t, err)
	created, ok := e.(*eventbus.BaseEvent[eventbus.UserCreatedPayload])
	require.True(t, ok)
	require.Equal(t, "u-1", created.Payload.UserID)
	require.Equal(t, "user.created", created.EventType)
	require.NotEmpty(t, created.EventID)
	for text, want := range map[string]string{
		`{"userId":"u-1","user_name":"ada"}`: "has a field that its type does not have",
		`{"userId":1}`:                       "a JSON number does not fit into Go's string",
		`{"userId":"u-1","userId":"u-2"}`:    "undecodable",
		`{`:                                  "undecodable",
	} {
		_, err := eventbus.UserCreated.NewJSON([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err = eventbus.NewTopic[json.RawMessage]("any", nil).NewJSON([]byte(`{"n":1.50}`))
	require.NoError(t, err)
}
