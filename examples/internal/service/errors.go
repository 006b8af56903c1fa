package service

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dreamscape/eventbus"
)

// Error is what a request is answered with in place of its result.
type Error struct {
	Status int     `json:"-"`
	Text   string  `json:"error"`
	Fields []Field `json:"fields,omitempty"`
}

// Field is a field of a request that is not as it should be.
type Field struct {
	Field    string `json:"field"` // dotted; "body" for the body as a whole
	Expected string `json:"expected"`
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an [Error] of an HTTP status.
func Errorf(status int, format string, args ...any) error {
	return &Error{Status: status, Text: fmt.Sprintf(format, args...)}
}

// Invalid is the answer to a body with a field that is not as it should be.
func Invalid(field, expected string) error {
	return invalid(Field{Field: field, Expected: expected})
}

func invalid(fields ...Field) *Error {
	return &Error{Status: http.StatusBadRequest, Text: "invalid request", Fields: fields}
}

// asError finds the answer to any error of a request.
func asError(err error) *Error {
	var (
		own    *Error
		schema *eventbus.SchemaError
		decode *eventbus.DecodeError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &schema): // what the checks here let through and the event's schema does not
		return invalid(schemaFields(schema)...)
	case errors.As(err, &decode):
		return invalid(Field{Field: "body", Expected: decode.Reason})
	}
	return &Error{Status: http.StatusServiceUnavailable, Text: "not done, repeat the request: " + err.Error()}
}

func schemaFields(broken *eventbus.SchemaError) []Field {
	fields := make([]Field, len(broken.Violations))
	for i, v := range broken.Violations {
		fields[i] = Field{Field: strings.TrimPrefix(v.Field, "payload."), Expected: v.Rule}
	}
	return fields
}
