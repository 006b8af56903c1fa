package eventbus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

// rights are what a user may do: a topic's or the group's name, and the operations on it.
type rights map[string][]kmsg.ACLOperation

var (
	toRead  = []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationDescribe}
	toWrite = []kmsg.ACLOperation{kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe}
	toSee   = []kmsg.ACLOperation{kmsg.ACLOperationDescribe}
)

// user has the cluster know bob by these rights.
func user(rights rights) []kfake.Opt {
	var acls []kfake.ACL
	for name, ops := range rights {
		kind := kmsg.ACLResourceTypeTopic
		if name == "group" {
			kind = kmsg.ACLResourceTypeGroup
		}
		for _, op := range ops {
			acls = append(acls, kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true})
		}
	}
	return []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "bob", "bob", acls...)}
}

// What is missing for a subscription is named within 5 s: by health, by WaitReady, and by Run where FailFast asks for it.
func TestWhatIsMissingIsNamedWithinFiveSeconds(t *testing.T) {
	const letters, retries = orders + ".dlq.group", orders + ".retry.group"
	all := rights{"group": toRead, orders: toRead, letters: toWrite}
	but := func(name string, ops []kmsg.ACLOperation) rights {
		r := rights{name: ops}
		for n, o := range all {
			if n != name {
				r[n] = o
			}
		}
		return r
	}
	for name, test := range map[string]struct {
		opts     []kfake.Opt
		topic    string
		protocol eventbus.GroupProtocol
		want     string
	}{
		"an unknown topic":           {topic: "acme.nowhere", want: "topic acme.nowhere: UNKNOWN_TOPIC_OR_PARTITION"},
		"a hidden topic":             {opts: user(but(orders, nil)), want: "topic acme.orders: TOPIC_AUTHORIZATION_FAILED"},
		"a topic not to be read":     {opts: user(but(orders, toSee)), want: "topic acme.orders: READ is not allowed"},
		"dead letters not to write":  {opts: user(but(letters, toSee)), want: "topic acme.orders.dlq.group: WRITE is not allowed"},
		"a retry topic not to read":  {opts: append(user(but(retries, toSee)), kfake.SeedTopics(1, retries)), want: "topic acme.orders.retry.group: READ is not allowed"},
		"a forbidden group":          {opts: user(but("group", nil)), want: "GROUP_AUTHORIZATION_FAILED"},
		"a broker without KIP-848":   {opts: []kfake.Opt{kfake.MaxVersions(kversion.V3_9_0())}, protocol: eventbus.ProtocolConsumer, want: "needs Kafka 4.0"},
		"a forbidden group, KIP-848": {opts: user(but("group", nil)), protocol: eventbus.ProtocolConsumer, want: "GROUP_AUTHORIZATION_FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				login := func(c *eventbus.Config) {
					if test.opts != nil && test.want != "needs Kafka 4.0" {
						c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism()
					}
				}
				topic := w.orders
				if test.topic != "" {
					topic = eventbus.NewTopic[order](test.topic, nil)
				}
				change := func(s *eventbus.Subscription) {
					s.Routes, s.Protocol = []eventbus.Route{topic.Handle(ignore, nil)}, test.protocol
				}
				bus := w.bus(login)
				w.run(bus, nil, nil, change)
				w.until("named", func() bool {
					h := bus.Health(context.Background())
					return len(h.Groups) == 1 && strings.Contains(strings.Join(h.Groups[0].Problems, "\n"), test.want)
				})
				require.LessOrEqual(t, w.took(), 5*time.Second)
				h := bus.Health(context.Background())
				require.False(t, h.Ready)
				require.True(t, h.Live)
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				require.ErrorContains(t, bus.WaitReady(ctx), test.want)

				began := time.Now()
				r := w.run(w.bus(login), nil, nil, func(s *eventbus.Subscription) {
					change(s)
					s.FailFast = true
				})
				require.ErrorContains(t, <-r.ended, test.want)
				require.LessOrEqual(t, time.Since(began), 5*time.Second)
			}, test.opts...)
		})
	}
}

// The bus bounds what all of its groups hold together, and none of them starves.
func TestGroupsShareWhatTheBusMayHold(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.MaxInFlight = 2000 })
		for i := range 10_000 {
			bus.PublishAsync(context.Background(), w.order("o", i), nil)
		}
		w.until("all published", func() bool { return w.held(orders) == 10_000 })
		stuck := func(context.Context, *eventbus.BaseEvent[order]) error {
			return eventbus.RetryAfter(errors.New("no"), time.Hour)
		}
		for _, group := range []string{"a", "b", "c"} {
			w.run(bus, stuck, nil, func(s *eventbus.Subscription) { s.Group = group })
		}
		time.Sleep(time.Minute)
		var seen journal
		w.run(bus, handles(&seen), nil, nil)
		w.until("the last group has all", func() bool { return len(seen.all()) == 10_000 })
		held := 0
		for _, g := range bus.Health(context.Background()).Groups[:3] {
			require.NotEmpty(t, g.Partitions[0].Paused)
			require.NotZero(t, g.Partitions[0].Queued)
			held += g.Partitions[0].Queued
		}
		require.LessOrEqual(t, held, 4*1000+2000, "and what a poll brings")
	}, kfake.SeedTopics(1, orders+".dlq.a", orders+".dlq.b", orders+".dlq.c"))
}

// Kafka does not tell whether a topic is there of which nothing is allowed. A retry topic need not be, and is named all the same.
func TestAHiddenRetryTopicIsNamed(t *testing.T) {
	const hidden = "topic acme.orders.retry.group: READ is not allowed"
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism() })
		w.run(bus, ignore, nil, nil)
		w.until("named", func() bool { return strings.Contains(bus.Health(context.Background()).Error, hidden) })
		require.LessOrEqual(t, w.took(), 5*time.Second)
		require.True(t, bus.Health(context.Background()).Ready, "the topic may not be there")
	}, user(rights{"group": toRead, orders: toRead, orders + ".dlq.group": toWrite})...)
}
