package eventbus_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is not ours comes in a version that was chosen here, and somebody is told when it is old.

var (
	usesAction   = regexp.MustCompile(`(?m)^\s*(?:-\s+)?uses:\s*(.*)$`)
	pinnedAction = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	pinnedTool   = regexp.MustCompile(`^[A-Z]+=[\w./-]+@v\d+\.\d+\.\d+$`)
	pinnedMaven  = regexp.MustCompile(`^(\d[\w.-]*|\$\{[\w.-]+\})$`)
)

// unpinned returns the actions of a workflow that are not named by a commit, with the version beside it.
func unpinned(workflow string) []string {
	var found []string
	for _, m := range usesAction.FindAllStringSubmatch(workflow, -1) {
		if !strings.HasPrefix(m[1], "./") && !pinnedAction.MatchString(strings.TrimSpace(m[1])) {
			found = append(found, m[1])
		}
	}
	return found
}

func TestUnpinnedActionsAreFound(t *testing.T) {
	const sha = "3d3c42e5aac5ba805825da76410c181273ba90b1"
	for action, pinned := range map[string]bool{
		"actions/checkout@" + sha + " # v7.0.1": true, "./.github/actions/own": true,
		"actions/checkout@v7": false, "actions/checkout@main": false, "actions/checkout": false, "actions/checkout@" + sha: false,
		"actions/checkout@" + sha[1:] + " # v7.0.1": false, "actions/checkout@" + sha + " # newest": false, "docker://alpine:3": false,
	} {
		require.Equal(t, pinned, len(unpinned("steps:\n  - uses: "+action+"\n")) == 0, action)
		require.Equal(t, pinned, len(unpinned("steps:\n  - name: x\n    uses: "+action+"\n")) == 0, action)
	}
}

func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.y*ml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text := readText(t, file)
		require.Empty(t, unpinned(text), file)
		require.Contains(t, text, "\npermissions:\n  contents: read\n", "%s: what its token may do", file)
	}
}

func TestToolsArePinned(t *testing.T) {
	for line := range strings.Lines(readText(t, ".ci/tools")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			require.Regexp(t, pinnedTool, line)
		}
	}
	for _, script := range append(executables(t, "scripts"), ".ci/run", "Makefile") {
		require.NotRegexp(t, `@latest|\bgo (install|run) [\w.-]+\.[\w.-]+/`, readText(t, script), "%s: name it in .ci/tools", script)
	}
}

func executables(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(folder + "/*")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		if !info.IsDir() {
			found = append(found, file)
		}
	}
	require.NotEmpty(t, found)
	return found
}

func TestMavenIsPinned(t *testing.T) {
	for _, pom := range manifests(t)["maven"] {
		text := readText(t, pom)
		versions := regexp.MustCompile(`<(?:[\w.-]+\.)?version>(.*?)</`).FindAllStringSubmatch(text, -1)
		require.NotEmpty(t, versions, pom)
		for _, v := range versions {
			require.Regexp(t, pinnedMaven, v[1], pom)
			require.NotContains(t, v[1], "SNAPSHOT", pom)
		}
	}
	// lib.sh overrules the broker's pom: a version that is raised in one of them only would be none.
	version := regexp.MustCompile(`(?m)^KAFKA_VERSION=\D*([\d.]+)`).FindStringSubmatch(readText(t, "scripts/kafka.d/lib.sh"))[1]
	require.Contains(t, readText(t, "scripts/kafka.d/pom.xml"), "<kafka.version>"+version+"</kafka.version>")
	require.NotEmpty(t, readText(t, "scripts/kafka.d/jars-"+version+".sha256"))
}

func TestNpmIsPinned(t *testing.T) {
	for _, file := range manifests(t)["npm"] {
		require.FileExists(t, path.Join(path.Dir(file), "package-lock.json"), file)
	}
}

func TestDependabotKnowsEveryManifest(t *testing.T) {
	text := readText(t, ".github/dependabot.yml")
	for ecosystem, files := range manifests(t) {
		m := regexp.MustCompile(`package-ecosystem: ` + ecosystem + `\n\s+directories: \[(.*)\]`).FindStringSubmatch(text)
		require.NotNil(t, m, ecosystem)
		for _, file := range files {
			require.Contains(t, strings.Split(m[1], ", "), `"`+path.Clean("/"+path.Dir(file))+`"`, file)
		}
	}
}

// manifests returns the files that name dependencies, by Dependabot's ecosystem.
func manifests(t *testing.T) map[string][]string {
	t.Helper()
	ecosystems := map[string]string{"go.mod": "gomod", "package.json": "npm", "pom.xml": "maven"}
	found := map[string][]string{"github-actions": {"go.mod"}} // that one is about the root, too
	require.NoError(t, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if ecosystem := ecosystems[path.Base(filepath.ToSlash(file))]; ecosystem != "" {
			found[ecosystem] = append(found[ecosystem], filepath.ToSlash(file))
		}
		return err
	}))
	require.NotEmpty(t, found["gomod"])
	require.NotEmpty(t, found["maven"])
	return found
}
