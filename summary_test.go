package eventbus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/testca"
)

const canary = "canary-of-a-door"

// bareMechanism is a user's own, which hides nothing.
type bareMechanism struct{ Password string }

func (bareMechanism) Name() string { return "BARE" }
func (m bareMechanism) Authenticate(context.Context, string) (sasl.Session, []byte, error) {
	return nil, nil, errors.New("never")
}

// printed is all that fmt, encoding/json and log/slog make of values.
func printed(t *testing.T, values ...any) string {
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v, fmt.Errorf("wrapped: %v", v))
		text, err := json.Marshal(v)
		if err == nil { // functions have no JSON
			out.Write(text)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("it", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("it", "v", v)
	}
	return out.String()
}

func requireNoCanary(t *testing.T, text string, more ...string) {
	t.Helper()
	for _, secret := range append(more, canary) {
		require.NotContains(t, text, secret)
		require.NotContains(t, text, fmt.Sprintf("%x", secret))
		require.NotContains(t, text, strings.Trim(fmt.Sprint([]byte(secret)), "[]"))
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	ca, err := testca.New("CA")
	require.NoError(t, err)
	pair, err := ca.Issue("client", time.Now().Add(time.Hour))
	require.NoError(t, err)
	cert, key, err := pair.Write(t.TempDir())
	require.NoError(t, err)
	encrypted, err := eventbus.TLSFiles{Cert: cert, Key: key}.Config()
	require.NoError(t, err)
	keyText := strings.Split(string(pair.Key), "\n")[1]
	fixed, err := pair.TLS()
	require.NoError(t, err)
	encrypted.Certificates = append(encrypted.Certificates, fixed)
	t.Setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
	t.Setenv("KAFKA_SASL_USERNAME", "ada")
	t.Setenv("KAFKA_SASL_PASSWORD", canary)
	env, err := eventbus.FromEnv("s")
	require.NoError(t, err)
	for name, mechanism := range map[string]sasl.Mechanism{
		"PLAIN": plain.Auth{User: "ada", Pass: canary}.AsMechanism(), "SCRAM": scram.Auth{User: "ada", Pass: canary}.AsSha256Mechanism(),
		"OAUTHBEARER": eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) { return canary, nil }),
		"of a user":   bareMechanism{canary}, "of the environment": env.SASL,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := eventbus.Config{Service: "shown-service", Brokers: []string{"127.0.0.1:1"}, TopicPrefix: "p.", TLS: encrypted, SASL: mechanism}
			bus, err := eventbus.New(cfg)
			require.NoError(t, err)
			text := printed(t, cfg, &cfg, bus, struct{ Config eventbus.Config }{cfg}, struct{ Bus *eventbus.Bus }{bus}, []any{cfg, bus},
				map[string]any{"c": cfg, "b": bus},
				eventbus.Subscription{Group: "g", Routes: []eventbus.Route{eventbus.UserCreated.Handle(nil, nil)}})
			require.NoError(t, bus.Shutdown(context.Background()))
			if !underRace { // fmt walks through it, and a connection of the client's may outlast the Shutdown
				text += printed(t, struct{ bus *eventbus.Bus }{bus})
			}
			requireNoCanary(t, text, keyText)
			require.Contains(t, text, "shown-service")
			require.Contains(t, text, mechanism.Name())
			asJSON, err := json.Marshal(cfg)
			require.NoError(t, err)
			require.JSONEq(t, `{"service":"shown-service","brokers":["127.0.0.1:1"],"topicPrefix":"p.","tls":true,"sasl":"`+mechanism.Name()+`"}`,
				string(asJSON))
			panicked := func() (text string) {
				defer func() { text = fmt.Sprint(recover()) }()
				panic(cfg)
			}()
			requireNoCanary(t, panicked)
		})
	}
}

// sendLoginsBack has the broker refuse every login, and say which.
func (w *world) sendLoginsBack() {
	w.cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		return req.ResponseKind(), nil, true
	})
	w.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		resp.ErrorMessage = kmsg.StringPtr("who are you? " + string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes))
		return resp, nil, true
	})
}

// Of a secret that begins like an earlier one, the rest is hidden too.
func TestASecretHidesNoPartOfAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		w.sendLoginsBack()
		var login atomic.Int32
		bus := w.bus(func(c *eventbus.Config) {
			c.SASL = eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) {
				return eventbus.Secret("hunter" + strings.Repeat("2", int(login.Add(1)-1))), nil
			})
		})
		for login.Load() < 4 {
			err := bus.Publish(context.Background(), w.order("o", 1))
			require.ErrorContains(t, err, "***")
			require.NotContains(t, err.Error(), "***2")
		}
	})
}

