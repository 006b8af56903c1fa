package eventbus

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// dialer makes the connections of a bus: by the user's dialer or TCP, with TLS over it where that is configured. Where a connection ends before
// anything was read, it finds out why: the client's own words for that are a guess.
type dialer struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	timeout time.Duration // of one connection, the handshake included
	tls     *tls.Config   // nil: none
	login   bool          // Config.SASL is set
	shown   func(*shownCertificate)
}

// linkError is why there is no connection, where that is certain and waiting will not mend it.
type linkError struct {
	text  string
	cause error // nil where it says less than text
}

func (e *linkError) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

func (e *linkError) Unwrap() error { return e.cause }

// Temporary has the client try again: certificates and brokers are changed.
func (e *linkError) Temporary() bool { return true }

func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	asking := ctx
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d.tls == nil {
		return d.watch(conn, network, address, func(err error) error { return d.plainEnded(network, address, err) }), nil
	}
	shown := &shownCertificate{}
	secured := tls.Client(conn, d.config(address, shown))
	if err := secured.HandshakeContext(context.WithValue(ctx, shownKey{}, shown)); err != nil {
		_ = conn.Close() // err says more
		err = d.handshakeFailed(network, address, err, shown)
		if isLate(err) && asking.Err() == nil {
			err = &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded} // d.timeout is over, not the question's time
		}
		return nil, err
	}
	d.shown(shown)
	return d.watch(secured, network, address, func(err error) error { return cmp.Or(shown.refusal(address, err), err) }), nil
}

// watch has a connection explain its end: by early where nothing was read from it before.
func (d *dialer) watch(conn net.Conn, network, address string, early func(error) error) net.Conn {
	return &watchedConn{Conn: conn, early: early, second: func(err error) error {
		if wants := d.wantedLogin(network, address); wants != "" {
			return &linkError{text: fmt.Sprintf("the broker at %s wants a login by %s, and Config.SASL is not set", address, wants)}
		}
		return err
	}}
}

// config is that of one connection. It notes which certificate is shown.
func (d *dialer) config(address string, shown *shownCertificate) *tls.Config {
	cfg := d.tls.Clone()
	if host, _, err := net.SplitHostPort(address); err == nil && cfg.ServerName == "" {
		cfg.ServerName = host
	}
	cfg.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := clientCertificate(d.tls, asked)
		shown.note(cert)
		return cert, err
	}
	return cfg
}

// clientCertificate chooses as crypto/tls does.
func clientCertificate(cfg *tls.Config, asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if cfg.GetClientCertificate != nil {
		return cfg.GetClientCertificate(asked)
	}
	for i := range cfg.Certificates {
		if asked.SupportsCertificate(&cfg.Certificates[i]) == nil {
			return &cfg.Certificates[i], nil
		}
	}
	return new(tls.Certificate), nil
}

// handshakeFailed names why.
func (d *dialer) handshakeFailed(network, address string, err error, shown *shownCertificate) error {
	d.shown(shown)
	if refused := shown.refusal(address, err); refused != nil {
		return refused
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) || (endedEarly(err) || errors.Is(err, context.DeadlineExceeded)) && d.answersPlain(network, address) {
		return &linkError{text: fmt.Sprintf("the broker at %s does not speak TLS, and Config.TLS is set", address)}
	}
	if isRefusal(err) || isAlert(err) {
		return &linkError{fmt.Sprintf("TLS with the broker at %s", address), err}
	}
	return err
}

// plainEnded names why a connection without TLS has ended before anything was read; err where that is not certain.
func (d *dialer) plainEnded(network, address string, err error) error {
	if errors.Is(err, errAlert) || endedEarly(err) && d.answersTLS(network, address) {
		return &linkError{text: fmt.Sprintf("the broker at %s speaks TLS, and Config.TLS is not set", address)}
	}
	return err
}

// probeTimeout bounds a probe; on a loaded machine its handshake takes a while.
const probeTimeout = 2 * time.Second

// answersTLS says whether there is TLS at an address. It trusts nobody's certificate: that one is offered is the answer.
func (d *dialer) answersTLS(network, address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return d.probe(network, address, func(ctx context.Context, conn net.Conn) bool {
		err := tls.Client(conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
		var untrusted *tls.CertificateVerificationError
		return err == nil || isAlert(err) || errors.As(err, &untrusted)
	})
}

// answersPlain says whether Kafka's protocol is spoken at an address without TLS: it asks for ApiVersions, which needs no login.
func (d *dialer) answersPlain(network, address string) bool {
	return d.probe(network, address, func(_ context.Context, conn net.Conn) bool {
		return askOnce(conn, &kmsg.ApiVersionsRequest{}, &kmsg.ApiVersionsResponse{}) == nil
	})
}

// wantedLogin are the mechanisms of which the broker at an address wants one; "" where it wants none, or did not say: where it answers without.
func (d *dialer) wantedLogin(network, address string) string {
	if d.login || d.answers(network, address, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{}, Version: 1}, &kmsg.MetadataResponse{Version: 1}) {
		return ""
	}
	offer := &kmsg.SASLHandshakeResponse{Version: 1}
	d.answers(network, address, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "NONE"}, offer)
	if offer.ErrorCode != kerr.UnsupportedSaslMechanism.Code {
		return ""
	}
	return strings.Join(offer.SupportedMechanisms, ", ")
}

