package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const good = `{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
 "metadata": {
  "tools": [{"name": "cyclonedx-gomod", "version": "v1", "hashes": [{"alg": "MD5", "content": "of-this-machine"}]}],
  "component": {"name": "github.com/dreamscape/eventbus"}
 },
 "components": [{"name": "acme.example/a", "version": "v1.2.0", "purl": "pkg:golang/acme.example/a@v1.2.0",
  "hashes": [{"alg": "SHA-256", "content": "of-a"}], "evidence": {"licenses": [{"license": {"id": "MIT"}}]}}]}`

func TestWhatDiffersIsLeftOut(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run([]string{"acme.example/a@v1.2.0"}, strings.NewReader(good), &out))
	require.NotContains(t, out.String(), "of-this-machine")
	for _, kept := range []string{`"cyclonedx-gomod"`, `"of-a"`, `"MIT"`, `"specVersion": "1.6"`, `"pkg:golang/acme.example/a@v1.2.0"`} {
		require.Contains(t, out.String(), kept)
	}
}

func TestWhatIsNoSBOMOfOurs(t *testing.T) {
	for name, c := range map[string]struct{ module, old, new, want string }{
		"a module is missing":    {"acme.example/b@v1.0.0", "", "", "acme.example/b@v1.0.0 is missing"},
		"another version":        {"acme.example/a@v1.3.0", "", "", "acme.example/a@v1.3.0 is missing"},
		"nothing to look for":    {"", "", "", "no module"},
		"cut off":                {"acme.example/a@v1.2.0", `"MIT"}}]}}]}`, "", "not an SBOM"},
		"another format":         {"acme.example/a@v1.2.0", "CycloneDX", "SPDX", `bomFormat "SPDX"`},
		"about something else":   {"acme.example/a@v1.2.0", "dreamscape", "other", "it is about"},
		"a serial number":        {"acme.example/a@v1.2.0", `"version": 1,`, `"serialNumber": "urn:uuid:1",`, "serial number"},
		"a time":                 {"acme.example/a@v1.2.0", `"tools":`, `"timestamp": "2026-01-07T10:00:00Z", "tools":`, "a time"},
		"no license":             {"acme.example/a@v1.2.0", `{"license": {"id": "MIT"}}`, "", "license is missing"},
		"a component not hashed": {"acme.example/a@v1.2.0", `{"alg": "SHA-256", "content": "of-a"}`, "", "hash or license is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			var modules []string
			if c.module != "" {
				modules = []string{c.module}
			}
			var out strings.Builder
			err := run(modules, strings.NewReader(strings.Replace(good, c.old, c.new, 1)), &out)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, out.String())
		})
	}
}
