package eventbus_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// validate holds a JSON payload against a schema.
func validate(t *testing.T, schema, payload string) error {
	t.Helper()
	instance, err := eventbus.ParseForTest([]byte(payload))
	require.NoError(t, err, payload)
	return eventbus.ValidateForTest([]byte(schema), instance)
}

func TestCompileRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"nothing":            ``,
		"no JSON":            `{`,
		"no object":          `true`,
		"duplicate names":    `{"type":"object","type":"array"}`,
		"an unknown type":    `{"type":"objekt"}`,
		"a bad keyword":      `{"required":"userId"}`,
		"a pattern of Perl":  `{"pattern":"(?=x)"}`,
		"a broken pattern":   `{"patternProperties":{"(":{}}}`,
		"a bad reference":    `{"$ref":"#/$defs/nothing"}`,
		"a bad anchor":       `{"$ref":"#nothing"}`,
		"an endless loop":    `{"$ref":"#"}`,
		"draft 7":            `{"$schema":"http://json-schema.org/draft-07/schema#"}`,
		"a draft of its own": `{"$schema":"https://example.com/schema"}`,
		"no draft":           `{"$schema":null}`,
	} {
		require.Error(t, eventbus.CompileForTest([]byte(source)), name)
		require.Panics(t, func() {
			eventbus.NewTopic("acme.topic", &eventbus.TopicOptions[struct{}]{Schema: []byte(source)})
		}, name)
	}
}

func TestReferencesOutOfTheDocumentAreNeverLoaded(t *testing.T) {
	served := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served++
		fmt.Fprint(w, `{"const":"canary"}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "canary.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"const":"canary"}`), 0o600))

	for _, source := range []string{
		`{"$ref":"` + server.URL + `/a.json"}`,
		`{"$ref":"file://` + filepath.ToSlash(file) + `"}`,
		`{"$ref":"` + filepath.ToSlash(file) + `"}`,
		`{"$ref":"other.json"}`,
		`{"$ref":"eventbus:///other"}`,
		`{"$ref":"http://127.0.0.1:1/a.json"}`,
		`{"$dynamicRef":"` + server.URL + `/a.json"}`,
		`{"$schema":"` + server.URL + `/a.json"}`,
		`{"$schema":"file://` + filepath.ToSlash(file) + `"}`,
		`{"$id":"` + server.URL + `/root.json","properties":{"a":{"$ref":"a.json"}}}`,
		`{"$id":"file://` + filepath.ToSlash(filepath.Dir(file)) + `/root.json","$ref":"canary.json"}`,
		`{"properties":{"a":{"items":{"allOf":[{"$ref":"` + server.URL + `"}]}}}}`,
		`{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"file:///etc/passwd"}}}`,
	} {
		err := eventbus.CompileForTest([]byte(source))
		require.Error(t, err, source)
		require.NotContains(t, err.Error(), "canary\"", "nothing of a file shows")
	}
	require.Zero(t, served)
	require.NoError(t, eventbus.CompileForTest([]byte(`{"$id":"https://example.com/never-loaded.json","$ref":"#/$defs/a","$defs":{"a":{}}}`)))
}

