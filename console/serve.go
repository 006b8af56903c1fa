package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	closeTimeout  = 5 * time.Second // for requests under way when it ends
)

// ListenAndServe serves the page at an address, host:port, until ctx ends, and then closes the console; it returns nil then. ready, if not nil, is called
// with the address when it answers. On a loopback address it answers only requests for this machine: a page of others whose name was pointed here (DNS
// rebinding) gets nothing. The error says that it cannot listen there. It blocks.
func (c *Console) ListenAndServe(ctx context.Context, address string, ready func(address string)) error {
	defer c.Close()
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	var handler http.Handler = c
	if host, _, _ := net.SplitHostPort(address); loopback(host) {
		handler = onlyLoopback(c)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.Close() // first: streams never end by themselves
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = server.Shutdown(late) // what is still open then is cut
		_ = server.Close()
	})
	if ready != nil {
		ready(listener.Addr().String())
	}
	err = server.Serve(listener)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("console: %w", err)
	}
	<-ended
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func onlyLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(r.Host); err == nil {
			host = h
		}
		if !loopback(strings.Trim(host, "[]")) {
			http.Error(w, "This console answers on localhost only.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
