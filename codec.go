package eventbus

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits on JSON from outside, so that no record can exhaust memory or crash a validator (which crashes through math/big on
// {"amount":1e10000000}).
const (
	maxDepth        = 64
	maxValues       = 1 << 16 // a few bytes of the wire may be many values, each of which takes some hundred
	maxNumberLength = 64
	maxExponent     = 400
)

// DecodeError says that a record is no event: its bytes are not strict JSON (RFC 8259 in UTF-8, without duplicate names or half
// surrogate pairs) or not of an envelope's shape. It never shows the value. Such a record is dead-lettered at once.
type DecodeError struct {
	// Reason is what was expected and where.
	Reason string
}

// Error says what was expected and where, never the value.
func (e *DecodeError) Error() string { return "undecodable event: " + e.Reason }

// parseJSON reads one strict JSON value into maps, slices, strings, booleans, nil and json.Number.
func parseJSON(data []byte) (any, error) {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	v, err := (&parser{d: d}).value(0)
	if err != nil {
		return nil, asDecodeError(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &DecodeError{Reason: fmt.Sprintf("malformed JSON: more than one value, at byte %d", d.InputOffset())}
	}
	return v, nil
}

// parser reads values.
type parser struct {
	d      *jsontext.Decoder
	values int // that it has read
}

func (p *parser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, &DecodeError{Reason: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	if p.values++; p.values > maxValues {
		return nil, &DecodeError{Reason: fmt.Sprintf("more than %d values", maxValues)}
	}
	tok, err := p.d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		return tok.String(), nil
	case '0':
		number := tok.String()
		if err := checkNumber(number); err != nil {
			return nil, &DecodeError{Reason: fmt.Sprintf("number at byte %d: %v", p.d.InputOffset(), err)}
		}
		return stdjson.Number(number), nil
	case 't', 'f':
		return tok.Bool(), nil
	default:
		return nil, nil
	}
}

func (p *parser) object(depth int) (any, error) {
	object := map[string]any{}
	for p.d.PeekKind() != '}' {
		name, err := p.d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		if object[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	_, err := p.d.ReadToken()
	return object, err
}

func (p *parser) array(depth int) (any, error) {
	array := []any{}
	for p.d.PeekKind() != ']' {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := p.d.ReadToken()
	return array, err
}

// checkNumber bounds what a number costs to whoever computes with it.
func checkNumber(s string) error {
	if len(s) > maxNumberLength {
		return fmt.Errorf("longer than %d characters", maxNumberLength)
	}
	_, exponent, found := strings.Cut(strings.ToLower(s), "e")
	if !found {
		return nil
	}
	if n, err := strconv.Atoi(exponent); err != nil || n > maxExponent || n < -maxExponent {
		return fmt.Errorf("exponent beyond ±%d", maxExponent)
	}
	return nil
}

// asDecodeError says where and what, without the bytes: a decoder's own text may quote them.
func asDecodeError(err error) error {
	var own *DecodeError
	if errors.As(err, &own) {
		return own
	}
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return &DecodeError{Reason: "malformed JSON: it ends too early"}
	}
	what := "malformed JSON"
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		what = "a name appears twice in one object"
	case strings.Contains(syntax.Err.Error(), "UTF-8"):
		what = "invalid UTF-8"
	case strings.Contains(syntax.Err.Error(), "surrogate"):
		what = "half a surrogate pair"
	case errors.Is(err, io.ErrUnexpectedEOF):
		what = "malformed JSON: it ends too early"
	}
	return &DecodeError{Reason: fmt.Sprintf("%s, at byte %d", what, syntax.ByteOffset)}
}

// toWire writes a Secret as it is, which only the wire does, and a json.Number as a number. fromWire reads numbers into any and
// json.Number digit by digit, by default they would become floats, and every RFC 3339 time.
var (
	plainToWire = json.Deterministic(true)
	toWire      = json.JoinOptions(plainToWire,
		json.WithMarshalers(json.JoinMarshalers(json.MarshalToFunc(writeSecret), json.MarshalToFunc(writeNumber))))
	plainFromWire = jsontext.AllowDuplicateNames(true) // there are none: the check came before
	fromWire      = json.WithUnmarshalers(json.JoinUnmarshalers(
		json.UnmarshalFromFunc(readAny), json.UnmarshalFromFunc(readNumber), json.UnmarshalFromFunc(readTime)))
)

// codec writes and reads the payloads of a type.
type codec struct{ to, from json.Options }

// newCodec leaves out what the type has no use for: it costs a look-up a field.
func newCodec(t reflect.Type) codec {
	c := codec{to: plainToWire, from: plainFromWire}
	c.look(t, map[reflect.Type]bool{})
	return c
}

// look looks for what needs toWire or fromWire. A type that reads or writes itself may ask for both.
func (c *codec) look(t reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	switch {
	case t == reflect.TypeFor[Secret]():
		c.to = toWire
	case t == reflect.TypeFor[time.Time]():
		c.from = fromWire
	case t == reflect.TypeFor[Decimal](), t == reflect.TypeFor[*Decimal]():
	case t == reflect.TypeFor[stdjson.Number](), t.Kind() == reflect.Interface, t.Implements(reflect.TypeFor[json.MarshalerTo]()),
		reflect.PointerTo(t).Implements(reflect.TypeFor[json.MarshalerTo]()), reflect.PointerTo(t).Implements(reflect.TypeFor[json.UnmarshalerFrom]()):
		c.to, c.from = toWire, fromWire
	case t.Kind() == reflect.Struct:
		for field := range t.Fields() {
			c.look(field.Type, seen)
		}
	case t.Kind() == reflect.Map:
		c.look(t.Key(), seen)
		c.look(t.Elem(), seen)
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice, t.Kind() == reflect.Array:
		c.look(t.Elem(), seen)
	}
}

func writeSecret(e *jsontext.Encoder, s Secret) error {
	return e.WriteToken(jsontext.String(string(s)))
}

func writeNumber(e *jsontext.Encoder, n stdjson.Number) error {
	if n == "" { // as encoding/json has it
		n = "0"
	}
	if _, err := ParseDecimal(string(n)); err != nil {
		return err
	}
	return e.WriteValue(jsontext.Value(n))
}

func readAny(d *jsontext.Decoder, into *any) (err error) {
	*into, err = (&parser{d: d}).value(0)
	return err
}

func readNumber(d *jsontext.Decoder, into *stdjson.Number) error {
	tok, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch tok.Kind() {
	case '0':
		*into = stdjson.Number(tok.String())
		return nil
	case 'n':
		*into = ""
		return nil
	}
	return errors.New("expected a JSON number")
}

// readTime reads the times that the schema's date-time format lets through.
func readTime(d *jsontext.Decoder, into *time.Time) error {
	tok, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch tok.Kind() {
	case '"':
		*into, err = parseTime(tok.String())
		return err
	case 'n':
		*into = time.Time{}
		return nil
	}
	return errors.New("expected an RFC 3339 date-time")
}

// write appends a payload.
func (c codec) write(to *bytes.Buffer, payload any) error {
	if err := json.MarshalWrite(to, payload, c.to); err != nil {
		return asInvalid("payload", err)
	}
	return nil
}

// read decodes a payload that has passed its schema into the topic's type.
func (c codec) read(payload []byte, into any) error {
	err := catch(func() error { return json.Unmarshal(payload, into, c.from) }) // the type's own methods may panic
	var panicked *panicError
	if err == nil || errors.As(err, &panicked) {
		return err
	}
	var semantic *json.SemanticError
	if errors.As(err, &semantic) && semantic.GoType != nil {
		return &DecodeError{Reason: fmt.Sprintf("payload: a JSON %s does not fit into Go's %s", kindName(semantic.JSONKind), semantic.GoType)}
	}
	return &DecodeError{Reason: fmt.Sprintf("payload: does not fit into Go's %T", into)}
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "value"
}

// asInvalid turns an encoder's refusal into an error without the value.
func asInvalid(field string, err error) error {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) && semantic.GoType != nil {
		return invalid(field, fmt.Sprintf("Go's %s cannot be written as JSON", semantic.GoType))
	}
	return invalid(field, "cannot be written as JSON: valid UTF-8 and unique names are needed")
}
