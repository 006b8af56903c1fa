package onepass

import (
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"sync/atomic"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// Checker knows of JSON texts that they are certainly valid by a schema. It is safe for concurrent use, and what it says never changes.
type Checker struct{ root *node }

// node is a schema, as far as it is understood.
type node struct {
	opaque bool // it is not understood: nothing is certainly valid by it
	types  kinds
	enums  []*enum // by const and by enum
	also   []*node // what is to hold too: $ref and allOf
	object
	array
	text
	number
}

// object are the keywords for objects.
type object struct {
	first     *atomic.Pointer[property] // see property.next
	known     map[string]*property
	required  uint64 // the bits of properties
	dependent []dependency
	others    *node // for what is not in properties; nil: anything
	closed    bool  // nothing else is allowed
	minProps  int
	maxProps  int // -1: any number
}

// property is a name that the schema speaks of.
type property struct {
	quoted  string // as it is written, with a colon; "" for one that is not plain ASCII
	bit     uint64
	node    *node // nil: anything
	capture int   // where its place is noted; -1: nowhere
	// next is the property that came after it in the first text. A writer has one order, and to compare names is quicker than to look them up. It is of
	// the same object: who changes one property makes all of them anew.
	next atomic.Pointer[property]
}

type dependency struct{ when, then uint64 } // dependentRequired

// array are the keywords for arrays.
type array struct {
	prefix   []*node
	items    *node // of what is after prefix; nil: anything
	minItems int
	maxItems int // -1: any number
}

// text are the keywords for strings.
type text struct {
	minLength, maxLength int // in runes; -1: any
	pattern              *regexp.Regexp
	format               func([]byte) bool
	matched              *atomic.Pointer[string] // the first text that matched pattern, which is often the only one, as of a version
}

// number are the keywords for numbers. Its bounds are exact: see decimal.
type number struct {
	min, max, over, under *float64 // over and under are exclusive
	multiple              *decimal
}

// enum are the values of an enum that can be compared as they are; others are not certainly in it.
type enum struct {
	texts         []string
	null, yes, no bool
}

// kinds is a set of JSON types; the zero value is all of them.
type kinds uint8

const (
	kindNull kinds = 1 << iota
	kindBoolean
	kindObject
	kindArray
	kindString
	kindNumber
	kindInteger
)

var kindNames = map[string]kinds{
	"null": kindNull, "boolean": kindBoolean, "object": kindObject, "array": kindArray, "string": kindString, "number": kindNumber, "integer": kindInteger,
}

func (k kinds) has(kind kinds) bool { return k == 0 || k&kind != 0 }

// understood are the fields of a schema that compile reads, or that say nothing of what is valid. In a schema that is understood, every other one is as
// it is in an empty schema.
var understood = map[string]bool{
	"Location": true, "Draft": true, "Title": true, "Description": true, "Default": true, "Comment": true, "ReadOnly": true, "WriteOnly": true,
	"Examples": true, "Deprecated": true,
	"Always": true, "Ref": true, "AllOf": true, "Types": true, "Constant": true, "Enum": true,
	"MinProperties": true, "MaxProperties": true, "Required": true, "Properties": true, "AdditionalProperties": true, "DependentRequired": true,
	"MinItems": true, "MaxItems": true, "PrefixItems": true, "Items2020": true,
	"MinLength": true, "MaxLength": true, "Pattern": true, "Format": true,
	"Minimum": true, "ExclusiveMinimum": true, "Maximum": true, "ExclusiveMaximum": true, "MultipleOf": true,

	"ContainsEval": true, // says something beside Contains only, and is not set in the schema true
}

// Compile returns the checker of a schema that was compiled by draft 2020-12 with the formats of [Pin]. It notes the places of these properties of the
// schema, in this order: see [Checker.Scan].
func Compile(s *jsonschema.Schema, captured ...string) *Checker {
	c := &Checker{root: (&compiler{nodes: map[*jsonschema.Schema]*node{}}).node(s)}
	for i, name := range captured {
		c = c.with(name, func(p *property) { p.capture = i })
	}
	return c
}

// Within returns a checker that also holds the property of this name to another checker, one that captures nothing.
func (c *Checker) Within(name string, inner *Checker) *Checker {
	return c.with(name, func(p *property) { p.node = both(p.node, inner.root) })
}

// with returns a checker that differs in a property of the root; what refers to the root still refers to what it was.
func (c *Checker) with(name string, change func(*property)) *Checker {
	root := *c.root
	root.known = map[string]*property{}
	for name, p := range c.root.known {
		root.known[name] = &property{quoted: p.quoted, bit: p.bit, node: p.node, capture: p.capture}
	}
	root.first = new(atomic.Pointer[property])
	if p := root.known[name]; p != nil {
		change(p)
	} else {
		root.opaque = true
	}
	return &Checker{root: &root}
}

// both is what holds where both hold. Where the first only names types it needs no pass of its own.
func both(a, b *node) *node {
	if a == nil {
		return b
	}
	plain := newNode()
	plain.types = a.types
	if reflect.DeepEqual(*a, *plain) && a.types&^(kindNumber|kindInteger) == a.types {
		merged := *b
		switch {
		case b.types == 0:
			merged.types = a.types
		case a.types != 0:
			merged.types &= a.types
			merged.opaque = merged.opaque || merged.types == 0
		}
		return &merged
	}
	n := newNode()
	n.also = []*node{a, b}
	return n
}

// Opaque says whether nothing is certainly valid by the schema: it has a keyword, where all texts come by, that is not understood.
func (c *Checker) Opaque() bool { return c.root.opaque }

func newNode() *node {
	return &node{object: object{maxProps: -1}, array: array{maxItems: -1}, text: text{minLength: -1, maxLength: -1}}
}

// compiler compiles each schema once: schemas may refer to themselves.
type compiler struct {
	nodes map[*jsonschema.Schema]*node
}

func (c *compiler) node(s *jsonschema.Schema) *node {
	if s == nil {
		return nil
	}
	if n := c.nodes[s]; n != nil {
		return n
	}
	n := newNode()
	c.nodes[s] = n
	if s.Draft != jsonschema.Draft2020 || !onlyUnderstood(s) {
		n.opaque = true
		return n
	}
	if min(s.MaxProperties, s.MaxItems, s.MaxLength) < -1 { // beyond an int: what v5 made of it forbids everything, and depends on the machine
		n.opaque = true
		return n
	}
	if s.Always != nil {
		n.opaque = !*s.Always
		return n
	}
	for _, name := range s.Types {
		kind, ok := kindNames[name]
		n.types |= kind
		n.opaque = n.opaque || !ok
	}
	if len(s.Constant) > 0 {
		n.enums = append(n.enums, newEnum(s.Constant[:1]))
	}
	if len(s.Enum) > 0 {
		n.enums = append(n.enums, newEnum(s.Enum))
	}
	if ref := c.node(s.Ref); ref != nil {
		n.also = append(n.also, ref)
	}
	for _, sub := range s.AllOf {
		n.also = append(n.also, c.node(sub))
	}
	ok := c.object(n, s)
	c.array(n, s)
	ok = n.text.compile(s) && ok
	ok = n.number.compile(s) && ok
	n.opaque = n.opaque || !ok
	return n
}

var emptySchema = reflect.ValueOf(*jsonschema.MustCompileString("eventbus:///empty", "{}"))

// onlyUnderstood says whether a schema has no keyword that is not read.
func onlyUnderstood(s *jsonschema.Schema) bool {
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && !understood[f.Name] && !emptyOrEqual(v.Field(i), emptySchema.Field(i)) {
			return false
		}
	}
	return true
}