// answers says whether a broker answers a question on a connection of its own.
func (d *dialer) answers(network, address string, question kmsg.Request, answer kmsg.Response) bool {
	return d.probe(network, address, func(ctx context.Context, conn net.Conn) bool {
		if d.tls != nil {
			secured := tls.Client(conn, d.config(address, &shownCertificate{}))
			if secured.HandshakeContext(ctx) != nil {
				return false
			}
			conn = secured
		}
		return askOnce(conn, question, answer) == nil
	})
}

// askOnce puts one question to a broker. Neither it nor its answer may be of a flexible version: the header of those is another.
func askOnce(conn net.Conn, question kmsg.Request, answer kmsg.Response) error {
	const correlation, most = 0x0eb5, 1 << 16
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, question, correlation)); err != nil {
		return err
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	size, of := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
	if of != correlation || size < 4 || size > most {
		return errors.New("not Kafka's protocol")
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	return answer.ReadFrom(body)
}

func (d *dialer) probe(network, address string, speak func(context.Context, net.Conn) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return false
	}
	return speak(ctx, conn)
}

// watchedConn is a connection that explains its end where that is a broker's way to refuse it: before anything was read, and where a broker has
// told its versions, and answers nothing else.
type watchedConn struct {
	net.Conn
	early, second func(error) error
	read          atomic.Bool
	asked         atomic.Bool // for more than versions: those are waited for, and asked for twice where a broker does not know the newest question for them
	answered      atomic.Bool // something was read since
}

// errAlert is an answer in TLS to what was not.
var errAlert = errors.New("a TLS alert")

// Read implements [net.Conn].
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if asked := c.asked.Load(); asked && n > 0 {
		c.answered.Store(true)
	} else if asked && endedEarly(err) && c.read.Load() && !c.answered.Load() {
		return n, c.second(err)
	}
	if c.read.Load() {
		return n, err
	}
	if n > 1 && p[0] == 21 && p[1] == 3 { // an alert of TLS; as the size of an answer it would be 352 million bytes
		return 0, c.early(errAlert)
	}
	if n > 0 {
		c.read.Store(true)
		return n, err
	}
	if err != nil && (endedEarly(err) || isAlert(err)) {
		err = c.early(err)
	}
	return n, err
}

// Write implements [net.Conn]. Where the other side has ended the connection already, it may have said why.
func (c *watchedConn) Write(p []byte) (int, error) {
	if !asksForVersions(p) {
		c.asked.Store(true)
	}
	n, err := c.Conn.Write(p)
	if err != nil && endedEarly(err) && !c.read.Load() {
		if _, why := c.Conn.Read(make([]byte, 1)); isAlert(why) {
			err = why
		}
		err = c.early(err)
	}
	return n, err
}

// asksForVersions says whether what is written is an ApiVersions request: a size, and its key.
func asksForVersions(p []byte) bool {
	return len(p) >= 6 && binary.BigEndian.Uint16(p[4:]) == uint16(kmsg.ApiVersions)
}

// endedEarly says whether the other side has closed a connection.
func endedEarly(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isAlert says whether the other side has ended TLS with a reason.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// shownCertificate is what a broker got to see of us in a handshake. TLS 1.3 lets it refuse that when the handshake is over.
type shownCertificate struct {
	mu     sync.Mutex
	asked  bool
	cert   *tls.Certificate // nil: none
	reload error            // why a newer one is not shown
}

// shownKey has the *shownCertificate in the ctx of a handshake, for TLSFiles.
type shownKey struct{}

func (s *shownCertificate) note(cert *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = true
	if cert != nil && len(cert.Certificate) > 0 {
		s.cert = cert
	}
}

// notReloaded notes why the newer files are not used; nil: they are.
func (s *shownCertificate) notReloaded(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload = err
}

// expired is when the certificate has expired, the zero time where it has not.
func (s *shownCertificate) expired() time.Time {
	if s.cert == nil || s.cert.Leaf == nil || time.Now().Before(s.cert.Leaf.NotAfter) {
		return time.Time{}
	}
	return s.cert.Leaf.NotAfter
}

// trouble is what is wrong with our own certificate, whether the broker minds or not.
func (s *shownCertificate) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.expired(); !at.IsZero() {
		return errors.Join(fmt.Errorf("the client certificate expired at %s", formatTime(at)), s.reload)
	}
	return s.reload
}

// refusal names err where it comes from our certificate, or from the want of one; nil where it does not.
func (s *shownCertificate) refusal(address string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked || !isAlert(err) && !endedEarly(err) {
		return nil
	}
	if endedEarly(err) && s.cert != nil && s.expired().IsZero() {
		return nil // it may be for another reason
	}
	text := fmt.Sprintf("the broker at %s refuses the client certificate", address)
	switch at := s.expired(); {
	case s.cert == nil:
		text = fmt.Sprintf("the broker at %s wants a client certificate, and Config.TLS has none that it takes", address)
	case !at.IsZero():
		text += ", which expired at " + formatTime(at)
	}
	if s.reload != nil {
		text += " (" + s.reload.Error() + ")"
	}
	if isAlert(err) {
		return &linkError{text, err}
	}
	return &linkError{text: text}
}
