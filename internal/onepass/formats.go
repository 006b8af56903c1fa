package onepass

import (
	"cmp"
	"maps"
	"reflect"
	"runtime"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// pinned are v5's own formats.
var pinned = own(jsonschema.Formats)

// own leaves out what is not v5's function of that format: a package that was initialised before this one may have changed its table.
func own(formats map[string]func(any) bool) map[string]func(any) bool {
	formats = maps.Clone(formats)
	maps.DeleteFunc(formats, func(format string, f func(any) bool) bool {
		name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
		is, ours := strings.CutPrefix(name, "github.com/santhosh-tekuri/jsonschema/v5.is")
		return !ours || !strings.EqualFold(is, strings.ReplaceAll(cmp.Or(alias[format], format), "-", ""))
	})
	return formats
}

// alias are formats that have another's function.
var alias = map[string]string{"ip-address": "ipv4", "iri": "uri", "iri-reference": "uri-reference", "uriref": "uri-reference"}

// Pin has a compiler check the formats that [Compile] knows, whatever else is in the process.
func Pin(c *jsonschema.Compiler) { maps.Copy(c.Formats, pinned) }

// quick are those of them that are read without an allocation. Each is false where v5's is, and may be false where that is true.
var quick = map[string]func([]byte) bool{"uuid": isUUID, "date-time": isDateTime, "date": isDate, "email": isEmail}

// format is the function of a format; nil for one that is not pinned.
func format(name string) func([]byte) bool {
	f := pinned[name]
	if f == nil {
		return nil
	}
	if fast := quick[name]; fast != nil {
		return fast
	}
	return func(b []byte) bool { return f(string(b)) }
}

func isUUID(b []byte) bool {
	return len(b) == 36 && b[8] == '-' && b[13] == '-' && b[18] == '-' && b[23] == '-' &&
		allHex(b[:8]) && allHex(b[9:13]) && allHex(b[14:18]) && allHex(b[19:23]) && allHex(b[24:])
}

func allHex(b []byte) bool {
	for _, c := range b {
		if class[c]&classHex == 0 {
			return false
		}
	}
	return true
}

// isDateTime knows RFC 3339's date-time without leap seconds.
func isDateTime(b []byte) bool {
	if len(b) < 20 || b[10]|0x20 != 't' || !isDate(b[:10]) || b[13] != ':' || b[16] != ':' {
		return false
	}
	if !below(b[11:13], 24) || !below(b[14:16], 60) || !below(b[17:19], 60) {
		return false
	}
	b = b[19:]
	if b[0] == '.' {
		n := 1
		for n < len(b) && isDigit(b[n]) {
			n++
		}
		if b = b[n:]; n == 1 || len(b) == 0 {
			return false
		}
	}
	if len(b) == 1 {
		return b[0]|0x20 == 'z'
	}
	return len(b) == 6 && (b[0] == '+' || b[0] == '-') && b[3] == ':' && below(b[1:3], 24) && below(b[4:6], 60)
}

var daysOf = [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func isDate(b []byte) bool {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' || !below(b[:2], 100) || !below(b[2:4], 100) {
		return false
	}
	month, day := pair(b[5:7]), pair(b[8:10])
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	days := daysOf[month-1]
	if year := 100*pair(b[:2]) + pair(b[2:4]); month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days++
	}
	return day <= days
}

// pair is the number that two digits are; -1 where they are none.
func pair(b []byte) int {
	if !isDigit(b[0]) || !isDigit(b[1]) {
		return -1
	}
	return 10*int(b[0]-'0') + int(b[1]-'0')
}

func below(b []byte, limit int) bool {
	n := pair(b)
	return n >= 0 && n < limit
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isEmail knows addresses as most are: words of letters, digits and a few signs, an @, a host name.
func isEmail(b []byte) bool {
	at, start := -1, 0
	if len(b) > 254 {
		return false
	}
	for i, c := range b {
		switch {
		case c == '@' && at < 0:
			if i == start || i > 64 {
				return false
			}
			at, start = i, i+1
		case c == '.':
			if i == start || b[i-1] == '-' && at >= 0 {
				return false
			}
			start = i + 1
		case class[c]&classWord != 0:
			if c == '-' && at >= 0 && i == start || at >= 0 && class[c]&classHost == 0 || i-start >= 63 {
				return false
			}
		default:
			return false
		}
	}
	return at > 0 && start < len(b) && b[len(b)-1] != '-'
}

const (
	classHex  = 1 << iota
	classWord // of an address before its @
	classHost // of a host name
	classText // stands for itself in a JSON string
)

// class says what a byte is.
var class = func() (class [256]byte) {
	for c := range 256 {
		if c >= 0x20 && c < 0x80 && c != '"' && c != '\\' {
			class[c] |= classText
		}
	}
	add := func(chars string, what byte) {
		for _, c := range []byte(chars) {
			class[c] |= what
		}
	}
	const digits, lower, upper = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	add(digits+"abcdefABCDEF", classHex)
	add(digits+lower+upper+"-", classWord|classHost)
	add("_+", classWord)
	return class
}()