func emptyOrEqual(v, empty reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	}
	return reflect.DeepEqual(v.Interface(), empty.Interface())
}

// maxKnown is how many names a schema of an object may speak of.
const maxKnown = 64

func (c *compiler) object(n *node, s *jsonschema.Schema) bool {
	n.minProps, n.maxProps = max(s.MinProperties, 0), s.MaxProperties
	switch others := s.AdditionalProperties.(type) {
	case nil:
	case bool:
		n.closed = !others
	case *jsonschema.Schema:
		n.others = c.node(others)
	default:
		return false
	}
	know := func(name string) (*property, bool) {
		p, there := n.known[name]
		if n.known == nil {
			n.known, n.first = map[string]*property{}, new(atomic.Pointer[property])
		}
		if !there {
			p = &property{quoted: quoted(name), bit: 1 << len(n.known), node: n.others, capture: -1}
			n.known[name] = p
		}
		return p, there
	}
	for name, sub := range s.Properties {
		p, _ := know(name)
		p.node = c.node(sub)
	}
	undeclared := false
	names := func(list []string) (bits uint64) {
		for _, name := range list {
			p, there := know(name)
			undeclared = undeclared || !there
			bits |= p.bit
		}
		return bits
	}
	n.required = names(s.Required)
	for name, list := range s.DependentRequired {
		n.dependent = append(n.dependent, dependency{when: names([]string{name}), then: names(list)})
	}
	return len(n.known) <= maxKnown && !(undeclared && n.closed)
}

