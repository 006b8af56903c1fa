// Package onepass says of a JSON text, in one pass over its bytes, that it is certainly valid by a JSON Schema. What it does not say so of may be valid
// too: then a validator has to be asked, github.com/santhosh-tekuri/jsonschema/v5, out of whose compiled schema a checker is made. It allocates nothing but
// for strings of formats that are rare: those other than uuid, date-time, date and email are asked as strings of the validator's own functions.
//
// Its one law: what it finds valid is strict JSON (RFC 8259 in UTF-8, without duplicate names or half surrogate pairs) within the limits below, and is valid by that
// validator. Whatever makes that hard to say is not certain: a keyword that is not understood, an escape in a string that has to match something, a
// number of many digits, an object of many names.
package onepass

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"sync/atomic"
	"unicode/utf8"
)

const (
	maxDepth    = 64      // schemas that refer to schemas for the same value included
	maxSteps    = 1 << 16 // values looked at, those that are looked at again included
	maxAgain    = 64      // how often the text may be read again, as a whole: a value is read once for each schema that is to hold too
	maxNames    = 48      // in the objects that are open at a time, that their schemas do not speak of
	maxDigits   = 15      // of a number that is compared
	maxNumber   = 64      // characters of one that is not
	uncertain   = -1
	notCaptured = -1
)

// Span is the place of a value in the text.
type Span struct {
	Start, End int  // 0, 0: it is not there
	Plain      bool // a string without escapes, whose bytes are between the quotes
}

// scan is one pass.
type scan struct {
	data  []byte
	depth int
	steps int
	again int64 // bytes read again
	plain bool  // what the string that was read last is
	open  int   // how many of names are in use
	names [maxNames]name
}

// name is the place of one.
type name struct{ start, end int32 }

// Valid says whether a text is certainly one JSON value that is valid.
func (c *Checker) Valid(text []byte) bool { return c.Scan(text, nil) }

// Scan is Valid, and notes in captured where the values of the properties are that Compile was told of. captured has room for all of them, or is nil.
// Where Scan is false it may hold anything.
func (c *Checker) Scan(text []byte, captured []Span) bool {
	clear(captured)
	if len(text) > math.MaxInt32 {
		return false
	}
	s := scan{data: text}
	at := s.value(c.root, s.space(0), captured)
	return at != uncertain && s.space(at) == len(text)
}

func (s *scan) space(at int) int {
	for at < len(s.data) && (s.data[at] == ' ' || s.data[at] == '\n' || s.data[at] == '\r' || s.data[at] == '\t') {
		at++
	}
	return at
}

// at is a byte of the text, 0 after its end.
func (s *scan) at(i int) byte {
	if i < len(s.data) {
		return s.data[i]
	}
	return 0
}

// value reads the value that begins at start, and returns where it ends. A nil node is anything. captured is nil but for the root's value: it is not a
// field, or it would be on the heap with what the formats are given.
func (s *scan) value(n *node, start int, captured []Span) int {
	if n == nil {
		n = anything
	}
	s.depth++
	s.steps++
	if n.opaque || s.depth > maxDepth || s.steps > maxSteps {
		return uncertain
	}
	end := s.one(n, start, captured)
	for _, also := range n.also {
		if s.again += int64(end - start); end == uncertain || s.again/maxAgain > int64(len(s.data)) || s.value(also, start, nil) != end {
			return uncertain
		}
	}
	s.depth--
	return end
}

var anything = newNode()

// one reads a value by the keywords of one schema.
func (s *scan) one(n *node, start int, captured []Span) int {
	switch c := s.at(start); c {
	case '{':
		if !n.types.has(kindObject) || n.enums != nil {
			return uncertain
		}
		return s.object(n, start, captured)
	case '[':
		if !n.types.has(kindArray) || n.enums != nil {
			return uncertain
		}
		return s.array(n, start)
	case '"':
		if !n.types.has(kindString) {
			return uncertain
		}
		return s.text(n, start)
	case 't':
		return s.literal(start, "true", n.types.has(kindBoolean) && n.allows(func(e *enum) bool { return e.yes }))
	case 'f':
		return s.literal(start, "false", n.types.has(kindBoolean) && n.allows(func(e *enum) bool { return e.no }))
	case 'n':
		return s.literal(start, "null", n.types.has(kindNull) && n.allows(func(e *enum) bool { return e.null }))
	default:
		if n.enums != nil {
			return uncertain
		}
		return s.number(n, start)
	}
}

func (n *node) allows(in func(*enum) bool) bool {
	for _, e := range n.enums {
		if !in(e) {
			return false
		}
	}
	return true
}

// has takes time by the number of texts, which are few.
func (e *enum) has(content []byte) bool {
	for _, text := range e.texts {
		if string(content) == text {
			return true
		}
	}
	return false
}

func (s *scan) literal(start int, text string, allowed bool) int {
	if !allowed || !bytes.HasPrefix(s.data[start:], []byte(text)) {
		return uncertain
	}
	return start + len(text)
}

