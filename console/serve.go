package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	closeTimeout  = 5 * time.Second // for requests under way when it ends
)

// ListenAndServe serves the page at an address, host:port, until ctx ends, and then closes the console; it returns nil then. ready, if not nil, is called
// with the address when it answers. It answers only requests for localhost or an address, where it does not listen on loopback alone also for the machine's
// own name, and for [Options.Hosts]: a page of others whose name was pointed here (DNS rebinding) gets nothing. The error says that it cannot listen there. It blocks.
func (c *Console) ListenAndServe(ctx context.Context, address string, ready func(address string)) error {
	defer c.Close()
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	server := &http.Server{Handler: c.onlyFor(address), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
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

// onlyFor refuses requests for names that are not this machine's.
func (c *Console) onlyFor(address string) http.Handler {
	at, _, _ := net.SplitHostPort(address)
	names := append([]string{"localhost", at}, c.opts.Hosts...)
	if own, err := os.Hostname(); err == nil && !loopback(at) {
		names = append(names, own)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(r.Host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		isAddress := net.ParseIP(host) != nil && (!loopback(at) || loopback(host))
		if !isAddress && !slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.EqualFold(name, host) }) {
			http.Error(w, "This console does not answer to that name: use localhost or its address, or have its service name the host.", http.StatusForbidden)
			return
		}
		c.ServeHTTP(w, r)
	})
}
