// Package browser_test holds the console against a real browser: Chromium, without a window.
package browser_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// chromium is where the browser is, "" where there is none.
var chromium = sync.OnceValue(func() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
})

// tab is a page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string // what the browser complained of
}

// waits is how long a tab waits for what it is to see.
const waits = time.Minute

// open starts a browser of its own, of a size, and has it complain of nothing until the test ends.
func open(t *testing.T, width, height int) *tab {
	t.Helper()
	if chromium() == "" {
		if os.Getenv("EVENTBUS_REQUIRE_BROWSER") == "1" {
			t.Fatal("no chromium was found: apt-get install chromium")
		}
		t.Skip("no chromium was found: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium()), chromedp.NoSandbox, chromedp.WindowSize(width, height))
	browser, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, done := chromedp.NewContext(browser)
	t.Cleanup(done)
	b := &tab{t: t, ctx: ctx}
	go b.hear(chromedp.Console(ctx))
	b.run(chromedp.EmulateViewport(int64(width), int64(height)))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		assert.Empty(t, b.troubles)
	})
	return b
}

// hear notes exceptions, errors of the console, and what the policy has refused.
func (b *tab) hear(messages iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range messages {
		if err != nil {
			return
		}
		b.mu.Lock()
		b.troubles = append(b.troubles, m.String())
		b.mu.Unlock()
	}
}

// forgive forgets troubles that a test has made itself.
func (b *tab) forgive(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.troubles[:0]
	for _, trouble := range b.troubles {
		if !strings.Contains(trouble, part) {
			kept = append(kept, trouble)
		}
	}
	b.troubles = kept
}

func (b *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, waits)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, steps...))
}

// goTo opens a page and waits until its stream is open too.
func (b *tab) goTo(address string) {
	b.t.Helper()
	b.run(chromedp.Navigate(address))
	b.until(`document.getElementById('live')?.textContent === 'live'`)
}

// ask evaluates an expression of JavaScript.
func ask[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, waits)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return answer
}

// until waits until an expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	for end := time.Now().Add(waits); ; time.Sleep(20 * time.Millisecond) {
		if ask[bool](b, "!!("+expression+")") {
			return
		}
		if time.Now().After(end) {
			require.Fail(b.t, "it did not become true", expression)
		}
	}
}

// click clicks on the first element of a selector, once it does not move: a page scrolls smoothly, and its rows come at the top.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e) return false; e.scrollIntoView({ behavior: 'instant', block: 'center' });
		const at = e.getBoundingClientRect().top, was = window.eWas; window.eWas = at; return at === was; })()`, selector))
	b.run(chromedp.Click(selector))
}

// looks has the browser prefer something, such as prefers-color-scheme dark.
func (b *tab) looks(feature, value string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: feature, Value: value}}})
	require.NoError(b.t, err)
}

// press presses a key, such as "\t" or "\r".
func (b *tab) press(key string) { b.t.Helper(); b.run(chromedp.KeyEvent(key)) }

// focused describes what has the focus.
func (b *tab) focused() string {
	b.t.Helper()
	return ask[string](b, `(() => { const e = document.activeElement; return e.tagName.toLowerCase() + ':' + (e.getAttribute('aria-label') || e.name || e.textContent.trim().replace(/\s+/g, ' ').slice(0, 40)); })()`)
}

// tabTo presses Tab until something is focused, and says what it passed.
func (b *tab) tabTo(what string) (passed []string) {
	b.t.Helper()
	for range 400 {
		b.press("\t")
		at := b.focused()
		passed = append(passed, at)
		if strings.HasPrefix(at, what) {
			return passed
		}
	}
	require.Fail(b.t, "Tab does not get there", "%s; it got to %q", what, passed)
	return nil
}
