//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package embedded

import (
	"errors"
	"os"
	"syscall"
)

// lockFile opens and locks a file until it is closed, or its process ends in any way.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- the folder is the caller's choice
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close() // why it could not be locked matters more
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errInUse
	}
	return nil, err
}
