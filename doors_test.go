package eventbus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/testca"
)

// house is a cluster behind TLS whose certificate and demands can be changed while it runs.
type house struct {
	*world
	ca     *testca.CA
	server atomic.Pointer[tls.Config]
	net    roomy
}

// inHouse runs test in virtual time, on a broker that speaks TLS.
func inHouse(t *testing.T, test func(h *house), opts ...kfake.Opt) {
	t.Helper()
	h := &house{}
	front := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return h.server.Load(), nil }}
	inWorld(t, func(w *world) {
		h.world = w
		w.dial = h.net.dial
		var err error
		h.ca, err = testca.New("house CA")
		require.NoError(w, err)
		h.serve(time.Now().AddDate(0, 1, 0), tls.NoClientCert)
		test(h)
	}, append(opts, kfake.TLS(front), kfake.ListenFn(h.net.listen))...)
}

// serve has the broker show a certificate that ends then, and ask for one.
func (h *house) serve(ends time.Time, ask tls.ClientAuthType) {
	pair, err := h.issue("broker", ends).TLS()
	require.NoError(h, err)
	h.server.Store(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: ask, ClientCAs: h.ca.Pool(), MinVersion: tls.VersionTLS12})
}

func (h *house) issue(name string, ends time.Time) testca.Pair {
	pair, err := h.ca.Issue(name, ends)
	require.NoError(h, err)
	return pair
}

func (h *house) certificate(ends time.Time) *tls.Certificate {
	cert, err := h.issue("bob", ends).TLS()
	require.NoError(h, err)
	return &cert
}

// trusting is the configuration of a client that knows the CA.
func (h *house) trusting() *tls.Config { return &tls.Config{RootCAs: h.ca.Pool()} }

// logbook is a log to look into; it is safe for concurrent use.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements [io.Writer].
func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logbook) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(b, nil)) }

// door is a way in that is locked.
type door struct {
	opts []kfake.Opt
	lock func(h *house, c *eventbus.Config)
	mend func(h *house) // nil: only a restart mends it
	want string
}

func month(h *house) time.Time { return h.start.AddDate(0, 1, 0) }

// refuseLogins has the broker refuse every login until the fault is removed.
func refuseLogins(h *house) *kfake.FaultHandle {
	return h.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, Count: -1, TopLevel: true})
}

