package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
	"github.com/dreamscape/eventbus/internal/masking"
)

func (a *app) publishCommand() *cobra.Command {
	var (
		ch          changes
		file, given string
		key         string
		correlation string
		prompt      bool
	)
	c := &cobra.Command{
		Use: "publish TOPIC", GroupID: "mend", Short: "Publish an event, checked by its schema", Args: cobra.ExactArgs(1),
		Long: "Publish an event. Its payload is JSON: that of --payload, of a file, of the standard input, or what is asked for, field by field, with --prompt. " +
			"The envelope is made, the payload checked by the topic's schema, and the event written when all of it is right.",
		Example: `  eventbus publish dreamscape.user.created --payload '{"userId":"u-1","email":"ada@example.com"}'
  eventbus publish dreamscape.user.created --prompt`,
	}
	flags := c.Flags()
	flags.BoolVar(&ch.dry, "dry-run", false, "only check the event, and show it")
	flags.StringVar(&given, "payload", "", "the payload as JSON")
	flags.StringVar(&file, "file", "", "a file with the payload; - is the standard input")
	flags.BoolVar(&prompt, "prompt", false, "ask for the payload, field by field")
	flags.StringVar(&key, "key", "", "the record's key, but of DreamScape's topics: those make it from the payload")
	flags.StringVar(&correlation, "correlation", "", "the event's correlation id (default: a new one)")
	flags.StringVar(&a.source, "source", "", "the event's source (default: eventbus-cli)")
	c.MarkFlagsMutuallyExclusive("payload", "file", "prompt")
	c.ValidArgsFunction = a.completeTopics
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		topic, err := publishable(ctx, cluster, args[0], key)
		if err != nil {
			return err
		}
		var payload []byte
		switch {
		case flags.Changed("payload"):
			payload = []byte(given)
		case prompt:
			payload, err = a.ask(ctx, topic)
		default:
			payload, err = a.read(ctx, file)
		}
		if err != nil {
			return err
		}
		event, err := topic.NewJSON(payload)
		if err != nil {
			return usageError{err}
		}
		if correlation != "" {
			ctx = eventbus.WithCorrelationID(ctx, correlation)
		}
		record, err := cluster.Bus().Encode(ctx, event)
		if err != nil {
			return usageError{err}
		}
		if ch.dry {
			return a.printJSON(cluster.Event(record))
		}
		if err := cluster.Bus().Publish(ctx, event); err != nil {
			return err
		}
		a.printf("published %s to %s\n", id(record.Value), topic.Name())
		return nil
	})
	return c
}

func id(value []byte) string {
	var e struct {
		EventID string `json:"eventId"`
	}
	_ = json.Unmarshal(value, &e) // it was just made
	return e.EventID
}

// jsonTopic is a topic whose events can be made of JSON.
type jsonTopic interface {
	eventbus.AnyTopic
	NewJSON(payload []byte) (eventbus.AnyEvent, error)
	Schema() []byte
}

// publishable is the topic of a name, which has to be there.
func publishable(ctx context.Context, cluster *look.Cluster, name, key string) (jsonTopic, error) {
	if _, err := one(ctx, cluster, name); err != nil {
		return nil, err
	}
	declared, ok := cluster.Known(name).(jsonTopic)
	_, fromFile := declared.(*eventbus.Topic[json.RawMessage])
	if ok && !fromFile {
		if key != "" {
			return nil, usage("--key: events of %s have their key from the payload", name)
		}
		return declared, nil
	}
	opts := eventbus.TopicOptions[json.RawMessage]{}
	if ok {
		opts.Schema = declared.Schema()
	}
	if key != "" {
		opts.Key = func(json.RawMessage) string { return key }
	}
	return eventbus.NewTopic(name, &opts), nil
}

func (a *app) read(ctx context.Context, file string) ([]byte, error) {
	if file == "" && onTerminal(a.in) {
		return nil, usage("expected --payload, --file or --prompt")
	}
	if file == "" || file == "-" {
		return interruptible(ctx, func() ([]byte, error) { return io.ReadAll(a.in) })
	}
	payload, err := os.ReadFile(file) // #nosec G304 -- the user names it
	if err != nil {
		return nil, usage("--file: %w", err)
	}
	return payload, nil
}

// property is a field of a payload, as its schema has it.
type property struct {
	Type        any    `json:"type"`
	Description string `json:"description"`
	Format      string `json:"format"`
	Enum        []any  `json:"enum"`
	MinLength   int    `json:"minLength"`
	WriteOnly   bool   `json:"writeOnly"` // a secret
}

