package onepass_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// verdict is what a hostile row is about.
type verdict int

const (
	never   verdict = iota // it is not valid
	decided                // it is valid, and decided
	either                 // it is valid, and may be undecided
)

type hostileRow struct {
	why          string
	schema, text string
	want         verdict
}

func TestHostile(t *testing.T) {
	for name, rows := range map[string][]hostileRow{
		"syntax": hostileSyntax, "numbers": hostileNumbers, "strings": hostileStrings, "objects": hostileObjects, "sizes": hostileSizes,
		"bounds": hostileBounds, "keywords": hostileKeywords, "references": hostileReferences, "formats": hostileFormats,
	} {
		for i, row := range rows {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				s := compile(t, row.schema)
				require.Equal(t, row.want != never, valid(s, []byte(row.text)), "the row is wrong: %s", row.why)
				got := onepass.Compile(s).Valid([]byte(row.text))
				require.False(t, row.want == never && got, "decided, but not valid: %s", row.why)
				require.False(t, row.want == decided && !got, "not decided: %s", row.why)
			})
		}
	}
}

var hostileSyntax = []hostileRow{
	{"nothing", `{}`, ``, never},
	{"only space", `{}`, " \n\t\r", never},
	{"space around", `{}`, " \n\t\r{ \n} \t", decided},
	{"other space", `{}`, "\u00a0{}", never},
	{"a vertical tab is no space", `{}`, "{}\v", never},
	{"a byte order mark", `{}`, "\ufeff{}", never},
	{"a byte order mark after", `{}`, "{}\ufeff", never},
	{"a NUL after", `{}`, "{}\x00", never},
	{"a NUL instead of a value", `{}`, "\x00", never},
	{"a NUL as the end", `{}`, "[1\x00", never},
	{"two values", `{}`, `{} {}`, never},
	{"two values without space", `{}`, `1"a"`, never},
	{"trailing comma of the text", `{}`, `{},`, never},
	{"trailing garbage", `{}`, `truex`, never},
	{"a literal cut short", `{}`, `tru`, never},
	{"a literal in capitals", `{}`, `True`, never},
	{"no literal of JSON", `{}`, `nil`, never},
	{"no number of JSON", `{}`, `NaN`, never},
	{"an unclosed array", `{}`, `[1,2`, never},
	{"an unclosed object", `{}`, `{"a":1`, never},
	{"brackets that do not match", `{}`, `[1}`, never},
	{"brackets that do not match", `{}`, `{"a":1]`, never},
	{"a comma before", `{}`, `[,1]`, never},
	{"a comma after", `{}`, `[1,]`, never},
	{"a comma after a member", `{}`, `{"a":1,}`, never},
	{"a comma before a member", `{}`, `{,"a":1}`, never},
	{"no comma", `{}`, `[1 2]`, never},
	{"no comma between members", `{}`, `{"a":1 "b":2}`, never},
	{"no colon", `{}`, `{"a" 1}`, never},
	{"two colons", `{}`, `{"a"::1}`, never},
	{"no value", `{}`, `{"a":}`, never},
	{"a name without quotes", `{}`, `{a:1}`, never},
	{"a name in single quotes", `{}`, `{'a':1}`, never},
	{"a name that is a number", `{}`, `{1:1}`, never},
	{"a comment", `{}`, `[1/**/]`, never},
	{"a comment", `{}`, "[1]//", never},
}

