package embedded_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/embedded"
)

// Interceptors see each request in the order in which they were added, and change it or its answer, until they are removed.
func TestIntercept(t *testing.T) {
	broker := start(t, embedded.Options{Topics: []string{"acme.orders"}, Partitions: 1})
	var seen, after, answered atomic.Int32
	first, err := broker.Intercept(func(_ context.Context, r *embedded.Request) embedded.Verdict {
		if r.Message.Key() != kmsg.Produce.Int16() {
			return embedded.Next
		}
		seen.Add(1)
		if r.ClientID != "orders" || !r.NamesTopic("acme.orders") || r.NamesTopic("acme.others") || r.NamesGroup("acme.orders") {
			return embedded.Cut
		}
		r.Answered = func(context.Context) bool { answered.Add(1); return true }
		return embedded.Forward
	})
	require.NoError(t, err)
	second, err := broker.Intercept(func(_ context.Context, r *embedded.Request) embedded.Verdict {
		if r.Message.Key() == kmsg.Produce.Int16() {
			after.Add(1)
		}
		return embedded.Next
	})
	require.NoError(t, err)
	producer := client(t, broker, kgo.ClientID("orders"), kgo.DefaultProduceTopic("acme.orders"))
	produce(t, producer, "one")
	first()
	produce(t, producer, "two")
	second()
	produce(t, producer, "three")
	require.EqualValues(t, []int32{1, 1, 1}, []int32{seen.Load(), answered.Load(), after.Load()})
	require.Equal(t, []string{"one", "two", "three"}, values(t, broker, "acme.orders", 3))
}

// An interceptor that blocks ends with the broker, and holds back no other connection.
func TestABlockingInterceptorEndsWithTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		broker := start(t, embedded.Options{Port: 9092, Listen: network.Listen, Topics: []string{"acme.orders"}})
		dial := kgo.Dialer(network.DialContext)
		_, err := broker.Intercept(func(ctx context.Context, r *embedded.Request) embedded.Verdict {
			if r.ClientID == "slow" {
				<-ctx.Done()
			}
			return embedded.Next
		})
		require.NoError(t, err)
		slow := client(t, broker, kgo.ClientID("slow"), kgo.DefaultProduceTopic("acme.orders"), dial)
		go slow.Produce(context.Background(), kgo.StringRecord("x"), nil)
		synctest.Wait()
		produce(t, client(t, broker, kgo.ClientID("quick"), kgo.DefaultProduceTopic("acme.orders"), dial), "y")
		slow.Close()
		broker.Close()
	})
}

func TestRefuseAndAgain(t *testing.T) {
	broker := start(t, embedded.Options{Topics: []string{"acme.orders"}, Partitions: 1})
	address := broker.Brokers()[0]
	producer := client(t, broker, kgo.DefaultProduceTopic("acme.orders"))
	produce(t, producer, "one")
	again := broker.Refuse()
	_, err := net.DialTimeout("tcp", address, time.Second)
	require.Error(t, err)

	taken, err := net.Listen("tcp", address)
	require.NoError(t, err)
	require.ErrorContains(t, again(), address)
	require.NoError(t, taken.Close())
	require.NoError(t, again())
	require.NoError(t, again(), "again it does nothing")
	require.Equal(t, []string{address}, broker.Brokers())
	produce(t, producer, "two")
	require.Equal(t, []string{"one", "two"}, values(t, broker, "acme.orders", 2))

	broker.Refuse()
	broker.Close()
}

// TLS goes through, and hides the requests: that is said.
func TestInterceptWithTLS(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	certificates := &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS13}
	broker := start(t, embedded.Options{Topics: []string{"acme.orders"}, Kfake: []kfake.Opt{kfake.TLS(certificates)}})
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	trusting := kgo.DialTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
	produce(t, client(t, broker, trusting, kgo.DefaultProduceTopic("acme.orders")), "x")
	_, err := broker.Intercept(func(context.Context, *embedded.Request) embedded.Verdict { return embedded.Cut })
	require.ErrorContains(t, err, "a client speaks TLS")
}
