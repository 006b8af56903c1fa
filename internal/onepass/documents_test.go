package onepass_test

import (
	stdjson "encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value is a JSON value in the making: unlike a parsed one it may be written in any way, or be none.
type value struct {
	kind  byte   // { or [, or 0 for a text
	text  string // how it is written
	names []string
	items []*value
}

// near is a value that is likely to be valid by all of the schemas, unless that takes too much.
func (r *random) near(depth int, all ...any) *value {
	list := r.flat(nil, all)
	if r.values++; depth > 8 || r.values > 200 || depth > 3 && len(list) == 0 {
		return &value{text: pick(r, []string{"null", "1", `"a"`})}
	}
	for _, s := range list {
		if c, ok := s["const"]; ok {
			return r.constant(c)
		}
		if enum, ok := s["enum"].([]any); ok && len(enum) > 0 {
			return r.constant(pick(r, enum))
		}
	}
	switch kind := pick(r, kinds(list)); kind {
	case "null":
		return &value{text: "null"}
	case "boolean":
		return &value{text: pick(r, []string{"true", "false"})}
	case "object":
		return r.nearObject(depth, list)
	case "array":
		return r.nearArray(depth, list)
	case "string":
		return &value{text: r.quote(r.nearString(list))}
	default:
		return &value{text: r.nearNumber(list, kind == "integer")}
	}
}

// flat adds the schemas, and what they refer to for the same value.
func (r *random) flat(list []schema, all []any) []schema {
	for _, s := range all {
		s, ok := s.(schema)
		if !ok || len(list) > 20 {
			continue
		}
		list = append(list, s)
		if ref, ok := s["$ref"].(string); ok {
			list = r.flat(list, []any{r.resolve(ref)})
		}
		for _, key := range []string{"allOf", "anyOf", "oneOf"} {
			if subs, ok := s[key].([]any); ok {
				if key != "allOf" {
					subs = []any{pick(r, subs)}
				}
				list = r.flat(list, subs)
			}
		}
	}
	return list
}

func (r *random) resolve(ref string) any {
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		return r.root["$defs"].(schema)[name]
	}
	return r.root
}

// kinds are the types that all of the schemas allow; all of them where there is none.
func kinds(list []schema) []string {
	left := slices.Clone(typeNames)
	for _, s := range list {
		allowed := texts(s["type"])
		if len(allowed) == 0 {
			continue
		}
		left = slices.DeleteFunc(left, func(kind string) bool {
			return !slices.Contains(allowed, kind) && !(kind == "integer" && slices.Contains(allowed, "number"))
		})
	}
	if len(left) == 0 {
		return typeNames
	}
	return left
}

// texts are the strings of a keyword that has one or some.
func texts(v any) (list []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, v := range v {
			list = append(list, v.(string))
		}
	}
	return list
}

func (r *random) constant(v any) *value {
	switch v := v.(type) {
	case string:
		return &value{text: r.quote(v)}
	case stdjson.Number:
		return &value{text: pick(r, []string{string(v), string(v), string(v) + ".0", string(v) + "e0"})}
	case []any:
		made := &value{kind: '['}
		for _, item := range v {
			made.items = append(made.items, r.constant(item))
		}
		return made
	case schema:
		made := &value{kind: '{'}
		for _, name := range sorted(v) {
			made.names, made.items = append(made.names, r.quote(name)), append(made.items, r.constant(v[name]))
		}
		return made
	}
	return &value{text: schemaText(v)}
}

func (r *random) nearObject(depth int, list []schema) *value {
	wanted := map[string]bool{}
	declared := []string{}
	least, most, closed := limit(list, "minProperties", 0), -limit(list, "maxProperties", -5), false
	for _, s := range list {
		properties, _ := s["properties"].(schema)
		declared = append(declared, sorted(properties)...)
		for _, name := range texts(s["required"]) {
			wanted[name] = true
		}
		closed = closed || s["additionalProperties"] == false
	}
	for _, name := range declared {
		if len(wanted) < most && depth < 6 && r.chance(60) {
			wanted[name] = true
		}
	}
	for i := 0; len(wanted) < min(least, 6) || !closed && len(wanted) < most && depth < 4 && r.chance(25); i++ {
		wanted[pick(r, []string{pick(r, names), "x" + strconv.Itoa(i)})] = true
	}
	for range 3 {
		for _, s := range list {
			dependent, _ := s["dependentRequired"].(schema)
			for _, when := range sorted(dependent) {
				for _, name := range texts(dependent[when]) {
					wanted[name] = wanted[name] || wanted[when]
				}
			}
		}
	}
	made := &value{kind: '{'}
	for _, name := range sorted(wanted) {
		if wanted[name] {
			made.names, made.items = append(made.names, r.quote(name)), append(made.items, r.near(depth+1, member(list, name)...))
		}
	}
	r.Shuffle(len(made.names), func(i, j int) {
		made.names[i], made.names[j] = made.names[j], made.names[i]
		made.items[i], made.items[j] = made.items[j], made.items[i]
	})
	return made
}