var hostileNumbers = []hostileRow{
	{"0", `{}`, `0`, decided},
	{"-0", `{}`, `-0`, decided},
	{"a leading 0", `{}`, `01`, never},
	{"a leading 0", `{}`, `-01`, never},
	{"zeros", `{}`, `00`, never},
	{"a plus", `{}`, `+1`, never},
	{"only a minus", `{}`, `-`, never},
	{"two minuses", `{}`, `--1`, never},
	{"nothing after the point", `{}`, `1.`, never},
	{"nothing before the point", `{}`, `.1`, never},
	{"nothing before the point", `{}`, `-.1`, never},
	{"two points", `{}`, `1.2.3`, never},
	{"hexadecimal", `{}`, `0x1`, never},
	{"an underscore", `{}`, `1_0`, never},
	{"digits of another script", `{}`, "\u0661", never},
	{"an exponent", `{}`, `1e5`, either},
	{"an exponent without digits", `{}`, `1e`, never},
	{"an exponent without digits", `{}`, `1e+`, never},
	{"an exponent beyond what is read", `{}`, `1e401`, never},
	{"64 characters", `{}`, strings.Repeat("1", 64), decided},
	{"65 characters", `{}`, strings.Repeat("1", 65), never},
	{"65 characters with its minus", `{}`, "-" + strings.Repeat("1", 64), never},
	{"65 characters with its point", `{}`, "0." + strings.Repeat("1", 63), never},
	{"1.0 is an integer", `{"type":"integer"}`, `1.0`, decided},
	{"-0.0 is an integer", `{"type":"integer"}`, `-0.0`, decided},
	{"1.5 is none", `{"type":"integer"}`, `1.5`, never},
	{"1.0…01 is none", `{"type":"integer"}`, `1.00000000000000000000000000000000001`, never},
	{"an integer is a number", `{"type":"number"}`, `1`, decided},
	{"an integer of many digits", `{"type":"integer"}`, `123456789012345678901234567890.0`, decided},
	{"1e2 is an integer", `{"type":"integer"}`, `1e2`, either},
	{"1e-2 is none", `{"type":"integer"}`, `1e-2`, never},
	{"or a string", `{"type":["integer","string"]}`, `0.5`, never},
	{"no number", `{"type":["string","null","boolean","array","object"]}`, `1`, never},
}

