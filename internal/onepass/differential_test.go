package onepass_test

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// pair is a schema and texts, all made by one seed.
type pair struct {
	seed   uint64
	source string
	schema *jsonschema.Schema
	all    []*jsonschema.Schema // that it consists of; only faults need them
	texts  [][]byte
}

// newPair makes a third of the texts nearly valid, a third mutated as values, and a third as bytes.
func newPair(seed uint64) (*pair, error) {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 0))}
	p := &pair{seed: seed, source: r.newSchema()}
	var err error
	if p.schema, err = tryCompile(p.source, nil); err != nil {
		return nil, err
	}
	for i := range 60 {
		r.values = 0
		v := r.near(0, r.root)
		if i%3 == 1 || r.chance(10) {
			for range 1 + r.IntN(2) {
				r.mutate(v)
			}
		}
		text := r.write(v)
		if i%3 == 2 {
			text = r.mutateBytes(text)
		}
		p.texts = append(p.texts, text)
	}
	return p, nil
}

// tally counts what the pairs were.
type tally struct {
	schemas, uncompiled, opaque int
	texts, valid                int
	decidable, decided          int // valid texts of schemas that are not opaque
}

func (n *tally) String() string {
	return fmt.Sprintf("%d schemas (%d opaque, %d more v5 does not compile), %d texts, %d of them valid; of the %d valid ones whose schema is not opaque "+
		"%d are decided, %d%%", n.schemas, n.opaque, n.uncompiled, n.texts, n.valid, n.decidable, n.decided, 100*n.decided/max(n.decidable, 1))
}

// compare holds a checker against the law, and counts.
func (n *tally) compare(t *testing.T, p *pair) {
	checker := onepass.Compile(p.schema)
	n.schemas++
	if checker.Opaque() {
		n.opaque++
	}
	for _, text := range p.texts {
		got, want := checker.Valid(text), valid(p.schema, text)
		require.False(t, got && !want, "decided, but not valid: EVENTBUS_ONEPASS_SEED=%d\n%s\n%q", p.seed, p.source, text)
		n.texts++
		if !want {
			continue
		}
		n.valid++
		if !checker.Opaque() {
			n.decidable++
		}
		if got {
			n.decided++
		}
	}
}

// TestDifferential compares the checker with v5 by random schemas and texts: for 5 s, or for EVENTBUS_ONEPASS_TIME, from EVENTBUS_ONEPASS_SEED on.
func TestDifferential(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("EVENTBUS_ONEPASS_TIME"), "5s"))
	require.NoError(t, err)
	first, err := strconv.ParseUint(cmp.Or(os.Getenv("EVENTBUS_ONEPASS_SEED"), "1"), 10, 64)
	require.NoError(t, err)
	var n tally
	seed := first
	for end := time.Now().Add(length); time.Now().Before(end); seed++ {
		p, err := newPair(seed)
		if err != nil {
			n.uncompiled++
			continue
		}
		n.compare(t, p)
	}
	t.Logf("seeds %d to %d: %v", first, seed-1, &n)
	if n.texts > 3000 { // few say little
		require.Less(t, 2*n.opaque, n.schemas, "most schemas are opaque: %v", &n)
		require.Greater(t, 4*n.valid, n.texts, "most texts are not valid: %v", &n)
		require.Greater(t, 10*n.decided, 6*n.decidable, "too few are decided: %v", &n)
	}
}

// fault is a checker that breaks the law: it forgets a field of the schema, or mends the text before it reads it.
type fault struct {
	name   string
	forget string // fields, with a + between
	mend   func(text []byte) []byte
}

// checker is nil where there is nothing to forget.
func (f *fault) checker(p *pair) *onepass.Checker {
	if f.forget == "" {
		return onepass.Compile(p.schema)
	}
	there := false
	for _, s := range p.all {
		whole := *s
		defer func() { *s = whole }()
		for name := range strings.SplitSeq(f.forget, "+") {
			field, empty := reflect.ValueOf(s).Elem().FieldByName(name), reflect.ValueOf(emptySchema).Elem().FieldByName(name)
			there = there || !reflect.DeepEqual(field.Interface(), empty.Interface())
			field.Set(empty)
		}
	}
	if !there {
		return nil
	}
	return onepass.Compile(p.schema)
}

var emptySchema = jsonschema.MustCompileString("test:///empty", "{}")

