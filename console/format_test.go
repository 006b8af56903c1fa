package console_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dreamscape/eventbus/console"
)

// A small event that is nested deeply does not make a large page.
func TestWhatIsShownOfAPayloadIsBounded(t *testing.T) {
	assert.Equal(t, "{\n  \"a\": [\n    1\n  ]\n}", console.Pretty([]byte(`{"a":[1]}`)))
	for _, value := range []string{
		strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		strings.Repeat("[", 30) + strings.Repeat("1,", 30_000) + "1" + strings.Repeat("]", 30),
		`"` + strings.Repeat("x", 1<<20) + `"`,
	} {
		assert.LessOrEqual(t, len(console.Pretty([]byte(value))), 128<<10)
	}
}
