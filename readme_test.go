package eventbus_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// The documents are held against the code, so that neither can change without the other.

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// goBlocks returns the Go code of a Markdown text.
func goBlocks(markdown string) []string {
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(markdown, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// dedent takes the common leading tabs off, and the indentation's difference between an Example and a document with them.
func dedent(code string) string {
	lines := strings.Split(strings.Trim(code, "\n"), "\n")
	common := -1
	for _, l := range lines {
		if tabs := len(l) - len(strings.TrimLeft(l, "\t")); l != "" && (common < 0 || tabs < common) {
			common = tabs
		}
	}
	for i, l := range lines {
		lines[i] = l[min(max(common, 0), len(l)):] // -1 where all are blank
	}
	return strings.Join(lines, "\n")
}

func TestQuickStartIsAnExample(t *testing.T) {
	const begin, end = "// quick start: README has the lines from here\n", "\n// quick start: to here"
	_, example, found := strings.Cut(readText(t, "example_test.go"), begin)
	require.True(t, found, "the first marker")
	example, _, found = strings.Cut(example, end)
	require.True(t, found, "the last marker")
	quickStart := strings.TrimSuffix(goBlocks(readText(t, "README.md"))[0], "\n")
	require.Equal(t, strings.Trim(example, "\n"), quickStart)
	require.LessOrEqual(t, strings.Count(quickStart, "\n")+1, 25, "lines")
}

// What a document shows is compiled, and run, as a part of the Examples.
func TestGoBlocksAreFromExamples(t *testing.T) {
	files, err := filepath.Glob("example*_test.go")
	require.NoError(t, err)
	var examples []string
	plugins, err := filepath.Glob("plugin/*/example_test.go")
	require.NoError(t, err)
	for _, file := range slices.Concat(files, plugins, []string{"bustest/example_test.go", "buslog/example_test.go", "console/example_test.go"}) {
		examples = append(examples, readText(t, file))
	}
	for _, block := range goBlocks(readText(t, "README.md")) {
		want := strings.Split(dedent(block), "\n")
		require.True(t, slices.ContainsFunc(examples, func(text string) bool { return hasLines(text, want) }), "no Example has\n%s", block)
	}
}

// hasLines says whether text has the lines, one after the other, all with the same further indentation.
func hasLines(text string, want []string) bool {
	lines := strings.Split(text, "\n")
	for i := 0; i+len(want) <= len(lines); i++ {
		if slices.Equal(strings.Split(dedent(strings.Join(lines[i:i+len(want)], "\n")), "\n"), want) {
			return true
		}
	}
	return false
}

// section returns the text under a heading, up to the next one of its level or above.
func section(t *testing.T, markdown, heading string) string {
	t.Helper()
	_, after, found := strings.Cut("\n"+markdown, "\n"+heading+"\n")
	require.True(t, found, "there is no heading %q", heading)
	level := len(heading) - len(strings.TrimLeft(heading, "#"))
	if next := regexp.MustCompile(`\n#{1,` + strconv.Itoa(level) + `} `).FindStringIndex(after); next != nil {
		after = after[:next[0]]
	}
	return after
}

// rows returns the rows of the tables in a text whose first cell is code, by that code.
func rows(markdown string) map[string]string {
	found := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*$").FindAllStringSubmatch(markdown, -1) {
		found[m[1]] = m[0]
	}
	return found
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func TestReadmeListsEveryField(t *testing.T) {
	readme, defaults := readText(t, "README.md"), documentedDefaults(t)
	for _, options := range []any{
		eventbus.Config{}, eventbus.TopicDefaults{}, eventbus.RetryPolicy{}, eventbus.Subscription{}, eventbus.HandleOptions{},
		eventbus.TopicOptions[struct{}]{}, eventbus.LetterFilter{}, eventbus.RedriveOptions{}, eventbus.ReplayOptions{}, eventbus.PurgeOptions{},
		eventbus.TLSFiles{}, eventbus.Access{},
	} {
		typ := reflect.TypeOf(options)
		name, _, _ := strings.Cut(typ.Name(), "[")
		t.Run(name, func(t *testing.T) {
			listed := rows(section(t, readme, "### "+name))
			var fields []string
			for f := range typ.Fields() {
				fields = append(fields, f.Name)
			}
			require.ElementsMatch(t, fields, sorted(listed))
			for field, row := range listed {
				require.Contains(t, strings.ReplaceAll(row, "`", ""), defaults[name+"."+field], "the default in the comment of %s.%s", name, field)
			}
		})
	}
}

// documentedDefaults returns what the comments of fields call the default, by type and field.
func documentedDefaults(t *testing.T) map[string]string {
	t.Helper()
	told := regexp.MustCompile(`Default: (.+?)(\.\s|\.?$)`)
	found := map[string]string{}
	for _, file := range packageFiles(t) {
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE {
				continue
			}
			for _, spec := range general.Specs {
				typ := spec.(*ast.TypeSpec)
				fields, ok := typ.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, f := range fields.Fields.List {
					comment := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
					if m := told.FindStringSubmatch(comment); m != nil && len(f.Names) > 0 {
						found[typ.Name.Name+"."+f.Names[0].Name] = m[1]
					}
				}
			}
		}
	}
	require.NotEmpty(t, found)
	return found
}

// packageFiles returns the parsed files of the root package, tests left out.
func packageFiles(t *testing.T) []*ast.File {
	t.Helper()
	var files []*ast.File
	for _, name := range rootFiles(t) {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	return files
}

func rootFiles(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "_test.go") })
}

