package eventbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// link knows, from the clients' hooks, whether brokers answer.
type link struct {
	mu       sync.Mutex
	started  time.Time
	contact  time.Time // when a broker last answered a question
	failed   error     // why the last connection failed
	failedAt time.Time
	shown    *shownCertificate // to the broker that was connected to last
	login    *login            // nil: none
}

var (
	_ kgo.HookBrokerConnect = (*link)(nil)
	_ kgo.HookBrokerE2E     = (*link)(nil)
)

// OnBrokerConnect is called after each try to connect, login included.
func (l *link) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	l.noteFailed(err)
}

func (l *link) noteFailed(err error) {
	err = l.login.clean(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if isLate(err) && l.failedAt.After(l.contact) {
		return // whoever asked has no time left for another try: that says less than why the last one failed
	}
	l.failed, l.failedAt = err, time.Now()
}

// OnBrokerE2E is called for each answer, and for each that did not come. Those that belong to a login prove nothing yet.
func (l *link) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	switch kmsg.Key(key) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
		return
	}
	if err := e2e.Err(); err != nil {
		if broken := (*linkError)(nil); errors.As(err, &broken) {
			l.noteFailed(err)
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.contact = time.Now()
}

// failure is why brokers can't be reached, nil where the last that is known is an answer.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failedAt.After(l.contact) {
		return l.failed
	}
	return nil
}

// refused is a failure that waiting will not mend: a login or a certificate.
func (l *link) refused() error {
	if err := l.failure(); isRefusal(err) {
		return err
	}
	return nil
}

// untilRefused returns a ctx that ends after limit, and when grace is over and it is known that waiting does not mend what is wrong: at once where it turns
// out later.
func (b *Bus) untilRefused(ctx context.Context, limit, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	go func() {
		for wait := grace; sleep(ctx, wait); wait = refusedEvery {
			if b.link.refused() != nil {
				cancel()
			}
		}
	}()
	return ctx, cancel
}

// refusedEvery is how often who waits for an answer looks whether it can come.
const refusedEvery = 100 * time.Millisecond

// contactGrace is how old the last answer of a broker may be: the age at which a ping is due and its time, and some more.
const (
	contactEvery   = 10 * time.Second
	contactTimeout = 3 * time.Second
	contactGrace   = contactEvery + contactTimeout + 2*time.Second
)

// connected says whether a broker has answered lately, and if not, why.
func (l *link) connected() (bool, error) {
	broken := l.failure()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.contact.IsZero() {
		if broken == nil {
			broken = errors.New("no broker has answered yet")
		}
		return false, broken
	}
	if age := time.Since(l.contact); age > contactGrace {
		if broken == nil {
			broken = fmt.Errorf("no broker has answered for %v", age.Round(time.Second))
		}
		return false, broken
	}
	return !isRefusal(broken), broken
}

// noteShown remembers what a broker has seen of our certificate, and returns what is wrong with it where that is new.
func (l *link) noteShown(shown *shownCertificate) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, now := l.certificateLocked(), shown.trouble()
	l.shown = shown
	if now == nil || before != nil && before.Error() == now.Error() {
		return nil
	}
	return now
}

// certificate is what is wrong with our certificate.
func (l *link) certificate() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.certificateLocked()
}

func (l *link) certificateLocked() error {
	if l.shown == nil {
		return nil
	}
	return l.shown.trouble()
}

// isLate says whether a question has ended before its connection was there.
func isLate(err error) bool {
	var login *loginError
	return errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &login)
}

func isRefusal(err error) bool {
	var (
		unknownCA x509.UnknownAuthorityError
		wrongName x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		notTLS    tls.RecordHeaderError
		broken    *linkError
		login     *loginError
	)
	switch {
	case err == nil:
		return false
	case errors.As(err, &unknownCA), errors.As(err, &wrongName), errors.As(err, &invalid), errors.As(err, &verify), errors.As(err, &notTLS),
		errors.As(err, &broken), errors.As(err, &login):
		return true
	}
	for _, refusal := range []error{
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, kerr.TopicAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.InvalidTopicException,
		kerr.UnknownTopicID, // the topic was deleted, and may have been made again
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// keepContact asks the cluster something when nobody else has for a while, so that health knows.
func (b *Bus) keepContact(ctx context.Context) {
	for {
		if b.link.idle() {
			pctx, cancel := context.WithTimeout(ctx, contactTimeout)
			_, _ = bounded(pctx, func() (bool, error) { return true, b.client.Ping(pctx) }) // the hooks see what comes of it
			cancel()
			b.change()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(contactEvery / 4):
		}
	}
}

// idle says whether the last answer is so old that it is time to ask, or a connection has failed since.
func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.contact) > contactEvery || l.failedAt.After(l.contact)
}

// topicTroubles asks the cluster for topics, by Kafka's names, each with what shall be done with it, and returns what is wrong with
// which. An error says that nobody answered.
func (b *Bus) topicTroubles(ctx context.Context, wanted map[string]kmsg.ACLOperation) (map[string]error, error) {
	known, err := b.describeTopics(ctx, slices.Collect(maps.Keys(wanted)))
	if err != nil {
		return nil, err
	}
	troubles := map[string]error{}
	for name, info := range known {
		if err := info.trouble(name, wanted[name]); err != nil {
			troubles[name] = err
		}
	}
	return troubles, nil
}

// committed asks for a group's committed offsets. RequireStable has the coordinator answer when all that it has written is replicated. Without it,
// one that has just taken over answers with what it knows to be replicated, which is less for a moment: older commits (seen on Apache Kafka 4.3).
func (b *Bus) committed(ctx context.Context, group string) (kadm.OffsetResponses, error) {
	return b.admin.FetchOffsets(kadm.RequireStable(ctx), group)
}

// askVersions asks a broker which requests it knows, and which features its cluster has agreed on.
func askVersions(ctx context.Context, client *kgo.Client) (*kmsg.ApiVersionsResponse, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "eventbus", "v0"
	return bounded(ctx, func() (*kmsg.ApiVersionsResponse, error) { return req.RequestWith(ctx, client) })
}

// bounded returns when ask does or ctx ends. The client's own requests outlast their ctx while a connection is being made; what is
// left behind ends with that try, or with the client.
func bounded[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		value, err := ask()
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		return *new(T), ctx.Err()
	}
}
