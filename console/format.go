package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/dreamscape/eventbus"
)

// functions are what templates write values with.
var functions = template.FuncMap{
	"number":  func(n any) string { return number(integer(n)) },
	"plural":  plural,
	"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"date":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"machine": func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") },
	"after":   after,
	"pretty":  pretty,
	"glance":  glance,
	"words":   func(name string) []string { return strings.SplitAfter(name, ".") }, // where a long name may break
	"behind":  behind,
	"stuck":   stuck,
	"hash":    func(key string) string { return eventbus.KeyHash([]byte(key)) },
	"cut":     cut,
	"asset":   func(name string) string { return name + "?v=" + static[name].tag },
}

// number writes 12340 as 12,340; -1 is what is not known.
func number(n int64) string {
	if n < 0 {
		return "?"
	}
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func integer(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int32:
		return int64(n)
	case int64:
		return n
	}
	return -1
}

// plural is a number with its noun, such as "1 event" or "12,340 events".
func plural(n any, noun string) string {
	count := integer(n)
	if count == 1 {
		return "1 " + noun
	}
	return number(count) + " " + noun + "s"
}

// after is a duration as people say it. Between clocks of two machines it may be negative.
func after(d time.Duration) string {
	switch {
	case d < 0:
		return "−" + after(-d)
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// pretty indents JSON. What is too long, or was cut, stays as it is.
func pretty(value json.RawMessage) string {
	var out bytes.Buffer
	if len(value) > shownPayload || deep(value) || json.Indent(&out, value, "", "  ") != nil || out.Len() > 2*shownPayload {
		return cut(string(value), shownPayload)
	}
	return out.String()
}

// deep says whether JSON may be nested so that indenting it would make far more of it: each level indents all below it.
func deep(value json.RawMessage) bool {
	depth := 0
	for _, b := range value { // brackets in strings count too, which does no harm
		switch b {
		case '[', '{':
			if depth++; depth > 32 {
				return true
			}
		case ']', '}':
			depth--
		}
	}
	return false
}

// glance is the beginning of a payload in one line, for a row that can be opened.
func glance(value json.RawMessage) string {
	var out bytes.Buffer
	if len(value) > shownGlance || json.Compact(&out, value) != nil {
		return cut(string(value[:min(len(value), shownGlance)]), shownGlance-1)
	}
	return cut(out.String(), shownGlance-1)
}
