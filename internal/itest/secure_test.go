package itest_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/acls"
	"github.com/dreamscape/eventbus/internal/conformance"
	"github.com/dreamscape/eventbus/internal/doors"
	"github.com/dreamscape/eventbus/internal/testca"
)

// secured are the brokers of scripts/kafka up --secure.
type secured struct {
	plain, login, mutual []string // addresses of the listeners
	ca                   *testca.CA
	caFile               string
}

// secureBrokers returns them, or skips.
func secureBrokers(t *testing.T) secured {
	t.Helper()
	get := func(name string) string {
		v := os.Getenv(name)
		if v == "" {
			t.Skipf("%s is not set: start a broker with scripts/kafka up --secure", name)
		}
		return v
	}
	addresses := func(name string) []string { return strings.Split(get(name), ",") }
	s := secured{
		plain: addresses("KAFKA_BROKERS"), login: addresses("KAFKA_SECURE_BROKERS"), mutual: addresses("KAFKA_MTLS_BROKERS"),
		caFile: get("KAFKA_SECURE_CA_FILE"),
	}
	var err error
	s.ca, err = testca.Load(s.caFile, get("KAFKA_SECURE_CA_KEY_FILE"))
	require.NoError(t, err)
	return s
}

func (s secured) tls(t *testing.T) *tls.Config {
	t.Helper()
	cfg, err := eventbus.TLSFiles{CA: s.caFile}.Config()
	require.NoError(t, err)
	return cfg
}

func password(user string) sasl.Mechanism {
	return scram.Auth{User: user, Pass: user + "-secret"}.AsSha512Mechanism()
}

// token is one that the broker takes unsigned.
func token(user string, lasts time.Duration) eventbus.Secret {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	now := time.Now()
	return eventbus.Secret(part(`{"alg":"none"}`) + "." +
		part(fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, user, now.Unix()-1, now.Add(lasts).Unix())) + ".")
}

// TestSecureBrokers runs the conformance suite by TLS and a login.
func TestSecureBrokers(t *testing.T) {
	s := secureBrokers(t)
	conformance.Run(t, conformance.Backend{Brokers: s.login, TLS: s.tls(t), SASL: password("admin")})
}

// TestLockedDoors has each of DreamScape's services, and an operator, work with exactly its permissions, and fail without each of them.
func TestLockedDoors(t *testing.T) {
	s := secureBrokers(t)
	tried := []doors.Service{doors.Operator()}
	for _, p := range acls.Services() {
		tried = append(tried, doors.Service{Name: p.Name, Access: p.Access})
	}
	for _, p := range tried {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			encrypted := s.tls(t)
			err := doors.Check(context.Background(), doors.Backend{
				Bus:    eventbus.Config{Brokers: s.login, TLS: encrypted},
				Client: []kgo.Opt{kgo.SeedBrokers(s.login...), kgo.DialTLSConfig(encrypted)},
				Admin:  "admin", AdminPassword: "admin-secret", TopicPrefix: "doors-" + uuid.NewString()[:8] + ".",
				Log: t.Logf,
			}, p)
			require.NoError(t, err)
		})
	}
}

// TestWaysIn are those that a bus can take.
func TestWaysIn(t *testing.T) {
	s := secureBrokers(t)
	var asked atomic.Int32
	pair, err := s.ca.Issue("admin", time.Now().Add(time.Hour))
	require.NoError(t, err)
	cert, key, err := pair.Write(t.TempDir())
	require.NoError(t, err)
	shown, err := eventbus.TLSFiles{CA: s.caFile, Cert: cert, Key: key}.Config()
	require.NoError(t, err)
	for name, cfg := range map[string]eventbus.Config{
		"SCRAM-SHA-512": {Brokers: s.login, TLS: s.tls(t), SASL: password("admin")},
		"SCRAM-SHA-256": {Brokers: s.login, TLS: s.tls(t), SASL: scram.Auth{User: "admin", Pass: "admin-secret"}.AsSha256Mechanism()},
		"PLAIN":         {Brokers: s.login, TLS: s.tls(t), SASL: plain.Auth{User: "admin", Pass: "admin-secret"}.AsMechanism()},
		"OAUTHBEARER": {Brokers: s.login, TLS: s.tls(t), SASL: eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) {
			asked.Add(1)
			return token("admin", 4*time.Second), nil
		})},
		"a client certificate": {Brokers: s.mutual, TLS: shown},
	} {
		t.Run(name, func(t *testing.T) {
			bus := start(t, cfg)
			topic := eventbus.NewTopic[map[string]any]("ways-"+uuid.NewString()[:8], nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(t, bus.EnsureTopics(ctx, topic))
			require.NoError(t, bus.Publish(ctx, topic.New(map[string]any{"a": "b"})))
			if name != "OAUTHBEARER" {
				return
			}
			// The session ends with its token, so the source is asked again on connections that go on (KIP-368): no publish fails meanwhile.
			before := asked.Load()
			for asked.Load() < before+3 {
				require.NoError(t, bus.Publish(ctx, topic.New(map[string]any{"a": "b"})))
			}
		})
	}
}