// What a broker sends back of a login is shown without it: in errors, in health, in the log and to hooks.
func TestARefusalShowsNoSecret(t *testing.T) {
	for name, mechanism := range map[string]sasl.Mechanism{
		"PLAIN":       plain.Auth{User: "ada", Pass: canary}.AsMechanism(),
		"OAUTHBEARER": eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) { return canary, nil }),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.sendLoginsBack()
				var log logbook
				bus := w.bus(func(c *eventbus.Config) {
					c.SASL, c.Logger = mechanism, log.logger()
					c.Hooks = []eventbus.Hooks{{Published: func(info eventbus.PublishedInfo) {
						log.logger().Info("published", "info", fmt.Sprintf("%+v", info))
						panic(info.Err) // and what a hook does with it
					}}}
				})
				fast := w.bus(func(c *eventbus.Config) { c.SASL = mechanism })
				w.run(bus, ignore, nil, nil)
				var said []error
				said = append(said, bus.Publish(context.Background(), w.order("o", 1)), bus.Ping(context.Background()),
					bus.EnsureTopics(context.Background(), w.orders), <-w.run(fast, ignore, nil, func(s *eventbus.Subscription) { s.FailFast = true }).ended)
				letters, err := bus.DeadLetters(w.orders, "group")
				require.NoError(t, err)
				_, err = letters.Groups(context.Background(), eventbus.LetterFilter{})
				said = append(said, err)
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				said = append(said, bus.WaitReady(ctx))
				for i, err := range said {
					require.ErrorIs(t, err, kerr.SaslAuthenticationFailed, i)
					require.ErrorContains(t, err, "who are you?", i)
					for e := err; e != nil; e = errors.Unwrap(e) { // whoever prints the chain
						requireNoCanary(t, fmt.Sprintf("%+v", e))
					}
					requireNoCanary(t, printed(t, err))
				}
				requireNoCanary(t, printed(t, bus.Health(context.Background())))
				require.Contains(t, log.String(), "who are you?")
				requireNoCanary(t, log.String())
			})
		})
	}
}