func doors() map[string]door {
	const secret = "canary-door"
	password := scram.Auth{User: "bob", Pass: secret}.AsSha512Mechanism()
	var (
		refused []*kfake.FaultHandle
		issued  atomic.Bool
		pass    atomic.Pointer[tls.Certificate]
	)
	return map[string]door{
		"a wrong password": {
			opts: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "bob", secret)},
			lock: func(h *house, c *eventbus.Config) {
				refused = append(refused, refuseLogins(h))
				c.TLS, c.SASL = h.trusting(), password
			},
			mend: func(*house) {
				for _, f := range refused {
					f.Remove()
				}
			},
			want: "SASL_AUTHENTICATION_FAILED",
		},
		"a wrong password, at a slow broker": {
			opts: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "bob", secret)},
			lock: func(h *house, c *eventbus.Config) {
				refuseLogins(h)
				c.TLS, c.SASL = h.trusting(), password
				c.Client = append(c.Client, h.dialing(func() time.Duration { return 1700 * time.Millisecond }))
			},
			want: "SASL_AUTHENTICATION_FAILED",
		},
		"a wrong CA": {
			lock: func(h *house, c *eventbus.Config) { c.TLS = &tls.Config{} },
			want: "certificate signed by unknown authority",
		},
		"a broker's certificate that expired": {
			lock: func(h *house, c *eventbus.Config) {
				h.serve(h.start.Add(-time.Minute), tls.NoClientCert)
				c.TLS = h.trusting()
			},
			mend: func(h *house) { h.serve(month(h), tls.NoClientCert) },
			want: "certificate has expired",
		},
		"no client certificate": {
			lock: func(h *house, c *eventbus.Config) {
				h.serve(month(h), tls.RequireAndVerifyClientCert)
				c.TLS = h.trusting()
			},
			mend: func(h *house) { h.serve(month(h), tls.VerifyClientCertIfGiven) },
			want: "wants a client certificate, and Config.TLS has none",
		},
		"no client certificate, TLS 1.2": {
			lock: func(h *house, c *eventbus.Config) {
				h.serve(month(h), tls.RequireAndVerifyClientCert)
				c.TLS = h.trusting()
				c.TLS.MaxVersion = tls.VersionTLS12
			},
			mend: func(h *house) { h.serve(month(h), tls.VerifyClientCertIfGiven) },
			want: "wants a client certificate, and Config.TLS has none",
		},
		"a client certificate that expired": {
			lock: func(h *house, c *eventbus.Config) {
				h.serve(month(h), tls.RequireAndVerifyClientCert)
				c.TLS = h.trusting()
				pass.Store(h.certificate(h.start.Add(-time.Minute)))
				c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pass.Load(), nil }
			},
			mend: func(h *house) { pass.Store(h.certificate(month(h))) },
			want: "refuses the client certificate, which expired at 1999-12-31T23:59:00.000Z",
		},
		"a client certificate of another CA": {
			lock: func(h *house, c *eventbus.Config) {
				other, err := testca.New("other CA")
				require.NoError(h, err)
				pair, err := other.Issue("bob", month(h))
				require.NoError(h, err)
				cert, err := pair.TLS()
				require.NoError(h, err)
				h.serve(month(h), tls.RequireAndVerifyClientCert)
				c.TLS = h.trusting()
				c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			},
			mend: func(h *house) { h.serve(month(h), tls.RequestClientCert) },
			want: "refuses the client certificate",
		},
		"no TLS where the broker speaks it": {
			lock: func(*house, *eventbus.Config) {},
			want: "speaks TLS, and Config.TLS is not set",
		},
		"no login where the broker wants one": {
			opts: []kfake.Opt{kfake.EnableSASL()},
			lock: func(h *house, c *eventbus.Config) { c.TLS = h.trusting() },
			want: "wants a login by PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, and Config.SASL is not set",
		},
		"a token's source that fails": {
			lock: func(h *house, c *eventbus.Config) {
				c.TLS = h.trusting()
				c.SASL = eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) {
					if issued.Load() {
						return secret, nil
					}
					return secret, errors.New("no token: " + secret)
				})
				h.acceptTokens()
			},
			mend: func(*house) { issued.Store(true) },
			want: "login by OAUTHBEARER: the token's source: no token: ***",
		},
		"a token's source that hangs": {
			lock: func(h *house, c *eventbus.Config) {
				c.TLS = h.trusting()
				c.SASL = eventbus.OAuthBearer(func(ctx context.Context) (eventbus.Secret, error) {
					<-ctx.Done()
					return "", ctx.Err()
				})
				h.acceptTokens()
			},
			want: "login by OAUTHBEARER: the token's source: context deadline exceeded",
		},
	}
}

// dialing has a client wait before it connects.
func (h *house) dialing(wait func() time.Duration) kgo.Opt {
	return kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		select {
		case <-time.After(wait()):
			return h.net.dial(ctx, network, address)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

// acceptTokens has a broker without users accept any login.
func (h *house) acceptTokens() {
	h.cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		h.cluster.KeepControl()
		return req.ResponseKind(), nil, true
	})
	h.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		h.cluster.KeepControl()
		return req.ResponseKind(), nil, true
	})
}

// Whatever a bus is asked to do, it says within 5 s why it cannot get in, and does it by itself once the door is open.
func TestLockedDoorsAreNamed(t *testing.T) {
	for name, d := range doors() {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(h *house) {
				login := func(c *eventbus.Config) { d.lock(h, c) }
				bus := h.bus(login)
				named := func(verb string, call func(ctx context.Context) error) {
					t.Helper()
					began := time.Now()
					err := call(context.Background())
					require.ErrorContains(t, err, d.want, verb)
					require.NotContains(t, err.Error(), "canary", verb)
					require.LessOrEqual(t, time.Since(began), 5*time.Second, verb)
				}
				named("Publish", func(ctx context.Context) error { return bus.Publish(ctx, h.order("o", 1)) })
				named("Ping", bus.Ping)
				named("EnsureTopics", func(ctx context.Context) error { return bus.EnsureTopics(ctx, h.orders) })
				named("DeadLetters", func(ctx context.Context) error {
					letters, err := bus.DeadLetters(h.orders, "group")
					require.NoError(t, err)
					_, err = letters.Groups(ctx, eventbus.LetterFilter{})
					return err
				})
				fast := h.bus(login)
				named("FailFast", func(context.Context) error {
					return <-h.run(fast, ignore, nil, func(s *eventbus.Subscription) { s.FailFast = true }).ended
				})

				began := time.Now()
				var seen journal
				h.run(bus, handles(&seen), nil, nil)
				h.until("named", func() bool {
					health := bus.Health(context.Background())
					return len(health.Groups) == 1 && strings.Contains(strings.Join(health.Groups[0].Problems, "\n"), d.want)
				})
				require.LessOrEqual(t, time.Since(began), 5*time.Second)
				health := bus.Health(context.Background())
				require.Contains(t, health.Error, d.want)
				require.NotContains(t, health.Error, "canary")
				require.False(t, health.Ready)
				require.True(t, health.Live)
				named("WaitReady", func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					return bus.WaitReady(ctx)
				})
				if d.mend == nil {
					return
				}
				d.mend(h)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				require.NoError(t, bus.WaitReady(ctx))
				require.NoError(t, bus.Publish(ctx, h.order("o", 2)))
				h.until("both events: the first one's result was unknown", func() bool { return len(seen.all()) == 2 })
				h.recovered(bus)
			}, append(d.opts, kfake.SeedTopics(1, eventbus.TopicHealthCheck))...)
		})
	}
}

