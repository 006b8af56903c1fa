package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

func TestWhatMovesMoves(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 1280, 900)
	b.goTo(f.address(""))
	f.book(7, "h-1")
	b.until(`document.querySelector('#rows').textContent.includes('booking-0007')`)
	require.Equal(t, 1, ask[int](b, `[...document.querySelectorAll('#rows tr')].filter(r => r.textContent.includes('booking-0007') && r.textContent.includes('voyage.booking.created')).length`), "no row comes twice")
	f.lives(10)
	b.until(`document.querySelectorAll('.map .dots circle').length > 0`)
	b.until(`[...document.querySelectorAll('.map .dots circle')].some(c => +c.getAttribute('cx') > 210 && +c.getAttribute('cx') < 390)`)
	b.until(`document.querySelectorAll('.map .dots .consume').length > 0`)
	b.until(`[...document.querySelectorAll('.map .dots .consume')].some(c => +c.getAttribute('cx') > 730)`)
	b.until(`/\d+ events\/s/.test(document.getElementById('rate').textContent)`)
	b.until(`document.querySelectorAll('#rows tr').length === 200`)

	b.click("#pause")
	b.until(`document.getElementById('live').textContent === 'paused'`)
	newest := ask[string](b, `document.querySelector('#rows tr').id`)
	b.until(`document.querySelectorAll('.map .dots circle').length === 0`)
	require.Equal(t, newest, ask[string](b, `document.querySelector('#rows tr').id`), "a page that is paused stands still")
	b.click("#pause")
	b.until(`document.getElementById('live').textContent === 'live'`)
	b.until(`document.querySelector('#rows tr').id !== ` + fmt.Sprintf("%q", newest))
}

func TestWhoDislikesMotionSeesNone(t *testing.T) {
	f := newFleet(t)
	f.lives(10)
	b := open(t, 1280, 900)
	b.looks("prefers-reduced-motion", "reduce")
	b.goTo(f.address(""))
	b.until(`document.querySelectorAll('.map path.busy').length > 0`)
	require.Zero(t, ask[int](b, `document.querySelectorAll('.map .dots circle').length`))
}

func TestWhatIsOpenStaysOpen(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 1280, 900)
	b.goTo(f.address(""))
	b.run(chromedp.Evaluate[chromedp.Void](`{ const s = document.querySelector('#part-groups summary'); s.click(); s.focus(); s.dataset.old = 'yes'; }`))
	f.lives(10)
	b.until(`!document.querySelector('[data-old]')`) // the part was replaced
	require.True(t, ask[bool](b, `document.activeElement.matches('#part-groups summary')`))
	require.True(t, ask[bool](b, `document.activeElement.parentElement.open || document.querySelectorAll('#part-groups details[open]').length === 1`))
}

func TestFilterAndTrailByMouse(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 1280, 900)
	b.goTo(f.address(""))
	b.run(chromedp.SendKeys(`#stream input[name="topic"]`, "dreamscape.payment.*"))
	b.click("#stream form button")
	b.until(`new URLSearchParams(location.search).get('topic') === 'dreamscape.payment.*' && document.getElementById('live')?.textContent === 'live'`)
	require.True(t, ask[bool](b, `[...document.querySelectorAll('#rows .event strong')].every(e => e.textContent.startsWith('payment.'))`))
	f.book(8, "h-1")
	b.until(`document.querySelector('#rows').textContent.includes('booking-0008')`)
	require.True(t, ask[bool](b, `[...document.querySelectorAll('#rows .event strong')].every(e => e.textContent.startsWith('payment.'))`), "the stream is filtered too")

	b.click(`#rows a[href*="booking-0008"]`)
	b.until(`document.querySelectorAll('.steps li').length >= 5 && location.hash === '#trail'`)
	text := ask[string](b, `document.querySelector('.steps').textContent`)
	for _, service := range []string{"voyage-service", "payment-service", "ai-service"} {
		assert.Contains(t, text, service)
	}

	b.run(chromedp.Navigate(f.address("?topic=dreamscape.[#stream")))
	b.until(`document.querySelector('#topic-problem')?.textContent.includes('close each bracket')`)
	b.forgive("400 (Bad Request)")
}

