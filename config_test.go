package eventbus_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

func TestNewNamesTheBadField(t *testing.T) {
	for want, cfg := range map[string]eventbus.Config{
		"Config.Service":               {},
		"Config.Service: \"a b\"":      {Service: "a b"},
		"Config.Brokers":               {Service: "s", Brokers: []string{"localhost"}},
		"is not host:port":             {Service: "s", Brokers: []string{"localhost:0"}},
		"Config.TopicPrefix":           {Service: "s", TopicPrefix: "stag/ing"},
		"Config.PublishTimeout":        {Service: "s", PublishTimeout: -1},
		"Config.MaxBufferedEvents":     {Service: "s", MaxBufferedEvents: -1},
		"Config.MaxBufferedBytes":      {Service: "s", MaxBufferedBytes: -1},
		"Config.NewTopics":             {Service: "s", NewTopics: eventbus.TopicDefaults{Partitions: -1}},
		"Config.Middleware[1]":         {Service: "s", Middleware: []eventbus.Middleware{func(n eventbus.RawHandler) eventbus.RawHandler { return n }, nil}},
		"Config.Retry: field Attempts": {Service: "s", Retry: eventbus.RetryPolicy{Attempts: -1}},
		"Config.Retry: field Initial":  {Service: "s", Retry: eventbus.RetryPolicy{Initial: -1}},
		"Config.Retry: field Max":      {Service: "s", Retry: eventbus.RetryPolicy{Max: -1}},
		"Config.Retry: field Jitter":   {Service: "s", Retry: eventbus.RetryPolicy{Jitter: 1.1}},
	} {
		t.Run(want, func(t *testing.T) {
			bus, err := eventbus.New(cfg)
			require.Nil(t, bus)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestNewRefusesClientOptionsByName(t *testing.T) {
	noop := func(context.Context, *kgo.Client, map[string][]int32) {}
	for name, opts := range map[string][]kgo.Opt{
		"RequiredAcks":                       {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()},
		"DisableIdempotentWrite":             {kgo.DisableIdempotentWrite()},
		"AllowIdempotentProduceCancellation": {kgo.AllowIdempotentProduceCancellation()},
		"RecordRetries":                      {kgo.RecordRetries(3)},
		"RecordDeliveryTimeout":              {kgo.RecordDeliveryTimeout(time.Second)},
		"RecordPartitioner":                  {kgo.RecordPartitioner(kgo.RoundRobinPartitioner())},
		"TransactionalID":                    {kgo.TransactionalID("x")},
		"AllowAutoTopicCreation":             {kgo.AllowAutoTopicCreation()},
		"MaxBufferedRecords":                 {kgo.MaxBufferedRecords(7)},
		"SeedBrokers":                        {kgo.SeedBrokers("elsewhere:9092")},
		"ClientID":                           {kgo.ClientID("me")},
		"ConsumerGroup":                      {kgo.ConsumerGroup("g")},
		"ConsumeTopics":                      {kgo.ConsumeTopics("t")},
		"ConsumeStartOffset":                 {kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd())},
		"FetchIsolationLevel":                {kgo.FetchIsolationLevel(kgo.ReadCommitted())},
		"OnPartitionsRevoked":                {kgo.ConsumerGroup("g"), kgo.OnPartitionsRevoked(noop)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := eventbus.New(eventbus.Config{Service: "s", Client: opts})
			require.ErrorContains(t, err, "Config.Client: kgo.")
			if name != "OnPartitionsRevoked" { // its group is named first
				require.ErrorContains(t, err, "kgo."+name)
			}
		})
	}
	bus, err := eventbus.New(eventbus.Config{Service: "s", Client: []kgo.Opt{
		kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerLinger(time.Millisecond), kgo.FetchMaxBytes(1 << 20), kgo.Rack("a"),
	}})
	require.NoError(t, err, "others are the user's")
	require.NoError(t, bus.Shutdown(context.Background()))
}

func TestFromEnv(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, []byte("no certificate"), 0o600))
	for name, test := range map[string]struct {
		env  map[string]string
		want string // in the error; "" for none
	}{
		"nothing":                 {nil, ""},
		"brokers":                 {map[string]string{"KAFKA_BROKERS": "a:1, b:2"}, ""},
		"bad broker":              {map[string]string{"KAFKA_BROKERS": "a:1,b"}, `KAFKA_BROKERS: "b" is not host:port`},
		"empty broker":            {map[string]string{"KAFKA_BROKERS": "a:1,"}, `KAFKA_BROKERS: "" is not host:port`},
		"bad timeout":             {map[string]string{"KAFKA_PUBLISH_TIMEOUT": "30"}, "KAFKA_PUBLISH_TIMEOUT"},
		"bad tls":                 {map[string]string{"KAFKA_TLS": "yes please"}, "KAFKA_TLS"},
		"no ca file":              {map[string]string{"KAFKA_TLS_CA_FILE": ca + ".none"}, "KAFKA_TLS_CA_FILE"},
		"no certificate":          {map[string]string{"KAFKA_TLS_CA_FILE": ca}, "KAFKA_TLS_CA_FILE"},
		"no mechanism":            {map[string]string{"KAFKA_SASL_USERNAME": "ada"}, "KAFKA_SASL_MECHANISM"},
		"bad mechanism":           {map[string]string{"KAFKA_SASL_MECHANISM": "GSSAPI", "KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD": "hush-hush"}, "KAFKA_SASL_MECHANISM"},
		"no password":             {map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ada"}, "KAFKA_SASL_PASSWORD"},
		"scram over tls":          {map[string]string{"KAFKA_TLS": "true", "KAFKA_SASL_MECHANISM": "scram-sha-512", "KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD": "p"}, ""},
		"certificate without key": {map[string]string{"KAFKA_TLS_CERT_FILE": ca}, "KAFKA_TLS_KEY_FILE"},
		"password file":           {map[string]string{"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256", "KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD_FILE": ca + ".none"}, ""}, // health names it
		"two passwords":           {map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD_FILE": ca, "KAFKA_SASL_PASSWORD": "hush-hush"}, "KAFKA_SASL_PASSWORD"},
		"token":                   {map[string]string{"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SASL_TOKEN_FILE": ca}, ""},
		"no token":                {map[string]string{"KAFKA_SASL_MECHANISM": "OAUTHBEARER"}, "KAFKA_SASL_TOKEN_FILE"},
		"token and password":      {map[string]string{"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SASL_TOKEN_FILE": ca, "KAFKA_SASL_PASSWORD": "hush-hush"}, "KAFKA_SASL_TOKEN_FILE"},
		"token for PLAIN":         {map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD": "hush-hush", "KAFKA_SASL_TOKEN_FILE": ca}, "KAFKA_SASL_TOKEN_FILE"},
		"token without mechanism": {map[string]string{"KAFKA_SASL_TOKEN_FILE": ca}, "KAFKA_SASL_MECHANISM"},
		"bad plaintext":           {map[string]string{"KAFKA_SASL_ALLOW_PLAINTEXT": "perhaps"}, "KAFKA_SASL_ALLOW_PLAINTEXT"},
		"plaintext":               {map[string]string{"KAFKA_SASL_ALLOW_PLAINTEXT": "true"}, ""},
		"bad prefix":              {map[string]string{"KAFKA_TOPIC_PREFIX": "a/"}, ""}, // New names it
		"several at once":         {map[string]string{"KAFKA_BROKERS": "x", "KAFKA_TLS": "x"}, "KAFKA_TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "KAFKA_PUBLISH_TIMEOUT", "KAFKA_TLS", "KAFKA_TLS_CA_FILE",
				"KAFKA_TLS_CERT_FILE", "KAFKA_TLS_KEY_FILE", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD",
				"KAFKA_SASL_PASSWORD_FILE", "KAFKA_SASL_TOKEN_FILE", "KAFKA_SASL_ALLOW_PLAINTEXT"} {
				t.Setenv(v, test.env[v])
			}
			cfg, err := eventbus.FromEnv("svc")
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.NotContains(t, err.Error(), "hush-hush")
				require.Zero(t, cfg)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "svc", cfg.Service)
			if b := test.env["KAFKA_BROKERS"]; b != "" {
				require.Equal(t, b, strings.Join(cfg.Brokers, ", "))
			}
			require.Equal(t, test.env["KAFKA_TLS"] != "", cfg.TLS != nil)
			require.Equal(t, test.env["KAFKA_SASL_MECHANISM"] != "", cfg.SASL != nil)
			require.Equal(t, test.env["KAFKA_SASL_ALLOW_PLAINTEXT"] != "", cfg.AllowPlaintextLogin)
		})
	}
}

