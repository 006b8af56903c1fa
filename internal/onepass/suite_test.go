package onepass_test

import (
	"cmp"
	stdjson "encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/onepass"
)

// suite is the folder of the official tests (json-schema-org/JSON-Schema-Test-Suite): JSON_SCHEMA_SUITE, or one beside the repository. Where it is
// missing the test is skipped, or it fails if EVENTBUS_REQUIRE_JSON_SCHEMA_SUITE=1.
func suite(t *testing.T) string {
	folder := cmp.Or(os.Getenv("JSON_SCHEMA_SUITE"), filepath.Join("..", "..", "..", "shared", "json-schema-suite"))
	if _, err := os.Stat(filepath.Join(folder, "tests", "draft2020-12")); err != nil {
		if os.Getenv("EVENTBUS_REQUIRE_JSON_SCHEMA_SUITE") == "1" {
			t.Fatalf("EVENTBUS_REQUIRE_JSON_SCHEMA_SUITE=1, but %v", err)
		}
		t.Skipf("no JSON Schema Test Suite: %v", err)
	}
	return folder
}

// jsonFiles calls what with the files of a folder that may be missing.
func jsonFiles(t *testing.T, folder string, what func(path string, text []byte)) {
	if _, err := os.Stat(folder); err != nil {
		return
	}
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		text, err := os.ReadFile(path)
		what(path, text)
		return err
	}))
}

// remotes are the suite's documents, by where a server of them would have them, and by their $id.
func remotes(t *testing.T, folder string) map[string]string {
	found := map[string]string{}
	jsonFiles(t, folder, func(path string, text []byte) {
		rel, err := filepath.Rel(folder, path)
		require.NoError(t, err)
		found["http://localhost:1234/"+filepath.ToSlash(rel)] = string(text)
		var document struct {
			ID string `json:"$id"`
		}
		if stdjson.Unmarshal(text, &document) == nil && strings.Contains(document.ID, ":") {
			found[document.ID] = string(text)
		}
	})
	return found
}

type suiteGroup struct {
	Description string
	Schema      stdjson.RawMessage
	Tests       []struct {
		Description string
		Data        stdjson.RawMessage
		Valid       bool
	}
}

// TestSuite compares the checker with v5 by the official tests: what it decides v5 finds valid, and so does the suite, unless v5 does not agree with it.
func TestSuite(t *testing.T) {
	folder := suite(t)
	known := remotes(t, filepath.Join(folder, "remotes"))
	cases, fast, slow, uncompiled, disagree := 0, 0, 0, 0, 0
	run := func(path string, text []byte) {
		var groups []suiteGroup
		require.NoError(t, stdjson.Unmarshal(text, &groups), path)
		for _, group := range groups {
			s, err := tryCompile(string(group.Schema), known)
			if err != nil {
				uncompiled += len(group.Tests)
				t.Logf("%s: v5 does not compile %q", filepath.Base(path), group.Description)
				continue
			}
			checker := onepass.Compile(s)
			for _, test := range group.Tests {
				cases++
				byV5, decided := valid(s, test.Data), checker.Valid(test.Data)
				require.False(t, decided && !byV5, "%s: %s: %s\n%s\n%s", path, group.Description, test.Description, group.Schema, test.Data)
				if byV5 != test.Valid {
					disagree++
					t.Logf("%s: v5 does not agree, decided: %v: %s: %s", filepath.Base(path), decided, group.Description, test.Description)
				}
				switch {
				case decided:
					fast++
				case byV5:
					slow++
				}
			}
		}
	}
	draft := filepath.Join(folder, "tests", "draft2020-12")
	entries, err := filepath.Glob(filepath.Join(draft, "*.json"))
	require.NoError(t, err)
	for _, path := range entries {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		run(path, text)
	}
	jsonFiles(t, filepath.Join(draft, "optional", "format"), run)
	require.Greater(t, cases, 1000)
	require.Greater(t, fast, slow/2, "too few are decided")
	t.Logf("%d cases: %d of %d valid ones are decided; v5 does not agree in %d, %d are not compiled", cases, fast, fast+slow, disagree, uncompiled)
}