// What is known only when a question's time is over is named then, not at the end of another question.
func TestWhatIsLockedLateIsNamedAtOnce(t *testing.T) {
	for verb, call := range map[string]func(h *house, bus *eventbus.Bus) error{
		"Publish":      func(h *house, bus *eventbus.Bus) error { return bus.Publish(context.Background(), h.order("o", 1)) },
		"EnsureTopics": func(h *house, bus *eventbus.Bus) error { return bus.EnsureTopics(context.Background(), h.orders) },
		"FailFast": func(h *house, bus *eventbus.Bus) error {
			return <-h.run(bus, ignore, nil, func(s *eventbus.Subscription) { s.FailFast = true }).ended
		},
	} {
		t.Run(verb, func(t *testing.T) {
			inHouse(t, func(h *house) {
				bus := h.bus(func(c *eventbus.Config) {
					c.Client = append(c.Client, h.dialing(func() time.Duration { return time.Until(h.start.Add(3200 * time.Millisecond)) }))
				})
				require.ErrorContains(t, call(h, bus), "speaks TLS, and Config.TLS is not set")
				require.LessOrEqual(t, h.took(), 5*time.Second)
			})
		})
	}
}

// paired is a connection whose second request is sent with its third.
type paired struct {
	net.Conn
	writes int
	second []byte
}

func (c *paired) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		c.second = bytes.Clone(p)
		return len(p), nil
	}
	if _, err := c.Conn.Write(append(c.second, p...)); err != nil {
		return 0, err
	}
	c.second = nil
	return len(p), nil
}

// The broker ends a connection at the first of several questions that came together.
func TestAWantedLoginIsNamedWhereQuestionsComeTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		w.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := w.net.DialContext(ctx, network, address)
			return &paired{Conn: conn}, err
		}
		bus := w.bus(nil)
		for range 2 {
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() {
					assert.ErrorContains(t, bus.EnsureTopics(context.Background(), w.orders), "and Config.SASL is not set")
				})
			}
			all.Wait()
		}
	}, kfake.EnableSASL())
}

// A broker that does not know the client's version of ApiVersions is asked for that twice, on its first connection.
func TestAWantedLoginIsNamedByTheFirstConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		w.until("named", func() bool {
			return strings.Contains(bus.Health(context.Background()).Error, "and Config.SASL is not set")
		})
		require.LessOrEqual(t, w.took(), time.Second)
	}, kfake.EnableSASL(), kfake.MaxVersions(kversion.V4_0_0()))
}

// Events that are published one after the other are each named in time: of a question that is under way, some are not late yet when it begins.
func TestEveryLateEventIsNamed(t *testing.T) {
	inHouse(t, func(h *house) {
		bus := h.bus(func(c *eventbus.Config) { c.TLS = &tls.Config{} })
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				began := time.Now()
				err := bus.Publish(context.Background(), h.order("o", i))
				assert.ErrorContains(t, err, "certificate signed by unknown authority")
				assert.LessOrEqual(t, time.Since(began), 5*time.Second, i)
			})
			time.Sleep(101 * time.Millisecond)
		}
		all.Wait()
	})
}

// strict ends what begins like TLS, as Kafka does: it would be a request of 369 MB. kfake waits for the rest of it.
type strict struct{ net.Listener }

