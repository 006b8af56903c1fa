// Package buslog shows what a bus does in a log: a readable line an event in development, JSON in production.
//
//	logger := slog.New(buslog.NewHandler(os.Stderr, nil))
//	bus, err := eventbus.New(eventbus.Config{Service: "auth-service", Logger: logger, Hooks: []eventbus.Hooks{buslog.Hooks(logger)}})
//
// No line has a payload, a key or a header value, and what is named like a secret is masking.Masked.
package buslog

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/dreamscape/eventbus/internal/masking"
)

// Format is how a [NewHandler] writes.
type Format int

const (
	FormatAuto     Format = iota // FormatReadable on a terminal, else FormatJSON
	FormatReadable               // one line for people: the time of day, the level, the message, name=value
	FormatJSON                   // one JSON object a line, as slog's own; durations in seconds
)

// Options are the properties of a handler; the zero value works.
type Options struct {
	// Format is how it writes. Default: FormatAuto.
	Format Format
	// Level is the least that is written. Default: slog.LevelInfo.
	Level slog.Leveler
	// Color has FormatReadable colour the level, whatever w is. Default: false, which colours on a terminal, unless NO_COLOR is set
	// (https://no-color.org) or TERM is "dumb".
	Color bool
}

// NewHandler returns a handler that writes to w, whose writes it makes one by one; nil options are the defaults. The value of an attribute is masking.Masked
// whose name, or whose group's name, has "password", "secret", "token" or the like in it.
func NewHandler(w io.Writer, options *Options) slog.Handler {
	o := Options{}
	if options != nil {
		o = *options
	}
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	onTerminal := terminal(w)
	if o.Format == FormatAuto {
		o.Format = FormatJSON
		if onTerminal {
			o.Format = FormatReadable
		}
	}
	if o.Format == FormatJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: o.Level, ReplaceAttr: forJSON})
	}
	color := o.Color || onTerminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return &readable{out: &output{w: w}, level: o.Level, color: color}
}

// terminal says whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func forJSON(groups []string, a slog.Attr) slog.Attr {
	if masking.Secret(a.Key) || slices.ContainsFunc(groups, masking.Secret) {
		return slog.String(a.Key, masking.Masked)
	}
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key, a.Value.Duration().Seconds())
	}
	return a
}

// output is what handlers share that were made of one.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

// readable is a handler for people.
type readable struct {
	out    *output
	level  slog.Leveler
	color  bool
	prefix string // of names: the groups, each with a dot after it
	attrs  []byte // those that every line has
}

// Enabled implements [slog.Handler].
func (h *readable) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// WithGroup implements [slog.Handler].
func (h *readable) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.prefix += name + "."
	return &next
}

// WithAttrs implements [slog.Handler].
func (h *readable) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		next.attrs = h.appendAttr(next.attrs, h.prefix, a)
	}
	return &next
}

// Handle implements [slog.Handler].
func (h *readable) Handle(_ context.Context, r slog.Record) error {
	var line []byte
	if !r.Time.IsZero() {
		line = append(r.Time.AppendFormat(line, "15:04:05.000"), ' ')
	}
	line = append(h.appendLevel(line, r.Level), ' ')
	line = append(line, text(r.Message, unicode.IsPrint)...)
	line = append(line, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		line = h.appendAttr(line, h.prefix, a)
		return true
	})
	line = append(line, '\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(line)
	return err
}

func (h *readable) appendLevel(line []byte, level slog.Level) []byte {
	name := level.String()
	name += strings.Repeat(" ", max(0, len("ERROR")-len(name)))
	if !h.color {
		return append(line, name...)
	}
	color := "\x1b[2m" // dim
	switch {
	case level >= slog.LevelError:
		color = "\x1b[31m"
	case level >= slog.LevelWarn:
		color = "\x1b[33m"
	case level >= slog.LevelInfo:
		color = "\x1b[32m"
	}
	return append(append(append(line, color...), name...), "\x1b[0m"...)
}

func (h *readable) appendAttr(line []byte, prefix string, a slog.Attr) []byte {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return line
	}
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, each := range a.Value.Group() {
			line = h.appendAttr(line, prefix, each)
		}
		return line
	}
	line = append(append(line, ' '), text(prefix+a.Key, plain)...)
	line = append(line, '=')
	if masking.Secret(prefix + a.Key) {
		return append(line, masking.Masked...)
	}
	return append(line, text(value(a.Value), plain)...)
}

func value(v slog.Value) string {
	switch v.Kind() {
	case slog.KindDuration:
		return rounded(v.Duration()).String()
	case slog.KindTime:
		return v.Time().Format(time.RFC3339Nano)
	}
	return v.String()
}

// rounded is a duration with three digits or so, which is what people read of it.
func rounded(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Nanosecond; unit /= 1000 {
		if d.Abs() >= unit {
			return d.Round(unit / 100)
		}
	}
	return d
}

// plain says what a name or a value may have without quotes.
func plain(r rune) bool { return r > ' ' && r != '"' && r != '=' && unicode.IsPrint(r) }

// text quotes s where it has anything else in it: a line stays one, and nobody's event moves the cursor.
func text(s string, allowed func(rune) bool) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !allowed(r) }) {
		return strconv.Quote(s)
	}
	return s
}