func TestViolations(t *testing.T) {
	schema := `{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object",
		"required": ["id", "a/b~c %d"],
		"dependentRequired": { "city": ["street"] },
		"properties": {
			"id": { "type": "string", "minLength": 2 },
			"email": { "format": "email" },
			"a/b~c %d": { "type": "object", "required": ["inner"] },
			"list": { "items": { "properties": { "n": { "type": "integer", "maximum": 9 } }, "required": ["n"] } },
			"kind": { "enum": ["red", "green"] },
			"pair": { "const": { "x": 1 } },
			"either": { "anyOf": [{ "type": "string" }, { "type": "integer" }] },
			"never": false,
			"required": false,
			"names": { "propertyNames": { "maxLength": 3 }, "additionalProperties": { "type": "string" } },
			"closed": { "additionalProperties": false },
			"blank": { "additionalProperties": { "required": ["r"] } },
			"long": { "enum": ["` + strings.Repeat("x", 200) + `"] },
			"meta": { "$ref": "https://json-schema.org/draft/2020-12/schema" }
		}
	}`
	for _, tt := range []struct{ payload, want string }{
		{`{}`, "payload.a/b~c %d: is required; payload.id: is required"},
		{`[]`, `payload: type "object"`},
		{`{"id":"x"}`, `payload.a/b~c %d: is required; payload.id: minLength 2`},
		{`{"a/b~c %d":{}}`, `payload.a/b~c %d.inner: is required; payload.id: is required`},
		{`{"id":1,"a/b~c %d":7}`, `payload.a/b~c %d: type "object"; payload.id: type "string"`},
		{ok(`"email":"x"`), `payload.email: format "email"`},
		{ok(`"list":[{"n":1},{},{"n":10},{"n":"x"}]`), `payload.list.1.n: is required; payload.list.2.n: maximum 9; payload.list.3.n: type "integer"`},
		{ok(`"kind":"blue"`), `payload.kind: enum ["red","green"]`},
		{ok(`"pair":{"x":2}`), `payload.pair: const {"x":1}`},
		{ok(`"either":[]`), `payload.either: type "integer"; payload.either: type "string"`},
		{ok(`"never":1`), `payload.never: is not allowed`},
		{ok(`"required":1`), `payload.required: is not allowed`},
		{ok(`"names":{"abcd":""}`), `payload.names.*: maxLength 3`},
		{ok(`"names":{"123":4}`), `payload.names.*: type "string"`},
		{ok(`"blank":{"":{},"r":{"r":1}}`), `payload.blank: required ["r"]`}, // the validator leaves "" out of its locations
		{ok(`"closed":{"x":1}`), `payload.closed: is not allowed`},
		{ok(`"city":"Bern"`), `payload.street: is required`},
		{ok(`"long":"x"`), `payload.long: breaks enum`},
		{ok(`"meta":{"minLength":-1}`), `payload.meta.*: breaks minimum`},
	} {
		err := validate(t, schema, tt.payload)
		require.EqualError(t, err, "invalid event: "+tt.want, tt.payload)
	}
	require.NoError(t, validate(t, schema, ok(`"email":"a@b.ch","list":[{"n":1.0}],"pair":{"x":1.00},"meta":{}`)))
}

// ok is a payload that only breaks what members break.
func ok(members string) string { return `{"id":"xy","a/b~c %d":{"inner":1},` + members + `}` }

func TestViolationsAreFewAndInOrder(t *testing.T) {
	var properties, payload []string
	for i := range 20 {
		properties = append(properties, fmt.Sprintf(`"p%02d":{"type":"string"}`, i))
		payload = append(payload, fmt.Sprintf(`"p%02d":%d`, i, i))
	}
	schema := `{"properties":{` + strings.Join(properties, ",") + `}}`
	first := validate(t, schema, `{`+strings.Join(payload, ",")+`}`)
	var broken *eventbus.SchemaError
	require.ErrorAs(t, first, &broken)
	require.Len(t, broken.Violations, 8)
	require.Equal(t, eventbus.Violation{Field: "payload.p00", Rule: `type "string"`}, broken.Violations[0])
	for range 20 {
		require.Equal(t, first, validate(t, schema, `{`+strings.Join(payload, ",")+`}`))
	}
}

func TestNumbersAreCheckedExactly(t *testing.T) {
	const schema = `{"properties":{"max":{"maximum":9007199254740992},"cents":{"multipleOf":0.01},"int":{"type":"integer"}}}`
	require.NoError(t, validate(t, schema, `{"max":9007199254740992,"cents":0.07,"int":1e400}`))
	require.Error(t, validate(t, schema, `{"max":9007199254740993}`))
	require.Error(t, validate(t, schema, `{"cents":0.071}`))
	require.Error(t, validate(t, schema, `{"int":9007199254740993.5}`))
}

func TestAPanicOfTheValidatorIsContained(t *testing.T) {
	for _, schema := range []string{`{"minimum":0}`, `{"multipleOf":2}`, `{"type":"integer"}`, `{"const":1}`, `{"enum":[1,2]}`} {
		// The codec lets no such number through; this is the second line.
		err := eventbus.ValidateForTest([]byte(schema), json.Number("1e10000000"))
		require.EqualError(t, err, "invalid event: payload: the validator gave up on it", schema)
	}
	require.Error(t, eventbus.ValidateForTest([]byte(`{"type":"object"}`), struct{}{}), "not a JSON value")

	payment := `{"transactionId":"p-1","refundId":"r-1","amount":1e10000000}`
	_, err := eventbus.PaymentRefunded.Decode(inEnvelope(payment))
	var decodeError *eventbus.DecodeError
	require.ErrorAs(t, err, &decodeError)
}