func (l strict) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &strictConn{Conn: conn}, err
}

type strictConn struct{ net.Conn }

func (c *strictConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && p[0] == 22 {
		return 0, errors.Join(io.EOF, c.Close())
	}
	return n, err
}

func TestTLSToABrokerWithoutItIsNamed(t *testing.T) {
	var network roomy
	inWorld(t, func(w *world) {
		w.dial = network.dial
		bus := w.bus(func(c *eventbus.Config) { c.TLS = &tls.Config{} })
		require.ErrorContains(t, bus.Publish(context.Background(), w.order("o", 1)), "does not speak TLS, and Config.TLS is set")
		require.LessOrEqual(t, w.took(), 5*time.Second)
		require.Contains(t, bus.Health(context.Background()).Error, "does not speak TLS")
	}, kfake.ListenFn(func(name, address string) (net.Listener, error) {
		l, err := network.listen(name, address)
		return strict{l}, err
	}))
}

// A broker that is restarting closes connections too: that passes, and is not taken for a locked door.
func TestAnEndedConnectionIsNoLockedDoor(t *testing.T) {
	for name, cfg := range map[string]*tls.Config{"plain": nil, "TLS": {}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.dial = func(context.Context, string, string) (net.Conn, error) {
					near, far := net.Pipe()
					return near, far.Close()
				}
				bus := w.bus(func(c *eventbus.Config) { c.TLS, c.PublishTimeout = cfg, 20*time.Second })
				err := bus.Publish(context.Background(), w.order("o", 1))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 20*time.Second, w.took())
				require.NotContains(t, err.Error(), "Config.TLS")
			})
		})
	}
}

// Certificates are exchanged in their files while the bus runs.
func TestClientCertificatesAreReloaded(t *testing.T) {
	inHouse(t, func(h *house) {
		h.serve(month(h), tls.RequireAndVerifyClientCert)
		dir := t.TempDir()
		h.write(dir, h.issue("one", h.start.Add(time.Hour)))
		files := eventbus.TLSFiles{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key")}
		cfg, err := files.Config()
		require.NoError(t, err)
		var log logbook
		bus := h.bus(func(c *eventbus.Config) { c.TLS, c.Logger = cfg, log.logger() })
		require.NoError(t, bus.Publish(context.Background(), h.order("o", 1)))
		require.Empty(t, bus.Health(context.Background()).Error)

		require.NoError(t, os.WriteFile(files.Cert, []byte("-----BEGIN CERTI"), 0o600))
		h.net.cut()
		require.NoError(t, bus.Publish(context.Background(), h.order("o", 2)), "the one read before goes on")
		h.net.cut()
		require.NoError(t, bus.Publish(context.Background(), h.order("o", 3)))
		require.Contains(t, bus.Health(context.Background()).Error, files.Cert)
		require.True(t, bus.Health(context.Background()).Ready, "it is only to be mended in time")
		require.Equal(t, 1, strings.Count(log.String(), "the new one cannot be used"), log.String())

		time.Sleep(2 * time.Hour)
		require.Contains(t, bus.Health(context.Background()).Error, "the client certificate expired at")
		h.net.cut()
		require.ErrorContains(t, bus.Publish(context.Background(), h.order("o", 4)), "which expired at")

		h.write(dir, h.issue("two", time.Now().Add(time.Hour)))
		require.NoError(t, bus.Publish(context.Background(), h.order("o", 5)))
		h.until("well", func() bool { return bus.Health(context.Background()).Error == "" })
		require.EqualValues(t, 5, h.held(orders), "the one that was not acknowledged too")
	})
}

// write puts a certificate and the CA into a folder, as a mount does it.
func (h *house) write(dir string, p testca.Pair) {
	_, _, err := p.Write(dir)
	require.NoError(h, err)
	require.NoError(h, os.WriteFile(filepath.Join(dir, "ca.crt"), h.ca.PEM, 0o600))
}

// admin may do everything.
func (h *house) adminClient() *kadm.Client {
	cl := h.raw(kgo.SASL(scram.Auth{User: "admin", Pass: "admin"}.AsSha512Mechanism()), kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := h.net.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		cfg := h.trusting()
		cfg.ServerName = "localhost"
		return tls.Client(conn, cfg), nil
	}))
	return kadm.NewClient(cl)
}

