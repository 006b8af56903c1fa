package service

import (
	"maps"
	"slices"
	"sync"
)

// Table holds rows by id, in memory. Its zero value is empty and ready to use, by several goroutines at once. Rows are values: one
// that was read may be kept, what it refers to must not be changed.
type Table[Row any] struct {
	mu   sync.RWMutex
	rows map[string]Row
}

// Get returns the row of id, and whether there is one.
func (t *Table[Row]) Get(id string) (Row, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	row, ok := t.rows[id]
	return row, ok
}

// Put makes row that of id.
func (t *Table[Row]) Put(id string, row Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = map[string]Row{}
	}
	t.rows[id] = row
}

// Delete removes the row of id, if there is one.
func (t *Table[Row]) Delete(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rows, id)
}

// Select returns the rows for which keep is true, in the order of their ids: version 7's is that of their making. It is never nil.
func (t *Table[Row]) Select(keep func(Row) bool) []Row {
	t.mu.RLock()
	defer t.mu.RUnlock()
	selected := []Row{}
	for _, id := range slices.Sorted(maps.Keys(t.rows)) {
		if row := t.rows[id]; keep(row) {
			selected = append(selected, row)
		}
	}
	return selected
}
