package lane

import "slices"

// fifo is a queue in a slice, whose elements before begin are gone. The zero fifo is empty.
type fifo[T any] struct {
	items []T
	begin int
}

func (q *fifo[T]) len() int { return len(q.items) - q.begin }

func (q *fifo[T]) first() T { return q.items[q.begin] }

func (q *fifo[T]) push(v T) { q.items = append(q.items, v) }

// unpop puts v before all others.
func (q *fifo[T]) unpop(v T) {
	if q.begin == 0 {
		q.items = slices.Insert(q.items, 0, v)
		return
	}
	q.begin--
	q.items[q.begin] = v
}

func (q *fifo[T]) pop() T {
	v := q.items[q.begin]
	var zero T
	q.items[q.begin] = zero // or the queue would keep alive what is gone
	q.begin++
	// Half of it is gone: what is left moves down, each element once for one that left. A queue that is never empty stays as small as it may be.
	if q.begin > q.len() {
		q.tidy()
	}
	return v
}

// keep leaves only the elements that which wants.
func (q *fifo[T]) keep(which func(T) bool) {
	kept := slices.DeleteFunc(q.items[q.begin:], func(v T) bool { return !which(v) })
	q.items = q.items[:q.begin+len(kept)]
	q.tidy()
}

// tidy moves the elements to the beginning, of a smaller slice where this one has become much too large.
func (q *fifo[T]) tidy() {
	const small = 64
	left := q.items[q.begin:]
	q.begin = 0
	if n := len(left); cap(q.items) > small && cap(q.items) > 4*n {
		q.items = append(make([]T, 0, 2*n), left...)
		return
	}
	n := copy(q.items, left)
	clear(q.items[n:])
	q.items = q.items[:n]
}