// setPassword has the cluster know a user by another password.
func (h *house) setPassword(user, password string) {
	altered, err := h.adminClient().AlterUserSCRAMs(context.Background(), nil, []kadm.UpsertSCRAM{
		{User: user, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password},
	})
	require.NoError(h, err)
	require.NoError(h, altered.Error())
}

// A password is exchanged in its file while the bus runs.
func TestPasswordsAreReadAtEachLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("first\n"), 0o600))
	t.Setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
	t.Setenv("KAFKA_SASL_USERNAME", "bob")
	t.Setenv("KAFKA_SASL_PASSWORD_FILE", file)
	env, err := eventbus.FromEnv("s")
	require.NoError(t, err)
	inHouse(t, func(h *house) {
		bus := h.bus(func(c *eventbus.Config) { c.TLS, c.SASL = h.trusting(), env.SASL })
		var seen journal
		h.run(bus, handles(&seen), nil, nil)
		require.NoError(t, bus.Publish(context.Background(), h.order("o", 1)))
		h.until("handled", func() bool { return len(seen.all()) == 1 })

		h.setPassword("bob", "second")
		require.NoError(t, os.Remove(file))
		h.net.cut()
		require.ErrorContains(t, bus.Publish(context.Background(), h.order("o", 2)), "login by SCRAM-SHA-512: KAFKA_SASL_PASSWORD_FILE: the file cannot be read")
		h.until("named", func() bool {
			return strings.Contains(bus.Health(context.Background()).Error, "KAFKA_SASL_PASSWORD_FILE")
		})

		require.NoError(t, os.WriteFile(file, []byte("second"), 0o600))
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, bus.Publish(ctx, h.order("o", 3)))
		require.NoError(t, bus.WaitReady(ctx))
		h.until("all handled", func() bool { return len(seen.all()) == 3 })
		h.recovered(bus)
	}, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "admin", "admin"), kfake.Superuser("SCRAM-SHA-512", "bob", "first"))
}

// A permission that is granted later lets a bus in that runs, and other topics do not suffer before.
func TestAGrantLetsARunningBusIn(t *testing.T) {
	inHouse(t, func(h *house) {
		bus := h.bus(func(c *eventbus.Config) {
			c.TLS, c.SASL = h.trusting(), scram.Auth{User: "bob", Pass: "bob"}.AsSha512Mechanism()
		})
		var seen journal
		h.run(bus, handles(&seen), nil, nil)
		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{h.orders.Handle(ignore, nil)}}
		access := eventbus.Access{Publishes: []eventbus.AnyTopic{h.orders}, Handles: []eventbus.Subscription{sub}}
		require.Error(t, bus.Publish(context.Background(), h.order("o", 1)))
		h.until("named", func() bool { return strings.Contains(bus.Health(context.Background()).Error, "AUTHORIZATION_FAILED") })
		admin := h.adminClient()
		for _, p := range access.Permissions("") {
			acl, err := p.ACL("User:bob")
			require.NoError(t, err)
			created, err := admin.CreateACLs(context.Background(), acl)
			require.NoError(t, err)
			require.NoError(t, created[0].Err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, bus.WaitReady(ctx))
		require.NoError(t, bus.Publish(ctx, h.order("o", 2)))
		h.until("handled", func() bool { return len(seen.all()) >= 1 })
		h.recovered(bus)
	}, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("SCRAM-SHA-512", "admin", "admin"), kfake.User("SCRAM-SHA-512", "bob", "bob"))
}

// A token is asked for again before a session ends (KIP-368); what is published meanwhile arrives.
func TestTokensAreAskedForAgain(t *testing.T) {
	inHouse(t, func(h *house) {
		h.cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
			h.cluster.KeepControl()
			return req.ResponseKind(), nil, true
		})
		h.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
			h.cluster.KeepControl()
			resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			resp.SessionLifetimeMillis = 3000
			return resp, nil, true
		})
		var asked atomic.Int32
		bus := h.bus(func(c *eventbus.Config) {
			c.TLS = h.trusting()
			c.SASL = eventbus.OAuthBearer(func(context.Context) (eventbus.Secret, error) {
				asked.Add(1)
				return "a token", nil
			})
		})
		for i := range 60 {
			require.NoError(t, bus.Publish(context.Background(), h.order("o", i)))
			time.Sleep(time.Second)
		}
		require.GreaterOrEqual(t, asked.Load(), int32(20))
		require.EqualValues(t, 60, h.held(orders))
	})
}
