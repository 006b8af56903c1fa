package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus"
)

func (a *app) schemaCommand() *cobra.Command {
	c := &cobra.Command{Use: "schema", GroupID: "make", Short: "Check schemas, and events against them"}
	c.AddCommand(a.schemaCheck(), a.schemaShow())
	return c
}

// declare makes a topic of a schema's file, whose name is the topic's.
func declare(file string) (_ eventbus.AnyTopic, err error) {
	schema, err := os.ReadFile(file) // #nosec G304 -- the user names it
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil { // NewTopic is made for package variables
			err = fmt.Errorf("%s: %s", file, strings.TrimPrefix(fmt.Sprint(p), "eventbus: NewTopic: "))
		}
	}()
	name := strings.TrimSuffix(filepath.Base(file), ".json")
	return eventbus.NewTopic(name, &eventbus.TopicOptions[json.RawMessage]{Schema: schema}), nil
}

func (a *app) schemaCheck() *cobra.Command {
	var events string
	c := &cobra.Command{
		Use: "check [FILE|FOLDER...]", Short: "Check schemas, and with --events that events keep to them",
		Long: "Check that schemas compile: JSON Schema 2020-12 without references out of the file. TOPIC.json has the schema of the payloads of a topic. With " +
			"--events, a line of a file is an event, envelope and all, as kcat prints it; it is checked by the schema whose " +
			"type it has. Without arguments: DreamScape's own. It needs no broker.",
		Example: "  eventbus schema check schemas/\n  kcat -b localhost -t dreamscape.user.created -C -e | eventbus schema check --events -",
	}
	c.Flags().StringVar(&events, "events", "", "a file with an event a line; - is the standard input")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		topics, wrong, err := a.compileAll(args)
		if err != nil {
			return err
		}
		if events != "" {
			n, err := a.checkEvents(cmd.Context(), events, topics)
			if err != nil {
				return err
			}
			wrong += n
		}
		if wrong > 0 {
			return errFound
		}
		return nil
	}
	return c
}

// compileAll compiles the schemas that arguments name, and says which are none.
func (a *app) compileAll(args []string) (topics []eventbus.AnyTopic, wrong int, err error) {
	if len(args) == 0 {
		all := eventbus.Catalogue() // they were compiled when this program began
		a.printf("%s    the %d schemas of DreamScape's topics\n", a.paint(green, "ok"), len(all)-1)
		return all, 0, nil
	}
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, 0, usageError{err}
		}
		found := []string{arg}
		if info.IsDir() {
			if found, _ = filepath.Glob(filepath.Join(arg, "*.json")); len(found) == 0 {
				return nil, 0, usage("no file *.json in %s", arg)
			}
		}
		files = append(files, found...)
	}
	for _, file := range files {
		t, err := declare(file)
		if err != nil {
			wrong++
			a.printf("%s %s\n", a.paint(red, "wrong"), oneLine(err.Error()))
			continue
		}
		topics = append(topics, t)
		a.printf("%s    %s\n", a.paint(green, "ok"), clean(file))
	}
	return topics, wrong, nil
}

// decoder is a topic that reads events.
type decoder interface {
	eventbus.AnyTopic
	EventType() string
	DecodeRaw(value []byte) (*eventbus.RawEvent, error)
}

func (a *app) checkEvents(ctx context.Context, file string, topics []eventbus.AnyTopic) (wrong int, err error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file) // #nosec G304 -- the user names it
		if err != nil {
			return 0, usage("--events: %w", err)
		}
		defer f.Close() // it was only read
		in = f
	}
	byType := map[string]decoder{}
	for _, t := range topics {
		if d, ok := t.(decoder); ok {
			byType[d.EventType()], byType[d.Name()] = d, d
		}
	}
	lines, right := bufio.NewReaderSize(in, 1<<20), 0
	for number := 1; ; number++ {
		line, err := interruptible(ctx, func() ([]byte, error) { return lines.ReadBytes('\n') })
		if len(strings.TrimSpace(string(line))) > 0 {
			if why := checkEvent(line, byType); why != nil {
				wrong++
				a.printf("%s line %d: %s\n", a.paint(red, "wrong"), number, oneLine(why.Error()))
			} else {
				right++
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return wrong, err
		}
	}
	a.printf("%s events keep to their schemas, %s do not\n", grouped(int64(right)), grouped(int64(wrong)))
	return wrong, nil
}

func checkEvent(line []byte, byType map[string]decoder) error {
	var e struct {
		EventType string `json:"eventType"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	t, ok := byType[e.EventType]
	if !ok {
		return fmt.Errorf("field eventType: no schema for %q", e.EventType)
	}
	_, err := t.DecodeRaw(line)
	return err
}

func (a *app) schemaShow() *cobra.Command {
	c := &cobra.Command{Use: "show TOPIC", Short: "Print the schema of a topic's payloads", Args: cobra.ExactArgs(1)}
	c.RunE = func(_ *cobra.Command, args []string) error {
		topics, err := a.topics()
		if err != nil {
			return err
		}
		for _, t := range topics {
			if with, ok := t.(jsonTopic); ok && t.Name() == args[0] && with.Schema() != nil {
				a.printf("%s\n", strings.TrimSpace(string(with.Schema())))
				return nil
			}
		}
		return usage("no schema for a topic %q; --schemas names a folder with others", args[0])
	}
	return c
}