func (s *scan) object(n *node, at int, captured []Span) int {
	base, seen, count := s.open, uint64(0), 0
	expected := n.first
	at = s.space(at + 1)
	if s.at(at) == '}' {
		return s.close(n, seen, count, at)
	}
	for {
		p, start := s.name(n, expected, at)
		if start == uncertain {
			return uncertain
		}
		inner, capture := n.others, notCaptured
		if p != nil {
			if seen&p.bit != 0 {
				return uncertain
			}
			seen |= p.bit
			inner, capture, expected = p.node, p.capture, &p.next
		} else if n.closed || !s.note(base, at) {
			return uncertain
		}
		count++
		if at = s.value(inner, start, nil); at == uncertain {
			return uncertain
		}
		if capture != notCaptured && captured != nil {
			captured[capture] = s.span(start, at)
		}
		at = s.space(at)
		switch s.at(at) {
		case ',':
			at = s.space(at + 1)
		case '}':
			s.open = base
			return s.close(n, seen, count, at)
		default:
			return uncertain
		}
	}
}

// name reads the name at a place, and the colon. It returns the property of this name, nil for one that the schema does not speak of, and where the
// value begins.
func (s *scan) name(n *node, expected *atomic.Pointer[property], at int) (*property, int) {
	var likely *property
	if expected != nil {
		likely = expected.Load()
	}
	if likely != nil {
		if after := at + len(likely.quoted); after <= len(s.data) && string(s.data[at:after]) == likely.quoted {
			return likely, s.space(after)
		}
	}
	if s.at(at) != '"' {
		return nil, uncertain
	}
	end, plain, _ := s.string(at)
	if end == uncertain || !plain {
		return nil, uncertain
	}
	p := n.known[string(s.data[at+1:end-1])]
	if likely == nil && p != nil && p.quoted != "" {
		expected.CompareAndSwap(nil, p)
	}
	if at = s.space(end); s.at(at) != ':' {
		return nil, uncertain
	}
	return p, s.space(at + 1)
}

// note remembers the name at a place, of the object whose names begin at base; false where it has it already, or no room.
func (s *scan) note(base, at int) bool {
	if s.open == maxNames {
		return false
	}
	start := at + 1
	end := start + bytes.IndexByte(s.data[start:], '"') // it has no escapes
	text := s.data[start:end]
	for _, other := range s.names[base:s.open] {
		if bytes.Equal(s.data[other.start:other.end], text) {
			return false
		}
	}
	s.names[s.open] = name{int32(start), int32(end)} // #nosec G115 -- within the text, see Scan
	s.open++
	return true
}

// close checks what counts at the end of an object.
func (s *scan) close(n *node, seen uint64, count, at int) int {
	if seen&n.required != n.required || count < n.minProps || n.maxProps >= 0 && count > n.maxProps {
		return uncertain
	}
	for _, d := range n.dependent {
		if seen&d.when != 0 && seen&d.then != d.then {
			return uncertain
		}
	}
	return at + 1
}

func (s *scan) span(start, end int) Span {
	if s.data[start] == '"' && s.plain {
		return Span{Start: start + 1, End: end - 1, Plain: true}
	}
	return Span{Start: start, End: end}
}

func (s *scan) array(n *node, at int) int {
	count := 0
	at = s.space(at + 1)
	if s.at(at) == ']' {
		return s.closeArray(n, count, at)
	}
	for {
		inner := n.items
		if count < len(n.prefix) {
			inner = n.prefix[count]
		}
		count++
		if at = s.value(inner, at, nil); at == uncertain {
			return uncertain
		}
		at = s.space(at)
		switch s.at(at) {
		case ',':
			at = s.space(at + 1)
		case ']':
			return s.closeArray(n, count, at)
		default:
			return uncertain
		}
	}
}

func (s *scan) closeArray(n *node, count, at int) int {
	if count < n.minItems || n.maxItems >= 0 && count > n.maxItems {
		return uncertain
	}
	return at + 1
}

func (s *scan) text(n *node, start int) int {
	end, plain, runes := s.string(start)
	s.plain = plain
	if end == uncertain || n.minLength > runes || n.maxLength >= 0 && runes > n.maxLength {
		return uncertain
	}
	if n.pattern == nil && n.format == nil && n.enums == nil {
		return end
	}
	content := s.data[start+1 : end-1]
	switch {
	case !plain,
		n.format != nil && !n.format(content),
		n.pattern != nil && !n.matches(content),
		!n.allows(func(e *enum) bool { return e.has(content) }):
		return uncertain
	}
	return end
}

func (t *text) matches(content []byte) bool {
	first := t.matched.Load()
	if first != nil && string(content) == *first {
		return true
	}
	if !t.pattern.Match(content) {
		return false
	}
	if first == nil {
		text := string(content)
		t.matched.CompareAndSwap(nil, &text)
	}
	return true
}

