package main

import (
	"context"
	"fmt"
	"os/exec"
)

// outside is a contender's program in another language, of pinned versions: a folder beside this file.
type outside struct {
	needs []string
	dir   string
	build [][]string
	run   []string
}

var kafkajs = &outside{
	needs: []string{"node", "npm"}, dir: "kafkajs",
	build: [][]string{{"npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"}},
	run:   []string{"node", "bench.js"},
}

var parallel = &outside{
	needs: []string{"bash", "java", "javac", "mvn"}, dir: "parallel",
	build: [][]string{
		{"../../../scripts/kafka.d/jars", "pom.xml", "jars.sha256", "target/libs"},
		{"javac", "--release", "17", "-encoding", "UTF-8", "-d", "target/classes", "-cp", "target/libs/*", "src/bench/Main.java"},
	},
	run: []string{"java", "-cp", "target/classes:target/libs/*", "bench.Main"},
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
