package service

import (
	"context"
	"sync"

	"github.com/dreamscape/eventbus"
)

// Memory remembers the ids of the events that were handled, the latest hundred thousand of them. Its zero value is empty and ready
// to use, by several goroutines at once. It stands for a table in the service's database, where an id is remembered in the transaction
// that changes the state.
type Memory struct {
	mu     sync.Mutex
	known  map[string]bool
	oldest []string // a ring, once it is full
	next   int
}

const memorySize = 100_000

// Once has h handle each event once, however often it is delivered. An event whose handling failed is not remembered.
func Once[T any](m *Memory, h eventbus.Handler[T]) eventbus.Handler[T] {
	return func(ctx context.Context, e *eventbus.BaseEvent[T]) error {
		if m.has(e.EventID) {
			return nil
		}
		if err := h(ctx, e); err != nil {
			return err
		}
		m.remember(e.EventID)
		return nil
	}
}

func (m *Memory) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[id]
}

func (m *Memory) remember(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[string]bool{}
	}
	if m.known[id] {
		return
	}
	m.known[id] = true
	if len(m.oldest) < memorySize {
		m.oldest = append(m.oldest, id)
		return
	}
	delete(m.known, m.oldest[m.next])
	m.oldest[m.next] = id
	m.next = (m.next + 1) % memorySize
}
