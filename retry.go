package eventbus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// RetryPolicy says how often and how long apart a failing event is tried. The zero value is 4 tries, 100, 200 and 400 ms apart. In the
// policy of a route, a field that is zero is that of [Config.Retry]. While an event waits, the later ones of its key wait behind it; other
// keys go on.
type RetryPolicy struct {
	Attempts int           // tries in all, the first one included. 0: 4; 1: never again, whatever OutageHold says
	Initial  time.Duration // the wait after the first try; it doubles after each. Default: 100 ms
	Max      time.Duration // the longest wait. Default: 30 s
	Jitter   float64       // the part of a wait that is random, ±, from 0 to 1. 0: 0.2; negative: none
	// Budget bounds the time from the first failure to the last try: an event whose next try would come later is given up, however
	// many tries are left. OutageHold comes on top. A failure that an outage may have caused, while the route was paused for it, does not
	// begin it. Negative: no bound. Default: no bound.
	Budget time.Duration
	// Classify judges an error that the handler did not mark: ClassPermanent has the event dead-lettered at once, ClassTransient has it
	// tried again, and anything else leaves it to this package. It is called by several goroutines at once and must be quick. A panic in
	// it counts as one of the handler. Default: nil, every error is worth another try.
	Classify func(error) Class
	// OutageHold is how long an event whose tries are used up is held back from the dead letters, and tried on, while no other event of
	// its route has succeeded since it first failed: what the handler calls may be down, and the event may be good. While the route is
	// paused for an outage, an event is given up after that time only where all that could be tried instead have failed too. Negative: not
	// at all. Default: 5 min.
	OutageHold time.Duration
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
	return p.over(RetryPolicy{Attempts: 4, Initial: 100 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.2, OutageHold: 5 * time.Minute})
}

// over fills in what the policy leaves open from another one. A negative Jitter, Budget or OutageHold stays: it says none.
func (p RetryPolicy) over(base RetryPolicy) RetryPolicy {
	p.Attempts = orDefault(p.Attempts, base.Attempts)
	p.Initial = orDefault(p.Initial, base.Initial)
	p.Max = orDefault(p.Max, base.Max)
	p.Jitter = orDefault(p.Jitter, base.Jitter)
	p.Budget = orDefault(p.Budget, base.Budget)
	p.OutageHold = orDefault(p.OutageHold, base.OutageHold)
	if p.Classify == nil {
		p.Classify = base.Classify
	}
	return p
}

// left says whether there is another try after so many that count, so long after the first failure.
func (p RetryPolicy) left(spent int, after time.Duration) bool {
	return spent < p.Attempts && (p.Budget <= 0 || after <= p.Budget)
}

// waitAfter is the time to the next try after so many failed ones; the last error may say how long, which is asked then.
func (p RetryPolicy) waitAfter(err error, fails int) (wait time.Duration, asked bool) {
	var after retryAfterError
	if errors.As(err, &after) {
		return after.after, true
	}
	return p.wait(fails), false
}

// classify says what kind of failure a handler's error is. What the handler marked, and what Go says, comes before Classify.
func (p RetryPolicy) classify(err error) Class {
	class := classify(err)
	if p.Classify == nil || !class.mayBeOutage() {
		return class
	}
	judged := class
	if panicked := catch(func() error { judged = p.Classify(err); return nil }); panicked != nil {
		return ClassPanic
	}
	if judged == ClassPermanent || judged == ClassTransient {
		return judged
	}
	return class
}

// mayBeOutage says whether a failure of this class may be one of what the handler calls.
func (c Class) mayBeOutage() bool { return c == ClassTransient || c == ClassTimeout }

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
	jitter := 1 + max(p.Jitter, 0)*(2*rand.Float64()-1) // #nosec G404 -- it spreads tries and is no secret
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
	// ClassUnreadable is that of records whose batch cannot be decompressed, or to too much: see DeadLetter.Until.
	ClassUnreadable Class = "unreadable"
	ClassSequence   Class = "sequence" // an earlier event of its key was given up: see OrderSequenced
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
