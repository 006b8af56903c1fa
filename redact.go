package eventbus

import (
	"bytes"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// redact copies the JSON payload with writeOnly fields masked.
func (s *schema) redact(payload []byte) []byte {
	if _, err := parseJSON(payload); err != nil {
		return []byte(`"` + masked + `"`)
	}
	if s == nil {
		return slices.Clone(payload)
	}
	var out bytes.Buffer
	d, e := jsontext.NewDecoder(bytes.NewReader(payload)), jsontext.NewEncoder(&out)
	if err := mask(d, e, inPlace(nil, s.compiled)); err != nil {
		return []byte(`"` + masked + `"`)
	}
	return bytes.TrimSpace(out.Bytes())
}

// rules are the schemas that describe one value. The branches of a condition all count, whether they hold or not: a secret must
// not show because something else in the event is wrong.
type rules []*jsonschema.Schema

// inPlace adds schemas and all that they apply to the same value.
func inPlace(found rules, schemas ...*jsonschema.Schema) rules {
	for _, s := range schemas {
		if s == nil || slices.Contains(found, s) {
			continue
		}
		found = inPlace(append(found, s), s.Ref, s.DynamicRef, s.If, s.Then, s.Else)
		found = inPlace(found, slices.Concat(s.AllOf, s.AnyOf, s.OneOf)...)
		found = inPlace(found, slices.Collect(maps.Values(s.DependentSchemas))...)
	}
	return found
}

func (r rules) secret() bool {
	return slices.ContainsFunc(r, func(s *jsonschema.Schema) bool { return s.WriteOnly })
}

// member returns the rules of an object's member.
func (r rules) member(name string) rules {
	var found rules
	for _, s := range r {
		found = inPlace(found, s.Properties[name], s.UnevaluatedProperties)
		known := s.Properties[name] != nil
		for pattern, sub := range s.PatternProperties {
			if pattern.MatchString(name) {
				known, found = true, inPlace(found, sub)
			}
		}
		if other, ok := s.AdditionalProperties.(*jsonschema.Schema); ok && !known {
			found = inPlace(found, other)
		}
	}
	return found
}

// element returns the rules of an array's i-th element.
func (r rules) element(i int) rules {
	var found rules
	for _, s := range r {
		found = inPlace(found, s.Contains, s.UnevaluatedItems)
		if i < len(s.PrefixItems) {
			found = inPlace(found, s.PrefixItems[i])
			continue
		}
		found = inPlace(found, s.Items2020)
	}
	return found
}

// mask copies one value.
func mask(d *jsontext.Decoder, e *jsontext.Encoder, r rules) error {
	if r.secret() {
		if err := d.SkipValue(); err != nil {
			return err
		}
		return e.WriteToken(jsontext.String(masked))
	}
	switch d.PeekKind() {
	case '{':
		return maskObject(d, e, r)
	case '[':
		return maskArray(d, e, r)
	}
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	return e.WriteValue(value)
}

func maskObject(d *jsontext.Decoder, e *jsontext.Encoder, r rules) error {
	if _, err := copyToken(d, e); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := copyToken(d, e)
		if err != nil {
			return err
		}
		if err := mask(d, e, r.member(name)); err != nil {
			return err
		}
	}
	_, err := copyToken(d, e)
	return err
}

func maskArray(d *jsontext.Decoder, e *jsontext.Encoder, r rules) error {
	if _, err := copyToken(d, e); err != nil {
		return err
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		if err := mask(d, e, r.element(i)); err != nil {
			return err
		}
	}
	_, err := copyToken(d, e)
	return err
}

// copyToken copies one token and returns its text.
func copyToken(d *jsontext.Decoder, e *jsontext.Encoder) (string, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return "", err
	}
	text := tok.String()
	return text, e.WriteToken(tok)
}