var hostileStrings = []hostileRow{
	{"a control character", `{}`, "\"\x1f\"", never},
	{"a line feed", `{}`, "\"\n\"", never},
	{"a NUL", `{}`, "\"\x00\"", never},
	{"a delete", `{}`, "\"\x7f\"", decided},
	{"unclosed", `{}`, `"a`, never},
	{"unclosed after an escape", `{}`, `"\"`, never},
	{"cut after a backslash", `{}`, `"\`, never},
	{"an escape that is none", `{}`, `"\x41"`, never},
	{"an escape that is none", `{}`, `"\'"`, never},
	{"an escape in capitals", `{}`, `"\N"`, never},
	{"an escape in capitals", `{}`, `"\U0041"`, never},
	{"every escape", `{}`, `"\"\\\/\b\f\n\r\t\u0000\uFFFF"`, decided},
	{"three digits", `{}`, `"\u123"`, never},
	{"no digits", `{}`, `"\uG000"`, never},
	{"cut in the digits", `{}`, `"\u12`, never},
	{"a high surrogate", `{}`, `"\ud800"`, never},
	{"a low surrogate", `{}`, `"\udc00"`, never},
	{"two high ones", `{}`, `"\ud800\ud800"`, never},
	{"low before high", `{}`, `"\udc00\ud800"`, never},
	{"high, then a character", `{}`, `"\ud800a"`, never},
	{"high, then an escape", `{}`, `"\ud800\n"`, never},
	{"high, then another escape", `{}`, `"\ud800\u0041"`, never},
	{"high, then a low one's digits without its u", `{}`, `"\ud800\xdc00"`, never},
	{"high, then a low one without its backslash", `{}`, `"\ud834audd1e"`, never},
	{"high, then the text ends", `{}`, `"\ud800\udc`, never},
	{"a pair", `{}`, `"\uD834\udd1e"`, decided},
	{"a pair, then half of one", `{}`, `"\ud834\udd1e\ud834"`, never},
	{"a surrogate as UTF-8", `{}`, "\"\xed\xa0\x80\"", never},
	{"a pair as UTF-8 (CESU-8)", `{}`, "\"\xed\xa0\xb4\xed\xb4\x9e\"", never},
	{"UTF-8 cut short", `{}`, "\"\xc3\"", never},
	{"UTF-8 cut by the end", `{}`, "\"\xf0\x9d\x84", never},
	{"UTF-8 continued without a start", `{}`, "\"\x80\"", never},
	{"an overlong NUL", `{}`, "\"\xc0\x80\"", never},
	{"an overlong slash", `{}`, "\"\xe0\x80\xaf\"", never},
	{"beyond U+10FFFF", `{}`, "\"\xf4\x90\x80\x80\"", never},
	{"no UTF-8 at all", `{}`, "\"\xff\"", never},
	{"the replacement character itself", `{}`, "\"\ufffd\"", decided},
	{"no character", `{}`, "\"\uffff\"", decided},
	{"invalid UTF-8 in a name", `{}`, "{\"\xff\":1}", never},
	{"invalid UTF-8 in a name that is a known one when replaced", `{"properties":{"\ufffd":{}}}`, "{\"\xff\":1}", never},
	{"a lone surrogate in a name", `{}`, `{"\ud800":1}`, never},
	{"a control character in a name", `{}`, "{\"a\tb\":1}", never},

	{"as long as it may be", `{"maxLength":2}`, `"ab"`, decided},
	{"longer", `{"maxLength":2}`, `"abc"`, never},
	{"length is counted in characters", `{"minLength":2,"maxLength":2}`, `"äö"`, decided},
	{"not in bytes", `{"minLength":2}`, `"ä"`, never},
	{"of four bytes", `{"minLength":2}`, "\"\U0001d11e\"", never},
	{"not in UTF-16", `{"minLength":2}`, `"\ud834\udd1e"`, never},
	{"an escape is one", `{"minLength":2}`, `"\n"`, never},
	{"an escape is one", `{"minLength":2}`, `"\u0041"`, never},
	{"a pair is one", `{"minLength":2,"maxLength":2}`, `"\ud834\udd1e\n"`, decided},
	{"a combining mark is one", `{"maxLength":1}`, "\"a\u0308\"", never},
	{"nothing is allowed", `{"maxLength":0}`, `"a"`, never},
	{"nothing is allowed", `{"maxLength":0}`, `""`, decided},
	{"a number is of no length", `{"maxLength":0,"minLength":5}`, `1`, decided},
	{"a pattern finds what escapes mean", `{"pattern":"^A$"}`, `"\u0041"`, either},
	{"not what they look like", `{"pattern":"u0041"}`, `"\u0041"`, never},
	{"a pattern's $ is the end", `{"pattern":"^a$"}`, `"a\n"`, never},
	{"a pattern is not anchored", `{"pattern":"b"}`, `"abc"`, decided},
	{"an enum's escapes", `{"enum":["A"]}`, `"\u0041"`, either},
	{"an enum that looks like an escape", `{"enum":["\\u0041"]}`, `"\u0041"`, never},
	{"a format's escapes", `{"format":"date"}`, `"2026-01-0\u0031"`, either},
	{"a format that is not known", `{"format":"nothing"}`, `"a"`, either},
	{"a format of a number", `{"format":"uuid"}`, `1`, decided},
	{"a format of an array", `{"format":"date"}`, `["a"]`, decided},
	{"a format of null", `{"format":"regex"}`, `null`, decided},
	{"a regex that is none", `{"format":"regex"}`, `"("`, never},
}

var hostileObjects = []hostileRow{
	{"a name twice", `{}`, `{"a":1,"a":1}`, never},
	{"a name twice, others between", `{}`, `{"a":1,"b":2,"c":3,"a":4}`, never},
	{"a known name twice", `{"properties":{"a":{}}}`, `{"a":1,"a":2}`, never},
	{"a required name twice", `{"required":["a"]}`, `{"a":1,"a":2}`, never},
	{"the empty name twice", `{}`, `{"":1,"":2}`, never},
	{"a known name twice, once escaped", `{"properties":{"a":{}}}`, `{"a":1,"\u0061":2}`, never},
	{"a known name twice, first escaped", `{"properties":{"a":{}}}`, `{"\u0061":1,"a":2}`, never},
	{"an unknown name twice, once escaped", `{}`, `{"a":1,"\u0061":2}`, never},
	{"a name twice, escaped differently", `{}`, `{"\u00e4":1,"\u00E4":2}`, never},
	{"a name twice by a pair", `{}`, "{\"\U0001d11e\":1,\"\\ud834\\udd1e\":2}", never},
	{"a name twice, nested", `{}`, `{"a":{"b":{"c":1,"c":1}}}`, never},
	{"a name twice, in an array", `{}`, `[{"c":1,"c":1}]`, never},
	{"a name twice after an inner object", `{}`, `{"a":{"a":1,"b":2},"a":1}`, never},
	{"a name twice in an object after another", `{}`, `[{"a":1},{"b":1,"b":1}]`, never},
	{"a name twice, inside of a known one", `{"properties":{"a":{}}}`, `{"a":{"x":1,"x":1}}`, never},
	{"a name at two levels", `{}`, `{"a":{"a":{"a":1}},"b":{"a":1}}`, decided},
	{"a name in two objects", `{}`, `[{"a":1},{"a":1}]`, decided},
	{"names that differ in their end", `{}`, `{"a":1,"aa":2,"A":3,"a ":4}`, decided},
	{"names that are normalised alike", `{}`, "{\"\u00e4\":1,\"a\u0308\":2}", decided},
	{"a known name escaped, of a wrong type", `{"properties":{"a":{"type":"string"}}}`, `{"\u0061":1}`, never},
	{"a required name escaped", `{"required":["a"]}`, `{"\u0061":1}`, either},
	{"a required name is lacking", `{"required":["a"]}`, `{"A":1}`, never},
	{"a required name that only has a prefix", `{"required":["a"]}`, `{"aa":1}`, never},
	{"a required name one level too deep", `{"required":["a"]}`, `{"b":{"a":1}}`, never},
	{"required says nothing of arrays", `{"required":["a"]}`, `[]`, decided},
	{"required in an empty object", `{"required":["a"]}`, `{}`, never},
	{"required and not in properties, others are of a type", `{"required":["a"],"additionalProperties":{"type":"string"}}`, `{"a":1}`, never},
	{"required and not in properties, no others", `{"required":["a"],"additionalProperties":false}`, `{"a":1}`, never},
	{"dependent and not in properties, no others", `{"dependentRequired":{"a":["b"]},"additionalProperties":false}`, `{"a":1}`, never},
	{"no others", `{"properties":{"a":{}},"additionalProperties":false}`, `{"a":1,"b":2}`, never},
	{"no others, by a false schema of them", `{"properties":{"a":{}},"additionalProperties":{"not":{}}}`, `{"a":1,"b":2}`, never},
	{"others of allOf are others", `{"allOf":[{"properties":{"a":{}}}],"additionalProperties":false}`, `{"a":1}`, never},
	{"others of a reference are others", `{"$ref":"#/$defs/d","additionalProperties":false,"$defs":{"d":{"properties":{"a":{}}}}}`, `{"a":1}`, never},
	{"a property that never is", `{"properties":{"a":false}}`, `{"a":1}`, never},
	{"a property that never is, absent", `{"properties":{"a":false}}`, `{"b":1}`, decided},
	{"dependent", `{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, never},
	{"dependent, in a row", `{"dependentRequired":{"a":["b"],"b":["c"]}}`, `{"a":1,"b":2}`, never},
	{"dependent on what is null", `{"dependentRequired":{"a":["b"]}}`, `{"a":1,"b":null}`, decided},
	{"dependent on itself", `{"dependentRequired":{"a":["a"]}}`, `{"a":1}`, decided},
	{"as many as there may be", `{"maxProperties":2}`, `{"a":1,"b":2}`, decided},
	{"too many", `{"maxProperties":1}`, `{"a":1,"b":2}`, never},
	{"maxProperties is -1 where it is unset", `{"properties":{"a":{"maxProperties":0}}}`, `{"a":{},"b":2}`, decided},
	{"none", `{"maxProperties":0}`, `{"a":1}`, never},
	{"too few", `{"minProperties":1}`, `{}`, never},
	{"too few, known and others", `{"properties":{"a":{}},"minProperties":3}`, `{"a":1,"b":2}`, never},
	{"a name of quotes", `{"properties":{"\"":{"type":"string"}}}`, `{"\"":1}`, never},
	{"a name of a backslash", `{"properties":{"\\u0061":{"type":"string"}}}`, `{"\u0061":1}`, either},
	{"a name that is a pointer", `{"properties":{"a/b~c%25":{"type":"string"}}}`, `{"a/b~c%25":1}`, never},
}

// deep is arrays in arrays.
func deep(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func deepObjects(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }

// many is an array, an object of many names.
func many(n int) string { return "[" + strings.Repeat("1,", n-1) + "1]" }

func manyNames(n int, last string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"n%d":%d,`, i, i)
	}
	return "{" + b.String() + last + "}"
}

