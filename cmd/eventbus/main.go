// Command eventbus looks at a Kafka cluster and mends what its services could not handle: topics, events as they pass, trails of a correlation id, groups
// and their lag, dead letters, replays, a check of the cluster, and an embedded broker with a console for development.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/dreamscape/eventbus/internal/look"
)

// Exit codes, as `eventbus help exit-codes` tells.
const (
	exitDone        = 0
	exitFailed      = 1 // what was asked for failed, or a check found something wrong
	exitUsage       = 2 // the command line is not as it has to be; nothing was done
	exitUnreachable = 3 // no broker answers, or it refuses the login
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, errs: os.Stderr}))
}

// streams are what a command reads and writes.
type streams struct {
	in        io.Reader
	out, errs io.Writer
	width     int // of the terminal that out is; 0: ask it
}

// run runs a command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	a := &app{streams: s}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.unwritten
	}
	if err == nil {
		return exitDone
	}
	code := exitCode(ctx, err)
	if code == exitInterrupted {
		fmt.Fprintln(s.errs, "eventbus: interrupted")
	} else {
		fmt.Fprintln(s.errs, "eventbus: "+oneLine(a.explain(err)))
	}
	return code
}

// usageError is one of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errFound is that of a check that found something wrong, and has said so.
var errFound = errors.New("there is something to mend, see above")

func exitCode(ctx context.Context, err error) int {
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.As(err, new(*look.AwayError)):
		return exitUnreachable
	}
	return exitFailed
}

func oneLine(text string) string { return strings.Join(strings.Fields(clean(text)), " ") }

// onTerminal says whether w is a terminal.
func onTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) // #nosec G115 -- a file descriptor
}
