package eventbus_test

import (
	"cmp"
	"encoding/xml"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is not ours comes in a version that was chosen here, and somebody is told when it is old.

var (
	usesAction   = regexp.MustCompile(`(?m)^\s*(?:-\s+)?uses:\s*(.*)$`)
	pinnedAction = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	pinnedTool   = regexp.MustCompile(`^[A-Z]+=[\w./-]+@v\d+\.\d+\.\d+$`)
	pinnedMaven  = regexp.MustCompile(`^\d[\w.-]*$`)
	listedJar    = regexp.MustCompile(`^[0-9a-f]{64}  [\w.-]+\.jar$`)
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

// artifact is what Maven fetches.
type artifact struct {
	Name    string `xml:"artifactId"`
	Version string `xml:"version"`
}

// pom is what of a pom.xml names artifacts.
type pom struct {
	Properties struct {
		All []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	} `xml:"properties"`
	Managed []artifact `xml:"dependencyManagement>dependencies>dependency"`
	Direct  []artifact `xml:"dependencies>dependency"`
	Plugins []artifact `xml:"build>plugins>plugin"`
}

// unpinnedByMaven returns the artifacts of a pom that have no version of their own, by number. The plugin that the scripts call is one of them, named
// or not: without a version, every Maven brings another.
func unpinnedByMaven(t *testing.T, text string) []string {
	t.Helper()
	var p pom
	require.NoError(t, xml.Unmarshal([]byte(text), &p))
	properties := map[string]string{}
	for _, property := range p.Properties.All {
		properties["${"+property.XMLName.Local+"}"] = property.Text
	}
	const plugin = "maven-dependency-plugin"
	if !slices.ContainsFunc(p.Plugins, func(a artifact) bool { return a.Name == plugin }) {
		p.Plugins = append(p.Plugins, artifact{Name: plugin})
	}
	var found []string
	for _, a := range slices.Concat(p.Managed, p.Direct, p.Plugins) {
		version := cmp.Or(properties[a.Version], a.Version)
		if !pinnedMaven.MatchString(version) || strings.Contains(version, "SNAPSHOT") {
			found = append(found, a.Name)
		}
	}
	return found
}

func TestWhatMavenDoesNotPinIsFound(t *testing.T) {
	const plugin = "<build><plugins><plugin><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version></plugin></plugins></build>"
	dependency := func(version string) string {
		return "<dependencies><dependency><artifactId>a</artifactId>" + version + "</dependency></dependencies>"
	}
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"a number":               {plugin + dependency("<version>1.2.3</version>"), nil},
		"a property":             {"<properties><a.version>1.2</a.version></properties>" + plugin + dependency("<version>${a.version}</version>"), nil},
		"no version":             {plugin + dependency(""), []string{"a"}},
		"a range":                {plugin + dependency("<version>[1,2)</version>"), []string{"a"}},
		"a snapshot":             {plugin + dependency("<version>1-SNAPSHOT</version>"), []string{"a"}},
		"another's property":     {plugin + dependency("<version>${b.version}</version>"), []string{"a"}},
		"a range as a property":  {"<properties><v>LATEST</v></properties>" + plugin + dependency("<version>${v}</version>"), []string{"a"}},
		"managed":                {plugin + "<dependencyManagement>" + dependency("") + "</dependencyManagement>", []string{"a"}},
		"a plugin without one":   {strings.Replace(plugin, "<version>3.8.1</version>", "", 1), []string{"maven-dependency-plugin"}},
		"a plugin nobody names":  {dependency("<version>1</version>"), []string{"maven-dependency-plugin"}},
		"no version of anything": {dependency(""), []string{"a", "maven-dependency-plugin"}},
	} {
		require.Equal(t, test.want, unpinnedByMaven(t, "<project>"+test.text+"</project>"), name)
	}
}

func TestMavenIsPinned(t *testing.T) {
	for _, pom := range manifests(t)["maven"] {
		require.Empty(t, unpinnedByMaven(t, readText(t, pom)), pom)
		lists, err := filepath.Glob(path.Join(path.Dir(pom), "jars*.sha256"))
		require.NoError(t, err)
		require.NotEmpty(t, lists, "%s: what its jars have to be", pom)
		for _, list := range lists {
			for line := range strings.Lines(readText(t, list)) {
				require.Regexp(t, listedJar, strings.TrimSuffix(line, "\n"), list)
			}
		}
	}
	for _, script := range append(executables(t, "scripts"), executables(t, "internal/bench")...) {
		require.NotRegexp(t, `(?m)^[^#"]*\bmvn -|"mvn", "-`, readText(t, script), "%s: lib.sh holds what Maven brings against its list", script)
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