var hostileSizes = []hostileRow{
	{"64 levels", `{}`, deep(64), decided},
	{"65 levels", `{}`, deep(65), either},
	{"66 levels", `{}`, deep(66), never},
	{"48 objects, whose names are open", `{}`, deepObjects(48), decided},
	{"49 objects", `{}`, deepObjects(49), either},
	{"31 objects by references, which count", `{"properties":{"a":{"$ref":"#"}}}`, deepObjects(31), decided},
	{"63 objects by references", `{"properties":{"a":{"$ref":"#"}}}`, deepObjects(63), either},
	{"65 objects of a known name", `{"properties":{"a":{"$ref":"#"}}}`, deepObjects(65), never},
	{"65 objects", `{}`, deepObjects(65), never},
	{"66 levels by a recursive schema", `{"items":{"$ref":"#"}}`, deep(66), never},
	{"a hundred thousand levels", `{}`, deep(100_000), never},
	{"a hundred thousand levels, unclosed", `{}`, strings.Repeat("[", 100_000), never},
	{"65536 values", `{}`, many(65535), decided},
	{"65537 values", `{}`, many(65536), never},
	{"65537 values, of objects", `{}`, "[" + strings.Repeat(`{"a":1},`, 32768) + "{}]", never},
	{"values that are looked at twice", `{"items":{"allOf":[{"type":"number"}]}}`, many(40_000), either},
	{"48 unknown names", `{}`, manyNames(47, `"a":1`), decided},
	{"49 unknown names", `{}`, manyNames(48, `"a":1`), either},
	{"names twice among many", `{}`, manyNames(47, `"n0":1`), never},
	{"names twice among too many", `{}`, manyNames(60, `"n59":1`), never},
	{"names of the objects above count", `{}`, `{"x":` + manyNames(40, `"y":`+manyNames(40, `"a":1`)) + `}`, either},
	{"those of the objects before do not", `{}`, "[" + manyNames(40, `"a":1`) + "," + manyNames(40, `"a":1`) + "]", decided},
	{"65 known names", `{"properties":` + manyNamesSchema(65) + `}`, `{"n64":1}`, never},
	{"65 known names, others twice", `{"properties":` + manyNamesSchema(65) + `}`, `{"n64":"a","n64":"a"}`, never},
	{"64 known names", `{"properties":` + manyNamesSchema(64) + `}`, `{"n63":1}`, never},
	{"64 known names, the last twice", `{"properties":` + manyNamesSchema(64) + `}`, `{"n63":"a","n63":"a"}`, never},
	{"65 known names, all required", `{"required":` + manyRequired(65) + `}`, manyNames(64, `"x":1`), never},
	{"64 known names, all required", `{"required":` + manyRequired(64) + `}`, manyNames(63, `"x":1`), never},
	{"64 known names, all there", `{"required":` + manyRequired(64) + `}`, manyNames(64, `"x":1`), decided},
}