func start(t *testing.T, cfg eventbus.Config) *eventbus.Bus {
	cfg.Service, cfg.Logger = "itest", slog.New(slog.DiscardHandler)
	bus, err := eventbus.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = bus.Shutdown(ctx) // what could not be published is given up
	})
	return bus
}

// TestLockedDoorsAreNamed has Apache Kafka refuse in every way: whatever a bus is asked to do, it says why within 5 s, and shows no secret.
func TestLockedDoorsAreNamed(t *testing.T) {
	s := secureBrokers(t)
	expired, err := s.ca.Issue("admin", time.Now().Add(-time.Hour))
	require.NoError(t, err)
	stranger, err := testca.New("a stranger's CA")
	require.NoError(t, err)
	strange, err := stranger.Issue("admin", time.Now().Add(time.Hour))
	require.NoError(t, err)
	showing := func(p testca.Pair) *tls.Config {
		cfg := s.tls(t)
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := p.TLS()
			return &cert, err
		}
		return cfg
	}
	const canary = "canary-secret"
	mutual12 := s.tls(t)
	mutual12.MaxVersion = tls.VersionTLS12
	for name, test := range map[string]struct {
		cfg  eventbus.Config
		want string
	}{
		"a wrong password": {eventbus.Config{Brokers: s.login, TLS: s.tls(t), SASL: scram.Auth{User: "alice", Pass: canary}.AsSha512Mechanism()},
			"SASL_AUTHENTICATION_FAILED"},
		"a wrong password, PLAIN": {eventbus.Config{Brokers: s.login, TLS: s.tls(t), SASL: plain.Auth{User: "alice", Pass: canary}.AsMechanism()},
			"SASL_AUTHENTICATION_FAILED"},
		"a token that expired": {eventbus.Config{Brokers: s.login, TLS: s.tls(t), SASL: eventbus.OAuthBearer(
			func(context.Context) (eventbus.Secret, error) { return token(canary, -time.Hour), nil })}, "SASL_AUTHENTICATION_FAILED"},
		"a wrong CA": {eventbus.Config{Brokers: s.login, TLS: &tls.Config{RootCAs: stranger.Pool()}, SASL: password("admin")},
			"certificate signed by unknown authority"},
		"no client certificate":               {eventbus.Config{Brokers: s.mutual, TLS: s.tls(t)}, "wants a client certificate, and Config.TLS has none"},
		"no client certificate, TLS 1.2":      {eventbus.Config{Brokers: s.mutual, TLS: mutual12}, "wants a client certificate, and Config.TLS has none"},
		"a client certificate that expired":   {eventbus.Config{Brokers: s.mutual, TLS: showing(expired)}, "refuses the client certificate, which expired at"},
		"a client certificate of another CA":  {eventbus.Config{Brokers: s.mutual, TLS: showing(strange)}, "refuses the client certificate"},
		"no TLS where the broker speaks it":   {eventbus.Config{Brokers: s.login, SASL: password("admin")}, "speaks TLS, and Config.TLS is not set"},
		"no login where the broker wants one": {eventbus.Config{Brokers: s.login, TLS: s.tls(t)}, "and Config.SASL is not set"},
		"TLS where the broker does not speak it": {eventbus.Config{Brokers: s.plain, TLS: s.tls(t)},
			"does not speak TLS, and Config.TLS is set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			began, idle := time.Now(), start(t, test.cfg)
			require.Eventually(t, func() bool { return strings.Contains(idle.Health(ctx).Error, test.want) }, 5*time.Second, 10*time.Millisecond)
			t.Logf("Health after %v", time.Since(began).Round(time.Millisecond))
			bus := start(t, test.cfg)
			topic := eventbus.NewTopic[map[string]any]("doors-named", nil)
			var all sync.WaitGroup
			for verb, call := range map[string]func() error{
				"Publish":      func() error { return bus.Publish(ctx, topic.New(map[string]any{"a": "b"})) },
				"EnsureTopics": func() error { return bus.EnsureTopics(ctx, topic) },
				"Ping":         func() error { return bus.Ping(ctx) },
				"DeadLetters": func() error {
					letters, err := bus.DeadLetters(topic, "group")
					assert.NoError(t, err)
					_, err = letters.Groups(ctx, eventbus.LetterFilter{})
					return err
				},
				"FailFast": func() error {
					handled := topic.Handle(func(context.Context, *eventbus.BaseEvent[map[string]any]) error { return nil }, nil)
					return bus.Run(ctx, eventbus.Subscription{Group: "group", Routes: []eventbus.Route{handled}, FailFast: true})
				},
			} {
				all.Go(func() {
					began := time.Now()
					err := call()
					took := time.Since(began)
					t.Logf("%s after %v: %v", verb, took.Round(time.Millisecond), err)
					assert.LessOrEqual(t, took, 5*time.Second, verb)
					assert.ErrorContains(t, err, test.want, verb)
					assert.NotContains(t, fmt.Sprint(err), canary, verb)
				})
			}
			all.Wait()
			health := bus.Health(ctx)
			require.Contains(t, health.Error, test.want)
			require.NotContains(t, health.Error, canary)
			require.False(t, health.Ready)
		})
	}
}

