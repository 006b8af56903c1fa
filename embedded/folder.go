package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	lockName = "eventbus.lock"
	metaName = "meta.json" // kfake's: the first file that it writes, and the one by which it finds its folder again
)

// errInUse is why a lock is not to be had.
var errInUse = errors.New("another broker uses it")

// folder is a broker's folder, locked for it. The fake itself locks nothing, and two on one folder would destroy it.
type folder struct {
	lock *os.File
}

func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	f := &folder{lock: lock}
	if err := errors.Join(writable(dir), ours(dir)); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// close gives the folder up. The lock's file stays: were it removed, two could each hold one of that name.
func (f *folder) close() {
	if f != nil {
		_ = f.lock.Close() // nothing was written to it
	}
}

// writable asks before the fake does: it only logs that it cannot write.
func writable(dir string) error {
	probe, err := os.CreateTemp(dir, "*.tmp")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// ours refuses a folder with files that are not a broker's: the fake would write its own between them, and over what is left of one.
func ours(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	foreign := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == metaName:
			return nil
		case name != lockName && !strings.HasSuffix(name, ".tmp"): // .tmp: of a first start that did not get far
			foreign = name
		}
	}
	if foreign == "" {
		return nil
	}
	return fmt.Errorf("%s: it has files, such as %s, and no %s: it is not a broker's folder, or is damaged", dir, foreign, metaName)
}

// warnings hands on what the fake warns of; it has no other way to say that it could not write.
type warnings struct {
	logger *slog.Logger
}

// Logf is kfake.Logger's. The fake logs names of topics, groups and files, never a record.
func (w warnings) Logf(level kfake.LogLevel, format string, args ...any) {
	if level == kfake.LogLevelError || level == kfake.LogLevelWarn {
		w.logger.Warn("embedded broker", "kfake", fmt.Sprintf(format, args...))
	}
}