// all adds the schemas that a schema refers to.
func all(list []*jsonschema.Schema, v reflect.Value) []*jsonschema.Schema {
	switch v.Kind() {
	case reflect.Interface:
		return all(list, v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			list = all(list, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			list = all(list, v.MapIndex(key))
		}
	case reflect.Pointer:
		s, ok := v.Interface().(*jsonschema.Schema)
		if !ok || s == nil || slices.Contains(list, s) {
			return list
		}
		list = append(list, s)
		for name := range fields {
			list = all(list, v.Elem().FieldByName(name))
		}
	}
	return list
}

// faults are those that the random texts have to show.
func faults() (all []*fault) {
	for _, field := range strings.Fields(`Always Types Enum Constant Ref AllOf Properties Required AdditionalProperties DependentRequired MinProperties
		MaxProperties Items2020 PrefixItems MinItems MaxItems MinLength MaxLength Pattern Format Minimum Maximum ExclusiveMinimum ExclusiveMaximum
		MultipleOf Not AnyOf OneOf If+Then+Else PropertyNames PatternProperties UnevaluatedProperties DependentSchemas Dependencies Contains UniqueItems
		UnevaluatedItems DynamicRef`) {
		all = append(all, &fault{name: "forgets " + field, forget: field})
	}
	replace := func(name, pattern, by string) {
		re := regexp.MustCompile(pattern)
		all = append(all, &fault{name: name, mend: func(text []byte) []byte { return re.ReplaceAll(text, []byte(by)) }})
	}
	replace("allows a byte order mark", "^\ufeff", "")
	replace("allows a byte order mark after", "\ufeff$", "")
	replace("allows NUL for space", "\x00", " ")
	replace("allows other space", "\\v|\u00a0", " ")
	replace("allows control characters", "[\x01-\x1f]", " ")
	replace("allows a comma after", `,\s*([}\]])`, "$1")
	replace("allows any escape", `\\[^"\\/bfnrtu]`, "x")
	replace("allows half a pair", `\\u[dD][89a-fA-F][0-9a-fA-F]{2}`, "x")
	replace("allows leading zeros", `([[:,\-\s]|^)0+([0-9])`, "$1$2")
	replace("allows numbers without digits", `([0-9])\.([^0-9]|$)`, "$1$2")
	replace("allows long numbers", `([0-9]{60})[0-9]+`, "$1")
	replace("allows exponents of integers", `([0-9])[eE][-+]?[0-9]+`, "$1")
	replace("cuts fractions", `([0-9])\.[0-9]+`, "$1")
	replace("cuts digits beyond 15", `([0-9]{15})[0-9]+`, "$1")
	replace("drops a minus", `-([0-9])`, "$1")
	replace("counts an escape as six", `\\u00[0-7][0-9a-f]`, "aaaaaa")
	replace("is blind to depth", `^\[\[\[|\]\]\]$`, "")
	for name, mend := range map[string]func([]byte) []byte{
		"allows anything after":       firstValue,
		"lets the last of a name win": asEncodingJSON,
		"allows bad UTF-8":            func(text []byte) []byte { return bytes.ToValidUTF8(text, []byte("x")) },
		"counts bytes":                asciiOfSameLength,
	} {
		all = append(all, &fault{name: name, mend: mend})
	}
	return all
}

func firstValue(text []byte) []byte {
	v, err := jsontext.NewDecoder(bytes.NewReader(text)).ReadValue()
	if err != nil {
		return text
	}
	return v
}

func asEncodingJSON(text []byte) []byte {
	d := stdjson.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return text
	}
	return []byte(schemaText(v))
}

// asciiOfSameLength has an ASCII character for each byte of another one.
func asciiOfSameLength(text []byte) []byte {
	if !utf8.Valid(text) {
		return text
	}
	text = slices.Clone(text)
	for i, c := range text {
		if c >= utf8.RuneSelf {
			text[i] = 'a'
		}
	}
	return text
}

// TestDifferentialFinds is the test of the test above: each checker that is broken on purpose is found to break the law by the first few thousand
// schemas.
func TestDifferentialFinds(t *testing.T) {
	left := faults()
	seed := uint64(1)
	for ; len(left) > 0 && seed < 3000; seed++ {
		p, err := newPair(seed)
		if err != nil {
			continue
		}
		p.texts = slices.DeleteFunc(p.texts, func(text []byte) bool { return valid(p.schema, text) })
		p.all = all(nil, reflect.ValueOf(p.schema))
		left = slices.DeleteFunc(left, func(f *fault) bool { return f.found(p) })
	}
	var names []string
	for _, f := range left {
		names = append(names, f.name)
	}
	require.Empty(t, names, "what breaks the law like this is not found")
	t.Logf("all found by %d schemas", seed)
}

// found says whether the fault is seen in one of the texts, none of which is valid.
func (f *fault) found(p *pair) bool {
	checker := f.checker(p)
	if checker == nil {
		return false
	}
	return slices.ContainsFunc(p.texts, func(text []byte) bool {
		if f.mend != nil {
			text = f.mend(text)
		}
		return checker.Valid(text)
	})
}
