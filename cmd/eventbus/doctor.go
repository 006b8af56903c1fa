package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/internal/look"
)

func (a *app) doctorCommand() *cobra.Command {
	var (
		group string
		out   format
	)
	c := &cobra.Command{
		Use: "doctor [TOPIC|PATTERN...]", GroupID: "see", Short: "Check the cluster, its topics and this login, and say what to change",
		Long: "Connect, and check versions, brokers, permissions, topics and their configuration: what a service that uses eventbus would stumble over. Topics are " +
			"those that are named, or DreamScape's. It changes nothing, and fails where something has to be mended; a warning is no failure.",
		Example: "  eventbus doctor\n  eventbus doctor 'orders.*' --group invoices",
	}
	c.Flags().StringVar(&group, "group", "", "also check what this consumer group needs")
	out.add(c, "a check")
	c.ValidArgsFunction = a.completeTopics
	c.RunE = a.with(func(ctx context.Context, cluster *look.Cluster, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		d := &doctor{app: a, cluster: cluster, admin: cluster.Admin(), group: group, out: out}
		if err := d.examine(ctx, args); err != nil {
			return err
		}
		if out != "json" {
			a.printf("%d checks, %d to mend, %d warnings\n", d.checks, d.wrong, d.warnings)
		}
		if d.wrong > 0 {
			return errFound
		}
		return nil
	})
	return c
}

// doctor looks at a cluster and says what it finds.
type doctor struct {
	*app
	cluster                 *look.Cluster
	admin                   *kadm.Client
	group                   string
	out                     format
	brokers                 int
	checks, wrong, warnings int
}

func (d *doctor) ok(format string, args ...any) {
	d.checks++
	d.say(green, "ok", fmt.Sprintf(format, args...))
}

// warn says what might be better; what to do is part of the text.
func (d *doctor) warn(format string, args ...any) {
	d.checks++
	d.warnings++
	d.say(yellow, "warn", fmt.Sprintf(format, args...))
}

// fail says what has to be mended, and how.
func (d *doctor) fail(format string, args ...any) {
	d.checks++
	d.wrong++
	d.say(red, "wrong", fmt.Sprintf(format, args...))
}

// finding is what a check has found, as JSON.
type finding struct {
	Result string `json:"result"` // ok, warn or wrong
	Text   string `json:"text"`
}

func (d *doctor) say(s style, word, text string) {
	if d.out == "json" {
		_ = d.printJSON(finding{word, text}) // run tells of it
		return
	}
	text, width := oneLine(text), d.columns()
	for i, line := range wrap(text, room(width, 7)) {
		if i > 0 {
			word = ""
		}
		d.printf("%s%s %s\n", d.paint(s, word), strings.Repeat(" ", 5-len(word)), line)
	}
}