// ask asks for a payload, field by field, the required ones first.
func (a *app) ask(ctx context.Context, topic jsonTopic) ([]byte, error) {
	var schema struct {
		Required   []string            `json:"required"`
		Properties map[string]property `json:"properties"`
	}
	if topic.Schema() == nil {
		return nil, usage("--prompt: topic %s has no schema here, give --payload or --schemas", topic.Name())
	}
	if err := json.Unmarshal(topic.Schema(), &schema); err != nil {
		return nil, err
	}
	var optional []string
	for name := range schema.Properties {
		if !slices.Contains(schema.Required, name) {
			optional = append(optional, name)
		}
	}
	slices.Sort(optional)
	payload := map[string]json.RawMessage{}
	for i, name := range append(slices.Clone(schema.Required), optional...) {
		required := i < len(schema.Required)
		value, err := a.askField(ctx, name, schema.Properties[name], required)
		if err != nil {
			return nil, err
		}
		if value != nil {
			payload[name] = value
		}
	}
	return json.Marshal(payload)
}

// askField asks until the answer can be of the field's type; nil: it is left out.
func (a *app) askField(ctx context.Context, name string, p property, required bool) (json.RawMessage, error) {
	hint := []string{}
	if types := p.types(); len(types) > 0 {
		hint = append(hint, strings.Join(types, " or "))
	}
	if p.Format != "" {
		hint = append(hint, p.Format)
	}
	if len(p.Enum) > 0 {
		hint = append(hint, "one of "+strings.Trim(fmt.Sprint(p.Enum), "[]"))
	}
	if !required {
		hint = append(hint, "may be empty")
	}
	for {
		if p.Description != "" {
			fmt.Fprintln(a.errs, a.paint(dim, clean(p.Description)))
		}
		fmt.Fprintf(a.errs, "%s (%s): ", name, strings.Join(hint, ", "))
		answer, err := a.answer(ctx, p.WriteOnly || masking.Secret(name))
		if errors.Is(err, io.EOF) {
			return nil, usage("%s: the answers ended", name)
		}
		if err != nil {
			return nil, err
		}
		if answer == "" && !required {
			return nil, nil
		}
		value, err := p.value(answer)
		if err == nil && (answer != "" || slices.Contains(p.types(), "string") && p.MinLength == 0) {
			return value, nil
		}
		fmt.Fprintf(a.errs, "expected %s\n", strings.Join(hint, ", "))
	}
}

// answer reads a line; a secret is not echoed on a terminal, which is as it was afterwards, whatever happens.
func (a *app) answer(ctx context.Context, secret bool) (string, error) {
	f, ok := a.in.(*os.File)
	if !secret || !ok || !onTerminal(f) {
		return a.readLine(ctx)
	}
	fd := int(f.Fd()) // #nosec G115 -- a file descriptor
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	line, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(a.errs)
	return string(line), errors.Join(err, term.Restore(fd, state))
}

// types are those that the schema allows; none: any.
func (p property) types() (types []string) {
	switch kind := p.Type.(type) {
	case string:
		return []string{kind}
	case []any:
		for _, k := range kind {
			types = append(types, fmt.Sprint(k))
		}
	}
	return types
}

// value is what a person has typed, as JSON of the schema's type.
func (p property) value(answer string) (json.RawMessage, error) {
	types := p.types()
	text, _ := json.Marshal(answer) // a string can be
	value := json.RawMessage(text)
	if !slices.Contains(types, "string") && (len(types) > 0 || json.Valid([]byte(answer))) {
		value = json.RawMessage(answer)
	}
	switch {
	case !json.Valid(value):
		return nil, errors.New("not JSON")
	case len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return isOf(value, t) }):
		return nil, fmt.Errorf("not of type %s", strings.Join(types, " or "))
	case len(p.Enum) > 0 && !slices.ContainsFunc(p.Enum, func(one any) bool { return sameJSON(one, value) }):
		return nil, errors.New("none of those")
	}
	return value, nil
}

func isOf(value json.RawMessage, kind string) bool {
	switch kind {
	case "string":
		return value[0] == '"'
	case "integer":
		_, err := strconv.ParseInt(string(value), 10, 64)
		return err == nil
	case "number":
		return value[0] == '-' || value[0] >= '0' && value[0] <= '9'
	case "boolean":
		return value[0] == 't' || value[0] == 'f'
	case "object":
		return value[0] == '{'
	case "array":
		return value[0] == '['
	}
	return string(value) == "null"
}

func sameJSON(one any, value json.RawMessage) bool {
	text, err := json.Marshal(one)
	return err == nil && string(text) == string(value)
}
