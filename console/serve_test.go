package console_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

func TestItIsServedUntilItsContextEnds(t *testing.T) {
	b := bustest.New(t)
	page, err := console.New(b.Bus, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	address, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- page.ListenAndServe(ctx, "127.0.0.1:0", func(a string) { address <- a }) }()
	at := "http://" + <-address
	get := func(path, host string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+path, http.NoBody)
		require.NoError(t, err)
		r.Host = host
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, get("/", "localhost:3000"))
	require.Equal(t, http.StatusOK, get("/", "[::1]:3000"))
	require.Equal(t, http.StatusForbidden, get("/", "evil.example:3000"), "a name that was pointed here")
	stream, err := http.Get(at + "/stream")
	require.NoError(t, err)
	defer stream.Body.Close()
	cancel()
	require.NoError(t, <-ended, "with a stream that is open")

	page, err = console.New(b.Bus, nil)
	require.NoError(t, err)
	require.ErrorContains(t, page.ListenAndServe(t.Context(), "nowhere:at:all", nil), "console: listen tcp")
}