// wrap breaks text between words; width 0: not at all.
func wrap(text string, width int) []string {
	if width == 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func (d *doctor) examine(ctx context.Context, patterns []string) error {
	meta, err := d.admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	d.brokers = len(meta.Brokers)
	d.ok("connected: %d brokers, controller %d, cluster %s", d.brokers, meta.Controller, meta.Cluster)
	if d.brokers < 3 {
		d.warn("%d brokers: what is acknowledged is lost with a disk; production needs three, with replication.factor 3 and min.insync.replicas 2", d.brokers)
	}
	d.versions(ctx)
	d.brokerSettings(ctx, meta)
	topics, err := d.topicsToCheck(ctx, patterns)
	if err != nil {
		return err
	}
	if err := d.permissions(ctx, topics); err != nil {
		return err
	}
	d.topicSettings(ctx, topics)
	return d.groupChecks(ctx, topics)
}

// versions looks at what brokers can do.
func (d *doctor) versions(ctx context.Context) {
	all, err := d.admin.ApiVersions(ctx)
	if err != nil {
		d.warn("what the brokers can do is not known: %v", err)
		return
	}
	guesses := map[string]bool{}
	for _, b := range all {
		if b.Err != nil {
			d.warn("broker %d does not tell its versions: %v", b.NodeID, b.Err)
			continue
		}
		guesses[b.VersionGuess()] = true
		if _, high, ok := b.KeyVersions(int16(kmsg.Produce)); !ok || high < 3 {
			d.fail("broker %d is older than Kafka 0.11, which has no idempotent producer: upgrade it", b.NodeID)
		}
	}
	names := make([]string, 0, len(guesses))
	for g := range guesses {
		names = append(names, g)
	}
	slices.Sort(names)
	d.ok("versions: %s", strings.Join(names, ", "))
	if len(names) > 1 {
		d.warn("brokers of different versions: finish the upgrade, clients use what the oldest can do")
	}
	for _, b := range all {
		if b.Err != nil {
			break
		}
		switch level, ok := feature(b, "transaction.version"); {
		case !ok || level < 2:
			d.warn("transaction.version is %d: HandleTx, Transact and OrderSequenced need 2 (Kafka 4.0: kafka-features.sh upgrade --feature transaction.version=2)", level)
		default:
			d.ok("transactions: version %d", level)
		}
		if _, _, has := b.KeyVersions(int16(kmsg.ConsumerGroupHeartbeat)); has {
			d.ok("group protocol KIP-848 (ProtocolConsumer) is there")
		} else {
			d.warn("no group protocol KIP-848: keep Subscription.Protocol at ProtocolClassic")
		}
		break // features are the cluster's
	}
}

func feature(b kadm.BrokerApiVersions, name string) (level int16, ok bool) {
	for _, f := range b.Raw().FinalizedFeatures {
		if f.Name == name {
			return f.MaxVersionLevel, true
		}
	}
	return 0, false
}

// brokerSettings looks at the configuration of a broker that matters here.
func (d *doctor) brokerSettings(ctx context.Context, meta kadm.Metadata) {
	if len(meta.Brokers) == 0 {
		return
	}
	id := meta.Brokers[0].NodeID
	all, err := d.admin.DescribeBrokerConfigs(ctx, id)
	if err != nil || len(all) == 0 || all[0].Err != nil {
		if err == nil && len(all) > 0 {
			err = all[0].Err
		}
		d.warn("the brokers' configuration is not known: %v; the login needs DescribeConfigs on the cluster", err)
		return
	}
	set := settings(all[0].Configs)
	if set["auto.create.topics.enable"] == "true" {
		d.warn("auto.create.topics.enable=true: a misspelt name becomes a topic; set it to false, EnsureTopics makes topics on purpose")
	}
	if set["unclean.leader.election.enable"] == "true" {
		d.fail("unclean.leader.election.enable=true: acknowledged events may be lost; set it to false")
	}
	if n := count(set["offsets.topic.replication.factor"]); n > 0 && n < min(3, d.brokers) {
		d.fail("offsets.topic.replication.factor=%d: commits are lost with a broker; set it to %d and reassign __consumer_offsets", n, min(3, d.brokers))
	}
	if n := count(set["message.max.bytes"]); n > 0 && n < 1<<20 {
		d.warn("message.max.bytes=%d: events of up to 1 MiB are refused; set it to 1048588 or more", n)
	}
	if n := count(set["offsets.retention.minutes"]); n > 0 && n < 7*24*60 {
		d.warn("offsets.retention.minutes=%d: a group that rests for so long begins from the beginning; set it to 10080 or more", n)
	}
}

func settings(configs []kadm.Config) map[string]string {
	set := map[string]string{}
	for _, c := range configs {
		set[c.Key] = c.MaybeValue()
	}
	return set
}

func count(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// topicsToCheck are those that are named, or those that are declared.
func (d *doctor) topicsToCheck(ctx context.Context, patterns []string) ([]look.Topic, error) {
	if len(patterns) > 0 {
		return chosen(ctx, d.cluster, patterns)
	}
	there, err := d.cluster.Topics(ctx)
	if err != nil {
		return nil, err
	}
	declared, err := d.app.topics()
	if err != nil {
		return nil, err
	}
	var found []look.Topic
	var missing []string
	for _, t := range declared {
		i := slices.IndexFunc(there, func(other look.Topic) bool { return other.Name == t.Name() })
		if i < 0 {
			missing = append(missing, t.Name())
			continue
		}
		found = append(found, there[i])
	}
	switch {
	case len(missing) == len(declared):
		d.warn("none of the %d declared topics is there: Bus.EnsureTopics(ctx, eventbus.Catalogue()...) makes them; name other topics to check those", len(declared))
	case len(missing) > 0:
		d.fail("topics are missing: %s; Bus.EnsureTopics makes them", strings.Join(missing, ", "))
	default:
		d.ok("all %d declared topics are there", len(declared))
	}
	return found, nil
}

// permissions looks at what this login may do (KIP-430).
func (d *doctor) permissions(ctx context.Context, topics []look.Topic) error {
	if len(topics) == 0 {
		return nil
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = d.cluster.Bus().TopicPrefix() + t.Name
	}
	details, err := d.admin.ListTopics(kadm.WithAuthorizedOps(ctx), names...)
	if err != nil {
		return err
	}
	var noRead, noWrite []string
	told := false
	for i, name := range names {
		t := details[name]
		if t.Err != nil {
			d.fail("topic %s: %v", topics[i].Name, t.Err)
			continue
		}
		if len(t.AuthorizedOperations) == 0 {
			continue
		}
		told = true
		if !slices.Contains(t.AuthorizedOperations, kmsg.ACLOperationRead) {
			noRead = append(noRead, topics[i].Name)
		}
		if !slices.Contains(t.AuthorizedOperations, kmsg.ACLOperationWrite) {
			noWrite = append(noWrite, topics[i].Name)
		}
	}
	for what, names := range map[string][]string{"Read": noRead, "Write": noWrite} {
		if len(names) > 0 {
			d.warn("this login may not %s: %s; kafka-acls.sh --add --operation %s --topic …, if it has to", strings.ToLower(what), strings.Join(names, ", "), what)
		}
	}
	if told && len(noRead)+len(noWrite) == 0 {
		d.ok("this login may read and write all %d topics", len(names))
	}
	return nil
}

// topicSettings looks at copies and configuration.
func (d *doctor) topicSettings(ctx context.Context, topics []look.Topic) {
	if len(topics) == 0 {
		return
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = d.cluster.Bus().TopicPrefix() + t.Name
		if copies := min(3, d.brokers); t.Replication < copies {
			d.fail("topic %s has %d copies: make it %d with kafka-reassign-partitions.sh", t.Name, t.Replication, copies)
		}
	}
	all, err := d.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		d.warn("the topics' configuration is not known: %v; the login needs DescribeConfigs on them", err)
		return
	}
	slices.SortFunc(all, func(a, b kadm.ResourceConfig) int { return cmp.Compare(a.Name, b.Name) })
	wrong := d.wrong
	for i, t := range all {
		if t.Err != nil {
			d.warn("topic %s: its configuration is not known: %v", t.Name, t.Err)
			continue
		}
		d.topicConfig(strings.TrimPrefix(t.Name, d.cluster.Bus().TopicPrefix()), settings(all[i].Configs))
	}
	if d.wrong == wrong {
		d.ok("the configuration of %d topics", len(all))
	}
}

func (d *doctor) topicConfig(name string, set map[string]string) {
	if n := count(set["min.insync.replicas"]); d.brokers >= 3 && n == 1 {
		d.fail("topic %s: min.insync.replicas=1: acks=all then waits for one copy only; set it to 2", name)
	}
	if set["unclean.leader.election.enable"] == "true" {
		d.fail("topic %s: unclean.leader.election.enable=true: acknowledged events may be lost; set it to false", name)
	}
	if c := set["compression.type"]; c != "" && c != "producer" && c != "uncompressed" {
		d.warn("topic %s: compression.type=%s: brokers compress anew what arrives, and kafkajs reads only gzip; set it to producer", name, c)
	}
	if n := count(set["max.message.bytes"]); n > 0 && n < 1<<20 {
		d.warn("topic %s: max.message.bytes=%d: events of up to 1 MiB are refused; set it to 1048588 or more", name, n)
	}
	if set["cleanup.policy"] == "compact" && !strings.Contains(name, ".sequences.") {
		d.warn("topic %s: cleanup.policy=compact keeps only the last event of a key; set it to delete", name)
	}
	if set["message.timestamp.type"] == "LogAppendTime" {
		d.warn("topic %s: message.timestamp.type=LogAppendTime: --since and lag in time count from the broker's clock", name)
	}
}

// groupChecks looks at what a group needs beside its topics.
func (d *doctor) groupChecks(ctx context.Context, topics []look.Topic) error {
	if d.group == "" {
		return nil
	}
	there, err := d.cluster.Topics(ctx)
	if err != nil {
		return err
	}
	partitions := map[string]int{}
	for _, t := range there {
		partitions[t.Name] = t.Partitions
	}
	d.groupPermission(ctx)
	groups, err := d.cluster.Groups(ctx, d.group)
	if errors.Is(err, look.ErrNoGroup) {
		d.warn("group %s is not there yet: it appears when its first member joins", d.group)
		groups = []look.Group{{Name: d.group, State: "not there"}}
		for _, t := range topics {
			groups[0].Partitions = append(groups[0].Partitions, look.GroupPartition{Topic: t.Name})
		}
	} else if err != nil {
		return err
	}
	d.ok("group %s: %s, %d members, %s records behind", d.group, groups[0].State, len(groups[0].Members), grouped(groups[0].Lag))
	read := map[string]bool{}
	for _, p := range groups[0].Partitions {
		read[p.Topic] = true
		if p.Member == "" && len(groups[0].Members) > 0 {
			d.warn("group %s: partition %s/%d has no member", d.group, p.Topic, p.Partition)
		}
	}
	for _, t := range topics {
		if !read[t.Name] || t.Group != "" {
			continue
		}
		for _, beside := range []string{t.Name + ".dlq." + d.group, t.Name + ".retry." + d.group} {
			switch n, ok := partitions[beside]; {
			case !ok:
				d.fail("topic %s is missing: Bus.EnsureTopics(ctx, sub.Topics()...) makes it", beside)
			case n < t.Partitions && strings.Contains(beside, ".dlq."):
				d.warn("topic %s has %d partitions, %s has %d: give it as many, so that a letter is in the partition of its event", beside, n, t.Name, t.Partitions)
			default:
				d.ok("topic %s", beside)
			}
		}
	}
	return nil
}

// groupPermission looks at whether this login may be a member (KIP-430).
func (d *doctor) groupPermission(ctx context.Context) {
	name := d.cluster.Bus().TopicPrefix() + d.group
	all, err := d.admin.DescribeGroups(kadm.WithAuthorizedOps(ctx), name)
	if err == nil {
		err = all[name].Err
	}
	switch allowed := all[name].AuthorizedOperations; {
	case errors.Is(err, kerr.GroupIDNotFound): // newer brokers say so of one that nobody has joined
	case err != nil:
		d.fail("group %s: %v; kafka-acls.sh --add --operation Read --group …", d.group, err)
	case len(allowed) > 0 && !slices.Contains(allowed, kmsg.ACLOperationRead):
		d.fail("this login may not join group %s: kafka-acls.sh --add --operation Read --group …", d.group)
	case len(allowed) > 0:
		d.ok("this login may join group %s", d.group)
	}
}
