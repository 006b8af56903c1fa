package engine

// Moving is how many of the queued records wait for nothing but their turn, or run: none of them is parked, or behind one that is.
func (p *Partition[T]) Moving() int { return p.moving }

// Moving is how many of a route do.
func (e *Engine[T]) Moving(route int) int { return e.routes[route].moving }