func manyNamesSchema(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d":{"type":"string"}`, i)
	}
	return "{" + strings.Join(names, ",") + "}"
}

func manyRequired(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d"`, i)
	}
	return "[" + strings.Join(names, ",") + "]"
}

var hostileBounds = []hostileRow{
	{"at the bound", `{"minimum":0.1}`, `0.1`, decided},
	{"at the bound, written longer", `{"minimum":0.1}`, `0.1000`, decided},
	{"a bound of 17 digits", `{"minimum":0.10000000000000001}`, `0.1`, never},
	{"a number of 17 digits", `{"maximum":0.1}`, `0.10000000000000001`, never},
	{"15 digits above", `{"maximum":0.1}`, `0.10000000000001`, never},
	{"15 digits below", `{"minimum":0.1}`, `0.09999999999999`, never},
	{"16 digits", `{"maximum":999999999999999}`, `1000000000000000`, never},
	{"a whole of 17 digits", `{"maximum":9007199254740992}`, `9007199254740993`, never},
	{"a bound of 16 digits, the same float as one of 15 above it", `{"maximum":9.709095894279979}`, `9.70909589427998`, never},
	{"a bound that is no decimal of 15 digits", `{"minimum":9007199254740993}`, `9007199254740992`, never},
	{"0 is not above 0", `{"exclusiveMinimum":0}`, `0`, never},
	{"-0 is not above 0", `{"exclusiveMinimum":0}`, `-0`, never},
	{"-0.0 is not below 0", `{"exclusiveMaximum":0}`, `-0.0`, never},
	{"-0 is 0", `{"minimum":0,"maximum":0}`, `-0`, decided},
	{"a bound of -0", `{"minimum":-0}`, `-0.1`, never},
	{"below 0", `{"minimum":0}`, `-0.00000000000001`, never},
	{"above a tiny bound", `{"minimum":1e-300}`, `0`, never},
	{"a bound that is 0 as a float", `{"minimum":1e-400}`, `0`, never},
	{"a bound that is endless as a float", `{"minimum":1e400}`, `1`, never},
	{"both bounds of a kind", `{"minimum":1,"exclusiveMinimum":2}`, `2`, never},
	{"bounds say nothing of strings", `{"minimum":1}`, `"0"`, decided},
	{"a multiple", `{"multipleOf":0.01}`, `19.90`, decided},
	{"no multiple", `{"multipleOf":0.01}`, `19.905`, never},
	{"no multiple as floats are", `{"multipleOf":0.1}`, `0.35`, never},
	{"a multiple that is none as floats are", `{"multipleOf":0.0001}`, `0.0075`, decided},
	{"0 is a multiple", `{"multipleOf":7}`, `-0.0`, decided},
	{"a multiple of 1.5", `{"multipleOf":1.5}`, `-4.50`, decided},
	{"no multiple of 1.5", `{"multipleOf":1.5}`, `4.6`, never},
	{"no multiple of a third", `{"multipleOf":0.333333333333333}`, `1`, never},
	{"a multiple of a tiny number", `{"multipleOf":1e-20}`, `1`, either},
	{"a multiple of a large number", `{"multipleOf":1e20}`, `1`, never},
	{"a multiple by so many places that an int64 overflows to one", `{"multipleOf":0.0007}`, `937365046457571`, never},
	{"a multiple by five places that overflows", `{"multipleOf":0.00007}`, `828634302329571`, never},
	{"a multiple by nine places that overflows", `{"multipleOf":7e-9}`, `842210160001003`, never},
	{"a multiple whose own digits overflow", `{"multipleOf":184467440737096}`, `0.48384`, never},
	{"a multiple whose digits overflow", `{"multipleOf":999999999999999}`, `0.99999999999999`, never},
	{"an integer that is one by its size", `{"type":"integer","multipleOf":0.123456789}`, `1`, never},

	{"a bound beyond an int is what v5 makes of it", `{"maxLength":1e30}`, `"a"`, beyond()},
	{"a bound beyond an int", `{"maxItems":1e30}`, `[1]`, beyond()},
	{"a bound beyond an int", `{"maxProperties":1e30}`, `{"a":1}`, beyond()},
	{"a bound beyond an int, of an empty one", `{"maxItems":9223372036854775808}`, `[]`, beyond()},
	{"a bound that is a fraction in form", `{"maxItems":1.0}`, `[1,2]`, never},
	{"a bound that is an exponent", `{"maxItems":1e0}`, `[1,2]`, never},
	{"a bound beyond an int, below", `{"minLength":1e30}`, `1`, either},
}

