package eventbus_test

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// roomy is a network of one address whose connections have room, as TCP's have. On kfake's, which is made of net.Pipe, both ends of TLS would
// wait for each other where one says that it ends while the other says something else.
type roomy struct {
	mu     sync.Mutex
	queue  chan net.Conn // nil: nobody listens
	dialed []net.Conn
}

func (r *roomy) listen(_, _ string) (net.Listener, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = make(chan net.Conn, 100)
	return &roomyListener{of: r, queue: r.queue}, nil
}

func (r *roomy) dial(context.Context, string, string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue == nil {
		return nil, net.ErrClosed
	}
	there, back := &stream{}, &stream{}
	near, far := &roomyConn{in: back, out: there}, &roomyConn{in: there, out: back}
	r.dialed = append(r.dialed, near)
	r.queue <- far
	return near, nil
}

// cut ends all connections.
func (r *roomy) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.dialed {
		conn.Close()
	}
	r.dialed = nil
}

type roomyListener struct {
	of    *roomy
	queue chan net.Conn
	once  sync.Once
}

func (l *roomyListener) Accept() (net.Conn, error) {
	conn, ok := <-l.queue
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *roomyListener) Close() error {
	l.once.Do(func() {
		l.of.mu.Lock()
		defer l.of.mu.Unlock()
		l.of.queue = nil
		close(l.queue)
	})
	return nil
}

func (l *roomyListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }

// stream is one direction of a connection.
type stream struct {
	mu       sync.Mutex
	data     []byte
	ended    bool // nothing more comes
	deaf     bool // its reader has closed
	deadline time.Time
	changed  chan struct{}
}

// change does f and tells who waits.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// try reads what is there; where nothing is, it says what to wait for.
func (s *stream) try(p []byte) (n int, changed <-chan struct{}, deadline time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.deaf:
		return 0, nil, deadline, net.ErrClosed
	case len(s.data) > 0:
		n = copy(p, s.data)
		s.data = s.data[n:]
		return n, nil, deadline, nil
	case s.ended:
		return 0, nil, deadline, io.EOF
	case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
		return 0, nil, deadline, os.ErrDeadlineExceeded
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return 0, s.changed, s.deadline, nil
}

func (s *stream) read(p []byte) (int, error) {
	for {
		n, changed, deadline, err := s.try(p)
		if changed == nil {
			return n, err
		}
		if deadline.IsZero() {
			<-changed
			continue
		}
		late := time.NewTimer(time.Until(deadline))
		select {
		case <-changed:
		case <-late.C:
		}
		late.Stop()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.change(func() {
		switch n = len(p); {
		case s.ended:
			n, err = 0, net.ErrClosed
			return
		case s.deaf:
			n, err = 0, syscall.EPIPE
			return
		}
		s.data = append(s.data, p...)
	})
	return n, err
}

// roomyConn is one end of a connection.
type roomyConn struct{ in, out *stream }

func (c *roomyConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *roomyConn) Write(p []byte) (int, error) { return c.out.write(p) }

func (c *roomyConn) Close() error {
	c.in.change(func() { c.in.deaf = true })
	c.out.change(func() { c.out.ended = true })
	return nil
}

func (c *roomyConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }
func (c *roomyConn) RemoteAddr() net.Addr { return c.LocalAddr() }

func (c *roomyConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
func (c *roomyConn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.deadline = t })
	return nil
}
func (c *roomyConn) SetWriteDeadline(time.Time) error { return nil }
