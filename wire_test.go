package eventbus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

func TestEveryExampleIsCertainlyValid(t *testing.T) {
	for _, c := range catalogue() {
		payload, with := onTheWire(t, c)
		_, value, err := eventbus.EncodeForTest(c.example())
		require.NoError(t, err)
		require.True(t, eventbus.Certain(c.topic, value), c.event)
		for _, name := range c.optional {
			delete(payload, name)
		}
		require.True(t, eventbus.Certain(c.topic, with(payload)), "%s without what is optional", c.event)
	}
	_, value, err := eventbus.EncodeForTest(noteTopic[map[string]any]().New(map[string]any{"a": "b"}))
	require.NoError(t, err)
	require.True(t, eventbus.Certain(noteTopic[map[string]any](), value), "a topic without a schema")
}

func TestWhatIsCertainIsReadAlike(t *testing.T) {
	topic := eventbus.NewTopic[map[string]any]("acme.notes", &eventbus.TopicOptions[map[string]any]{Version: "3.1"})
	id, other := `"eventId":"`+testEventID+`"`, "019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d"
	rest := `,"eventType":"acme.notes","timestamp":"2026-01-07T10:00:00.000Z","version":"1.0","source":"s","payload":{"a":[1,2]}`
	for name, value := range map[string]string{
		"as it is written":     `{` + id + rest + `,"correlationId":"` + testEventID + `"}`,
		"another correlation":  `{` + id + rest + `,"correlationId":"` + other + `"}`,
		"none":                 `{` + id + rest + `}`,
		"another version":      `{` + id + strings.Replace(rest, "1.0", "2.10", 1) + `}`,
		"another order":        `{"payload":{"a":[1,2]},"source":"s","version":"1.0","timestamp":"2026-01-07T10:00:00Z","eventType":"acme.notes",` + id + `}`,
		"an offset":            `{` + id + strings.Replace(rest, "10:00:00.000Z", "11:00:00.5+01:00", 1) + `}`,
		"space":                " {" + id + strings.ReplaceAll(rest, ":{", " :\n\t{") + " } ",
		"more members":         `{"x":{"payload":1},` + id + rest + `,"y":[{"eventId":2}]}`,
		"no type":              `{` + id + strings.Replace(rest, `"eventType":"acme.notes",`, ``, 1) + `}`,
		"no version":           `{` + id + strings.Replace(rest, `"version":"1.0",`, ``, 1) + `}`,
		"no source":            `{` + id + strings.Replace(rest, `"source":"s",`, ``, 1) + `}`,
		"only what must be":    `{` + id + `,"timestamp":"2026-01-07T10:00:00.000Z","payload":{}}`,
		"members of a payload": `{` + id + strings.Replace(rest, `"a":[1,2]`, `"eventId":"x","payload":{"source":1}`, 1) + `}`,
	} {
		quick, slow, err := eventbus.DecodeBothForTest(topic, []byte(value))
		require.NoError(t, err, name)
		require.NotNil(t, quick, name)
		require.Equal(t, slow, quick, name)
	}
	for name, value := range map[string]string{
		"an escape in its source": `{` + id + strings.Replace(rest, `"s"`, `"\u0073"`, 1) + `}`,
		"an empty source":         `{` + id + strings.Replace(rest, `"s"`, `""`, 1) + `}`,
		"another type":            `{` + id + strings.Replace(rest, `acme.notes`, `acme.other`, 1) + `}`,
		"a leap second":           `{` + id + strings.Replace(rest, `10:00:00.000Z`, `23:59:60Z`, 1) + `}`,
		"a member twice":          `{` + id + rest + `,"source":"s"}`,
		"something twice":         `{` + id + rest + `,"x":1,"x":1}`,
		"an empty version":        `{` + id + strings.Replace(rest, `"1.0"`, `""`, 1) + `}`,
		"no source but null":      `{` + id + strings.Replace(rest, `"s"`, `null`, 1) + `}`,
		"no payload":              `{` + id + `,"timestamp":"2026-01-07T10:00:00.000Z"}`,
	} {
		require.False(t, eventbus.Certain(topic, []byte(value)), name)
	}
}

// What a reader fills in is not to be left out by a writer: others check the envelope by its schema.
func TestNothingOfTheEnvelopeIsLeftOut(t *testing.T) {
	topic := eventbus.NewTopic[map[string]any]("acme.notes", nil)
	for name, empty := range map[string]func(*eventbus.BaseEvent[map[string]any]){
		"eventId":   func(e *eventbus.BaseEvent[map[string]any]) { e.EventID = "" },
		"eventType": func(e *eventbus.BaseEvent[map[string]any]) { e.EventType = "" },
		"version":   func(e *eventbus.BaseEvent[map[string]any]) { e.Version = "" },
	} {
		e := topic.New(map[string]any{"a": 1})
		_, _, err := eventbus.EncodeForTest(e)
		require.NoError(t, err)
		empty(e)
		_, _, err = eventbus.EncodeForTest(e)
		require.ErrorContains(t, err, name)
	}
}