// Everything is reached by Tab in the order of the page, and a redrive is asked twice.
func TestByKeyboardAlone(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 1280, 900)
	b.goTo(f.address("?letters=" + letters))
	b.press("\t")
	require.Equal(t, "a:Skip to the content", b.focused())
	require.Less(t, ask[float64](b, `Math.abs(document.activeElement.getBoundingClientRect().top)`), 5.0, "it is seen where it has the focus")
	b.press("\r")
	require.Equal(t, "main", ask[string](b, `document.activeElement.id || document.querySelector(location.hash).id`))

	b.run(chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`), chromedp.Navigate(f.address("?letters="+letters)))
	b.until(`document.getElementById('live')?.textContent === 'live'`)
	passed := strings.Join(b.tabTo("button:Redrive"), "\n")
	at := 0
	for _, stop := range []string{"a:Skip to the content", "a:Health", "a:Dead letters", "button:Pause", "summary:As a table", "input:topic", "input:correlation", "input:key", "button:Filter",
		"div:Events, the newest first", "summary:", "a:booking-", "input:trail", "button:Follow", "div:Groups", "summary:", "a:All dead letters", "button:Purge", "button:Redrive"} {
		found := strings.Index(passed[at:], stop)
		require.GreaterOrEqual(t, found, 0, "%s behind\n%s", stop, passed[:at])
		at += found
	}
	require.NotEmpty(t, ask[string](b, `getComputedStyle(document.activeElement).outlineStyle.replace('none', '')`), "what has the focus is seen")

	b.press("\r")
	b.until(`document.querySelector('#question')?.textContent.includes('dead letter')`)
	b.tabTo("button:Yes, send")
	b.press("\r")
	b.until(`document.querySelector('.notice.good')?.textContent.includes('sent back to the group')`)
}

func TestItFitsAPhone(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 400, 800)
	for _, query := range []string{"", "?trail=booking-0101&letters=" + letters + "&letter=" + f.letterPlace(), "?topic=no.such.topic.with.a.name.that.is.long.and.longer", "redrive"} {
		b.run(chromedp.Navigate(f.address(query)))
		b.until(`document.readyState === 'complete'`)
		assert.LessOrEqual(t, ask[int](b, `document.documentElement.scrollWidth`), 400, query)
	}
	b.forgive("404 (Not Found)")
	b.forgive("405 (Method Not Allowed)")
	b.goTo(f.address(""))
	b.run(chromedp.Evaluate[chromedp.Void](`document.querySelectorAll('details').forEach(d => d.open = true)`))
	require.LessOrEqual(t, ask[int](b, `document.documentElement.scrollWidth`), 400, "with all that opens")
	require.Equal(t, "none", ask[string](b, `getComputedStyle(document.querySelector('.map')).display`))
	require.NotEqual(t, "none", ask[string](b, `getComputedStyle(document.querySelector('.narrow')).display`))
}

func TestLightAndDark(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 1280, 900)
	b.goTo(f.address("?trail=booking-0101"))
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.looks("prefers-color-scheme", scheme)
		grounds[scheme] = ask[string](b, `getComputedStyle(document.body).backgroundColor`)
		for _, low := range ask[[]string](b, lowContrast) {
			assert.Fail(t, "text that is hard to read", "%s: %s", scheme, low)
		}
	}
	require.NotEqual(t, grounds["light"], grounds["dark"])
}

// lowContrast names texts whose contrast to what is behind them is below that of WCAG 2.2 AA, 4.5:1.
const lowContrast = `(() => {
	const rgba = (s) => { const [r, g, b, a = 1] = s.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
	const light = ({ r, g, b }) => { const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c.a === 1) return c; } return { r: 255, g: 255, b: 255 }; };
	const low = new Set();
	for (const e of document.querySelectorAll('body *')) {
		if (e.closest('svg') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility({ visibilityProperty: true })) continue;
		const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))];
		const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (contrast < 4.5) low.add(e.tagName + '.' + e.className + ' ' + contrast.toFixed(2) + ' ' + e.textContent.trim().slice(0, 30));
	}
	return [...low];
})()`

func TestWithoutJavaScript(t *testing.T) {
	f := newFleet(t)
	f.lived()
	b := open(t, 1280, 900)
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(t, err)
	b.run(chromedp.Navigate(f.address("")))
	require.True(t, ask[bool](b, `document.getElementById('pause').hidden && document.getElementById('live').textContent.startsWith('as of')`))
	b.run(chromedp.SendKeys(`#stream input[name="key"]`, "b-0102"))
	b.click("#stream form button")
	b.until(`location.search.includes('b-0102') && document.querySelectorAll('#rows tr').length > 0`)
	require.True(t, ask[bool](b, `[...document.querySelectorAll('#rows tr')].every(r => r.textContent.includes('b-0102'))`))
	b.click(`#rows a[href*="booking-0102"]`)
	b.until(`document.querySelector('.steps .error')?.textContent.includes('` + declined + `')`)
	b.click(`#letters h3 a`)
	b.until(`location.search.includes('letters=')`)
	b.click(`form[action="purge"] button`)
	b.until(`document.querySelector('#question')?.textContent.includes('Delete 5 dead letters for good?')`)
	b.click(`form[action="purge"] button`)
	b.until(`document.querySelector('.notice.good')?.textContent.includes('5 letters deleted')`)
}