// member are the schemas for a member of an object.
func member(list []schema, name string) (subs []any) {
	for _, s := range list {
		properties, _ := s["properties"].(schema)
		if sub, ok := properties[name]; ok {
			subs = append(subs, sub)
		} else if others, ok := s["additionalProperties"]; ok {
			subs = append(subs, others)
		}
	}
	return subs
}

// limit is the largest that a keyword has; where it is an upper one take the negative of what is got with a negative standard.
func limit(list []schema, key string, standard int) int {
	most := standard
	for _, s := range list {
		if n, ok := s[key].(stdjson.Number); ok {
			f, _ := n.Float64()
			if standard < 0 {
				f = -f
			}
			most = max(most, int(max(min(f, 50), -50)))
		}
	}
	return most
}

func (r *random) nearArray(depth int, list []schema) *value {
	least, most := min(limit(list, "minItems", 0), 6), -limit(list, "maxItems", -4)
	n := least
	if most > least && depth < 6 {
		n += r.IntN(most - least + 1)
	}
	made := &value{kind: '['}
	for i := range n {
		var subs []any
		for _, s := range list {
			if prefix, _ := s["prefixItems"].([]any); i < len(prefix) {
				subs = append(subs, prefix[i])
			} else if items, ok := s["items"]; ok {
				subs = append(subs, items)
			}
		}
		item := r.near(depth+1, subs...)
		if i > 0 && r.chance(15) {
			item = made.items[i-1]
		}
		made.items = append(made.items, item)
	}
	return made
}

func (r *random) nearString(list []schema) string {
	for _, s := range list {
		if name, ok := s["format"].(string); ok {
			return r.likelyFirst(formats[name])
		}
		if name, ok := s["pattern"].(string); ok {
			return r.likelyFirst(patterns[name])
		}
	}
	least, most := min(limit(list, "minLength", 0), 8), -limit(list, "maxLength", -6)
	n := least
	if most > least {
		n += r.IntN(most - least + 1)
	}
	alphabet := []string{"a", "b", "Z", "0", " ", "-"}
	if r.chance(30) {
		alphabet = append(alphabet, "ä", "€", "𝄞", "\u0308")
	}
	if r.chance(5) {
		alphabet = append(alphabet, "\"", "\\", "\n", "\x00", "/", "\u2028")
	}
	var b strings.Builder
	for range n {
		b.WriteString(pick(r, alphabet))
	}
	return b.String()
}

func (r *random) likelyFirst(from []string) string {
	if r.chance(75) {
		return from[0]
	}
	return pick(r, from)
}

// quote writes a string, with escapes where there have to be any and sometimes elsewhere.
func (r *random) quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	escaped := r.chance(4)
	for _, c := range text {
		switch {
		case escaped && r.chance(30):
			b.WriteString(escape(c))
		case c == '"' || c == '\\':
			b.WriteString("\\" + string(c))
		case c < 0x20:
			b.WriteString(escape(c))
		default:
			b.WriteRune(c)
		}
	}
	return b.String() + `"`
}

// escape is \u, of a pair where it has to be.
func escape(c rune) string {
	if c > 0xffff {
		c -= 0x10000
		return fmt.Sprintf(`\u%04x\u%04X`, 0xd800+c>>10, 0xdc00+c&0x3ff)
	}
	return fmt.Sprintf(`\u%04x`, c)
}

// nearNumber looks for one among those about the bounds, and the multiples.
func (r *random) nearNumber(list []schema, integer bool) string {
	text := ""
	for range 12 {
		if text = r.aNumber(list, integer); integer && strings.ContainsAny(text, ".e") && r.chance(80) {
			continue
		}
		if n, ok := new(big.Rat).SetString(text); ok && within(list, n) {
			return text
		}
	}
	return text
}