// beyond is the verdict on what keeps a bound that is no int: v5 converts it, and what that gives depends on the machine (it is negative on amd64).
func beyond() verdict {
	huge := 1e30
	if int(huge) < 0 {
		return never
	}
	return either
}

var hostileKeywords = []hostileRow{
	{"propertyNames", `{"propertyNames":{"maxLength":1}}`, `{"ab":1}`, never},
	{"patternProperties", `{"patternProperties":{"^a":{"type":"string"}}}`, `{"ab":1}`, never},
	{"patternProperties beside properties", `{"properties":{"ab":{}},"patternProperties":{"^a":false}}`, `{"ab":1}`, never},
	{"unevaluatedProperties", `{"unevaluatedProperties":false}`, `{"a":1}`, never},
	{"unevaluatedProperties in allOf", `{"allOf":[{"properties":{"a":{}},"unevaluatedProperties":false}]}`, `{"b":1}`, never},
	{"unevaluatedItems", `{"prefixItems":[{}],"unevaluatedItems":false}`, `[1,2]`, never},
	{"dependentSchemas", `{"dependentSchemas":{"a":{"required":["b"]}}}`, `{"a":1}`, never},
	{"dependencies of old", `{"dependencies":{"a":["b"]}}`, `{"a":1}`, never},
	{"uniqueItems", `{"uniqueItems":true}`, `[1,1.0]`, never},
	{"contains", `{"contains":{"const":1}}`, `[2]`, never},
	{"maxContains", `{"contains":{},"maxContains":1}`, `[1,2]`, never},
	{"not", `{"not":{"type":"string"}}`, `"a"`, never},
	{"not, of nothing", `{"not":{}}`, `1`, never},
	{"if and then", `{"if":{"type":"string"},"then":{"minLength":2}}`, `"a"`, never},
	{"if and else", `{"if":{"type":"string"},"else":false}`, `1`, never},
	{"then without if", `{"then":false,"else":false}`, `1`, decided},
	{"oneOf, both", `{"oneOf":[{"type":"string"},{"minLength":1}]}`, `"a"`, never},
	{"oneOf, none", `{"oneOf":[{"type":"string"}]}`, `1`, never},
	{"anyOf, none", `{"anyOf":[{"type":"string"},{"type":"null"}]}`, `1`, never},
	{"allOf, the last", `{"allOf":[{},{"type":"number"},{"maximum":1}]}`, `2`, never},
	{"false", `false`, `1`, never},
	{"true", `true`, `{"a":[1]}`, decided},
	{"true is no leave for bad JSON", `true`, `{"a":1,"a":1}`, never},
	{"contentEncoding is not asserted", `{"contentEncoding":"base64"}`, `"%"`, either},
	{"contentMediaType is not asserted", `{"contentMediaType":"application/json"}`, `"{"`, either},
	{"items false", `{"items":false}`, `[1]`, never},
	{"items false, of none", `{"items":false}`, `[]`, decided},
	{"prefixItems, then items", `{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, `["a",1,"b"]`, never},
	{"prefixItems of fewer", `{"prefixItems":[{"type":"string"},{"type":"number"}],"items":false}`, `["a"]`, decided},
	{"prefixItems and no items", `{"prefixItems":[{"type":"string"}]}`, `["a",[1,1]]`, decided},
	{"too few items", `{"minItems":1}`, `[]`, never},
	{"too many items", `{"maxItems":1}`, `[1,2]`, never},

	{"const null", `{"const":null}`, `0`, never},
	{"const null", `{"const":null}`, `null`, decided},
	{"const false is not 0", `{"const":false}`, `0`, never},
	{"const false is not null", `{"const":false}`, `null`, never},
	{"const 1 is 1.0", `{"const":1}`, `1.0`, either},
	{"const 1 is not true", `{"const":1}`, `true`, never},
	{"const 1 is not a string", `{"const":1}`, `"1"`, never},
	{"const of an object", `{"const":{"a":1}}`, `{"a":2}`, never},
	{"const of an array", `{"const":[]}`, `[1]`, never},
	{"const and enum", `{"const":"a","enum":["b"]}`, `"a"`, never},
	{"enums of allOf", `{"enum":["a","b"],"allOf":[{"enum":["b","c"]}]}`, `"a"`, never},
	{"enum of null", `{"enum":[null]}`, `false`, never},
	{"enum of numbers", `{"enum":[1,2]}`, `3`, never},
	{"enum without values is none to v5", `{"enum":[]}`, `1`, either},
	{"enum of one type, not of another", `{"type":"string","enum":["a",null]}`, `null`, never},
	{"an enum's text is not trimmed", `{"enum":["a"]}`, `"a "`, never},
}

var hostileFormats = []hostileRow{
	{"an address of 254 characters", `{"format":"email"}`, address(2, 251), decided},
	{"an address of 255 characters", `{"format":"email"}`, address(2, 252), never},
	{"64 characters before the @", `{"format":"email"}`, address(64, 9), decided},
	{"65 characters before the @", `{"format":"email"}`, address(65, 9), never},
	{"a host's label of 63 characters", `{"format":"email"}`, `"a@` + strings.Repeat("b", 63) + `.c"`, decided},
	{"a host's label of 64 characters", `{"format":"email"}`, `"a@` + strings.Repeat("b", 64) + `.c"`, never},
	{"a host's last label of 64 characters", `{"format":"email"}`, `"a@b.` + strings.Repeat("c", 64) + `"`, never},
	{"the last minute", `{"format":"date-time"}`, `"2026-01-07T10:59:00Z"`, decided},
	{"minute 60", `{"format":"date-time"}`, `"2026-01-07T10:60:00Z"`, never},
	{"hour 24", `{"format":"date-time"}`, `"2026-01-07T24:00:00Z"`, never},
	{"second 60, which is no leap second", `{"format":"date-time"}`, `"2026-01-07T10:00:60Z"`, never},
	{"second 60, which is one", `{"format":"date-time"}`, `"2026-01-07T23:59:60Z"`, either},
	{"an offset of 24 hours", `{"format":"date-time"}`, `"2026-01-07T10:00:00+24:00"`, never},
	{"an offset of 60 minutes", `{"format":"date-time"}`, `"2026-01-07T10:00:00+00:60"`, never},
}

// address is a mail address with so many characters before and behind its @, in words of at most 49.
func address(local, host int) string {
	words := func(n int) string { return strings.Repeat(strings.Repeat("b", 49)+".", n/50+1)[:n-1] + "c" }
	return `"` + words(local) + "@" + words(host) + `"`
}

const draft2020 = `"$schema":"https://json-schema.org/draft/2020-12/schema"`

var hostileReferences = []hostileRow{
	{"a reference and what is beside it", `{"$ref":"#/$defs/d","type":"string","$defs":{"d":{"maxLength":1}}}`, `"ab"`, never},
	{"a reference and what is beside it", `{"$ref":"#/$defs/d","maxLength":1,"$defs":{"d":{"type":"string"}}}`, `"ab"`, never},
	{"recursive", `{"properties":{"next":{"$ref":"#"}},"required":["id"]}`, `{"id":1,"next":{"id":2,"next":{}}}`, never},
	{"recursive, another way", `{"properties":{"next":{"$ref":"#"}},"additionalProperties":{"type":"number"}}`, `{"next":{"next":{"a":"b"}}}`, never},
	{"recursive and valid", `{"properties":{"next":{"$ref":"#"}},"required":["id"]}`, `{"id":1,"next":{"id":2,"next":{"id":3}}}`, decided},
	{"in a circle", `{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"type":"array","items":{"$ref":"#/$defs/a"}}}}`, `[[[1]]]`, never},
	{"through allOf to itself in items", `{"allOf":[{"items":{"$ref":"#"}}],"type":"array"}`, `[[],[[1]]]`, never},
	{"an anchor", `{"$ref":"#x","$defs":{"d":{"$anchor":"x","type":"string"}}}`, `1`, never},
	{"a dynamic reference", `{"$dynamicRef":"#x","$defs":{"d":{"$dynamicAnchor":"x","type":"string"}}}`, `1`, never},
	{"a dynamic reference to the outermost",
		`{"$dynamicAnchor":"x","properties":{"a":{"$dynamicRef":"#x"}},"required":["b"]}`, `{"b":1,"a":{}}`, never},
	{"a dynamic reference in a place", `{"properties":{"a":{"$dynamicRef":"#x"}},"$defs":{"d":{"$dynamicAnchor":"x","type":"string"}}}`, `{"a":1}`, never},
	{"a recursive reference", `{"properties":{"a":{"$recursiveRef":"#"}},"required":["b"]}`, `{"b":1,"a":{}}`, never},
	{"a sub-schema of another draft", `{"properties":{"a":{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/$defs/d","type":"string"}},"$defs":{"d":{}}}`,
		`{"a":1}`, never},
	{"a sub-schema with an $id", `{` + draft2020 + `,"properties":{"a":{"$id":"test:///other","$ref":"#/$defs/d","$defs":{"d":{"type":"string"}}}},"$defs":{"d":{}}}`,
		`{"a":1}`, never},
	{"a reference to an $id", `{"$ref":"other","$defs":{"d":{"$id":"other","type":"string"}}}`, `1`, never},
	{"a reference into properties", `{"properties":{"a":{"type":"string"},"b":{"$ref":"#/properties/a"}}}`, `{"b":1}`, never},
	{"a reference to true", `{"$ref":"#/$defs/d","$defs":{"d":true}}`, `{"a":1,"a":2}`, never},
	{"a reference to false", `{"$ref":"#/$defs/d","$defs":{"d":false}}`, `1`, never},
	{"a metaschema", `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, `{"type":1}`, never},
	{"an old metaschema", `{"$ref":"https://json-schema.org/draft-04/schema"}`, `{"type":1}`, never},
	{"a part of a metaschema", `{"$ref":"https://json-schema.org/draft/2020-12/meta/validation#/$defs/simpleTypes"}`, `"strings"`, never},
}

// TestWorkIsBounded is of a schema by which each level doubles how often what is in it is looked at, and of one text that is long and deep.
func TestWorkIsBounded(t *testing.T) {
	c := onepass.Compile(compile(t, `{"type":["object","string"],"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`))
	nested := func(depth int) []byte {
		return []byte(strings.Repeat(`{"a":`, depth) + `"` + strings.Repeat("x", 1<<16) + `"` + strings.Repeat("}", depth))
	}
	require.True(t, c.Valid(nested(2)))
	require.False(t, c.Valid(nested(10)), "valid, but it would be read thousands of times")
}
