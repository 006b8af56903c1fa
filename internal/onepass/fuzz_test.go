package onepass_test

import (
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
	"github.com/dreamscape/eventbus/schemas"
)

// fuzzSchemas are those of FuzzValid, which picks one by its index.
var fuzzSchemas = []string{
	string(schemas.Envelope()),
	`{}`,
	`{"type":"object","properties":{"a":{"type":"integer","minimum":1,"maximum":10},"b":{"type":"string","maxLength":3},"ä":{"enum":["x","y",null]}},` +
		`"required":["a"],"additionalProperties":false,"dependentRequired":{"b":["ä"]}}`,
	`{"type":["array","null"],"prefixItems":[{"format":"email"},{"format":"date-time"},{"format":"uuid"}],"items":` +
		`{"type":"number","multipleOf":0.01,"exclusiveMinimum":-1.5},"maxItems":6}`,
	`{"type":"object","properties":{"id":{"type":"string","pattern":"^[a-z]+$"},"next":{"$ref":"#"}},"required":["id"],` +
		`"additionalProperties":{"type":"boolean"},"maxProperties":4}`,
	`{"allOf":[{"minProperties":1},{"required":["a"]}],"properties":{"a":{"$ref":"#/$defs/d"}},"$defs":{"d":{"type":["string","integer"],"minLength":2,"format":"date"}}}`,
	`{"type":"number","minimum":0.1,"maximum":99.99}`,
}

func FuzzValid(f *testing.F) {
	var compiled []*jsonschema.Schema
	var checkers []*onepass.Checker
	for i, source := range fuzzSchemas {
		s := compile(f, source)
		compiled, checkers = append(compiled, s), append(checkers, onepass.Compile(s))
		for _, text := range []string{
			event, `{"a":1,"b":"abc","ä":"x"}`, `["a@b.c","2026-01-07T10:00:00Z","019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d",19.90,-0.0]`,
			`{"id":"a","next":{"id":"b","x":true}}`, `{"a":"2026-01-07"}`, `{"\u0061":"\ud834\udd1e"}`, `0.1000000000000001`, ` {"a" : { } , "b" : [ ] } `,
		} {
			f.Add(uint8(i), []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, index uint8, text []byte) {
		i := int(index) % len(compiled)
		if checkers[i].Valid(text) {
			require.True(t, valid(compiled[i], text), "decided, but not valid: %s", fuzzSchemas[i])
		}
	})
}

func FuzzSchema(f *testing.F) {
	for seed := range uint64(20) {
		if p, err := newPair(seed); err == nil {
			f.Add([]byte(p.source), p.texts[0])
			f.Add([]byte(p.source), p.texts[1])
		}
	}
	for _, rows := range [][]hostileRow{hostileBounds, hostileKeywords, hostileReferences, hostileFormats} {
		for _, row := range rows {
			f.Add([]byte(row.schema), []byte(row.text))
		}
	}
	f.Fuzz(func(t *testing.T, source, text []byte) {
		if _, err := parse(source); err != nil {
			return // the bus refuses it
		}
		s, err := tryCompile(string(source), nil)
		if err == nil && onepass.Compile(s).Valid(text) {
			require.True(t, valid(s, text), "decided, but not valid")
		}
	})
}

func FuzzQuick(f *testing.F) {
	for _, name := range formatNames {
		for _, text := range formats[name] {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, quick := range onepass.Quick {
			if utf8.ValidString(text) && quick([]byte(text)) {
				require.True(t, onepass.Pinned[name](text), name)
			}
		}
	})
}
