//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package embedded

import "os"

// lockFile opens a file and cannot lock it: this system has no lock that ends with its process.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
}