// TestForbiddenIsNamed has users of no rights, and of all but those on their group, who get in: each hears within 5 s what is forbidden.
func TestForbiddenIsNamed(t *testing.T) {
	s := secureBrokers(t)
	name := "forbidden-" + uuid.NewString()[:8]
	topic := eventbus.NewTopic[map[string]any](name, nil)
	sub := eventbus.Subscription{Group: name, FailFast: true, Routes: []eventbus.Route{
		topic.Handle(func(context.Context, *eventbus.BaseEvent[map[string]any]) error { return nil }, nil),
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	boss := start(t, eventbus.Config{Brokers: s.login, TLS: s.tls(t), SASL: password("admin")})
	require.NoError(t, boss.EnsureTopics(ctx, sub.Topics()...))
	admin, err := kgo.NewClient(kgo.SeedBrokers(s.login...), kgo.DialTLSConfig(s.tls(t)), kgo.SASL(password("admin")))
	require.NoError(t, err)
	defer admin.Close()
	known := name + "-known"
	for _, p := range (eventbus.Access{Handles: []eventbus.Subscription{sub}}).Permissions("") {
		if p.Resource == "group" {
			continue
		}
		acl, err := p.ACL("User:" + known)
		require.NoError(t, err)
		created, err := kadm.NewClient(admin).CreateACLs(ctx, acl)
		require.NoError(t, err)
		require.NoError(t, created[0].Err)
	}
	as := func(user string) *eventbus.Bus {
		return start(t, eventbus.Config{Brokers: s.login, TLS: s.tls(t), SASL: eventbus.OAuthBearer(
			func(context.Context) (eventbus.Secret, error) { return token(user, time.Hour), nil })})
	}
	stranger, knowing := as(name+"-stranger"), as(known)
	for what, test := range map[string]struct {
		call func() error
		want string
	}{
		"a topic to publish to": {func() error { return stranger.Publish(ctx, topic.New(map[string]any{"a": "b"})) }, "topic " + name + ": TOPIC_AUTHORIZATION_FAILED"},
		"a topic to handle":     {func() error { return stranger.Run(ctx, sub) }, "topic " + name + ": TOPIC_AUTHORIZATION_FAILED"},
		"a group":               {func() error { return knowing.Run(ctx, sub) }, "group " + name + ": GROUP_AUTHORIZATION_FAILED"},
	} {
		t.Run(what, func(t *testing.T) {
			began := time.Now()
			err := test.call()
			require.LessOrEqual(t, time.Since(began), 5*time.Second)
			require.ErrorContains(t, err, test.want)
		})
	}
}
