// Command judge checks saved histories again: go run ./internal/ledger/judge FILE... It prints a report a file and exits with 1 where one has a
// finding.
package main

import (
	"fmt"
	"os"

	"github.com/dreamscape/eventbus/internal/ledger"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "judge: name the files of histories")
		os.Exit(2)
	}
	broken := 0
	for _, path := range os.Args[1:] {
		entries, err := ledger.Load(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		report := ledger.Check(entries)
		broken += len(report.Findings)
		fmt.Printf("%s: %v\n", path, report)
	}
	if broken > 0 {
		os.Exit(1)
	}
}