func TestRunNamesTheBadOption(t *testing.T) {
	handled := eventbus.UserCreated.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }, nil)
	with := func(opts eventbus.HandleOptions) []eventbus.Route {
		return []eventbus.Route{eventbus.UserCreated.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }, &opts)}
	}
	good := []eventbus.Route{handled}
	bus, err := eventbus.New(eventbus.Config{Service: "s", Brokers: []string{"127.0.0.1:1"}})
	require.NoError(t, err)
	defer bus.Shutdown(context.Background())
	for want, subs := range map[string][]eventbus.Subscription{
		"at least one Subscription":            nil,
		"Group: \"\"":                          {{Routes: good}},
		"Group: \"a b\"":                       {{Group: "a b", Routes: good}},
		"Routes: is empty":                     {{Group: "g"}},
		"Routes[0]: make it with Topic.Handle": {{Group: "g", Routes: []eventbus.Route{{}}}},
		"its handler is nil":                   {{Group: "g", Routes: []eventbus.Route{eventbus.UserCreated.Handle(nil, nil)}}},
		"the topic has a route already":        {{Group: "g", Routes: []eventbus.Route{handled, handled}}},
		"it runs on this bus already":          {{Group: "g", Routes: good}, {Group: "g", Routes: good}},
		"Validation: 7":                        {{Group: "g", Routes: good, Validation: 7}},
		"none may be negative":                 {{Group: "g", Routes: good, DrainTimeout: -1}},
		"Timeout: -1s is negative":             {{Group: "g", Routes: with(eventbus.HandleOptions{Timeout: -time.Second})}},
		"Retry: field Attempts: -1":            {{Group: "g", Routes: with(eventbus.HandleOptions{Retry: &eventbus.RetryPolicy{Attempts: -1}})}},
		"Kafka allows 249":                     {{Group: strings.Repeat("g", 230), Routes: good}},
		"Timeout 50s + DrainTimeout 10s + commit 5s + heartbeat 3s = 1m8s must be less than RebalanceTimeout 1m0s": {{Group: "g", Routes: with(eventbus.HandleOptions{Timeout: 50 * time.Second})}},
		// the second one's fault, and the first must not have started either
		`Subscription "h": Routes`: {{Group: "g", Routes: good}, {Group: "h"}},
	} {
		t.Run(want, func(t *testing.T) {
			require.ErrorContains(t, bus.Run(context.Background(), subs...), want)
			require.Empty(t, bus.Health(context.Background()).Groups)
		})
	}
}

func TestEnsureTopicsNamesTheBadTopic(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		require.ErrorContains(t, bus.EnsureTopics(context.Background(), nil), "topics[0] is nil")
		sub := eventbus.Subscription{Group: "g", Routes: []eventbus.Route{eventbus.UserCreated.Handle(nil, nil)}}
		letters := sub.Topics()[1:]
		require.ErrorContains(t, bus.EnsureTopics(context.Background(), letters...), eventbus.TopicUserCreated, "the source comes first")
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...), "again is a no-op")
	})
}
