package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// outside is a contender's program in another language, of pinned versions: a folder beside this file.
type outside struct {
	needs []string
	dir   string
	build [][]string
	run   []string
	pins  string         // the file that pins its versions
	pin   *regexp.Regexp // of the client's name and its version there
	on    []string       // the command that prints the version of what it runs on
}

var kafkajs = &outside{
	needs: []string{"node", "npm"}, dir: "kafkajs",
	build: [][]string{{"npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"}},
	run:   []string{"node", "bench.js"},
	pins:  "package.json", pin: regexp.MustCompile(`"(kafkajs)": "([^"]+)"`), on: []string{"node", "--version"},
}

var parallel = &outside{
	needs: []string{"bash", "java", "javac", "mvn"}, dir: "parallel",
	build: [][]string{
		{"../../../scripts/kafka.d/jars", "pom.xml", "jars.sha256", "target/libs"},
		{"javac", "--release", "17", "-encoding", "UTF-8", "-d", "target/classes", "-cp", "target/libs/*", "src/bench/Main.java"},
	},
	run:  []string{"java", "-cp", "target/classes:target/libs/*", "bench.Main"},
	pins: "pom.xml", pin: regexp.MustCompile(`<artifactId>(parallel-consumer-core)</artifactId>\s*<version>([^<]+)<`), on: []string{"java", "--version"},
}

// prepare builds the program.
func (o *outside) prepare(ctx context.Context) error {
	for _, need := range o.needs {
		if _, err := exec.LookPath(need); err != nil {
			return fmt.Errorf("%s is not installed", need)
		}
	}
	for _, command := range o.build {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...) // #nosec G204 -- one of those above
		cmd.Dir = o.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command[0], err, tail(string(out)))
		}
	}
	return nil
}

// versions names the client, and what it runs on.
func (o *outside) versions(ctx context.Context) string {
	name, version := o.dir, "of unknown version"
	if file, err := os.ReadFile(filepath.Join(o.dir, o.pins)); err == nil {
		if found := o.pin.FindSubmatch(file); found != nil {
			name, version = string(found[1]), string(found[2])
		}
	}
	out, err := exec.CommandContext(ctx, o.on[0], o.on[1:]...).Output() // #nosec G204 -- one of those above
	on, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || on == "" {
		on = "of unknown version"
	}
	return fmt.Sprintf("%s %s on %s %s", name, version, o.on[0], on)
}