// FuzzCertain has no value be certain that the slow way refuses, or reads as another event.
func FuzzCertain(f *testing.F) {
	for _, c := range catalogue() {
		_, value, err := eventbus.EncodeForTest(c.example())
		require.NoError(f, err)
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, topic := range []eventbus.AnyTopic{eventbus.VoyageBookingCreated, eventbus.UserUpdated, eventbus.AuthLogin, noteTopic[map[string]any]()} {
			quick, slow, err := eventbus.DecodeBothForTest(topic, value)
			require.NoError(t, err)
			require.Equal(t, slow, quick)
		}
	})
}

func TestTimesOnTheWire(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		at := time.Unix(random.Int64N(315_000_000_000)-62_135_596_800, random.Int64N(1e9)).In(time.FixedZone("", random.IntN(86_000)-43_000))
		text, back, err := eventbus.TimesForTest(at)
		require.NoError(t, err, at)
		require.Equal(t, at.UTC().Format("2006-01-02T15:04:05.000Z"), string(text))
		require.Equal(t, at.UTC().Truncate(time.Millisecond), back)
	}
}

func TestStringsOfTheEnvelopeAreEscaped(t *testing.T) {
	e := noteTopic[map[string]any]().New(nil)
	e.Source, e.CorrelationID = "a\"b\\c\n\x00\u2028<é>😀", "\t"
	_, value, err := eventbus.EncodeForTest(e)
	require.NoError(t, err)
	var got struct{ Source, CorrelationID string }
	require.NoError(t, json.Unmarshal(value, &got))
	require.Equal(t, []string{e.Source, e.CorrelationID}, []string{got.Source, got.CorrelationID})
	e.Source = "\xff"
	_, _, err = eventbus.EncodeForTest(e)
	require.ErrorContains(t, err, "event: cannot be written as JSON: valid UTF-8")
}

// wrapped has types that only a codec with all of its options reads and writes, behind all that a type may be made of.
type wrapped struct {
	M map[string][]*[1]struct {
		Secret eventbus.Secret
		Any    any
		Number json.Number
		At     time.Time
	}
}

func TestTypesWithinTypesAreWrittenAsTheyAre(t *testing.T) {
	topic := eventbus.NewTopic[wrapped]("acme.wrapped", nil)
	text := `{"M":{"k":[[{"Secret":"s","Any":1.10,"Number":2.20,"At":"2026-12-31T23:59:60Z"}]]}}`
	value := bytes.Replace([]byte(inEnvelope(text)), []byte("acme.notes"), []byte("acme.wrapped"), 1)
	e, err := topic.Decode(value)
	require.NoError(t, err)
	in := e.Payload.M["k"][0][0]
	require.Equal(t, []any{eventbus.Secret("s"), any(json.Number("1.10")), json.Number("2.20")}, []any{in.Secret, in.Any, in.Number})
	_, value, err = eventbus.EncodeForTest(e)
	require.NoError(t, err)
	require.Contains(t, string(value), strings.Replace(text, "2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z", 1))
}

// What publishing an event takes before it is handed over is the memory that its key and value share.
func TestEncodeAllocates(t *testing.T) {
	if underRace {
		t.Skip("the race detector has pools drop what they are given")
	}
	e := booking()
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		if _, _, err := eventbus.EncodeForTest(e); err != nil {
			t.Fatal(err)
		}
	}), 1.0)
}

// What a consumer allocates of its own for an event: its task, its bytes, which must not keep their batch, and its key as the name of a lane.
func TestTakingAnEventAllocates(t *testing.T) {
	key, value, err := eventbus.EncodeForTest(booking())
	require.NoError(t, err)
	r, admit := &kgo.Record{Key: key, Value: value}, eventbus.AdmitForTest()
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { admit(r) }), 3.0)
}

// An outbox may add to the key and the value that it was given.
func TestAnEncodedRecordIsTheCallers(t *testing.T) {
	key, value, err := eventbus.EncodeForTest(booking())
	require.NoError(t, err)
	before := string(key)
	_ = append(value, "more"...)
	require.Equal(t, before, string(key))
}

func TestUndecidedChecksAreCounted(t *testing.T) {
	for schema, undecided := range map[string]int64{
		`{"properties":{"number":{"type":"integer"}}}`:             0,
		`{"anyOf":[{"required":["id"]},{"required":["number"]}]}`:  1, // which the one pass does not know
		`{"properties":{"id":{"not":{"const":"none"}}}}`:           1,
		`{"properties":{"id":{"type":"string","maxLength":1000}}}`: 0,
	} {
		inWorld(t, func(w *world) {
			w.orders = eventbus.NewTopic(orders, &eventbus.TopicOptions[order]{Schema: []byte(schema)})
			bus := w.bus(nil)
			for i := range 3 {
				require.NoError(w, bus.Publish(w.Context(), w.order("a", i)))
			}
			require.Equal(w, 3*undecided, bus.Metrics().Undecided, "published by %s", schema)
			w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
			w.until("all are handled", func() bool { return bus.Metrics().MessagesConsumed == 3 })
			require.Equal(w, 6*undecided, bus.Metrics().Undecided, "and handled by %s", schema)
		})
	}
}