func TestReadmeListsEveryEnvironmentVariable(t *testing.T) {
	read := map[string]bool{}
	for _, file := range packageFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Getenv" || f.Sel.Name == "LookupEnv") {
				name, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				read[name] = true
			}
			return true
		})
	}
	require.NotEmpty(t, read)
	require.Equal(t, sorted(read), sorted(rows(section(t, readText(t, "README.md"), "### Environment"))))
}

func TestReadmeListsEveryHeader(t *testing.T) {
	written := map[string]bool{}
	for _, file := range packageFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "header") || spec.Names[0].Name == "headerPrefix" {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				name, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				written[name] = true
			}
			return true
		})
	}
	require.NotEmpty(t, written)
	require.Equal(t, sorted(written), sorted(rows(section(t, readText(t, "README.md"), "### Headers"))))
}

func TestTheEnvelopeInReadmeIsOne(t *testing.T) {
	m := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(section(t, readText(t, "README.md"), "### Envelope"))
	require.NotNil(t, m)
	e, err := eventbus.UserCreated.Decode([]byte(m[1]))
	require.NoError(t, err)
	require.Equal(t, "Ada", e.Payload.FirstName)
	fields := rows(section(t, readText(t, "README.md"), "### Envelope"))
	for f := range reflect.TypeFor[eventbus.BaseEvent[struct{}]]().Fields() {
		if name := strings.ToLower(f.Name[:1]) + strings.ReplaceAll(f.Name[1:], "ID", "Id"); f.IsExported() {
			require.Contains(t, fields, name)
			require.Contains(t, m[1], `"`+name+`"`)
		}
	}
}

// The file map of DESIGN.md has every file of the root package and every folder, and nothing that is not there.
func TestDesignMapsEveryFile(t *testing.T) {
	listed := rows(section(t, readText(t, "DESIGN.md"), "## File map"))
	for name := range listed {
		_, err := os.Stat(strings.TrimSuffix(name, "/"))
		require.NoError(t, err, "listed and not there")
	}
	wanted := rootFiles(t)
	for _, parent := range []string{".", "internal"} {
		entries, err := os.ReadDir(parent)
		require.NoError(t, err)
		for _, e := range entries {
			if name := filepath.ToSlash(filepath.Join(parent, e.Name())) + "/"; e.IsDir() && !strings.HasPrefix(name, ".") && name != "internal/" && name != "bin/" {
				wanted = append(wanted, name)
			}
		}
	}
	for _, name := range wanted {
		if listed[name] == "" {
			t.Errorf("DESIGN.md's file map has no line for %s", name)
		}
	}
}

// Links to files and headings of this repository lead somewhere.
func TestLinksInDocuments(t *testing.T) {
	link, code := regexp.MustCompile(`\]\(([^)\s]+)\)`), regexp.MustCompile("(?s)```.*?```|`[^`]*`")
	for _, name := range []string{"README.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} {
		text := readText(t, name)
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := text
			if path != "" {
				info, err := os.Stat(path)
				require.NoError(t, err, "%s links to %s", name, m[1])
				if info.IsDir() {
					continue
				}
				target = readText(t, path)
			}
			if anchor != "" {
				require.Contains(t, anchors(target), anchor, "%s links to %s", name, m[1])
			}
		}
	}
}

// anchors are the headings of a Markdown text as GitHub links to them.
func anchors(markdown string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(markdown, -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(plain, " ", "-"))
	}
	return found
}

// An Example without an Output comment is compiled and never run.
func TestEveryExampleRuns(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Example") || f.Recv != nil {
				continue
			}
			runs := slices.ContainsFunc(file.Comments, func(c *ast.CommentGroup) bool {
				return f.Pos() < c.Pos() && c.Pos() < f.End() && strings.Contains(c.Text(), "Output:")
			})
			if !runs {
				t.Errorf("%s: %s has no Output comment", path, f.Name.Name)
			}
		}
		return nil
	})
	require.NoError(t, err)
}
