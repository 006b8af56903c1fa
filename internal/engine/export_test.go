package engine

// MovingOf is how many items of a route wait for nothing but their turn, or run.
func (e *Engine[T]) MovingOf(route int) int { return e.routes[route].moving }
