package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// clean replaces what would move a terminal's cursor, or lie about a text's direction.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case moves(r), r == utf8.RuneError:
			return '·'
		}
		return r
	}, text)
}

func moves(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// columns is how wide out is; 0 where it is no terminal: nothing is cut.
func (a *app) columns() int {
	if a.width != 0 {
		return a.width
	}
	f, ok := a.out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd())) // #nosec G115 -- a file descriptor
	if err != nil {
		return 0
	}
	return width
}

// cut shortens text to a width, "…" at its end.
func cut(text string, width int) string {
	if width <= 0 || runewidth.StringWidth(text) <= width {
		return text
	}
	return runewidth.Truncate(text, width, "…")
}

// room is what is left of a terminal's width; 0: nothing is cut.
func room(width, used int) int {
	if width == 0 {
		return 0
	}
	return max(width-used, 1)
}

// style is one of the colours, as ANSI's SGR has them.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

func (a *app) colored() bool {
	switch {
	case a.color == "always":
		return true
	case a.color == "never", os.Getenv("NO_COLOR") != "", os.Getenv("TERM") == "dumb":
		return false
	}
	return a.width != 0 || onTerminal(a.out)
}

func (a *app) paint(s style, text string) string {
	if s == plain || text == "" || !a.colored() {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (a *app) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(a.out, format, args...); err != nil && a.unwritten == nil {
		a.unwritten = fmt.Errorf("what was found could not be printed: %w", err)
	}
}

// cell is a text of a table, and how it is painted.
type cell struct {
	text  string
	style style
	right bool
}

func text(s string) cell { return cell{text: clean(s)} }

func number[N int | int32 | int64](n N) cell { return cell{text: grouped(int64(n)), right: true} }

func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// table prints rows under heads. On a terminal that is too narrow for it, each row is a block of lines: NAME value.
func (a *app) table(heads []string, rows [][]cell) {
	widths := make([]int, len(heads))
	total := 2 * (len(heads) - 1)
	for i, h := range heads {
		widths[i] = runewidth.StringWidth(h)
		for _, row := range rows {
			widths[i] = max(widths[i], runewidth.StringWidth(row[i].text))
		}
		total += widths[i]
	}
	columns := a.columns()
	if columns > 0 && total > columns && total-widths[longest(widths)]+12 > columns {
		a.blocks(heads, rows, columns)
		return
	}
	if columns > 0 && total > columns {
		widths[longest(widths)] -= total - columns
	}
	head := make([]cell, len(heads))
	for i, h := range heads {
		head[i] = cell{text: h, style: dim, right: len(rows) > 0 && rows[0][i].right}
	}
	for _, row := range append([][]cell{head}, rows...) {
		var line strings.Builder
		for i, c := range row {
			shown := cut(c.text, widths[i])
			pad := strings.Repeat(" ", widths[i]-runewidth.StringWidth(shown))
			switch {
			case c.right:
				line.WriteString(pad + a.paint(c.style, shown))
			case i == len(row)-1:
				line.WriteString(a.paint(c.style, shown))
			default:
				line.WriteString(a.paint(c.style, shown) + pad)
			}
			if i < len(row)-1 {
				line.WriteString("  ")
			}
		}
		a.printf("%s\n", line.String())
	}
}

func longest(widths []int) int {
	at := 0
	for i, w := range widths {
		if w > widths[at] {
			at = i
		}
	}
	return at
}

func (a *app) blocks(heads []string, rows [][]cell, columns int) {
	name := 0
	for _, h := range heads {
		name = max(name, len(h))
	}
	for _, row := range rows {
		for i, c := range row {
			if i == 0 {
				a.printf("%s\n", a.paint(bold, cut(c.text, columns)))
			} else if c.text != "" {
				a.printf("  %s  %s\n", a.paint(dim, fmt.Sprintf("%-*s", name, heads[i])), a.paint(c.style, cut(c.text, columns-name-4)))
			}
		}
	}
}

// printJSON prints a value a line.
func (a *app) printJSON(v any) error {
	var line strings.Builder
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	a.printf("%s\n", escaped(strings.TrimSuffix(line.String(), "\n")))
	return a.unwritten
}

// printLines prints values as JSON.
func printLines[T any](a *app, values []T) error {
	for _, v := range values {
		if err := a.printJSON(v); err != nil {
			return err
		}
	}
	return nil
}

// escaped writes what would move a terminal's cursor as JSON's escapes do.
func escaped(text string) string {
	if !strings.ContainsFunc(text, moves) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if moves(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// format is -o.
type format string

func (f *format) add(c *cobra.Command, what string) {
	c.Flags().StringVarP((*string)(f), "output", "o", "text", "text or json (a line "+what+")")
}

func (f format) check() error {
	if f != "text" && f != "json" {
		return usage("-o: expected text or json, not %q", string(f))
	}
	return nil
}

// at shows a time: of today only the time of day.
func at(t time.Time) string {
	t = t.Local()
	if now := time.Now(); t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05.000")
	}
	return t.Format("2006-01-02 15:04:05")
}

// parseTime reads when: an age such as 90m or 7d, a time of day, a date, or RFC 3339.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	now := time.Now()
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if age, err := time.ParseDuration(text); err == nil && age > 0 {
		return now.Add(-age), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if t, err := time.ParseInLocation("15:04", text, time.Local); err == nil {
		return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, time.Local), nil
	}
	return time.Time{}, usage("--%s: %q is no time: expected an age such as 90m or 7d, 14:30, 2006-01-02 or 2006-01-02T15:04:05Z", flag, text)
}

// progress shows how far long work is, on a terminal only.
type progress struct {
	to    io.Writer // nil: nowhere
	what  string
	began time.Time
	shown time.Time
	width int
}

func (a *app) progress(what string) *progress {
	p := &progress{what: what, began: time.Now()}
	if a.width != 0 || onTerminal(a.errs) {
		p.to = a.errs
		p.width = cmp.Or(a.columns(), 80)
	}
	return p
}

const progressEvery = 100 * time.Millisecond

// show says that so many of all are done.
func (p *progress) show(done, all int64) {
	now := time.Now()
	if p.to == nil || now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	fmt.Fprintf(p.to, "\r\x1b[K%s", cut(p.line(done, max(all, done), now.Sub(p.began)), p.width-1))
}

func (p *progress) line(done, all int64, took time.Duration) string {
	cells := max(4, min(20, p.width/4))
	part := 1.0
	if all > 0 {
		part = float64(done) / float64(all)
	}
	filled := int(part * float64(cells))
	line := fmt.Sprintf("%s %s%s %3.0f %%  %s of %s", p.what, strings.Repeat("█", filled), strings.Repeat("░", cells-filled), part*100, grouped(done), grouped(all))
	if done > 0 && done < all && took > time.Second {
		left := time.Duration(float64(took) * float64(all-done) / float64(done)).Round(time.Second)
		line += fmt.Sprintf("  %s left", left)
	}
	return line
}

// end takes the bar away.
func (p *progress) end() {
	if p.to != nil && !p.shown.IsZero() {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

// working shows for how long something goes on whose end is not known, on a terminal only; done takes it away.
func (a *app) working(what string) (done func()) {
	p := a.progress(what)
	if p.to == nil {
		return func() {}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				p.end()
				return
			case now := <-tick.C:
				p.shown = now
				fmt.Fprintf(p.to, "\r\x1b[K%s", cut(fmt.Sprintf("%s… %s", what, now.Sub(p.began).Round(time.Second)), p.width-1))
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
	})
}