// string reads a string with its quotes: where it ends, whether it is without escapes, and how many runes it has.
func (s *scan) string(start int) (end int, plain bool, runes int) {
	data, i, extra := s.data, start+1, 0 // extra: bytes beyond one a rune
	plain = true
	for {
		if i = skipText(data, i); i == len(data) {
			return uncertain, false, 0
		}
		var size int
		switch c := data[i]; {
		case c == '"':
			return i + 1, plain, i - start - 1 - extra
		case c == '\\':
			plain = false
			size = s.escape(i)
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				return uncertain, false, 0
			}
			size = n
		}
		if size == 0 { // a control character, or an escape that is none
			return uncertain, false, 0
		}
		i, extra = i+size, extra+size-1
	}
}

// IsText says whether bytes stand for themselves in a JSON string: all are ASCII, and none has to be escaped.
func IsText(b []byte) bool { return skipText(b, 0) == len(b) }

// skipText returns where the first byte from i on is that is not classText.
func skipText(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		if other := notText(binary.LittleEndian.Uint64(data[i:])); other != 0 {
			return i + bits.TrailingZeros64(other)/8
		}
	}
	for i < len(data) && class[data[i]]&classText != 0 {
		i++
	}
	return i
}

// notText marks those of eight bytes that are not classText by their highest bits. It may mark bytes above such a one that are, to which it has
// borrowed from: the lowest mark is right.
func notText(b uint64) uint64 {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	quote, escape := b^(ones*'"'), b^(ones*'\\')
	return (b | (b - ones*0x20) | (quote - ones) | (escape - ones)) & highest
}

// escape is how long an escape is; 0 where it is none, or half a surrogate pair.
func (s *scan) escape(at int) int {
	switch s.at(at + 1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		switch u := s.hex(at + 2); {
		case u < 0 || u >= 0xdc00 && u < 0xe000:
			return 0
		case u < 0xd800 || u >= 0xe000:
			return 6
		}
		if low := s.hex(at + 8); s.at(at+6) == '\\' && s.at(at+7) == 'u' && low >= 0xdc00 && low < 0xe000 {
			return 12
		}
	}
	return 0
}

// hex is the number of four hexadecimal digits; -1 where they are none.
func (s *scan) hex(at int) int {
	u := 0
	for i := range 4 {
		c := s.at(at + i)
		if class[c]&classHex == 0 {
			return -1
		}
		if digit := int(c); c <= '9' {
			u = 16*u + digit - '0'
		} else {
			u = 16*u + digit&^0x20 - 'A' + 10
		}
	}
	return u
}

// decimal is digits / 10^scale.
type decimal struct {
	digits int64
	scale  int
}

func (s *scan) number(n *node, start int) int {
	at := start
	negative := s.at(at) == '-'
	if negative {
		at++
	}
	first := at
	d := decimal{}
	whole := s.digits(&at, &d)
	if whole == 0 || whole > 1 && s.data[first] == '0' {
		return uncertain
	}
	broken := false // it has digits other than 0 after its point
	if s.at(at) == '.' {
		at++
		from := at
		if d.scale = s.digits(&at, &d); d.scale == 0 {
			return uncertain
		}
		broken = len(bytes.TrimLeft(s.data[from:at], "0")) > 0
	}
	if c := s.at(at); c == 'e' || c == 'E' || at-start > maxNumber {
		return uncertain
	}
	if !n.types.has(kindNumber) && (broken || !n.types.has(kindInteger)) {
		return uncertain
	}
	if n.number != (number{}) && (whole+d.scale > maxDigits || !n.number.allows(d, negative)) {
		return uncertain
	}
	return at
}

// digits reads digits, adds them to d as far as it has room, and returns how many there are.
func (s *scan) digits(at *int, d *decimal) int {
	start := *at
	for isDigit(s.at(*at)) {
		if d.digits < 1e17 {
			d.digits = 10*d.digits + int64(s.data[*at]-'0')
		}
		*at++
	}
	return *at - start
}

var powers = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// allows says whether a number of 15 digits at most is certainly allowed. As a float it is the nearest one: both of its parts are exact.
func (n *number) allows(d decimal, negative bool) bool {
	f := float64(d.digits) / float64(powers[d.scale])
	if negative {
		f = -f
	}
	switch {
	case n.min != nil && f < *n.min, n.max != nil && f > *n.max, n.over != nil && f <= *n.over, n.under != nil && f >= *n.under:
		return false
	}
	return n.multiple == nil || d.isMultiple(*n.multiple)
}

// isMultiple says whether d is certainly a multiple of m, which is not 0.
func (d decimal) isMultiple(m decimal) bool {
	shift := m.scale - d.scale
	if shift > 3 || shift < -3 { // within an int64
		return d.digits == 0
	}
	if shift >= 0 {
		return d.digits*powers[shift]%m.digits == 0
	}
	return d.digits%(m.digits*powers[-shift]) == 0
}
