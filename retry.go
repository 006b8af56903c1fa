package eventbus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// RetryPolicy says how often and how long apart a failing event is tried. The zero value is 4 tries, 100, 200 and 400 ms apart.
// While an event waits, the later ones of its partition wait behind it.
type RetryPolicy struct {
	Attempts int           // tries in all, the first one included. 0: 4; 1: never again
	Initial  time.Duration // the wait after the first try; it doubles after each. Default: 100 ms
	Max      time.Duration // the longest wait. Default: 30 s
	Jitter   float64       // the part of a wait that is random, ±, from 0 to 1. 0: 0.2; negative: none
}

func (p RetryPolicy) check() error {
	switch {
	case p.Attempts < 0:
		return fmt.Errorf("field Attempts: %d is negative", p.Attempts)
	case p.Initial < 0:
		return fmt.Errorf("field Initial: %v is negative", p.Initial)
	case p.Max < 0:
		return fmt.Errorf("field Max: %v is negative", p.Max)
	case p.Jitter > 1:
		return fmt.Errorf("field Jitter: %v is more than 1", p.Jitter)
	}
	return nil
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	p.Attempts = orDefault(p.Attempts, 4)
	p.Initial = orDefault(p.Initial, 100*time.Millisecond)
	p.Max = orDefault(p.Max, 30*time.Second)
	p.Jitter = max(orDefault(p.Jitter, 0.2), 0)
	return p
}

// wait is the time to the try after the given one, which counts from 1.
func (p RetryPolicy) wait(attempt int) time.Duration {
	d := p.Initial
	for range attempt - 1 {
		if d >= p.Max/2 {
			d = p.Max
			break
		}
		d *= 2
	}
	d = min(d, p.Max)
	jitter := 1 + p.Jitter*(2*rand.Float64()-1)
	return min(time.Duration(float64(d)*jitter), p.Max)
}

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks a handler's error as one that no further try will mend: the event is dead-lettered at once. nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type retryAfterError struct {
	error
	after time.Duration
}

func (e retryAfterError) Unwrap() error { return e.error }

// RetryAfter marks a handler's error with the time to wait before the next try, in place of the policy's; the tries still count.
// A negative d is 0. nil stays nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return retryAfterError{err, max(d, 0)}
}

// Class says why an event was dead-lettered.
type Class string

// The classes of failures, as in the header eb-error-class.
const (
	ClassPermanent Class = "permanent" // the handler said so by Permanent, or could not publish an invalid event
	ClassTransient Class = "transient" // the handler failed at every try
	ClassDecode    Class = "decode"    // the record is no event: see DecodeError
	ClassSchema    Class = "schema"    // the payload breaks its schema: see SchemaError
	ClassTimeout   Class = "timeout"   // the handler ran out of its time at the last try
	ClassPanic     Class = "panic"     // the handler panicked at the last try
)

// classify says what kind of failure a handler's error is. An event that the handler could not publish because it is invalid will
// not become valid by another try.
func classify(err error) Class {
	var (
		permanent permanentError
		panicked  *panicError
		decode    *DecodeError
		broken    *SchemaError
		late      timeoutError
	)
	switch {
	case errors.As(err, &panicked):
		return ClassPanic
	case errors.As(err, &permanent), errors.As(err, &decode), errors.As(err, &broken):
		return ClassPermanent
	case errors.As(err, &late):
		return ClassTimeout
	}
	return ClassTransient
}

// again says whether err leaves another try after the given one, and how long to wait for it.
func (p RetryPolicy) again(err error, attempt int) (time.Duration, bool) {
	if classify(err) == ClassPermanent || attempt >= p.Attempts {
		return 0, false
	}
	var after retryAfterError
	if errors.As(err, &after) {
		return after.after, true
	}
	return p.wait(attempt), true
}

// timeoutError is what a handler returned after its own time was over. A deadline of what it called is no such thing.
type timeoutError struct{ error }

func (e timeoutError) Unwrap() error { return e.error }

// panicError is what a panicking handler is turned into. The panic's value may hold a payload, so its text does not show it.
type panicError struct {
	kind  string // the value's type
	stack []byte
}

func (e *panicError) Error() string { return "panicked with a value of type " + e.kind }

// errGoexit is the result of a handler that ended its goroutine (runtime.Goexit).
var errGoexit error = &panicError{kind: "none: it ended its goroutine"}

// catch turns a panic of f into a *panicError.
func catch(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{kind: fmt.Sprintf("%T", p), stack: debug.Stack()}
		}
	}()
	return f()
}