// TestErrorsShowNoValueAndNoUnknownName puts a canary into every position that a sender controls.
func TestErrorsShowNoValueAndNoUnknownName(t *testing.T) {
	const schema = `{
		"type": "object",
		"required": ["must"],
		"dependentRequired": { "has": ["also"] },
		"properties": {
			"must": { "type": "string" },
			"format": { "format": "email" }, "time": { "format": "date-time" }, "uuid": { "format": "uuid" }, "uri": { "format": "uri" },
			"pattern": { "pattern": "^x$" }, "enum": { "enum": ["x"] }, "const": { "const": "x" }, "max": { "maxLength": 1 },
			"int": { "type": "integer" }, "minimum": { "minimum": 0 }, "multiple": { "multipleOf": 7 },
			"not": { "not": { "minLength": 1 } }, "one": { "oneOf": [{ "const": 1 }, { "const": 2 }] },
			"unique": { "uniqueItems": true }, "contains": { "contains": { "const": "x" } }, "few": { "maxItems": 1, "maxProperties": 1 },
			"closed": { "additionalProperties": false }, "sealed": { "unevaluatedProperties": false },
			"names": { "propertyNames": { "pattern": "^x$" } }, "rest": { "additionalProperties": { "type": "null" } },
			"list": { "items": { "type": "null" } }, "deep": { "additionalProperties": { "items": { "required": ["must"] } } }
		}
	}`
	topic := eventbus.NewTopic("acme.topic", &eventbus.TopicOptions[map[string]any]{Schema: []byte(schema)})
	fields := strings.Fields(`must format time uuid uri pattern enum const max int minimum multiple not one unique contains few
		closed sealed names rest list deep has`)
	const word, digits = "canary", "4111111117" // digits as they are in a card, a phone number or an array index
	failed := 0
	for _, c := range []string{word, digits} {
		var values []string
		for _, field := range fields {
			for _, value := range []string{
				`"%s"`, `["%s","%[1]s"]`, `{"%s":1,"x":2}`, `{"%s":"%[1]s"}`, `[{"%s":1}]`, `{"%s":[{"%[1]s":"%[1]s"}]}`, `-4111111117`, `4111111117.5`,
			} {
				if strings.Contains(value, "%") {
					value = fmt.Sprintf(value, c)
				}
				values = append(values, string(inEnvelope(`{"`+field+`":`+value+`}`)))
			}
		}
		envelope := string(inEnvelope(`{"must":"x"}`))
		for _, old := range []string{testEventID, "2026-01-07T10:00:00.000Z", `{"must":"x"}`, `"eventId"`, `"timestamp"`, `"payload"`} {
			quoted := c
			if strings.HasPrefix(old, `"`) || strings.HasPrefix(old, `{`) {
				quoted = `"` + c + `"`
			}
			values = append(values, strings.Replace(envelope, old, quoted, 1))
		}
		for _, name := range []string{"eventType", "version", "source", "correlationId"} {
			for _, value := range []string{`"%s"`, `["%s"]`, `{"%s":1}`} {
				values = append(values, strings.Replace(envelope, "{", `{"`+name+`":`+fmt.Sprintf(value, c)+`,`, 1))
			}
		}
		values = append(values, c, `"`+c, `{"`+c, `{"`+c+`":`+c+`}`, `{"`+c+`":1,"`+c+`":2}`, `{} `+c, "\""+c+"\xff\"", `"`+c+`\ud800"`,
			`{"x":`+digits+strings.Repeat("1", 60)+`}`, `1e`+digits, `"`+c+"\x01\"", `{"`+c+`" 1}`, `[1 `+c+`]`, `\`+c)
		for _, value := range values {
			_, err := topic.Decode([]byte(value))
			if err == nil {
				continue
			}
			failed++
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", errors.Unwrap(err))} {
				require.NotContains(t, text, word, value)
				require.NotContains(t, text, digits, value)
			}
			var broken *eventbus.SchemaError
			if errors.As(err, &broken) {
				require.NotEmpty(t, broken.Violations, value)
			}
		}
	}
	require.Greater(t, failed, 300)
}

func TestRedact(t *testing.T) {
	const s = `{"writeOnly":true}`
	for _, tt := range []struct{ name, schema, payload, want string }{
		{"nothing to hide", `{}`, `{ "a" : 1.50 }`, `{"a":1.50}`},
		{"a field", `{"properties":{"a":` + s + `}}`, `{"a":"x","b":"y"}`, `{"a":"***","b":"y"}`},
		{"any type", `{"properties":{"a":` + s + `}}`, `{"a":{"x":["x"]}}`, `{"a":"***"}`},
		{"all of it", s, `{"a":"x"}`, `"***"`},
		{"only where it is true", `{"properties":{"a":{"writeOnly":false}}}`, `{"a":"y"}`, `{"a":"y"}`},
		{"deep", `{"properties":{"a":{"properties":{"b":` + s + `}}}}`, `{"a":{"b":"x"},"b":"y"}`, `{"a":{"b":"***"},"b":"y"}`},
		{"in a list", `{"properties":{"a":{"items":` + s + `}}}`, `{"a":["x",2]}`, `{"a":["***","***"]}`},
		{"in a tuple", `{"properties":{"a":{"prefixItems":[{},` + s + `]}}}`, `{"a":["y","x","y"]}`, `{"a":["y","***","y"]}`},
		{"behind a tuple", `{"properties":{"a":{"prefixItems":[{}],"items":` + s + `}}}`, `{"a":["y","x"]}`, `{"a":["y","***"]}`},
		{"by reference", `{"properties":{"a":{"$ref":"#/$defs/s"}},"$defs":{"s":` + s + `}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"beside a reference", `{"properties":{"a":{"$ref":"#/$defs/t","writeOnly":true}},"$defs":{"t":{}}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"by anchor", `{"properties":{"a":{"$ref":"#s"}},"$defs":{"s":{"$anchor":"s","writeOnly":true}}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"by id", `{"$id":"https://x.example/r","properties":{"a":{"$ref":"s"}},"$defs":{"s":{"$id":"s","writeOnly":true}}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"by dynamic reference", `{"properties":{"a":{"$dynamicRef":"#s"}},"$defs":{"s":{"$dynamicAnchor":"s","writeOnly":true}}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"all of", `{"allOf":[{"properties":{"a":` + s + `}}]}`, `{"a":"x"}`, `{"a":"***"}`},
		{"any of", `{"properties":{"a":{"anyOf":[{"type":"null"},` + s + `]}}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"one of", `{"oneOf":[{"properties":{"a":` + s + `}}]}`, `{"a":"x"}`, `{"a":"***"}`},
		{"if, then, else", `{"if":{"required":["k"]},"then":{"properties":{"a":` + s + `}},"else":{"properties":{"b":` + s + `}}}`,
			`{"a":"x","b":"x","c":"y"}`, `{"a":"***","b":"***","c":"y"}`},
		{"dependent", `{"dependentSchemas":{"k":{"properties":{"a":` + s + `}}}}`, `{"a":"x"}`, `{"a":"***"}`},
		{"by pattern", `{"patternProperties":{"^s_":` + s + `}}`, `{"s_a":"x","a":"y"}`, `{"s_a":"***","a":"y"}`},
		{"all others", `{"properties":{"a":{}},"patternProperties":{"^p_":{}},"additionalProperties":` + s + `}`,
			`{"a":"y","p_":"y","b":"x"}`, `{"a":"y","p_":"y","b":"***"}`},
		{"unevaluated", `{"unevaluatedProperties":` + s + `}`, `{"a":"x"}`, `{"a":"***"}`},
		{"contained", `{"properties":{"a":{"contains":` + s + `}}}`, `{"a":["x"]}`, `{"a":["***"]}`},
		{"a tree", `{"properties":{"s":` + s + `,"next":{"$ref":"#"}}}`,
			`{"s":"x","next":{"s":"x","next":{"s":"x"}}}`, `{"s":"***","next":{"s":"***","next":{"s":"***"}}}`},
		{"a name that needs escapes", `{"properties":{"a/b~ %\"":` + s + `}}`, `{"a\u002fb~ %\"":"x"}`, `{"a/b~ %\"":"***"}`},
		{"a list where an object was", `{"properties":{"a":` + s + `}}`, `[{"a":"y"}]`, `[{"a":"y"}]`},
		{"big numbers", `{}`, `{"n":[9007199254740993.10,-0,1E+2]}`, `{"n":[9007199254740993.10,-0,1E+2]}`},
		{"no JSON", `{}`, `{"a":"x"`, `"***"`},
		{"two values", `{}`, `{}{"a":"x"}`, `"***"`},
		{"too deep", `{}`, nested(100), `"***"`},
		{"nothing", `{}`, ``, `"***"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topic := eventbus.NewTopic("acme.topic", &eventbus.TopicOptions[any]{Schema: []byte(tt.schema)})
			payload := []byte(tt.payload)
			require.Equal(t, tt.want, string(topic.Redact(payload)))
			require.Equal(t, tt.payload, string(payload), "the argument is not changed")
		})
	}
	none := eventbus.NewTopic[any]("acme.topic", nil)
	payload := []byte(`{"a":1}`)
	redacted := none.Redact(payload)
	require.Equal(t, `{"a":1}`, string(redacted))
	redacted[0] = 'x'
	require.Equal(t, `{"a":1}`, string(payload))
	require.Equal(t, `"***"`, string(none.Redact([]byte("ping"))))
}

func TestASchemaIsNoMoreThanWhatItSays(t *testing.T) {
	for _, tt := range []struct{ schema, good, bad string }{
		{`{"properties":{"a":{"format":"uuid"}}}`, `{"a":"0190a7c5-1111-7abc-8def-0123456789ab"}`, `{"a":"0190a7c5"}`},
		{`{"properties":{"a":{"format":"date-time"}}}`, `{"a":"2026-01-07T10:00:00+02:00"}`, `{"a":"2026-01-07"}`},
		{`{"properties":{"a":{"format":"ours"}}}`, `{"a":1}`, ``},
		{`{"properties":{"a":{"pattern":"^(a+)+$"}}}`, `{"a":"` + strings.Repeat("a", 10_000) + `"}`, `{"a":"` + strings.Repeat("a", 10_000) + `!"}`},
		{`{"$ref":"#/$defs/a%20b","$defs":{"a b":{"required":["x"]}}}`, `{"x":1}`, `{}`},
	} {
		require.NoError(t, validate(t, tt.schema, tt.good), tt.schema)
		if tt.bad != "" {
			require.Error(t, validate(t, tt.schema, tt.bad), tt.schema)
		}
	}
}

const fuzzedSchema = `{
	"type": "object",
	"properties": {
		"token": {"type": "string", "writeOnly": true},
		"list": {"type": "array", "items": {"properties": {"token": {"writeOnly": true}}}},
		"pair": {"prefixItems": [true, {"writeOnly": true}]}
	},
	"patternProperties": {"^secret": {"writeOnly": true}},
	"if": {"required": ["bank"]}, "then": {"properties": {"iban": {"writeOnly": true}}}
}`

// hidden replaces by *** what fuzzedSchema marks, in a parsed value: what Redact has to show.
func hidden(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for name := range object {
		if name == "token" || name == "iban" || strings.HasPrefix(name, "secret") {
			object[name] = "***"
		}
	}
	if list, ok := object["list"].([]any); ok {
		for _, element := range list {
			object, _ := element.(map[string]any)
			if _, there := object["token"]; there {
				object["token"] = "***"
			}
		}
	}
	if pair, ok := object["pair"].([]any); ok && len(pair) > 1 {
		pair[1] = "***"
	}
	return object
}

// FuzzRedact has every text masked into JSON that shows all but the secrets, and to nothing where it is not JSON.
func FuzzRedact(f *testing.F) {
	for _, seed := range []string{
		`{"token":"t","list":[{"token":1},{"x":{"token":2}},3],"pair":[1,2,3],"secret":{},"secrets":[1],"iban":"x"}`,
		`{"token":null,"to\u006ben2":1}`, `{"\u0074oken":{"a":[1e400]}}`, `{"list":{"token":1},"pair":"no"}`, `{"token":"t"`, `{"token":"t"}x`, `[{"token":1}]`,
		`{"token":1e10000000}`, `{"token":` + nested(9000) + `}`, "{\"token\":\"\xff\"}", `{"token":1,"token":2}`, ``, `"token"`, "{\"a\":\"\u2028<&>\"}",
	} {
		f.Add([]byte(seed))
	}
	topic := eventbus.NewTopic[any]("acme.vault", &eventbus.TopicOptions[any]{Schema: []byte(fuzzedSchema)})
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := string(payload)
		redacted := topic.Redact(payload)
		require.Equal(t, before, string(payload), "the argument is not changed")
		want, err := eventbus.ParseForTest(payload)
		if err != nil {
			require.Equal(t, `"***"`, string(redacted))
			return
		}
		got, err := eventbus.ParseForTest(redacted)
		require.NoError(t, err)
		require.Equal(t, hidden(want), got)
		require.Equal(t, string(redacted), string(topic.Redact(redacted)), "twice is as once")
	})
}
