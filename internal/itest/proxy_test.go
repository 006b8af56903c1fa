package itest_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manner is what a proxy does with what passes through it.
type manner int

const (
	passes   manner = iota
	cuts            // connections end, and new ones end at once
	delays          // by half a second each way
	swallows        // connections stay open, and nothing arrives
)

const delay = 500 * time.Millisecond

// proxy stands between clients and one broker.
type proxy struct {
	t      *testing.T
	target string
	listen net.Listener

	mu      sync.Mutex
	manner  manner
	changed chan struct{} // closed when the manner changes
	conns   map[net.Conn]bool
	over    bool
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{t: t, target: target, listen: l, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() { p.serve(&serving) })
	t.Cleanup(func() {
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		_ = l.Close()
		p.set(cuts)
		serving.Wait()
	})
	return p
}

// set changes the manner, for connections that are open too.
func (p *proxy) set(m manner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.manner = m
	close(p.changed)
	p.changed = make(chan struct{})
	if m != cuts {
		return
	}
	for c := range p.conns {
		_ = c.Close() // its ends notice
	}
}

func (p *proxy) now() (manner, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.manner, p.changed
}

// keep remembers a connection, unless it has to end.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.manner == cuts {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close() // the other end may have done it
}

func (p *proxy) serve(serving *sync.WaitGroup) {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		serving.Go(func() { p.connect(client, serving) })
	}
}

func (p *proxy) connect(client net.Conn, serving *sync.WaitGroup) {
	if !p.keep(client) {
		return
	}
	broker, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(broker) {
		p.drop(client)
		return
	}
	serving.Go(func() { p.carry(broker, client) })
	p.carry(client, broker)
}

// chunk is what came in one read, and when it may go on.
type chunk struct {
	bytes []byte
	due   time.Time
}

// carry brings bytes from one end to the other until either closes.
func (p *proxy) carry(from, to net.Conn) {
	chunks := make(chan chunk, 1024)
	go func() {
		defer close(chunks)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			c := chunk{bytes: buf[:n], due: time.Now()}
			if m, _ := p.now(); m == delays {
				c.due = c.due.Add(delay)
			}
			chunks <- c
		}
	}()
	for c := range chunks {
		time.Sleep(time.Until(c.due))
		if !p.passOn(c.bytes, to) {
			break
		}
	}
	p.drop(from)
	p.drop(to)
	for range chunks {
		continue // the reader must not wait for room
	}
}

// passOn writes what may pass. What comes while the proxy swallows is lost, and the connection with it: a stream with a hole is none.
func (p *proxy) passOn(bytes []byte, to net.Conn) bool {
	for m, changed := p.now(); m == swallows; m, changed = p.now() {
		<-changed
		if m, _ := p.now(); m != swallows {
			return false
		}
	}
	_, err := to.Write(bytes)
	return err == nil
}
