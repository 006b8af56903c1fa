package onepass_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// outer is a checker of an envelope that captures its id and its payload, with another one for the payload.
func outer(t testing.TB, schema, payload string) *onepass.Checker {
	return onepass.Compile(compile(t, schema), "id", "payload").Within("payload", onepass.Compile(compile(t, payload)))
}

func TestWithinHoldsBoth(t *testing.T) {
	for _, row := range []struct {
		why, envelope, payload, text string
		want                         bool
	}{
		{"both allow it", `{"type":"object"}`, `{"type":"object"}`, `{}`, true},
		{"types intersect", `{"type":["object","null"]}`, `{"type":["object","string"]}`, `{}`, true},
		{"the first one's type alone", `{"type":["object","null"]}`, `{"type":["object","string"]}`, `null`, false},
		{"the second one's type alone", `{"type":["object","null"]}`, `{"type":["object","string"]}`, `"a"`, false},
		{"neither's type", `{"type":["object","null"]}`, `{"type":["object","string"]}`, `[]`, false},
		{"no type in common", `{"type":"object"}`, `{"type":"string"}`, `{}`, false},
		{"no type in common", `{"type":"object"}`, `{"type":"string"}`, `"a"`, false},
		{"the first one's type, where the second has none", `{"type":"object"}`, `{"minLength":1}`, `"a"`, false},
		{"the second one's keywords", `{"type":"object"}`, `{"required":["a"]}`, `{}`, false},
		{"the first one's keywords", `{"type":"object","required":["a"]}`, `{"type":"object"}`, `{}`, false},
		{"keywords of both", `{"required":["a"]}`, `{"required":["b"]}`, `{"a":1,"b":2}`, true},
		{"keywords of both", `{"required":["a"]}`, `{"required":["b"]}`, `{"b":2}`, false},
		{"others of both", `{"properties":{"a":{}},"additionalProperties":false}`, `{"properties":{"b":{}}}`, `{"b":1}`, false},
		{"the first one names no type", `{}`, `{"type":"object"}`, `{}`, true},
		{"the first one names no type", `{}`, `{"type":"object"}`, `1`, false},
		{"neither names one", `{}`, `{"minLength":1}`, `1`, true},
		{"a number of an integer", `{"type":"number"}`, `{"type":"integer"}`, `1`, true},
		{"a number of an integer", `{"type":"number"}`, `{"type":"integer"}`, `1.5`, false},
		{"an integer of a number", `{"type":"integer"}`, `{"type":"number","minimum":1}`, `1.5`, false},
		{"an integer of a number", `{"type":"integer"}`, `{"type":"number","minimum":1}`, `2`, true},
		{"an integer of a number or a string", `{"type":["integer","null"]}`, `{"type":["number","null"]}`, `1.5`, false},
		{"enums of both", `{"enum":["a","b"]}`, `{"enum":["b","c"]}`, `"b"`, true},
		{"enums of both", `{"enum":["a","b"]}`, `{"enum":["b","c"]}`, `"c"`, false},
		{"the first is not understood", `{"type":"object","minProperties":0,"not":{}}`, `{"type":"object"}`, `{}`, false},
		{"the second is not understood", `{"type":"object"}`, `{"not":{}}`, `{}`, false},
		{"the first is true", `true`, `{}`, `[]`, true},
		{"the first is false", `false`, `{}`, `{}`, false},
		{"the second is false", `{}`, `false`, `{}`, false},
		{"a name twice", `{"type":"object"}`, `{}`, `{"x":1,"x":1}`, false},
	} {
		c := outer(t, `{"properties":{"id":{},"payload":`+row.envelope+`}}`, row.payload)
		text := `{"id":1,"payload":` + row.text + `}`
		require.Equal(t, row.want, c.Valid([]byte(text)), "%s: %s and %s: %s", row.why, row.envelope, row.payload, row.text)
	}
}

func TestWithinIsOfTheRootOnly(t *testing.T) {
	c := outer(t, `{"properties":{"id":{"type":"integer"},"payload":{},"inner":{"$ref":"#"}}}`, `{"type":"object"}`)
	require.True(t, c.Valid([]byte(`{"payload":{},"inner":{"payload":1}}`)))
	require.False(t, c.Valid([]byte(`{"payload":1,"inner":{"payload":{}}}`)))
	require.True(t, c.Valid([]byte(`{"inner":{}}`)), "it is not required")
}

func TestWithinLeavesTheFirstAsItWas(t *testing.T) {
	first := onepass.Compile(compile(t, `{"properties":{"payload":{}}}`), "payload")
	first.Within("payload", onepass.Compile(compile(t, `false`)))
	require.True(t, first.Valid([]byte(`{"payload":1}`)))
}

