package embedded

import (
	"errors"
	"net"
	"sync"
)

// listener listens on one address, and can stop and begin again while the fake waits in Accept.
type listener struct {
	wire   *wire
	listen func(network, address string) (net.Listener, error)
	addr   net.Addr

	mu      sync.Mutex
	inner   net.Listener  // nil: refusing
	changed chan struct{} // closed at the next change
	closed  bool
}

func (w *wire) newListener(listen func(network, address string) (net.Listener, error), network, address string) (net.Listener, error) {
	inner, err := listen(network, address)
	if err != nil {
		return nil, err
	}
	l := &listener{wire: w, listen: listen, addr: inner.Addr(), inner: inner, changed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listeners = append(w.listeners, l)
	return l, nil
}

// Accept waits for a connection, over refusals.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, changed, err := l.state()
		if err != nil {
			return nil, err
		}
		if inner == nil {
			<-changed
			continue
		}
		accepted, err := inner.Accept()
		if err == nil {
			accepted = l.wire.newConn(accepted) // known before it is asked whether the broker went down meanwhile
		}
		now, _, _ := l.state()
		switch {
		case now == inner:
			return accepted, err
		case err == nil:
			_ = accepted.Close() // it was never used
		}
	}
}

func (l *listener) state() (net.Listener, chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, net.ErrClosed
	}
	return l.inner, l.changed, nil
}

// Addr is the same while it refuses.
func (l *listener) Addr() net.Addr { return l.addr }

// Close ends Accept.
func (l *listener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.refuse()
}

func (l *listener) refuse() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	inner := l.inner
	l.set(nil)
	if inner == nil {
		return nil
	}
	return inner.Close()
}

// again listens on the address that it had.
func (l *listener) again() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.inner != nil {
		return nil
	}
	inner, err := l.listen(l.addr.Network(), l.addr.String())
	if err != nil {
		return err
	}
	l.set(inner)
	return nil
}

// set is called with mu held.
func (l *listener) set(inner net.Listener) {
	l.inner = inner
	close(l.changed)
	l.changed = make(chan struct{})
}

// Refuse closes the listeners and every connection, as when the broker is down: clients are refused until again is called, which
// listens on the same addresses; its error is that of listening, such as an address that someone else has taken since. What the broker
// holds stays. It does nothing where the options have a [kfake.ListenFn], which hides the connections; Intercept then says so.
func (b *Broker) Refuse() (again func() error) {
	b.wire.mu.Lock()
	listeners := b.wire.listeners
	b.wire.mu.Unlock()
	for _, l := range listeners {
		_ = l.refuse() // its error is of a listener that no longer listens
	}
	b.wire.closeConns()
	return func() error {
		var errs []error
		for _, l := range listeners {
			errs = append(errs, l.again())
		}
		return errors.Join(errs...)
	}
}
