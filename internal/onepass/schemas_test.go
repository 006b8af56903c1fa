package onepass_test

import (
	stdjson "encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
)

// schema is a JSON object as encoding/json has it.
type schema = map[string]any

// random makes schemas, and texts that are nearly valid by them.
type random struct {
	*rand.Rand
	root   schema // the schema at hand
	refers bool   // it has references
	values int    // in the text at hand
}

// chance is true in so many of a hundred cases.
func (r *random) chance(percent int) bool { return r.IntN(100) < percent }

func pick[T any](r *random, from []T) T { return from[r.IntN(len(from))] }

// some are a few of them, at least one, in an order of their own.
func some[T any](r *random, from []T, most int) []T {
	from = slices.Clone(from)
	r.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return from[:1+r.IntN(min(most, len(from)))]
}

var (
	typeNames = []string{"null", "boolean", "object", "array", "string", "number", "integer"}
	names     = []string{"a", "b", "c", "id", "kind", "ä", "𝄞", "", "a b", "a/b", "~1", "q\"", "n\n", "a%25"}
	plain     = names[:8]
	bounds    = []string{
		"0", "1", "-1", "0.1", "0.10", "-0.5", "2.5", "10", "99.99", "0.3", "1e2", "-0", "1e-3", "123456789012345", "1234567890123456",
		"0.10000000000000001", "9007199254740993", "1e400", "1e-400", "-1e300",
	}
	multiples = []string{"1", "2", "0.1", "0.01", "1.5", "0.25", "7", "1e-9", "100", "1e20", "0.333333333333333", "1e-20"}
	counts    = []string{"0", "1", "2", "3", "1.0", "2e0", "5", "1e30"}
	sizes     = counts[:6] // upper ones: what allows nothing is rare
)

// newSchema is one with definitions, to which it may refer.
func (r *random) newSchema() string {
	s := r.object(0)
	s["$defs"] = schema{"d0": r.schema(2), "d1": r.schema(2), "d2": r.schema(1)}
	if r.chance(20) {
		s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	}
	text := schemaText(s)
	again, err := parse([]byte(text))
	if err != nil {
		panic(err)
	}
	r.root, r.refers = again.(schema), strings.Contains(text, `Ref":`) || strings.Contains(text, `ref":`)
	return text
}

func (r *random) schema(depth int) any {
	if r.chance(6) {
		return r.chance(70)
	}
	return r.object(depth)
}

func (r *random) object(depth int) schema {
	s := schema{}
	types := some(r, typeNames, 3)
	if r.chance(70) {
		types = types[:1]
	}
	if depth < 3 && r.chance(50) {
		types[0] = pick(r, []string{"object", "object", "array"})
	}
	for _, name := range types {
		r.keywords(s, name, depth)
	}
	if r.chance(8) {
		r.keywords(s, pick(r, typeNames), depth)
	}
	if slices.Sort(types); r.chance(85) {
		s["type"] = slices.Compact(types)
		if len(types) == 1 {
			s["type"] = types[0]
		}
	}
	if r.chance(10) {
		s["$ref"] = pick(r, []string{"#/$defs/d0", "#/$defs/d1", "#/$defs/d2", "#"})
	}
	if r.chance(8) {
		s["allOf"] = r.schemas(depth)
	}
	if r.chance(10) {
		r.notUnderstood(s, types[0], depth)
	}
	if r.chance(8) {
		s[pick(r, []string{"title", "description", "$comment"})] = "text"
		s[pick(r, []string{"default", "unknown"})] = 1
	}
	return s
}

func (r *random) schemas(depth int) []any {
	list := []any{r.schema(depth + 1)}
	for r.chance(40) {
		list = append(list, r.schema(depth+1))
	}
	return list
}

