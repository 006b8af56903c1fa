package service

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// Nothing is the result of a request that is answered without a body: nil.
type Nothing *struct{}

const requestTimeout = 30 * time.Second

// Handle serves a request without a body: it answers do's result with status, or do's error.
//
// The request's context goes on when the client hangs up, so that nothing is left half-done; it ends after 30 seconds.
func Handle[Out any](status int, do func(r *http.Request) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
		defer cancel()
		out, err := do(r.WithContext(ctx))
		if err != nil {
			refusal := asError(err)
			answer(w, refusal.Status, refusal)
			return
		}
		answer(w, status, out)
	})
}

// HandleBody is [Handle] for a request with a body: do is called only once all of it is checked.
func HandleBody[In Body, Out any](status int, do func(r *http.Request, in In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Handle(status, func(r *http.Request) (Out, error) {
			in, err := read[In](w, r)
			if err != nil {
				var none Out
				return none, err
			}
			return do(r, in)
		}).ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	if _, none := body.(Nothing); none {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, body, json.Deterministic(true), exactOut) // the client may be gone
}
