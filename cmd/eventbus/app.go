package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/look"
)

// app is what all commands share.
type app struct {
	streams
	brokers string
	prefix  string
	schemas string
	color   string
	source  string
	reader  *bufio.Reader // of in, once a person is asked

	unwritten error // why something could not be printed
}

const about = `See what a Kafka cluster carries, and mend what its services could not handle.

The cluster is that of KAFKA_BROKERS (default localhost:9092); KAFKA_TOPIC_PREFIX, KAFKA_TLS_*, and KAFKA_SASL_* count as they do for services.
DreamScape's topics are decoded and checked; --schemas names a folder with the schemas of others. Secrets are masked.`

const exitCodes = `  0    done
  1    it failed, or a check found something wrong
  2    the command line is not as it has to be; nothing was done
  3    no broker answers, or it refuses the login
  130  interrupted by Ctrl-C; what was done until then is said`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "eventbus", Short: "See what a Kafka cluster carries, and mend it", Long: about,
		SilenceErrors: true, SilenceUsage: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.brokers, "brokers", "", "host:port addresses to start from, separated by commas (default: KAFKA_BROKERS)")
	flags.StringVar(&a.prefix, "prefix", "", "what the names of topics and groups begin with (default: KAFKA_TOPIC_PREFIX)")
	flags.StringVar(&a.schemas, "schemas", "", "folder with schemas of further topics: TOPIC.json has the JSON Schema of the topic's payloads")
	flags.StringVar(&a.color, "color", "auto", "auto, always or never; NO_COLOR counts as never")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; `%s --help` lists the flags", err, c.CommandPath())
	})
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := cmp.Or(c.ValidateRequiredFlags(), c.ValidateFlagGroups()); err != nil {
			return usage("%w; `%s --help` lists the flags", err, c.CommandPath())
		}
		if a.color != "auto" && a.color != "always" && a.color != "never" {
			return usage("--color: expected auto, always or never, not %q", a.color)
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	root.AddGroup(&cobra.Group{ID: "see", Title: "See:"}, &cobra.Group{ID: "mend", Title: "Mend:"}, &cobra.Group{ID: "make", Title: "Develop:"})
	root.AddCommand(
		a.topicsCommand(), a.tailCommand(), a.trailCommand(), a.groupsCommand(), a.lagCommand(), a.doctorCommand(),
		a.lettersCommand(), a.replayCommand(), a.publishCommand(),
		a.schemaCommand(), a.devCommand(), a.consoleCommand(), manCommand(),
		&cobra.Command{Use: "exit-codes", Short: "What exit codes mean", Long: exitCodes},
	)
	root.SetOut(a.out) // before cobra's own commands, which take it as it is
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strictArgs(root)
	return root
}

// strictArgs has wrong arguments be errors of the command line.
func strictArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage("%w; usage: %s", err, c.UseLine())
			}
			return nil
		}
	} else if c.HasSubCommands() {
		c.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("%s has no command %q; `%s --help` lists them", c.CommandPath(), args[0], c.CommandPath())
			}
			return nil
		}
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.RunE = func(c *cobra.Command, _ []string) error {
			return usage("%s: expected one of its commands; `%s --help` lists them", c.CommandPath(), c.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		strictArgs(sub)
	}
}

// config is the bus's: the environment's, and what flags say.
func (a *app) config() (eventbus.Config, error) {
	if a.brokers != "" {
		// before FromEnv, which names what is wrong with them
		if err := os.Setenv("KAFKA_BROKERS", a.brokers); err != nil {
			return eventbus.Config{}, err
		}
	}
	cfg, err := eventbus.FromEnv("eventbus-cli")
	if err != nil {
		return cfg, usageError{err}
	}
	if a.prefix != "" {
		cfg.TopicPrefix = a.prefix
	}
	if a.source != "" {
		cfg.Service = a.source
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // what matters is an error of the command
	return cfg, nil
}

// topics are those whose events are decoded.
func (a *app) topics() ([]eventbus.AnyTopic, error) {
	topics := eventbus.Catalogue()
	if a.schemas == "" {
		return topics, nil
	}
	files, err := filepath.Glob(filepath.Join(a.schemas, "*.json"))
	if err != nil || len(files) == 0 {
		return nil, usage("--schemas: no file *.json in %s", a.schemas)
	}
	for _, file := range files {
		t, err := declare(file)
		if err != nil {
			return nil, usageError{err}
		}
		topics = append(topics, t)
	}
	return topics, nil
}

// open connects to the cluster; close ends that.
func (a *app) open(ctx context.Context) (c *look.Cluster, done func(), err error) {
	topics, err := a.topics()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := a.config()
	if err != nil {
		return nil, nil, err
	}
	bus, err := eventbus.New(cfg)
	if err != nil {
		return nil, nil, usageError{err}
	}
	c, err = look.New(bus, topics)
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		c.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = bus.Shutdown(ctx) // everything that was to be acknowledged is
	}
	if err := c.Connect(ctx); err != nil {
		c.Close()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = bus.Shutdown(ended) // it has done nothing that is to be waited for
		return nil, nil, err
	}
	return c, done, nil
}

// with connects, and has do done.
func (a *app) with(do func(ctx context.Context, c *look.Cluster, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, done, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer done()
		return do(cmd.Context(), c, args)
	}
}

// aboutLogin says whether an error tells of a refused login, as far as the broker says so: some only close the connection.
func aboutLogin(text string) bool {
	return strings.Contains(strings.ToLower(text), "sasl") || os.Getenv("KAFKA_SASL_MECHANISM") != "" && strings.HasSuffix(text, "EOF")
}

// explain adds to an error what to do.
func (a *app) explain(err error) string {
	text := strings.TrimPrefix(err.Error(), "eventbus: ")
	hint, away := "", errors.As(err, new(*look.AwayError))
	switch {
	case errors.As(err, new(usageError)):
	case away && aboutLogin(text):
		hint = "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
	case away && (strings.Contains(text, "TLS") || strings.Contains(text, "x509") || strings.Contains(text, "certificate")):
		hint = "check KAFKA_TLS, KAFKA_TLS_CA_FILE, KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE"
	case away:
		hint = "check --brokers or KAFKA_BROKERS, and that the broker runs; `eventbus dev` starts one"
	case errors.Is(err, look.ErrNoTopic), errors.Is(err, kerr.UnknownTopicOrPartition) && !strings.Contains(text, "EnsureTopics"):
		hint = "`eventbus topics` lists those that are there"
	case errors.Is(err, look.ErrNoGroup):
		hint = "`eventbus groups` lists those that are there"
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		hint = "this login has not the permission; `eventbus doctor` says which are missing"
	}
	if hint == "" {
		return text
	}
	return fmt.Sprintf("%s; %s", text, hint)
}
