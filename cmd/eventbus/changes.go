package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// changes are the flags of commands that change something.
type changes struct{ dry, yes bool }

func (ch *changes) add(c *cobra.Command) {
	c.Flags().BoolVar(&ch.dry, "dry-run", false, "only say what would be done")
	c.Flags().BoolVarP(&ch.yes, "yes", "y", false, "don't ask")
}

// sure asks whether to go on. Without a terminal nobody can be asked.
func (a *app) sure(ctx context.Context, ch changes, question string) error {
	if ch.yes {
		return nil
	}
	if !a.interactive() {
		return usage("%s? Nobody can be asked here: --yes does it, --dry-run only counts", question)
	}
	fmt.Fprintf(a.errs, "%s? [y/N] ", question)
	answer, err := a.readLine(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

func (a *app) interactive() bool { return a.width != 0 || onTerminal(a.in) }

// readLine reads what a person types, until ctx ends.
func (a *app) readLine(ctx context.Context) (string, error) {
	line, err := interruptible(ctx, func() (string, error) { return a.lines().ReadString('\n') })
	if line = strings.TrimSpace(line); errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return line, err
}

// interruptible reads until ctx ends. The reading then stays: the program ends.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		what T
		err  error
	}
	done := make(chan result, 1)
	go func() {
		what, err := read()
		done <- result{what, err}
	}()
	select {
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	case r := <-done:
		return r.what, r.err
	}
}

func (a *app) lines() *bufio.Reader {
	if a.reader == nil {
		a.reader = bufio.NewReader(a.in)
	}
	return a.reader
}
