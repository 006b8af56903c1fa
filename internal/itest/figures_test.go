package itest_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// figures is the table of a cluster's runs, as Markdown.
type figures struct{ rows []string }

const figuresHead = `| fault | group protocol | events | lost | doubled | out of order | overlaps | handled again | stalled: publishing | handling | bound |
|---|---|---|---|---|---|---|---|---|---|---|
`

func (f *figures) add(of fault, protocol eventbus.GroupProtocol, v verdict) {
	f.rows = append(f.rows, fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d | %d of ≤ %d in flight | %s | %s | %s |\n", of.name, protocolName(protocol), v.report.Events,
		v.count("lost"), v.doubled, v.mixed+v.count("order"), v.count("overlap"), v.report.Repeated, v.inFlight,
		seconds(v.publish), seconds(v.handle), seconds(of.bound)))
}

func (v verdict) count(promise string) int {
	n := 0
	for _, f := range v.report.Findings {
		if string(f.Promise) == promise {
			n++
		}
	}
	return n
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// readmeTable is where README has the figures.
var readmeTable = regexp.MustCompile(`(?s)(<!-- figures of the cluster: begin -->\n).*(<!-- figures of the cluster: end -->)`)

// print prints the table and, where EVENTBUS_FIGURES names README, writes it there.
func (f *figures) print(t *testing.T) {
	table := figuresHead + strings.Join(f.rows, "")
	fmt.Print("\n", table, "\n")
	path := os.Getenv("EVENTBUS_FIGURES")
	if path == "" || t.Failed() {
		return
	}
	readme, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Regexp(t, readmeTable, string(readme))
	written := readmeTable.ReplaceAllString(string(readme), "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
	require.NoError(t, os.WriteFile(path, []byte(written), 0o644))
}
