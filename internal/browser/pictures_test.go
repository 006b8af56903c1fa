package browser_test

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPictures makes the pictures of README: a page with real traffic, a trail, and a dead letter beside its event.
func TestPictures(t *testing.T) {
	f := newFleet(t)
	f.lived()
	f.lives(12)
	query := "?trail=booking-0003&letters=" + letters + "&letter=" + f.letterPlace()
	for _, c := range []struct {
		name, scheme  string
		width, height int64 // 0: all of it
	}{
		{"console.png", "light", 1280, 0},
		{"console-dark.png", "dark", 1280, 0},
		{"console-400.png", "light", 400, 1400},
	} {
		t.Run(c.name, func(t *testing.T) { // whose browser ends with it
			b := open(t, int(c.width), 900)
			b.looks("prefers-color-scheme", c.scheme)
			b.goTo(f.address(query))
			b.until(`document.querySelectorAll('#rows tr').length > 20`)
			b.until(`document.getElementById('rate').textContent !== ''`)
			b.run(chromedp.EmulateViewport(c.width, cmp.Or(c.height, ask[int64](b, `document.documentElement.scrollHeight`))))
			if c.width > 760 {
				b.until(`document.querySelectorAll('.map path.busy').length > 3 && [...document.querySelectorAll('.dots .consume')].filter(c => +c.getAttribute('cx') > 760).length > 2`)
			}
			picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
			require.NoError(t, err)
			keep(t, c.name, picture)
		})
	}
}

// keep writes a picture to the folder that EVENTBUS_SCREENSHOTS names.
func keep(t *testing.T, name string, picture []byte) {
	t.Helper()
	folder := cmp.Or(os.Getenv("EVENTBUS_SCREENSHOTS"), t.TempDir())
	require.NoError(t, os.MkdirAll(folder, 0o755))
	picture = shrunk(t, picture)
	require.NoError(t, os.WriteFile(filepath.Join(folder, name), picture, 0o644))
	assert.Less(t, len(picture), 300<<10, "%s is large for a README", name)
}

// shrunk draws a picture with its 256 most frequent colours: a page has few, and shades of letters that nobody tells apart.
func shrunk(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	require.NoError(t, err)
	flat := image.NewRGBA(full.Bounds())
	draw.Draw(flat, flat.Rect, full, flat.Rect.Min, draw.Src)
	counts := map[[4]byte]int{}
	for i := 0; i < len(flat.Pix); i += 4 {
		counts[[4]byte(flat.Pix[i:])]++
	}
	var palette color.Palette
	for _, c := range slices.SortedFunc(maps.Keys(counts), func(a, b [4]byte) int { return cmp.Compare(counts[b], counts[a]) }) {
		if len(palette) < 256 {
			palette = append(palette, color.RGBA{c[0], c[1], c[2], c[3]})
		}
	}
	nearest := map[[4]byte]uint8{}
	for c := range counts {
		nearest[c] = uint8(palette.Index(color.RGBA{c[0], c[1], c[2], c[3]}))
	}
	few := image.NewPaletted(flat.Rect, palette)
	for i := range few.Pix {
		few.Pix[i] = nearest[[4]byte(flat.Pix[4*i:])]
	}
	var out bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few))
	return out.Bytes()
}