// keywords adds those for a type.
func (r *random) keywords(s schema, name string, depth int) {
	number := func(key string, percent int, from []string) {
		if r.chance(percent) {
			s[key] = stdjson.Number(pick(r, from))
		}
	}
	switch name {
	case "object":
		r.objectKeywords(s, depth)
		number("minProperties", 10, counts)
		number("maxProperties", 10, sizes)
	case "array":
		if r.chance(30) {
			s["prefixItems"] = r.schemas(depth)
		}
		if depth < 3 && r.chance(60) {
			s["items"] = r.schema(depth + 1)
		}
		number("minItems", 20, counts)
		number("maxItems", 20, sizes)
	case "string":
		number("minLength", 25, counts)
		number("maxLength", 25, sizes)
		if r.chance(20) {
			s["pattern"] = pick(r, patternNames)
		}
		if r.chance(30) {
			s["format"] = pick(r, formatNames)
		}
	case "number", "integer":
		number("minimum", 25, bounds)
		number("maximum", 25, bounds)
		number("exclusiveMinimum", 10, bounds)
		number("exclusiveMaximum", 10, bounds)
		number("multipleOf", 25, multiples)
	}
	if r.chance(10) {
		s["enum"] = some(r, constants, 4)
	}
	if r.chance(4) {
		s["const"] = pick(r, constants)
	}
}

var constants = []any{
	"a", "b", "ä", "", "q\"", nil, true, false, stdjson.Number("1"), stdjson.Number("1.50"), stdjson.Number("0"), []any{}, []any{"a"}, schema{}, schema{"a": nil},
}

func (r *random) objectKeywords(s schema, depth int) {
	if depth < 3 && r.chance(85) {
		properties := schema{}
		for _, name := range some(r, plain, 5) {
			properties[name] = r.schema(depth + 1)
		}
		if r.chance(15) {
			properties[pick(r, names)] = r.schema(depth + 1)
		}
		s["properties"] = properties
	}
	if r.chance(50) {
		s["required"] = some(r, plain[:4], 2)
	}
	switch r.IntN(5) {
	case 0:
		s["additionalProperties"] = r.chance(30)
	case 1:
		s["additionalProperties"] = r.schema(depth + 1)
	}
	if r.chance(15) {
		s["dependentRequired"] = schema{pick(r, plain[:4]): some(r, plain, 2), pick(r, plain): []any{}}
	}
}

// notUnderstood are keywords by the type that they are for.
var notUnderstood = map[string][]string{
	"object": {"propertyNames", "patternProperties", "unevaluatedProperties", "dependentSchemas", "dependencies"},
	"array":  {"contains", "uniqueItems", "unevaluatedItems"},
	"string": {"contentEncoding"},
	"":       {"not", "anyOf", "oneOf", "if", "$dynamicRef"},
}

func (r *random) notUnderstood(s schema, kind string, depth int) {
	keys := notUnderstood[kind]
	if len(keys) == 0 || r.chance(40) {
		keys = notUnderstood[""]
	}
	sub := r.schema(depth + 1)
	switch key := pick(r, keys); key {
	case "anyOf", "oneOf":
		s[key] = r.schemas(depth)
	case "if":
		s["if"], s[pick(r, []string{"then", "else"})] = sub, r.schema(depth+1)
	case "patternProperties":
		s[key] = schema{pick(r, []string{"^a", "", "b$"}): sub}
	case "dependentSchemas":
		s[key] = schema{pick(r, plain): sub}
	case "dependencies":
		s[key] = schema{pick(r, plain): some(r, plain, 2)}
	case "propertyNames":
		s[key] = pick(r, []any{schema{"maxLength": 1}, schema{"pattern": "^[a-z]*$"}, false})
	case "unevaluatedProperties", "unevaluatedItems":
		s[key] = false
	case "contains":
		s[key] = sub
		if r.chance(50) {
			s[pick(r, []string{"minContains", "maxContains"})] = r.IntN(3)
		}
	case "uniqueItems":
		s[key] = true
	case "$dynamicRef":
		if s[key] = "#/$defs/d0"; r.chance(50) {
			return
		}
		delete(s, key)
		s["$dynamicAnchor"], s["items"], s["additionalProperties"] = "node", schema{key: "#node"}, schema{key: "#node"}
	case "contentEncoding":
		s[key], s["contentMediaType"] = "base64", "application/json"
	default:
		s[key] = sub
	}
}

