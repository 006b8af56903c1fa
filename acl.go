package eventbus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Access is what one principal of Kafka does with a bus, so that it can be allowed exactly that: [Access.Permissions]. The zero value does
// nothing and needs nothing.
type Access struct {
	// Publishes are the topics that it publishes to, [HealthCheck] among them where it calls [Bus.Ping]. Default: none.
	Publishes []AnyTopic
	// Handles are the subscriptions that it runs. Default: none.
	Handles []Subscription
	// Reads are the topics that it reads beside any group, as [Fold] does. Default: none.
	Reads []AnyTopic
	// Redrives are the subscriptions whose dead letters it looks at and sends back ([DeadLetters.Redrive]). Default: none.
	Redrives []Subscription
	// Releases are the subscriptions whose parked keys it looks at and releases ([DeadLetters.Release]). Default: none.
	Releases []Subscription
	// Purges are the subscriptions whose dead letters it deletes ([DeadLetters.Purge]). Default: none.
	Purges []Subscription
	// Service is [Config.Service], which transactional ids begin with. Required where Transacts is set, or a subscription has [Topic.HandleTx] routes or [OrderSequenced].
	Service string
	// Transacts says that it calls [Bus.Transact]. What that publishes is in Publishes too. Default: false.
	Transacts bool
	// Makes are the topics that it creates where they are missing ([Bus.EnsureTopics]); whoever only finds them there needs nothing
	// for it. Default: none.
	Makes []AnyTopic
}

// Permission is a right to do one thing with one topic, group or transactional id, or with all whose names begin alike. It is a value without a principal; the
// zero value is none that Kafka knows.
type Permission struct {
	Resource  string // "topic", "group" or "transactional-id"
	Name      string // Kafka's, TopicPrefix included
	Prefixed  bool   // also what only begins with Name
	Operation string // such as "READ"; Kafka's names, of which READ, WRITE, DELETE and ALTER include DESCRIBE
}

// Permissions returns what Kafka must allow and no more, sorted and each once; topicPrefix is [Config.TopicPrefix]. Nothing of it is a right on the
// cluster: what a bus writes needs none since Kafka 3.0 (KIP-679).
func (a Access) Permissions(topicPrefix string) []Permission {
	g := grants{prefix: topicPrefix}
	g.topics("WRITE", a.Publishes)
	g.topics("READ", a.Reads)
	g.each(a.Handles, g.handle)
	g.sequenced(a.Handles, g.park)
	g.sequenced(a.Releases, g.release)
	if a.Transacts || slices.ContainsFunc(a.Handles, Subscription.transactional) {
		name := transactionalID(topicPrefix, a.Service, "", "")
		g.list = append(g.list, Permission{Resource: "transactional-id", Name: name, Prefixed: true, Operation: "WRITE"})
	}
	g.each(a.Redrives, g.redrive)
	g.each(a.Purges, g.purge)
	for _, t := range a.Makes {
		g.create(t)
	}
	slices.SortFunc(g.list, Permission.compare)
	list := slices.Compact(g.list)
	return slices.DeleteFunc(slices.Clone(list), func(p Permission) bool {
		return slices.ContainsFunc(list, func(q Permission) bool { return q.implies(p) })
	})
}

// implies says whether Kafka takes another permission from p.
func (p Permission) implies(q Permission) bool {
	if p.Resource != q.Resource || p.Name != q.Name || p.Prefixed != q.Prefixed || q.Operation != "DESCRIBE" {
		return false
	}
	return slices.Contains([]string{"READ", "WRITE", "DELETE", "ALTER"}, p.Operation)
}

// grants collects permissions.
type grants struct {
	prefix string
	list   []Permission
}

// kafkaName is the topic's name in Kafka. Within that of a companion, the group has the prefix too.
func (s *topicSpec) kafkaName(prefix string) string {
	if s.source != nil {
		return prefix + s.source.name + s.infix + prefix + s.group
	}
	return prefix + s.name
}

func (g *grants) topic(operation, name string) {
	g.list = append(g.list, Permission{Resource: "topic", Name: name, Operation: operation})
}

func (g *grants) topics(operation string, topics []AnyTopic) {
	for _, t := range topics {
		if t != nil {
			g.topic(operation, t.spec().kafkaName(g.prefix))
		}
	}
}

// each calls grant for every route of subscriptions.
func (g *grants) each(subs []Subscription, grant func(topic *topicSpec, group string)) {
	for _, s := range subs {
		for _, r := range s.Routes {
			if r.topic != nil {
				grant(r.topic, s.Group)
			}
		}
	}
}

