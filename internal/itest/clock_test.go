package itest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dreamscape/eventbus/internal/ledger"
)

// now is the machine's monotonic clock, which all processes share: what one of them writes down before another begins has the smaller
// time.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_MONOTONIC: %v", err)) // there is no Linux without it
	}
	return time.Duration(ts.Nano())
}

// book is what one process writes down. Each entry is in the file before add returns: what the kernel has, a killed process cannot lose.
type book struct {
	mu    sync.Mutex
	file  *os.File
	tries int
	first int // of its tries; no other process's number is near
}

func openBook(path string, number int) (*book, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &book{file: f, first: number * 1_000_000_000}, nil
}

func (b *book) add(e ledger.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(e)
}

// begin writes down the begin of a try and returns its number.
func (b *book) begin(e ledger.Entry) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	e.Kind, e.Try = ledger.Began, b.first+b.tries
	b.write(e)
	return e.Try
}

// write stamps an entry under the lock, so that a file's order is that of its times.
func (b *book) write(e ledger.Entry) {
	e.At = now()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = b.file.Write(append(line, '\n'))
	}
	if err != nil {
		panic(fmt.Sprintf("the ledger cannot be written: %v", err)) // without it, the run proves nothing
	}
}
