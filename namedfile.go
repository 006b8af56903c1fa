package eventbus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

// namedFile is a file that the configuration names. Errors say by which field or variable, and the name itself only of a file that was read:
// before that it may be a secret that was put in its place.
type namedFile struct {
	field string
	path  string

	mu     sync.Mutex
	latest *fileRead // under way; nil: none
}

// fileRead is a read that was begun.
type fileRead struct {
	began    time.Time
	patience time.Duration // how long it may hang until another is begun beside it
	over     chan struct{} // closed when there is
	text     []byte
	err      error
}

// fileTimeout bounds the wait for a file, as on a mount that is gone: it is named within 5 s why there is no connection. It is less than
// sourceTimeout, so that a token's file is named too.
const fileTimeout = 1500 * time.Millisecond

// check refuses what belongs into a file.
func (f *namedFile) check() error {
	if strings.ContainsAny(f.path, "\r\n") || strings.Contains(f.path, "-----BEGIN") {
		return fmt.Errorf("%s: expected the name of a file, not what is in it: there is a line break or a -----BEGIN", f.field)
	}
	return nil
}

// read returns what is in the file, or after fileTimeout that it cannot be read.
func (f *namedFile) read(ctx context.Context) ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	r, err := f.begin(), error(nil)
	select {
	case <-r.over:
		err = r.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the file cannot be read: %w", f.field, err)
	}
	return r.text, nil
}

// begin returns the read under way, or a new one. One that hangs keeps a thread, so that another is begun beside it only after a time that doubles.
func (f *namedFile) begin() *fileRead {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &fileRead{began: time.Now(), patience: fileTimeout, over: make(chan struct{})}
	if hangs := f.latest; hangs != nil {
		if time.Since(hangs.began) < hangs.patience {
			return hangs
		}
		r.patience = 2 * hangs.patience
	}
	f.latest = r
	go f.finish(r)
	return r
}

func (f *namedFile) finish(r *fileRead) {
	r.text, r.err = os.ReadFile(f.path) // #nosec G304 G703 -- whoever configures it says which file
	if named := (*fs.PathError)(nil); errors.As(r.err, &named) {
		r.err = named.Err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.latest == r {
		f.latest = nil
	}
	close(r.over)
}

// secret is what a file holds that holds nothing else, and perhaps the end of a line.
func (f *namedFile) secret(ctx context.Context) (Secret, error) {
	text, err := f.read(ctx)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", errors.New(f.field + ": the file is empty")
	}
	return Secret(secret), nil
}