// patterns are patterns and what they find, formats are v5's and what is of them, or nearly.
var patterns = map[string][]string{
	"^[0-9]{1,9}\\.[0-9]{1,9}$": {"1.0", "12.345", "1.", "1,0"},
	"^[a-z]+$":                  {"a", "abc", "A", "ä", "a\n"},
	"a":                         {"a", "bab", "\u0061", "b"},
	"^.$":                       {"a", "ä", "𝄞", "\n", "ab"},
	"^$":                        {"", " "},
	"\\p{Lu}|^\\\\u":            {"Ä", "ä", "\\u0041"},
}

var formats = map[string][]string{
	"uuid": {"019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5d", "019B97E6-2100-7CC1-8D5C-6A1D2F3B4C5D", "019b97e6-2100-7cc1-8d5c-6a1d2f3b4c5", "019b97e6021000-7cc1-8d5c-6a1d2f3b4c5d"},
	"date-time": {
		"2026-01-07T10:00:00Z", "2026-01-07t10:00:00.123456789z", "2024-02-29T23:59:59+23:59", "2023-02-29T00:00:00Z", "2026-01-07T23:59:60Z", "2026-01-07T24:00:00Z",
		"2026-01-07T10:00:00.Z", "2026-01-07T10:00:00", "2026-01-07 10:00:00Z", "2026-01-07T10:00:00+24:00", "2026-01-07T10:00:60Z", "2026-01-07T10:00:00-00:60",
	},
	"date":     {"2026-01-07", "0000-02-29", "1900-02-29", "2000-02-29", "2026-04-31", "2026-13-01", "2026-00-10", "2026-1-07", "20260-1-07", "+026-01-07"},
	"time":     {"10:00:00Z", "23:59:60Z", "10:00:00", "10:00:00+01:00"},
	"duration": {"P1D", "PT1H", "P1", "P1W2D"},
	"period":   {"2026-01-07T10:00:00Z/P1D", "P1D/P1D"},
	"email": {
		"ada@example.com", "a.b+c@x-y.z", "a..b@c", ".a@b", "a@", "@b", "a@-b", "a@b-", "a@b_c", "a@b-.c", "a@b.-c", "a@b.", "\"a\"@b", "a@[127.0.0.1]", "a@b@c",
		"ä@b",
	},
	"hostname":              {"example.com", "-a", "a-", "a_b", "example.com."},
	"ip-address":            {"127.0.0.1", "256.0.0.1"},
	"ipv4":                  {"127.0.0.1", "01.0.0.1", "1.2.3", "+1.2.3.4"},
	"ipv6":                  {"::1", "fe80::1%eth0", "1.2.3.4", "::ffff:1.2.3.4"},
	"uri":                   {"https://example.com/a?b#c", "a", "http://[::1", "//a"},
	"iri":                   {"https://example.com/ä", "ä"},
	"uri-reference":         {"/a", "a\\b", "%zz"},
	"uriref":                {"/a", "%zz"},
	"iri-reference":         {"/ä", "\\"},
	"uri-template":          {"/{a}", "/{a{b}}", "%zz"},
	"regex":                 {"^a$", "(", "(?=a)"},
	"json-pointer":          {"/a/b~1", "a", "/~2"},
	"relative-json-pointer": {"0/a", "1#", "-1"},
	"unknown":               {"a"},
}

var patternNames, formatNames = sorted(patterns), sorted(formats)

func sorted[T any](m map[string]T) []string {
	keys := []string{}
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}

func schemaText(s any) string {
	text, err := stdjson.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}
