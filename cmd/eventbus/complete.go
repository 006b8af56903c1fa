package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/dreamscape/eventbus/internal/look"
)

// completeTimeout is how long a shell is kept waiting for names.
const completeTimeout = 2 * time.Second

// names asks the cluster for completions; it completes nothing where that does not answer.
func (a *app) names(cmd *cobra.Command, prefix string, ask func(context.Context, *look.Cluster) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	cluster, done, err := a.open(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer done()
	var found []string
	for _, name := range ask(ctx, cluster) {
		if strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func topicNames(letters bool) func(context.Context, *look.Cluster) []string {
	return func(ctx context.Context, c *look.Cluster) (names []string) {
		topics, _ := c.Topics(ctx)
		for _, t := range topics {
			if !letters || t.Letters {
				names = append(names, t.Name)
			}
		}
		return names
	}
}

func groupNames(ctx context.Context, c *look.Cluster) (names []string) {
	groups, _ := c.Groups(ctx)
	for _, g := range groups {
		names = append(names, g.Name)
	}
	return names
}

func (a *app) completeTopics(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.names(cmd, prefix, topicNames(false))
}

func (a *app) completeGroups(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.names(cmd, prefix, groupNames)
}

func (a *app) completeLetters(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd, prefix, topicNames(true))
}

func (a *app) completeTopicAndGroup(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.names(cmd, prefix, topicNames(false))
	case 1:
		return a.names(cmd, prefix, groupNames)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", GroupID: "make", Short: "Write the man pages into a folder", Args: cobra.ExactArgs(1),
		Example: "  eventbus man ~/.local/share/man/man1 && man eventbus-tail",
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o750); err != nil {
				return usageError{err}
			}
			root := c.Root()
			root.Long += "\n\nExit codes:\n\n" + exitCodes
			root.DisableAutoGenTag = true // the same pages from the same source
			epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			header := &doc.GenManHeader{Title: "EVENTBUS", Section: "1", Source: "eventbus", Date: &epoch}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return usage("%s: %w", args[0], err)
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "eventbus*.1"))
			c.Printf("%d pages in %s\n", len(pages), args[0])
			return err
		},
	}
}
