package service

import (
	stdjson "encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/dreamscape/eventbus"
)

// Body is a request's body, a struct with JSON names.
type Body interface {
	// Check adds what is wrong with the fields' values to p.
	Check(p *Problems)
}

const maxBody = 1 << 20

// Numbers in open objects keep their digits: json.Number, as in events.
var (
	exactIn  = json.WithUnmarshalers(json.UnmarshalFromFunc(readNumber))
	exactOut = json.WithMarshalers(json.MarshalToFunc(writeNumber))
)

func readNumber(d *jsontext.Decoder, into *any) error {
	if d.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	number, err := d.ReadValue()
	if err != nil {
		return err
	}
	_, err = eventbus.ParseDecimal(string(number)) // an event would refuse it, without naming the field
	*into = stdjson.Number(number)
	return err
}

func writeNumber(e *jsontext.Encoder, n stdjson.Number) error {
	return e.WriteValue(jsontext.Value(n))
}

// read decodes the body strictly and checks it.
func read[In Body](w http.ResponseWriter, r *http.Request) (In, error) {
	var in In
	body := http.MaxBytesReader(w, r.Body, maxBody)
	if err := json.UnmarshalRead(body, &in, json.RejectUnknownMembers(true), exactIn); err != nil {
		return in, bodyError(err)
	}
	var p Problems
	in.Check(&p)
	if len(p.fields) > 0 {
		return in, invalid(p.fields...)
	}
	return in, nil
}

// bodyError says which field a decoder's error is about. It does not quote the body.
func bodyError(err error) error {
	var (
		large    *http.MaxBytesError
		semantic *json.SemanticError
		syntax   *jsontext.SyntacticError
	)
	switch {
	case errors.As(err, &large):
		return Errorf(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", large.Limit)
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return invalid(Field{Field: dotted(semantic.JSONPointer), Expected: "no such field"})
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return invalid(Field{Field: dotted(syntax.JSONPointer), Expected: "the field once"})
	case errors.As(err, &semantic):
		return invalid(Field{Field: dotted(semantic.JSONPointer), Expected: kindOf(semantic.GoType)})
	}
	return invalid(Field{Field: "body", Expected: "a JSON object"})
}

func dotted(p jsontext.Pointer) string {
	if p == "" {
		return "body"
	}
	return strings.Join(slices.Collect(p.Tokens()), ".")
}

// kindOf is what JSON calls the values of a field's type.
func kindOf(t reflect.Type) string {
	switch {
	case t == nil:
		return "another type"
	case t == reflect.TypeFor[eventbus.Decimal]():
		return "a number such as 19.90"
	case t.Kind() == reflect.String:
		return "a string"
	case t == reflect.TypeFor[*any](): // a number within an open object: see readNumber
		return "a number of at most 64 characters, with an exponent from -400 to 400"
	}
	return "a JSON object"
}
