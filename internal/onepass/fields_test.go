package onepass_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// fields are the exported ones of v5's Schema, by which Compile knows what it has to understand.
var fields = map[string]string{
	"Location": "string", "Draft": "*jsonschema.Draft",
	"Format": "string", "Always": "*bool", "Ref": "*jsonschema.Schema", "Types": "[]string", "Constant": "[]interface {}", "Enum": "[]interface {}",
	"RecursiveAnchor": "bool", "RecursiveRef": "*jsonschema.Schema", "DynamicAnchor": "string", "DynamicRef": "*jsonschema.Schema",
	"Not": "*jsonschema.Schema", "AllOf": "[]*jsonschema.Schema", "AnyOf": "[]*jsonschema.Schema", "OneOf": "[]*jsonschema.Schema",
	"If": "*jsonschema.Schema", "Then": "*jsonschema.Schema", "Else": "*jsonschema.Schema",

	"MinProperties": "int", "MaxProperties": "int", "Required": "[]string", "Properties": "map[string]*jsonschema.Schema",
	"PropertyNames": "*jsonschema.Schema", "RegexProperties": "bool", "PatternProperties": "map[*regexp.Regexp]*jsonschema.Schema",
	"AdditionalProperties": "interface {}", "Dependencies": "map[string]interface {}", "DependentRequired": "map[string][]string",
	"DependentSchemas": "map[string]*jsonschema.Schema", "UnevaluatedProperties": "*jsonschema.Schema",

	"MinItems": "int", "MaxItems": "int", "UniqueItems": "bool", "Items": "interface {}", "AdditionalItems": "interface {}",
	"PrefixItems": "[]*jsonschema.Schema", "Items2020": "*jsonschema.Schema", "Contains": "*jsonschema.Schema", "ContainsEval": "bool",
	"MinContains": "int", "MaxContains": "int", "UnevaluatedItems": "*jsonschema.Schema",

	"MinLength": "int", "MaxLength": "int", "Pattern": "*regexp.Regexp",
	"ContentEncoding": "string", "ContentMediaType": "string", "ContentSchema": "*jsonschema.Schema",

	"Minimum": "*big.Rat", "ExclusiveMinimum": "*big.Rat", "Maximum": "*big.Rat", "ExclusiveMaximum": "*big.Rat", "MultipleOf": "*big.Rat",

	"Title": "string", "Description": "string", "Default": "interface {}", "Comment": "string", "ReadOnly": "bool", "WriteOnly": "bool",
	"Examples": "[]interface {}", "Deprecated": "bool",
	"Extensions": "map[string]jsonschema.ExtSchema",
}

func TestFields(t *testing.T) {
	got := map[string]string{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[jsonschema.Schema]()) {
		if f.IsExported() {
			got[f.Name] = f.Type.String()
		}
	}
	require.Equal(t, fields, got, "jsonschema.Schema is another one. Read what Schema.validate does with each new or changed field, also with unexported "+
		"ones: a field that bears on what is valid stays out of understood (compile.go) until compile reads it. Look at what the formats and loadInt do, "+
		"too. Then run the differential for minutes (EVENTBUS_ONEPASS_TIME=10m), and pin the fields here.")
}

func TestFormatsAreThoseOfV5(t *testing.T) {
	require.Equal(t, []string{
		"date", "date-time", "duration", "email", "hostname", "ip-address", "ipv4", "ipv6", "iri", "iri-reference", "json-pointer", "period", "regex",
		"relative-json-pointer", "time", "uri", "uri-reference", "uri-template", "uriref", "uuid",
	}, slices.Sorted(maps.Keys(onepass.Pinned)), "v5 has other formats: see that each is true for whatever is no string, and never panics; then pin them here")
	for name, f := range onepass.Pinned {
		for _, v := range []any{nil, true, 1.5, []any{}, map[string]any{}} {
			require.True(t, f(v), "%s says something about %T", name, v)
		}
	}
}

func TestAChangedFormatIsNotV5s(t *testing.T) {
	table := maps.Clone(onepass.Pinned)
	table["email"] = func(any) bool { return false }
	table["iban"] = func(any) bool { return false }
	left := onepass.Own(table)
	require.NotContains(t, left, "email")
	require.NotContains(t, left, "iban")
	require.Len(t, left, len(onepass.Pinned)-1)
	table["email"] = table["uri"]
	require.NotContains(t, onepass.Own(table), "email", "v5's, of another format")
}
