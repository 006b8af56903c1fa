package eventbus

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dreamscape/eventbus/internal/onepass"
	"github.com/dreamscape/eventbus/schemas"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// SchemaError says which fields of an event break which rules. It names fields and rules as the schema does and never shows a
// value. Publishing refuses such an event; a consumed one is dead-lettered at once.
type SchemaError struct {
	Violations []Violation
}

// Violation is one broken rule.
type Violation struct {
	Field string // dotted, such as "payload.email"; names that the schema does not know are shown as *
	Rule  string // such as "is required" or `format "email"`
}

// Error lists the violations.
func (e *SchemaError) Error() string {
	parts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		parts[i] = v.Field + ": " + v.Rule
	}
	return "invalid event: " + strings.Join(parts, "; ")
}

func invalid(field, rule string) error {
	return &SchemaError{Violations: []Violation{{Field: field, Rule: rule}}}
}

// schema is a compiled JSON Schema and what error texts need of its source.
type schema struct {
	compiled *jsonschema.Schema
	source   map[string]any
	names    map[string]bool // every property name in it
	root     string          // the dotted field that instances are at
}

var envelopeSchema = sync.OnceValue(func() *schema {
	s, err := compileSchema("envelope", schemas.Envelope())
	if err != nil {
		panic("eventbus: schemas/envelope.json: " + err.Error())
	}
	return s
})

var (
	errReference = errors.New("a reference out of the document is never loaded")
	errDraft     = errors.New(`$schema: expected "` + draft2020 + `"`)
)

const draft2020 = "https://json-schema.org/draft/2020-12/schema"

// compileSchema compiles by JSON Schema 2020-12 with formats asserted. The validator loads file:// references unless it is given
// a loader that refuses; a nil loader would fall back to the global one.
func compileSchema(name string, source []byte) (*schema, error) {
	tree, err := parseJSON(source)
	if err != nil {
		return nil, err
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, errors.New("expected a JSON object")
	}
	if draft, there := object["$schema"]; there && draft != draft2020 {
		return nil, errDraft
	}
	c := jsonschema.NewCompiler()
	c.Draft = jsonschema.Draft2020
	c.AssertFormat = true
	c.ExtractAnnotations = true // for writeOnly
	onepass.Pin(c)
	c.LoadURL = func(string) (io.ReadCloser, error) { return nil, errReference }
	location := "eventbus:///" + name
	if err := c.AddResource(location, bytes.NewReader(source)); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(location)
	if err != nil {
		return nil, err
	}
	s := &schema{compiled: compiled, source: object, names: map[string]bool{}}
	collectNames(object, s.names)
	return s, nil
}

func collectNames(node any, names map[string]bool) {
	switch node := node.(type) {
	case map[string]any:
		if properties, ok := node["properties"].(map[string]any); ok {
			for name := range properties {
				names[name] = true
			}
		}
		for _, child := range node {
			collectNames(child, names)
		}
	case []any:
		for _, child := range node {
			collectNames(child, names)
		}
	}
}

// within returns the schema for instances that are at field.
func (s *schema) within(field string) *schema {
	if s == nil {
		return &schema{root: field}
	}
	at := *s
	at.root = field
	return &at
}

// validate checks a parsed value. A schema without a document only asks for an object.
func (s *schema) validate(instance any) (err error) {
	if s.compiled == nil {
		if _, ok := instance.(map[string]any); !ok {
			return invalid(s.root, `type "object"`)
		}
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = invalid(s.field("", nil), "the validator gave up on it")
		}
	}()
	var broken *jsonschema.ValidationError
	if err := s.compiled.Validate(instance); errors.As(err, &broken) {
		return &SchemaError{Violations: s.violations(broken, instance)}
	} else if err != nil {
		return invalid(s.field("", nil), "the validator gave up on it")
	}
	return nil
}

// maxViolations keeps an error text, and the header it ends up in, short.
const maxViolations = 8

// violations says in our words what the validator found: its own texts quote values. They are sorted, since the validator's order
// is that of a Go map and one broken event must always have one error text.
func (s *schema) violations(broken *jsonschema.ValidationError, instance any) []Violation {
	found := s.leaves(broken, instance, nil)
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Rule, b.Rule))
	})
	found = slices.Compact(found)
	return found[:min(len(found), maxViolations)]
}

func (s *schema) leaves(e *jsonschema.ValidationError, instance any, found []Violation) []Violation {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			found = s.leaves(cause, instance, found)
		}
		return found
	}
	field := s.field(e.InstanceLocation, instance)
	keyword, rule := s.rule(e.AbsoluteKeywordLocation)
	if required, ok := rule.([]any); ok && keyword == "required" {
		if lacking := missing(field, required, lookUp(instance, e.InstanceLocation)); lacking != nil {
			return append(found, lacking...)
		}
	}
	if name, ok := rule.(string); ok && keyword == "dependentRequired" {
		return append(found, Violation{Field: join(field, name), Rule: "is required"})
	}
	if rule == false {
		return append(found, Violation{Field: field, Rule: "is not allowed"})
	}
	text, err := stdjson.Marshal(rule)
	if rule == nil || err != nil || len(text) > 120 {
		return append(found, Violation{Field: field, Rule: "breaks " + keyword})
	}
	return append(found, Violation{Field: field, Rule: keyword + " " + string(text)})
}

// rule finds the keyword at a location of the schema, and what the schema says there; nil where that is another document.
func (s *schema) rule(location string) (keyword string, rule any) {
	document, pointer, _ := strings.Cut(location, "#")
	path := segments(pointer)
	if len(path) > 0 {
		keyword = path[len(path)-1]
	}
	if n := len(path); n > 2 && path[n-3] == "dependentRequired" && isIndex(keyword) {
		keyword = path[n-3]
	}
	if strings.HasPrefix(s.compiled.Location, document+"#") {
		rule = lookUp(s.source, pointer)
	}
	return keyword, rule
}

func isIndex(name string) bool {
	_, err := strconv.ParseUint(name, 10, 31)
	return err == nil
}

func missing(field string, required []any, instance any) []Violation {
	object, _ := instance.(map[string]any)
	var found []Violation
	for _, n := range required {
		name, _ := n.(string)
		if _, there := object[name]; !there {
			found = append(found, Violation{Field: join(field, name), Rule: "is required"})
		}
	}
	return found
}

// field makes a dotted path of a JSON pointer into instance, hiding names that only the instance has.
func (s *schema) field(pointer string, instance any) string {
	path := s.root
	for _, name := range segments(pointer) {
		_, index := instance.([]any)
		instance = child(instance, name)
		if !index && !s.names[name] {
			name = "*"
		}
		path = join(path, name)
	}
	if path == "" {
		return "event"
	}
	return path
}

func join(path, name string) string {
	if path == "" || path == "event" {
		return name
	}
	return path + "." + name
}

// lookUp follows a JSON pointer through a parsed value; nil where it leads nowhere.
func lookUp(node any, pointer string) any {
	for _, name := range segments(pointer) {
		node = child(node, name)
	}
	return node
}

// segments splits a JSON pointer (RFC 6901) in a URI's fragment, as the validator writes them: percent-encoded.
func segments(pointer string) []string {
	if pointer == "" {
		return nil
	}
	names := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, name := range names {
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
		names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return names
}

func child(node any, name string) any {
	switch node := node.(type) {
	case map[string]any:
		return node[name]
	case []any:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(node) {
			return node[i]
		}
	}
	return nil
}
