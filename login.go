package eventbus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// OAuthBearer logs in with a token, by OAUTHBEARER (KIP-255, RFC 7628). source is asked at each login of each connection, and again before a
// session ends that the broker has bounded (KIP-368); it may be asked by several goroutines at once, so a source that is expensive
// keeps its token until it expires. It gets a ctx that ends after 2 s, and what it returns later is dropped. Its error is what [Health] and
// publishers show, without the token, and it is asked again at the next try to connect.
func OAuthBearer(source func(context.Context) (Secret, error)) sasl.Mechanism {
	return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
		ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
		defer cancel()
		token, err := bounded(ctx, func() (Secret, error) { return source(ctx) })
		if err != nil {
			return oauth.Auth{}, hide(fmt.Errorf("the token's source: %w", err), string(token))
		}
		return oauth.Auth{Token: string(token)}, nil
	})
}

// sourceTimeout bounds the wait for a token: it is named within 5 s why there is no connection.
const sourceTimeout = 2 * time.Second

// passwordLogin logs in by user name and password, and asks for the password at each login; nil for a mechanism that it does not know.
func passwordLogin(mechanism, user string, password func(context.Context) (Secret, error)) sasl.Mechanism {
	switch mechanism {
	case mechanismPlain:
		return plain.Plain(func(ctx context.Context) (plain.Auth, error) {
			p, err := password(ctx)
			return plain.Auth{User: user, Pass: string(p)}, err
		})
	case "SCRAM-SHA-256", "SCRAM-SHA-512":
		auth := func(ctx context.Context) (scram.Auth, error) {
			p, err := password(ctx)
			return scram.Auth{User: user, Pass: string(p)}, err
		}
		if mechanism == "SCRAM-SHA-256" {
			return scram.Sha256(auth)
		}
		return scram.Sha512(auth)
	}
	return nil
}

const (
	mechanismPlain = "PLAIN"
	mechanismOAuth = "OAUTHBEARER"
)

// login is Config.SASL as the clients get it: it names what fails, and knows which secrets brokers have seen, so that what they answer
// is not shown with one.
type login struct {
	mechanism sasl.Mechanism

	mu   sync.Mutex
	told []string // the latest secrets that were sent as they are
}

// newLogin returns nil for no mechanism.
func newLogin(m sasl.Mechanism) *login {
	if m == nil {
		return nil
	}
	return &login{mechanism: m}
}

// close ends a mechanism that holds something, such as Kerberos'. The clients don't: they share it.
func (l *login) close() {
	if l == nil {
		return
	}
	if closing, ok := l.mechanism.(sasl.ClosingMechanism); ok {
		closing.Close()
	}
}

// Name implements [sasl.Mechanism].
func (l *login) Name() string { return l.mechanism.Name() }

// Authenticate implements [sasl.Mechanism].
func (l *login) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := l.mechanism.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, &loginError{l.Name(), err}
	}
	l.remember(sentSecret(l.Name(), first))
	return &loginSession{login: l, session: session}, first, nil
}

// sentSecret is the secret within the first message of a login; "" where the mechanism keeps it to itself.
func sentSecret(mechanism string, first []byte) string {
	switch mechanism {
	case mechanismPlain: // RFC 4616
		return string(first[bytes.LastIndexByte(first, 0)+1:])
	case mechanismOAuth: // RFC 7628
		_, token, _ := bytes.Cut(first, []byte("auth=Bearer "))
		token, _, _ = bytes.Cut(token, []byte{1})
		return string(token)
	}
	return ""
}

const maxTold = 8

func (l *login) remember(secret string) {
	if secret == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, known := range l.told {
		if known == secret {
			return
		}
	}
	l.told = append(l.told, secret)
	if len(l.told) > maxTold {
		l.told = l.told[1:]
	}
}

// clean returns err with every secret masked that a broker may have sent back.
func (l *login) clean(err error) error {
	if l == nil || err == nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return hide(err, l.told...)
}

// loginSession is one login.
type loginSession struct {
	login   *login
	session sasl.Session
	refused bool
}

// Challenge implements [sasl.Session].
func (s *loginSession) Challenge(answer []byte) (done bool, next []byte, err error) {
	if s.login.Name() == mechanismOAuth && len(answer) > 0 && !s.refused {
		s.refused = true
		return false, []byte{1}, nil // RFC 7628, 3.2.3: only then the broker says that it refuses, and why
	}
	done, next, err = s.session.Challenge(answer)
	if err != nil {
		err = &loginError{s.login.Name(), err}
	}
	return done, next, err
}

// loginError is a login that failed on our side. The client goes on trying: a password, a token, a file may be there the next time.
type loginError struct {
	mechanism string
	err       error
}

func (e *loginError) Error() string { return "login by " + e.mechanism + ": " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// Temporary tells the client so.
func (e *loginError) Temporary() bool { return true }

// hidden is an error whose text had a secret in it. What it wraps is only what Kafka calls it: the rest of the chain still has the secret.
type hidden struct {
	text  string
	kafka error
}

func (e *hidden) Error() string { return e.text }
func (e *hidden) Unwrap() error { return e.kafka }

// hide masks secrets in an error's text, the longest first: one may begin like another.
func hide(err error, secrets ...string) error {
	text := err.Error()
	secrets = slices.Clone(secrets)
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, masked)
		}
	}
	if text == err.Error() {
		return err
	}
	var kafka *kerr.Error
	if errors.As(err, &kafka) {
		return &hidden{text, kafka}
	}
	return &hidden{text: text}
}
