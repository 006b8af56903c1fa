package service

import (
	"fmt"
	"net/mail"
	"unicode/utf8"
)

// Problems collects what is wrong with a request's fields.
type Problems struct{ fields []Field }

// maxText bounds the strings of a request, in characters.
const maxText = 200

// Add says what was expected of a field.
func (p *Problems) Add(field, expected string) {
	p.fields = append(p.fields, Field{Field: field, Expected: expected})
}

// Require adds the field unless ok.
func (p *Problems) Require(ok bool, field, expected string) {
	if !ok {
		p.Add(field, expected)
	}
}

// Text wants 1 to 200 characters.
func (p *Problems) Text(field, value string) {
	n := utf8.RuneCountInString(value)
	p.Require(n >= 1 && n <= maxText, field, fmt.Sprintf("a string of 1 to %d characters", maxText))
}

// OptionalText wants at most 200 characters.
func (p *Problems) OptionalText(field, value string) {
	if value != "" {
		p.Text(field, value)
	}
}

// Email wants an e-mail address.
func (p *Problems) Email(field, value string) {
	a, err := mail.ParseAddress(value)
	ok := err == nil && a.Address == value && len(value) <= maxText
	p.Require(ok, field, "an e-mail address such as ada@example.com")
}