func TestAStreamThatBreaksIsTakenUpAgain(t *testing.T) {
	f := newFleet(t)
	var refusing atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusing.Load() && r.URL.Path == "/stream" {
			http.Error(w, "the service is being started again", http.StatusBadGateway)
			return
		}
		f.page.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	b := open(t, 1280, 900)
	b.goTo(server.URL + "/")
	f.book(1, "h-1")
	b.until(`document.querySelector('#rows').textContent.includes('booking-0001')`)
	rows := ask[int](b, `document.querySelectorAll('#rows tr').length`)

	server.CloseClientConnections()
	b.until(`document.getElementById('live').textContent === 'reconnecting'`)
	b.until(`document.getElementById('live').textContent === 'live'`)
	f.book(2, "h-1")
	b.until(`document.querySelector('#rows').textContent.includes('booking-0002')`)
	require.GreaterOrEqual(t, ask[int](b, `document.querySelectorAll('#rows tr').length`), rows)
	require.Equal(t, ask[int](b, `document.querySelectorAll('#rows tr').length`), ask[int](b, `new Set([...document.querySelectorAll('#rows tr')].map(r => r.id)).size`))

	refusing.Store(true) // what a browser does not try again by itself
	server.CloseClientConnections()
	b.until(`document.getElementById('live').textContent === 'reconnecting'`)
	f.book(3, "h-1")
	refusing.Store(false)
	b.until(`document.getElementById('live').textContent === 'live'`)
	b.until(`document.querySelector('#rows').textContent.includes('booking-0003')`)
	for _, part := range []string{"ERR_", "502 (Bad Gateway)"} {
		b.forgive(part)
	}
}

// What a policy refuses is an error of the browser's console: an event that carries a page does no more than be read.
func TestAnEventCannotRun(t *testing.T) {
	f := newFleet(t)
	hostile := eventbus.NewTopic[map[string]any]("acme.hostile", nil)
	require.NoError(t, f.b.EnsureTopics(context.Background(), hostile))
	b := open(t, 1280, 900)
	b.goTo(f.address(""))
	e := hostile.New(map[string]any{"x": `<img src=x onerror="window.ran=1"><script>window.ran=1</script>`})
	e.Source = `"><svg onload="window.ran=1">`
	require.NoError(t, f.b.Publish(eventbus.WithCorrelationID(t.Context(), `javascript:window.ran=1`), e))
	b.until(`document.querySelector('#rows').textContent.includes('onerror')`)
	b.until(`document.querySelector('.map').textContent.includes('onload')`)
	b.click(`#rows a`)
	b.until(`document.querySelectorAll('.steps li').length === 1`)
	require.True(t, ask[bool](b, `window.ran === undefined`))
}