func within(list []schema, n *big.Rat) bool {
	for _, s := range list {
		for key, want := range map[string][2]int{"minimum": {0, 1}, "maximum": {0, -1}, "exclusiveMinimum": {1, 1}, "exclusiveMaximum": {-1, -1}} {
			if bound := rat(s, key); bound != nil {
				if cmp := n.Cmp(bound); cmp != want[0] && cmp != want[1] {
					return false
				}
			}
		}
		if m := rat(s, "multipleOf"); m != nil && !new(big.Rat).Quo(n, m).IsInt() {
			return false
		}
	}
	return true
}

func rat(s schema, key string) *big.Rat {
	if n, ok := s[key].(stdjson.Number); ok {
		r, _ := new(big.Rat).SetString(string(n))
		return r
	}
	return nil
}

func (r *random) aNumber(list []schema, integer bool) string {
	base := stdjson.Number(pick(r, []string{"0", "1", "-0", "-1.5", "0.1", "123.45", "3.0", "42"}))
	if integer {
		base = stdjson.Number(pick(r, []string{"0", "1", "-0", "7", "3.0", "-12", "420"}))
	}
	factor := int64(0)
	for _, s := range list {
		for _, key := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} {
			if n, ok := s[key].(stdjson.Number); ok && r.chance(50) {
				if base = n; key == "multipleOf" {
					factor = int64(r.IntN(2000) - 1000)
				}
			}
		}
	}
	n, ok := new(big.Rat).SetString(string(base))
	if !ok || len(base) > 2 && strings.Contains(string(base), "e") && len(n.RatString()) > 40 {
		return string(base)
	}
	if factor != 0 {
		n.Mul(n, big.NewRat(factor, 1))
	}
	if r.chance(60) && factor == 0 {
		step := pick(r, []*big.Rat{big.NewRat(1, 1), big.NewRat(1, 2), big.NewRat(1, 100), big.NewRat(1, 1e13), big.NewRat(1, 1e17)})
		n.Add(n, new(big.Rat).Mul(step, big.NewRat(int64(r.IntN(7)-3), 1)))
	}
	digits := pick(r, []int{0, 1, 2, 14, 17})
	if n.IsInt() && r.chance(70) {
		digits = 0
	} else if exact, ok := n.FloatPrec(); ok && r.chance(80) {
		digits = exact
	}
	return n.FloatString(digits)
}

// write writes a value, sometimes with space.
func (v *value) write(b *strings.Builder, space func() string) {
	b.WriteString(space())
	defer func() { b.WriteString(space()) }()
	if v.kind == 0 {
		b.WriteString(v.text)
		return
	}
	b.WriteByte(v.kind)
	for i, item := range v.items {
		if i > 0 {
			b.WriteByte(',')
		}
		if v.kind == '{' {
			b.WriteString(space() + v.names[i] + space() + ":")
		}
		item.write(b, space)
	}
	if len(v.items) == 0 {
		b.WriteString(space())
	}
	b.WriteByte(v.kind + 2)
}

func (r *random) write(v *value) []byte {
	spaced := r.chance(15)
	var b strings.Builder
	v.write(&b, func() string {
		if spaced && r.chance(30) {
			return pick(r, []string{" ", "\n", "\t", "\r\n  "})
		}
		return ""
	})
	return []byte(b.String())
}

// all adds a value and those in it.
func (v *value) all(list []*value) []*value {
	list = append(list, v)
	for _, item := range v.items {
		list = item.all(list)
	}
	return list
}

// mutate changes a value somewhere.
func (r *random) mutate(v *value) {
	at := pick(r, v.all(nil))
	switch {
	case r.chance(12):
		*at = *r.near(4)
	case r.chance(3) && !r.refers:
		r.bury(at)
	case at.kind == '{':
		r.mutateObject(at)
	case at.kind == '[':
		r.mutateArray(at)
	case at.text[0] == '"':
		at.text = r.mutateText(at.text)
	case at.text[0] == '-' || at.text[0] >= '0' && at.text[0] <= '9':
		at.text = r.mutateNumber(at.text)
	default:
		at.text = pick(r, []string{"true", "false", "null", "True", "nul", "0", `""`})
	}
}

// bury puts a value into as many arrays as there may be, or more. Not where schemas may refer to themselves twice: v5 would not come to an end.
func (r *random) bury(v *value) {
	for range 60 + r.IntN(8) {
		inner := *v
		*v = value{kind: '[', items: []*value{&inner}}
	}
}

