package prombus_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/plugin/prombus"
)

func TestReadmeListsEverySeries(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n## Metrics\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(table, -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			listed = append(listed, "eventbus_"+name[1])
		}
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		prombus.New(nil).Describe(descs)
	}()
	var described []string
	for desc := range descs {
		described = append(described, regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(desc.String())[1])
	}
	require.ElementsMatch(t, described, listed)
}