func (g *grants) handle(t *topicSpec, group string) {
	g.topic("READ", t.kafkaName(g.prefix))
	g.topic("READ", companion(t, retryInfix, group).kafkaName(g.prefix))
	g.topic("WRITE", companion(t, dlqInfix, group).kafkaName(g.prefix))
	g.list = append(g.list, Permission{Resource: "group", Name: g.prefix + group, Operation: "READ"})
}

// sequenced calls grant for every sequenced route of subscriptions.
func (g *grants) sequenced(subs []Subscription, grant func(topic *topicSpec, group string)) {
	for _, s := range subs {
		s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r Route) bool { return r.order != OrderSequenced })
		g.each([]Subscription{s}, grant)
	}
}

func (g *grants) park(t *topicSpec, group string) {
	g.topic("READ", companion(t, dlqInfix, group).kafkaName(g.prefix))                  // for what is released
	g.topic("DESCRIBE_CONFIGS", companion(t, sequenceInfix, group).kafkaName(g.prefix)) // it has to be compacted
	g.release(t, group)
}

func (g *grants) release(t *topicSpec, group string) {
	name := companion(t, sequenceInfix, group).kafkaName(g.prefix)
	g.topic("READ", name)
	g.topic("WRITE", name)
}

func (g *grants) redrive(t *topicSpec, group string) {
	letters := companion(t, dlqInfix, group).kafkaName(g.prefix)
	g.topic("READ", letters)
	g.topic("WRITE", companion(t, retryInfix, group).kafkaName(g.prefix))
	g.list = append(g.list, Permission{Resource: "group", Name: letters + cursorInfix, Prefixed: true, Operation: "READ"})
}

func (g *grants) purge(t *topicSpec, group string) {
	letters := companion(t, dlqInfix, group).kafkaName(g.prefix)
	g.topic("READ", letters)
	g.topic("DELETE", letters)
}

func (g *grants) create(t AnyTopic) {
	if t == nil {
		return
	}
	name := t.spec().kafkaName(g.prefix)
	g.topic("CREATE", name)
	g.topic("DESCRIBE", name)
	if source := t.spec().source; source != nil {
		g.topic("DESCRIBE", source.kafkaName(g.prefix))
		g.topic("DESCRIBE_CONFIGS", source.kafkaName(g.prefix)) // a dead letter is larger than its event, and so is its topic's limit
	}
}

func (p Permission) compare(q Permission) int {
	return cmp.Or(-cmp.Compare(p.Resource, q.Resource), cmp.Compare(p.Name, q.Name), cmp.Compare(p.Operation, q.Operation))
}

// String is for people, such as "READ topic dreamscape.user.created"; a name that only begins so ends in "*".
func (p Permission) String() string {
	if p.Prefixed {
		return fmt.Sprintf("%s %s %s*", p.Operation, p.Resource, p.Name)
	}
	return fmt.Sprintf("%s %s %s", p.Operation, p.Resource, p.Name)
}

// Arguments are those of Kafka's kafka-acls.sh that allow it to a principal such as "User:auth-service", without --bootstrap-server.
func (p Permission) Arguments(principal string) []string {
	args := []string{"--add", "--allow-principal", principal, "--operation", p.operation(), "--" + p.Resource, p.Name}
	if p.Prefixed {
		args = append(args, "--resource-pattern-type", "prefixed")
	}
	return args
}

// operation is its name as kafka-acls.sh prints it: DescribeConfigs.
func (p Permission) operation() string {
	var b strings.Builder
	for word := range strings.SplitSeq(strings.ToLower(p.Operation), "_") {
		b.WriteString(strings.ToUpper(word[:min(1, len(word))]) + word[min(1, len(word)):])
	}
	return b.String()
}

// ACL is what allows it to a principal such as "User:auth-service", from any host, for [kadm.Client.CreateACLs] and [kadm.Client.DeleteACLs]. It
// belongs to the caller.
func (p Permission) ACL(principal string) (*kadm.ACLBuilder, error) {
	op, err := kmsg.ParseACLOperation(p.Operation)
	if err != nil {
		return nil, fmt.Errorf("eventbus: Permission.Operation: %q is not an operation of Kafka: %w", p.Operation, err)
	}
	acl := kadm.NewACLs().Allow(principal).AllowHosts("*").Operations(op).ResourcePatternType(kadm.ACLPatternLiteral)
	if p.Prefixed {
		acl.ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	switch p.Resource {
	case "topic":
		return acl.Topics(p.Name), nil
	case "group":
		return acl.Groups(p.Name), nil
	case "transactional-id":
		return acl.TransactionalIDs(p.Name), nil
	}
	return nil, fmt.Errorf("eventbus: Permission.Resource: %q is not topic, group or transactional-id", p.Resource)
}