// A secret that stands where a file or an address belongs is not shown: by errors, however deep one looks, and by what prints a Config.
func TestAMisplacedSecretIsNotShown(t *testing.T) {
	ca, err := testca.New("CA")
	require.NoError(t, err)
	pair, err := ca.Issue("client", time.Now().Add(time.Hour))
	require.NoError(t, err)
	cert, key, err := pair.Write(t.TempDir())
	require.NoError(t, err)
	inline, keyLine := string(pair.Key), strings.Split(string(pair.Key), "\n")[1]
	scram := func(more ...string) []string {
		return append([]string{"KAFKA_SASL_MECHANISM", "SCRAM-SHA-256", "KAFKA_SASL_USERNAME", "ada"}, more...)
	}
	for name, test := range map[string]struct {
		env  []string
		want string
	}{
		"a key":                 {[]string{"KAFKA_TLS_CERT_FILE", cert, "KAFKA_TLS_KEY_FILE", inline}, "TLSFiles.Key: expected the name of a file"},
		"a key of one line":     {[]string{"KAFKA_TLS_CERT_FILE", cert, "KAFKA_TLS_KEY_FILE", strings.ReplaceAll(inline, "\n", " ")}, "TLSFiles.Key: expected the name of a file"},
		"a key in base64":       {[]string{"KAFKA_TLS_CERT_FILE", cert, "KAFKA_TLS_KEY_FILE", keyLine}, "TLSFiles.Key: the file cannot be read: "},
		"a key for a CA":        {[]string{"KAFKA_TLS_CA_FILE", inline}, "TLSFiles.CA: expected the name of a file"},
		"a key for a switch":    {[]string{"KAFKA_TLS", inline}, "KAFKA_TLS: expected true or false"},
		"both in one":           {[]string{"KAFKA_TLS_CERT_FILE", inline, "KAFKA_TLS_KEY_FILE", key}, "TLSFiles.Cert: expected the name of a file"},
		"a password":            {scram("KAFKA_SASL_PASSWORD_FILE", canary), "KAFKA_SASL_PASSWORD_FILE: the file cannot be read: "},
		"a password of 300":     {scram("KAFKA_SASL_PASSWORD_FILE", strings.Repeat(canary, 20)), "KAFKA_SASL_PASSWORD_FILE: the file cannot be read: "},
		"a password, two lines": {scram("KAFKA_SASL_PASSWORD_FILE", canary+"\n"), "KAFKA_SASL_PASSWORD_FILE: expected the name of a file"},
		"a token":               {[]string{"KAFKA_SASL_MECHANISM", "OAUTHBEARER", "KAFKA_SASL_TOKEN_FILE", canary}, "KAFKA_SASL_TOKEN_FILE: the file cannot be read: "},
		"a URL":                 {[]string{"KAFKA_BROKERS", "kafka+ssl://bob:" + canary + "@kafka:9092"}, `KAFKA_BROKERS: "***@kafka:9092" is not host:port`},
		"a user":                {[]string{"KAFKA_BROKERS", "kafka-1:9092," + canary + "@kafka:9092"}, `KAFKA_BROKERS: "***@kafka:9092" is not host:port`},
		"a comma in it":         {[]string{"KAFKA_BROKERS", "bob:" + canary + ",x@kafka:9092"}, `KAFKA_BROKERS: "***" is not host:port`},
		"an @ in it":            {[]string{"KAFKA_BROKERS", "bob:x@" + canary + "@kafka:9092"}, `KAFKA_BROKERS: "***@kafka:9092" is not host:port`},
	} {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(test.env); i += 2 {
				t.Setenv(test.env[i], test.env[i+1])
			}
			cfg, err := eventbus.FromEnv("s")
			if err == nil {
				_, _, err = cfg.SASL.Authenticate(context.Background(), "kafka")
			}
			require.ErrorContains(t, err, test.want)
			for e := err; e != nil; e = errors.Unwrap(e) {
				requireNoCanary(t, fmt.Sprintf("%+v", e), keyLine)
			}
			brokers := strings.Split(os.Getenv("KAFKA_BROKERS"), ",")
			requireNoCanary(t, printed(t, err, cfg, eventbus.Config{Service: "s", Brokers: brokers}), keyLine)
			if os.Getenv("KAFKA_BROKERS") != "" {
				_, err = eventbus.New(eventbus.Config{Service: "s", Brokers: brokers})
				require.ErrorContains(t, err, "is not host:port")
				requireNoCanary(t, printed(t, err))
			}
		})
	}
}

func TestPlaintextLoginsAreRefused(t *testing.T) {
	token := eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) { return canary, nil })
	for name, test := range map[string]struct {
		cfg  eventbus.Config
		want string // "" for none
	}{
		"PLAIN":                {eventbus.Config{SASL: plain.Auth{User: "u", Pass: canary}.AsMechanism()}, "Config.SASL: PLAIN"},
		"OAUTHBEARER":          {eventbus.Config{SASL: token}, "Config.SASL: OAUTHBEARER"},
		"PLAIN, allowed":       {eventbus.Config{SASL: plain.Auth{User: "u", Pass: canary}.AsMechanism(), AllowPlaintextLogin: true}, ""},
		"OAUTHBEARER over TLS": {eventbus.Config{SASL: token, TLS: &tls.Config{}}, ""},
		"SCRAM":                {eventbus.Config{SASL: scram.Auth{User: "u", Pass: canary}.AsSha512Mechanism()}, ""},
		"not verified":         {eventbus.Config{TLS: &tls.Config{InsecureSkipVerify: true}}, "Config.TLS: InsecureSkipVerify"},
		"TLS 1.0":              {eventbus.Config{TLS: &tls.Config{MinVersion: tls.VersionTLS10}}, "Config.TLS: MinVersion"},
		"a dialer beside TLS":  {eventbus.Config{TLS: &tls.Config{}, Client: []kgo.Opt{kgo.Dialer((&roomy{}).dial)}}, ""},
		"kgo's own TLS":        {eventbus.Config{Client: []kgo.Opt{kgo.DialTLS()}}, "kgo.DialTLSConfig (use Config.TLS)"},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Service, test.cfg.Brokers = "s", []string{"127.0.0.1:1"}
			bus, err := eventbus.New(test.cfg)
			if test.want == "" {
				require.NoError(t, err)
				require.NoError(t, bus.Shutdown(context.Background()))
				return
			}
			require.ErrorContains(t, err, test.want)
			requireNoCanary(t, err.Error())
		})
	}
}