func TestWithinOfAnUnknownName(t *testing.T) {
	first := onepass.Compile(compile(t, `{"additionalProperties":{}}`))
	c := first.Within("payload", onepass.Compile(compile(t, `{}`)))
	require.True(t, c.Opaque())
	require.False(t, c.Valid([]byte(`{}`)))
	require.False(t, first.Opaque())
}

func TestCapturesOfAnUnknownName(t *testing.T) {
	for _, source := range []string{`{}`, `true`, `{"properties":{"a":{}}}`, `{"additionalProperties":{}}`, `{"allOf":[{"properties":{"id":{}}}]}`} {
		require.True(t, onepass.Compile(compile(t, source), "id").Opaque(), source)
	}
	require.False(t, onepass.Compile(compile(t, `{"required":["id"]}`), "id").Opaque(), "required is enough")
}

func TestCaptured(t *testing.T) {
	const recursive = `{"properties":{"id":{},"payload":{},"inner":{"$ref":"#"}},"additionalProperties":{"properties":{"id":{}}}}`
	for _, row := range []struct {
		why, text   string
		id, payload string
		plain       bool // of the id
	}{
		{"in their order", `{"id":"a","payload":{"b":1}}`, `a`, `{"b":1}`, true},
		{"in another", `{"payload":[1,2],"id":"a"}`, `a`, `[1,2]`, true},
		{"with space around", " { \"id\" :\t\"a\" ,\n\"payload\" : { } \r} ", `a`, `{ }`, true},
		{"none", `{"x":1}`, ``, ``, false},
		{"one", `{"payload":null}`, ``, `null`, false},
		{"of no object", `["id"]`, ``, ``, false},
		{"a number", `{"id":-1.50,"payload":""}`, `-1.50`, ``, false},
		{"an empty string", `{"id":""}`, ``, ``, true},
		{"escapes", `{"id":"\u0061"}`, `"\u0061"`, ``, false},
		{"quotes", `{"id":"\"","payload":1}`, `"\""`, `1`, false},
		{"of more bytes", `{"id":"ä𝄞"}`, `ä𝄞`, ``, true},
		{"nested ones of the same name", `{"payload":{"id":"b","payload":{"id":"c"}},"id":"a"}`, `a`, `{"id":"b","payload":{"id":"c"}}`, true},
		{"nested ones after", `{"id":"a","other":{"id":"b"},"inner":{"id":"c","payload":2}}`, `a`, ``, true},
		{"only nested ones", `{"inner":{"id":"c","payload":2,"inner":{"id":"d"}},"other":{"id":"b"}}`, ``, ``, false},
	} {
		spans := []onepass.Span{{Start: 7, End: 9, Plain: true}, {Start: 7, End: 9}}
		require.True(t, outer(t, recursive, `{}`).Scan([]byte(row.text), spans), row.why)
		require.Equal(t, row.id, row.text[spans[0].Start:spans[0].End], row.why)
		require.Equal(t, row.payload, row.text[spans[1].Start:spans[1].End], row.why)
		require.Equal(t, row.plain, spans[0].Plain, row.why)
		require.True(t, outer(t, recursive, `{}`).Valid([]byte(row.text)), "%s: the same without captures", row.why)
	}
}

func TestCapturedTwice(t *testing.T) {
	spans := make([]onepass.Span, 2)
	for _, text := range []string{
		`{"id":1,"id":1}`, `{"id":1,"payload":{},"id":2}`, `{"id":1,"\u0069d":2}`, `{"\u0069d":1}`, `{"payload":{},"payload":{}}`,
		`{"id":1,"payload":{"x":1,"x":2}}`,
	} {
		require.False(t, outer(t, `{"properties":{"id":{},"payload":{}}}`, `{}`).Scan([]byte(text), spans), text)
	}
}

// TestWithinAgrees compares a merged checker with both of its schemas, by random ones: the first names types, or has more.
func TestWithinAgrees(t *testing.T) {
	decided := 0
	for seed := range uint64(80) {
		second, err := newPair(seed)
		if err != nil {
			continue
		}
		r := &random{Rand: rand.New(rand.NewPCG(seed, 1))}
		payload := schema{"type": some(r, typeNames, 6)}
		if r.chance(30) {
			payload = r.object(3)
		}
		first := compile(t, schemaText(schema{"properties": schema{"payload": payload}, "$defs": schema{"d0": true, "d1": true, "d2": true}}))
		inner := onepass.Compile(second.schema)
		c := onepass.Compile(first).Within("payload", inner)
		for _, text := range second.texts {
			whole := []byte(`{"payload":` + string(text) + `}`)
			got := c.Valid(whole)
			require.False(t, got && !(valid(first, whole) && valid(second.schema, text)), "seed %d: %s and %s: %q", seed, schemaText(payload), second.source, text)
			if got {
				decided++
			}
		}
	}
	require.Greater(t, decided, 300)
}