func (r *random) mutateObject(v *value) {
	add := func(name string, item *value) {
		at := r.IntN(len(v.names) + 1)
		v.names, v.items = slices.Insert(v.names, at, name), slices.Insert(v.items, at, item)
	}
	if len(v.names) == 0 || r.chance(25) {
		add(r.quote(pick(r, append(names, "y"))), r.near(4))
		return
	}
	i := r.IntN(len(v.names))
	switch r.IntN(5) {
	case 0:
		v.names, v.items = slices.Delete(v.names, i, i+1), slices.Delete(v.items, i, i+1)
	case 1:
		add(v.names[i], v.items[i])
	case 2:
		add(r.alias(v.names[i]), v.items[i])
	case 3:
		v.names[i] = r.alias(v.names[i])
	default:
		v.names[i] = r.mutateText(v.names[i])
	}
}

// alias is the same string with escapes.
func (r *random) alias(quoted string) string {
	var text string
	if stdjson.Unmarshal([]byte(quoted), &text) != nil || text == "" {
		return quoted
	}
	c, size := utf8.DecodeRuneInString(text)
	rest := schemaText(text[size:])
	return `"` + escape(c) + rest[1:]
}

func (r *random) mutateArray(v *value) {
	at := r.IntN(len(v.items) + 1)
	switch {
	case len(v.items) == 0 || r.chance(30):
		v.items = slices.Insert(v.items, at, r.near(4))
	case r.chance(50):
		v.items = slices.Insert(v.items, at, pick(r, v.items))
	default:
		v.items = slices.Delete(v.items, max(at-1, 0), max(at, 1))
	}
}

var oddities = []string{
	`\ud800`, `\udc00`, `\ud834\udd1e`, `\uDC00\uD800`, "\xff", "\xc3", "\xed\xa0\x80", "\x00", "\n", "\x7f", `\`, `\x`, `\u00`,
	`\u0041`, `\n`, `"`, "ä", "𝄞", "\ufffd", "\ufeff", "a", "-", ".", "@",
}

// mutateText puts something into a string, or takes a character out.
func (r *random) mutateText(quoted string) string {
	at := 1 + r.IntN(max(len(quoted)-1, 1))
	if len(quoted) > 2 && r.chance(40) {
		end := min(at+1, len(quoted)-1)
		return quoted[:min(at, end)] + quoted[end:]
	}
	if at >= len(quoted) {
		return quoted + pick(r, oddities)
	}
	return quoted[:at] + pick(r, oddities) + quoted[at:]
}

func (r *random) mutateNumber(text string) string {
	switch r.IntN(8) {
	case 0:
		return "-" + text
	case 1:
		return "0" + text
	case 2:
		return text + pick(r, []string{".0", ".", ".5", "e0", "E+1", "e-1", "e", "e500", "x"})
	case 3:
		return text + strings.Repeat(pick(r, []string{"0", "1"}), 1+r.IntN(70))
	case 4:
		return strings.TrimPrefix(text, "-")
	case 5:
		return pick(r, append(bounds, "+1", ".5", "0x1", "1_0", "NaN"))
	default:
		last := len(text) - 1
		return text[:last] + strconv.Itoa(r.IntN(10))
	}
}

// mutateBytes changes some bytes of a text.
func (r *random) mutateBytes(text []byte) []byte {
	text = slices.Clone(text)
	at := r.IntN(len(text))
	insert := func(at int, what string) []byte { return slices.Insert(text, at, []byte(what)...) }
	switch r.IntN(9) {
	case 0:
		text[at] ^= 1 << r.IntN(8)
	case 1:
		text[at] = byte(r.IntN(256))
	case 2:
		return text[:at]
	case 3:
		return slices.Delete(text, at, min(at+1+r.IntN(3), len(text)))
	case 4:
		return insert(at, pick(r, oddities))
	case 5:
		return insert(at, pick(r, []string{" ", "\n", "\t", "\r", "\v", "\u00a0", ",", ":", "[", "]", "{", "}", "0", "//", "1"}))
	case 6:
		return insert(pick(r, []int{0, len(text)}), pick(r, []string{"\ufeff", "\x00", " ", ",", "{}", "1", "x", "]", "\n\n"}))
	case 7:
		end := min(at+1+r.IntN(8), len(text))
		return insert(end, string(text[at:end]))
	default:
		other := r.IntN(len(text))
		text[at], text[other] = text[other], text[at]
	}
	return text
}
