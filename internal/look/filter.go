package look

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Filter says which events are meant: those that pass every field. Its zero value lets all pass.
type Filter struct {
	Topic       string // a name, or a pattern of path.Match such as "dreamscape.payment.*"
	Correlation string
	Key         string
	Type        string // the envelope's eventType, or a pattern
	Source      string // the publishing service
	Where       Conditions
}

// Check names the field that is not as it has to be.
func (f Filter) Check() error {
	for _, p := range []struct{ field, pattern string }{{"topic", f.Topic}, {"type", f.Type}} {
		if _, err := path.Match(p.pattern, ""); err != nil {
			return fmt.Errorf("%s %q: not a name or a pattern such as dreamscape.payment.*", p.field, p.pattern)
		}
	}
	return nil
}

// Passes says whether an event is meant.
func (f Filter) Passes(e *Event) bool {
	return like(f.Topic, e.Topic) && (f.Correlation == "" || f.Correlation == e.CorrelationID) && (f.Key == "" || f.Key == e.Key) &&
		like(f.Type, e.EventType) && (f.Source == "" || f.Source == e.Source) && f.Where.hold(e)
}

func like(pattern, name string) bool {
	if pattern == "" || pattern == name {
		return true
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

// Conditions hold where each of them does.
type Conditions []condition

// condition compares a field of an event, such as payload.amount.
type condition struct {
	path     []string
	operator string
	value    string
	number   *big.Rat // of < and >
	pattern  *regexp.Regexp
}

// operators in the order in which they are looked for at one place.
var operators = []string{"!=", ">=", "<=", "=", "~", ">", "<"}

// ParseConditions reads texts such as "payload.amount>100", "source=auth-service", "payload.email~@example\.com$". The path begins with "payload",
// "headers" or a field of the envelope; the operators are = != < <= > >=, which compare numbers, and ~, a regular expression (RE2).
func ParseConditions(texts []string) (Conditions, error) {
	var all Conditions
	for _, text := range texts {
		c, err := parseCondition(text)
		if err != nil {
			return nil, fmt.Errorf("filter %q: %w", text, err)
		}
		all = append(all, c)
	}
	return all, nil
}

var errForm = errors.New("expected FIELD OPERATOR VALUE, such as payload.amount>100, with one of = != < <= > >= ~ (a regular expression)")

func parseCondition(text string) (condition, error) {
	at := strings.IndexAny(text, "!=<>~")
	if at <= 0 {
		return condition{}, errForm
	}
	c := condition{path: strings.Split(strings.TrimSpace(text[:at]), ".")}
	for _, op := range operators {
		if strings.HasPrefix(text[at:], op) {
			c.operator, c.value = op, strings.TrimSpace(text[at+len(op):])
			break
		}
	}
	if c.operator == "" {
		return condition{}, errForm
	}
	switch c.path[0] {
	case "payload", "headers":
	case "topic", "partition", "offset", "key", "eventId", "eventType", "version", "source", "correlationId", "causationId", "group":
		if len(c.path) > 1 {
			return condition{}, fmt.Errorf("%s has no fields", c.path[0])
		}
	default:
		return condition{}, fmt.Errorf("there is no field %q; expected payload.…, headers.…, topic, partition, offset, key, eventId, eventType, version, source, "+
			"correlationId, causationId or group", c.path[0])
	}
	var err error
	switch c.operator {
	case "~":
		if c.pattern, err = regexp.Compile(c.value); err != nil {
			return condition{}, fmt.Errorf("not a regular expression: %w", err)
		}
	case "<", "<=", ">", ">=":
		if c.number = number(c.value); c.number == nil {
			return condition{}, fmt.Errorf("%s compares numbers, %q is none", c.operator, c.value)
		}
	}
	return c, nil
}

func (cs Conditions) hold(e *Event) bool {
	for _, c := range cs {
		if !c.holds(e) {
			return false
		}
	}
	return true
}

func (c condition) holds(e *Event) bool {
	value, there := c.find(e)
	switch c.operator {
	case "=":
		return there && c.equal(value)
	case "!=":
		return !there || !c.equal(value)
	case "~":
		return there && c.pattern.MatchString(value)
	}
	n := number(value)
	if !there || n == nil {
		return false
	}
	order := n.Cmp(c.number)
	switch c.operator {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// equal compares numbers of a payload as such: 1.50 is 1.5.
func (c condition) equal(value string) bool {
	if value == c.value {
		return true
	}
	a, b := number(value), number(c.value)
	return c.path[0] == "payload" && a != nil && b != nil && a.Cmp(b) == 0
}

// number is a text as an exact number, nil for one that is none; long ones and large exponents are no business of a filter.
func number(text string) *big.Rat {
	if len(text) > 64 || strings.ContainsAny(text, "eE/xXpP_") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil
		}
		return new(big.Rat).SetFloat64(f)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil
	}
	return r
}

// find returns the text of a field; that of a JSON object or array is its JSON.
func (c condition) find(e *Event) (string, bool) {
	switch c.path[0] {
	case "topic":
		return e.Topic, true
	case "partition":
		return strconv.Itoa(int(e.Partition)), true
	case "offset":
		return strconv.FormatInt(e.Offset, 10), true
	case "key":
		return e.Key, true
	case "eventId":
		return e.EventID, e.EventID != ""
	case "eventType":
		return e.EventType, e.EventType != ""
	case "version":
		return e.Version, e.Version != ""
	case "source":
		return e.Source, e.Source != ""
	case "correlationId":
		return e.CorrelationID, e.CorrelationID != ""
	case "causationId":
		return e.CausationID, e.CausationID != ""
	case "group":
		return e.Group, e.Group != ""
	case "headers":
		name := strings.Join(c.path[1:], ".")
		for _, h := range e.Headers {
			if h.Name == name {
				return h.Value, true
			}
		}
		return "", false
	}
	return member(e.Payload, c.path[1:])
}

// member walks down into JSON.
func member(value json.RawMessage, names []string) (string, bool) {
	for _, name := range names {
		var object map[string]json.RawMessage
		var array []json.RawMessage
		if json.Unmarshal(value, &object) == nil && object != nil {
			next, there := object[name]
			if !there {
				return "", false
			}
			value = next
			continue
		}
		i, err := strconv.Atoi(name)
		if err != nil || json.Unmarshal(value, &array) != nil || i < 0 || i >= len(array) {
			return "", false
		}
		value = array[i]
	}
	var text string
	if json.Unmarshal(value, &text) == nil && len(value) > 0 && value[0] == '"' {
		return text, true
	}
	return string(value), true
}
