package onepass_test

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// tryCompile compiles a schema as the bus does. Remotes are documents by their URLs; nothing else is loaded.
func tryCompile(source string, remotes map[string]string) (s *jsonschema.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("v5 panicked: %v", p)
		}
	}()
	c := jsonschema.NewCompiler()
	c.Draft, c.AssertFormat, c.ExtractAnnotations = jsonschema.Draft2020, true, true
	c.LoadURL = func(url string) (io.ReadCloser, error) {
		if text, ok := remotes[url]; ok {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return nil, fmt.Errorf("%s is not to be loaded", url)
	}
	onepass.Pin(c)
	if err := c.AddResource("test:///schema", strings.NewReader(source)); err != nil {
		return nil, err
	}
	return c.Compile("test:///schema")
}

// valid is the law: whether a text is strict JSON that v5 finds valid. Where v5 panics it is not.
func valid(s *jsonschema.Schema, text []byte) bool {
	v, err := parse(text)
	return err == nil && holds(s, v)
}

func holds(s *jsonschema.Schema, v any) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return s.Validate(v) == nil
}

// parse is the bus' parseJSON, written again.
func parse(text []byte) (any, error) {
	r := reader{d: jsontext.NewDecoder(bytes.NewReader(text))}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.d.ReadToken(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

type reader struct {
	d      *jsontext.Decoder
	values int
}

func (r *reader) value(depth int) (any, error) {
	if r.values++; depth > 64 || r.values > 65536 {
		return nil, errors.New("too deep, or too many values")
	}
	token, err := r.d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		object := map[string]any{}
		err := r.members('}', func() error {
			name, err := r.d.ReadToken()
			if err != nil {
				return err
			}
			key := name.String()
			object[key], err = r.value(depth + 1)
			return err
		})
		return object, err
	case '[':
		array := []any{}
		err := r.members(']', func() error {
			v, err := r.value(depth + 1)
			array = append(array, v)
			return err
		})
		return array, err
	case '"':
		return token.String(), nil
	case '0':
		return number(token.String())
	case 't', 'f':
		return token.Bool(), nil
	}
	return nil, nil
}

// members reads until the bracket, which it reads too.
func (r *reader) members(until jsontext.Kind, member func() error) error {
	for r.d.PeekKind() != until {
		if err := member(); err != nil {
			return err
		}
	}
	_, err := r.d.ReadToken()
	return err
}

func number(text string) (any, error) {
	_, exponent, has := strings.Cut(strings.ToLower(text), "e")
	n, err := strconv.Atoi(exponent)
	if len(text) > 64 || has && (err != nil || n > 400 || n < -400) {
		return nil, errors.New("a number of too many digits")
	}
	return stdjson.Number(text), nil
}
