package eventbus

import (
	"context"
	"sync"
	"time"
)

// handlerContext is the ctx of one try of a handler. It is that of its assignment, with a deadline and with what is being handled. What a deadline
// costs, a timer and its place among the assignment's contexts, is only paid by a handler that asks for Done.
type handlerContext struct {
	context.Context // the assignment's
	deadline        time.Time
	task            *task
	attempt         int

	mu     sync.Mutex
	ended  bool
	inner  context.Context // nil: nobody has asked for Done
	cancel context.CancelFunc
}

func newHandlerContext(t *task, now time.Time) *handlerContext {
	return &handlerContext{Context: t.of.ctx, deadline: now.Add(t.of.route.timeout), task: t, attempt: t.spent + 1}
}

// Deadline implements [context.Context].
func (c *handlerContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements [context.Context].
func (c *handlerContext) Done() <-chan struct{} { return c.timed().Done() }

// Err implements [context.Context].
func (c *handlerContext) Err() error {
	c.mu.Lock()
	quiet := c.inner == nil && !c.ended && c.Context.Err() == nil && time.Now().Before(c.deadline)
	c.mu.Unlock()
	if quiet {
		return nil
	}
	return c.timed().Err()
}

// Value implements [context.Context].
func (c *handlerContext) Value(key any) any {
	switch key.(type) {
	case deliveryKey:
		return c.task.delivery(c.attempt)
	case causationKey:
		return c.task.raw.EventID
	case correlationKey:
		return c.task.raw.CorrelationID
	case txKey:
		if c.task.tx != nil {
			return c.task.tx
		}
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key) // where the standard library looks for what it can cancel
	}
	return c.Context.Value(key)
}

// timed returns a context that ends when the try does.
func (c *handlerContext) timed() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.Context, c.deadline)
		if c.ended {
			c.cancel()
		}
	}
	return c.inner
}

// end ends it, as the try has.
func (c *handlerContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// String implements [fmt.Stringer]: what a context derived from it prints.
func (c *handlerContext) String() string { return "eventbus.handlerContext" }
