package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dreamscape/eventbus/console"
	"github.com/dreamscape/eventbus/embedded"
	"github.com/dreamscape/eventbus/internal/look"
)

// consoleFlags are those of the commands that serve the console.
type consoleFlags struct {
	listen        string
	redrive, kill bool
	hosts         []string
}

func (f *consoleFlags) add(c *cobra.Command, flag string) {
	flags := c.Flags()
	flags.StringVar(&f.listen, flag, "127.0.0.1:3000", "where the console listens, host:port")
	flags.StringSliceVar(&f.hosts, "host", nil, "further names under which the console answers, beside localhost and addresses")
	flags.BoolVar(&f.redrive, "allow-redrive", false, "let the console send dead letters back")
	flags.BoolVar(&f.kill, "allow-purge", false, "let the console delete dead letters")
}

func (a *app) consoleCommand() *cobra.Command {
	var f consoleFlags
	c := &cobra.Command{
		Use: "console", GroupID: "see", Short: "Serve a page that shows what goes on", Args: cobra.NoArgs,
		Long: "Serve a page: a live map of services and topics, events as they pass, trails, groups, dead letters, health. It has no login: whoever reaches " +
			"the address sees all of it, so it listens on this machine only unless --listen says otherwise.",
		Example: "  eventbus console --listen 127.0.0.1:3000",
	}
	f.add(c, "listen")
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, _ []string) error {
		return a.serve(ctx, cluster, f, func(address string) { a.printf("console: http://%s/\n", address) })
	})
	return c
}

// serve serves the console until ctx ends, which is how it is meant to end.
func (a *app) serve(ctx context.Context, cluster *look.Cluster, f consoleFlags, ready func(address string)) error {
	topics, err := a.topics()
	if err != nil {
		return err
	}
	page, err := console.New(cluster.Bus(), &console.Options{Topics: topics, AllowRedrive: f.redrive, AllowPurge: f.kill, Hosts: f.hosts})
	if err != nil {
		return err
	}
	if err := page.ListenAndServe(ctx, f.listen, ready); err != nil {
		return usage("%w; choose another address", err)
	}
	return context.Cause(ctx)
}

func (a *app) devCommand() *cobra.Command {
	var (
		f          consoleFlags
		dir        string
		port       int
		partitions int
		memory     bool
	)
	c := &cobra.Command{
		Use: "dev", GroupID: "make", Short: "Run an embedded broker with the console, for development", Args: cobra.NoArgs,
		Long: "Run a broker in this process, with DreamScape's topics and the console. It speaks Kafka's protocol and keeps everything in a folder, across " +
			"restarts. It is for development: nothing is replicated.",
		Example: "  eventbus dev\n  KAFKA_BROKERS=127.0.0.1:9092 go run ./examples/dreamscape",
	}
	flags := c.Flags()
	flags.StringVar(&dir, "dir", "", "the folder that keeps everything (default: eventbus-dev in the user's cache folder)")
	flags.BoolVar(&memory, "memory", false, "keep everything in memory instead")
	flags.IntVar(&port, "port", 9092, "the broker's port on 127.0.0.1; 0: any free one")
	flags.IntVar(&partitions, "partitions", 3, "of each new topic")
	f.add(c, "console")
	c.MarkFlagsMutuallyExclusive("dir", "memory")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		folder, err := devFolder(dir, memory)
		if err != nil {
			return err
		}
		if partitions < 1 {
			return usage("--partitions: expected 1 or more, not %d", partitions)
		}
		if a.prefix == "" {
			a.prefix = os.Getenv("KAFKA_TOPIC_PREFIX")
		}
		broker, err := embedded.Start(embedded.Options{Port: port, Dir: folder, Partitions: partitions, TopicPrefix: a.prefix})
		if err != nil {
			return usage("%w; --port and --dir choose others", err)
		}
		defer broker.Close()
		a.brokers = strings.Join(broker.Brokers(), ",")
		for _, set := range os.Environ() {
			name, _, _ := strings.Cut(set, "=")
			if strings.HasPrefix(name, "KAFKA_TLS") || strings.HasPrefix(name, "KAFKA_SASL") { // those of another cluster
				if err := os.Unsetenv(name); err != nil {
					return err
				}
			}
		}
		cluster, done, err := a.open(ctx)
		if err != nil {
			return err
		}
		defer done()
		return a.serve(ctx, cluster, f, func(address string) {
			where := folder
			if memory {
				where = "memory"
			}
			a.printf("broker:  %s, kept in %s\nconsole: http://%s/\n", a.brokers, clean(where), address)
			a.printf("try:     KAFKA_BROKERS=%s eventbus publish dreamscape.user.created --payload '{\"userId\":\"u-1\",\"email\":\"ada@example.com\"}'\n", a.brokers)
			a.printf("Ctrl-C ends it.\n")
		})
	}
	return c
}

func devFolder(dir string, memory bool) (string, error) {
	if memory || dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", usage("--dir: expected a folder, since this user has no cache folder: %w", err)
	}
	return filepath.Join(cache, "eventbus-dev"), nil
}
