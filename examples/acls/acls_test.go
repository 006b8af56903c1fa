package acls_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/acls"
	"github.com/dreamscape/eventbus/internal/doors"
)

// acls.txt is what `go run ./examples/dreamscape -acls` prints.
func TestTheListIsUpToDate(t *testing.T) {
	var printed strings.Builder
	require.NoError(t, acls.Print(&printed, ""))
	kept, err := os.ReadFile("acls.txt")
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(kept), "\r\n", "\n"), printed.String(),
		"go run ./examples/dreamscape -acls >examples/acls/acls.txt")
}

// All events of the catalogue are published by one service, and nobody may do anything with the cluster or make a topic.
func TestServicesShareOutTheCatalogue(t *testing.T) {
	var published, catalogue []string
	for _, s := range acls.Services() {
		for _, topic := range s.Access.Publishes {
			published = append(published, topic.Name())
		}
		for _, p := range s.Access.Permissions("") {
			require.Contains(t, []string{"READ", "WRITE"}, p.Operation)
			require.False(t, p.Prefixed)
		}
	}
	for _, topic := range eventbus.Catalogue() {
		if topic.Name() != eventbus.TopicHealthCheck {
			catalogue = append(catalogue, topic.Name())
		}
	}
	slices.Sort(published)
	slices.Sort(catalogue)
	require.Equal(t, catalogue, published)
}

// Nothing is listed that Kafka takes from another entry: who may read, write, delete or alter may also describe.
func TestNoEntryImpliesAnother(t *testing.T) {
	for _, p := range append(acls.Services(), acls.Operator()) {
		list := p.Access.Permissions("")
		for i, entry := range list {
			for _, operation := range []string{"READ", "WRITE", "DELETE", "ALTER"} {
				if entry.Operation == "DESCRIBE" {
					implies := entry
					implies.Operation = operation
					require.NotContains(t, list, implies, "%s: %v", p.Name, entry)
				}
			}
			require.NotContains(t, list[:i], entry, p.Name)
		}
	}
}

// Each service works with exactly its list, and without no entry of it, on kfake in virtual time. internal/itest does the same on Apache Kafka.
func TestLockedDoors(t *testing.T) {
	for _, s := range acls.Services() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := locked(t)
				require.NoError(t, doors.Check(context.Background(), b, doors.Service{Name: s.Name, Access: s.Access}))
			})
		})
	}
}

// So does an operator. kfake checks everything on its list.
func TestOperatorsDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, doors.Check(context.Background(), locked(t), doors.Operator()))
	})
}

// A list with a permission too many, or one too few, is found out.
func TestWrongListsAreFoundOut(t *testing.T) {
	auth, op := doors.Service{Name: acls.Services()[0].Name, Access: acls.Services()[0].Access}, doors.Operator()
	for want, test := range map[string]struct {
		of     doors.Service
		change func([]eventbus.Permission) []eventbus.Permission
	}{
		"needs no READ topic test.dreamscape.auth.login": {auth, func(list []eventbus.Permission) []eventbus.Permission {
			return append(list, eventbus.Permission{Resource: "topic", Name: "test.dreamscape.auth.login", Operation: "READ"})
		}},
		"with all of its permissions: group test.dreamscape-auth-service-group": {auth, func(list []eventbus.Permission) []eventbus.Permission {
			return slices.DeleteFunc(list, func(p eventbus.Permission) bool { return p.Resource == "group" })
		}},
		"needs no DESCRIBE topic test.": {op, func(list []eventbus.Permission) []eventbus.Permission {
			i := slices.IndexFunc(list, func(p eventbus.Permission) bool { return p.Operation == "DELETE" })
			list[i].Operation = "DESCRIBE"
			list = append(list, list[i])
			list[i].Operation = "DELETE"
			return list
		}},
		"with all of its permissions: dreamscape.user.created.dlq.": {op, func(list []eventbus.Permission) []eventbus.Permission {
			return slices.DeleteFunc(list, func(p eventbus.Permission) bool { return p.Operation == "DESCRIBE_CONFIGS" })
		}},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test.of.Change = test.change
				err := doors.Check(context.Background(), locked(t), test.of)
				require.ErrorContains(t, err, want)
			})
		})
	}
}

func locked(t *testing.T) doors.Backend {
	var net kfake.VirtualNetwork
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(net.Listen), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("SCRAM-SHA-512", "admin", "admin-secret"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	client := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.Dialer(net.DialContext)}
	return doors.Backend{
		Bus:    eventbus.Config{Brokers: cluster.ListenAddrs(), Client: client[1:]},
		Client: client, Admin: "admin", AdminPassword: "admin-secret", TopicPrefix: "test.",
		Log: t.Logf,
	}
}