func quoted(name string) string {
	for _, c := range []byte(name) {
		if class[c]&classText == 0 {
			return ""
		}
	}
	return `"` + name + `":`
}

func (c *compiler) array(n *node, s *jsonschema.Schema) {
	n.minItems, n.maxItems, n.items = max(s.MinItems, 0), s.MaxItems, c.node(s.Items2020)
	for _, sub := range s.PrefixItems {
		n.prefix = append(n.prefix, c.node(sub))
	}
}

func (t *text) compile(s *jsonschema.Schema) bool {
	t.minLength, t.maxLength, t.pattern = s.MinLength, s.MaxLength, s.Pattern
	if t.pattern != nil {
		t.matched = new(atomic.Pointer[string])
	}
	if s.Format == "" {
		return true
	}
	t.format = format(s.Format)
	return t.format != nil
}

func (n *number) compile(s *jsonschema.Schema) bool {
	ok := true
	bound := func(r *big.Rat) *float64 {
		if r == nil {
			return nil
		}
		f, exact := fifteenDigits(r)
		ok = ok && exact
		return &f
	}
	n.min, n.max, n.over, n.under = bound(s.Minimum), bound(s.Maximum), bound(s.ExclusiveMinimum), bound(s.ExclusiveMaximum)
	if s.MultipleOf == nil {
		return ok
	}
	d, exact := decimalOf(s.MultipleOf)
	n.multiple = &d
	return ok && exact
}

// fifteenDigits says whether a number is a decimal of 15 digits at most. Different ones are different as floats, in the same order (IEEE 754), so they
// can be compared as floats.
func fifteenDigits(r *big.Rat) (float64, bool) {
	f, _ := r.Float64()
	text := strconv.FormatFloat(f, 'e', 14, 64)
	back, ok := new(big.Rat).SetString(text)
	return f, ok && back.Cmp(r) == 0 && (f == 0 || abs(f) > 1e-200 && abs(f) < 1e200)
}

func abs(f float64) float64 { return max(f, -f) }

// decimalOf returns a positive number that is a decimal of 15 digits at most, of which as many are after the point.
func decimalOf(r *big.Rat) (decimal, bool) {
	d := decimal{}
	scaled := new(big.Rat).Set(r)
	for ; !scaled.IsInt(); d.scale++ {
		if d.scale == maxDigits {
			return decimal{}, false
		}
		scaled.Mul(scaled, big.NewRat(10, 1))
	}
	if !scaled.Num().IsInt64() || scaled.Sign() <= 0 || scaled.Num().Int64() >= 1e15 {
		return decimal{}, false
	}
	d.digits = scaled.Num().Int64()
	return d, true
}

func newEnum(values []any) *enum {
	e := &enum{}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			e.null = true
		case bool:
			e.yes, e.no = e.yes || v, e.no || !v
		case string:
			e.texts = append(e.texts, v)
		}
	}
	return e
}
