package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is what lies between clients and the fake: listeners, connections, and who looks at them.
type wire struct {
	mu           sync.Mutex
	listeners    []*listener
	conns        map[*conn]bool
	interceptors []*Interceptor
	encrypted    bool                // a client speaks TLS
	topics       map[[16]byte]string // by id; an id is never used again

	asking  sync.RWMutex   // held to read while the cluster is asked, to write while that changes
	cluster *kfake.Cluster // nil before it is there, and when it closes: it would never answer
}

func (w *wire) use(cluster *kfake.Cluster) {
	w.asking.Lock()
	defer w.asking.Unlock()
	w.cluster = cluster
}

// topicName returns the name of a topic's id, "" where there is none.
func (w *wire) topicName(id [16]byte) string {
	w.mu.Lock()
	name := w.topics[id]
	w.mu.Unlock()
	w.asking.RLock()
	defer w.asking.RUnlock()
	if name != "" || w.cluster == nil {
		return name
	}
	info := w.cluster.TopicIDInfo(id)
	if info == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.topics == nil {
		w.topics = map[[16]byte]string{}
	}
	w.topics[id] = info.Topic
	return info.Topic
}

// Verdict says what becomes of a request.
type Verdict int

const (
	// Next leaves the request to the next interceptor, and at last to the broker.
	Next Verdict = iota
	// Forward hands the request to the broker, with what was changed in its Message.
	Forward
	// Cut closes the connection; the broker does not see the request.
	Cut
)

// Interceptor decides about a request before the broker sees it. It runs on the connection's goroutine: it may block, which holds back
// that connection and no other, and has to end with ctx, which ends with the connection. It is called by many connections at once.
type Interceptor func(ctx context.Context, r *Request) Verdict

// Request is what a client sent. It is the interceptor's until that returns.
type Request struct {
	// ClientID is the client's name (kgo.ClientID).
	ClientID string
	// Message is the request itself.
	Message kmsg.Request
	// Answered, where the interceptor sets it, is called before the answer is written, on the connection's goroutine like the
	// interceptor itself; false closes the connection instead: the work is done, and the client does not learn of it.
	Answered func(ctx context.Context) bool

	wire     *wire
	fetching map[fetched]bool // by its connection, earlier requests included
}

// Intercept has i decide about every request until remove is called, after the interceptors that are there already. It is an error
// where it cannot see requests: with a [kfake.ListenFn] in Options.Kfake (Options.Listen is the place for it), or with TLS.
func (b *Broker) Intercept(i Interceptor) (remove func(), err error) {
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	switch {
	case len(b.wire.listeners) == 0:
		return nil, errors.New("embedded: Options.Kfake has a ListenFn, which hides the connections: give it as Options.Listen")
	case b.wire.encrypted:
		return nil, errors.New("embedded: a client speaks TLS, which hides its requests")
	}
	b.wire.interceptors = append(slices.Clone(b.wire.interceptors), &i)
	return func() {
		b.wire.mu.Lock()
		defer b.wire.mu.Unlock()
		b.wire.interceptors = slices.DeleteFunc(slices.Clone(b.wire.interceptors), func(other *Interceptor) bool { return other == &i })
	}, nil
}

func (w *wire) current() []*Interceptor {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.interceptors
}

func (w *wire) closeConns() {
	w.mu.Lock()
	conns := slices.Collect(maps.Keys(w.conns))
	w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// conn is a client's connection, seen from the broker.
type conn struct {
	net.Conn
	wire   *wire
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	in       []byte      // read and not handed on; only the reader's, as is fetching
	opaque   atomic.Bool // TLS
	fetching map[fetched]bool

	mu      sync.Mutex
	answers map[int32]func(context.Context) bool // by correlation id
}

func (w *wire) newConn(inner net.Conn) *conn {
	c := &conn{Conn: inner, wire: w, fetching: map[fetched]bool{}, answers: map[int32]func(context.Context) bool{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		w.conns = map[*conn]bool{}
	}
	w.conns[c] = true
	return c
}

// Close closes the connection and ends who waits on it.
func (c *conn) Close() error {
	c.cancel()
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

// Read hands on what was read, one request after the other.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.in) == 0 {
		if c.opaque.Load() {
			return c.Conn.Read(p)
		}
		if err := c.readRequest(); err != nil {
			_ = c.Close()
			return 0, err
		}
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

const (
	sizeBytes    = 4
	tlsHandshake = 22 // the first byte of a TLS connection; as a request's, it would be one of 370 MB
)

func (c *conn) readRequest() error {
	frame := make([]byte, sizeBytes)
	if _, err := io.ReadFull(c.Conn, frame); err != nil {
		return err
	}
	if frame[0] == tlsHandshake {
		c.wire.mu.Lock()
		c.wire.encrypted = true
		c.wire.mu.Unlock()
		c.opaque.Store(true)
		c.in = frame
		return nil
	}
	frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
	if _, err := io.ReadFull(c.Conn, frame[sizeBytes:]); err != nil {
		return err
	}
	var err error
	c.in, err = c.decide(frame)
	return err
}

// decide returns what the broker gets for a request.
func (c *conn) decide(frame []byte) ([]byte, error) {
	interceptors := c.wire.current()
	h, rest := readHeader(frame[sizeBytes:])
	if h.message == nil || len(interceptors) == 0 && h.message.Key() != kmsg.Fetch.Int16() || h.message.ReadFrom(rest) != nil {
		return frame, nil // what cannot be read is the broker's to refuse
	}
	r := &Request{ClientID: h.client, Message: h.message, wire: c.wire, fetching: c.fetching}
	r.follow()
	for _, i := range interceptors {
		switch (*i)(c.ctx, r) {
		case Next:
		case Forward:
			if r.Answered != nil {
				c.mu.Lock()
				c.answers[h.correlation] = r.Answered
				c.mu.Unlock()
			}
			return h.append(r.Message), nil
		case Cut:
			return nil, net.ErrClosed
		}
	}
	return frame, nil
}

// Write writes an answer; the fake writes each by one call.
func (c *conn) Write(answer []byte) (int, error) {
	if answered := c.answered(answer); answered != nil && !answered(c.ctx) {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(answer)
}

func (c *conn) answered(answer []byte) func(context.Context) bool {
	if c.opaque.Load() || len(answer) < sizeBytes+4 {
		return nil
	}
	correlation := int32(binary.BigEndian.Uint32(answer[sizeBytes:])) // #nosec G115 -- Kafka's INT32, bit by bit
	c.mu.Lock()
	defer c.mu.Unlock()
	answered := c.answers[correlation]
	delete(c.answers, correlation)
	return answered
}
