package eventbus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// namedFile is a file that the configuration names. Errors say by which field or variable, and the name itself only of a file that was read:
// before that it may be a secret that was put in its place.
type namedFile struct {
	field string
	path  string
}

// check refuses what belongs into a file.
func (f *namedFile) check() error {
	if strings.ContainsAny(f.path, "\r\n") || strings.Contains(f.path, "-----BEGIN") {
		return fmt.Errorf("%s: expected the name of a file, not what is in it: there is a line break or a -----BEGIN", f.field)
	}
	return nil
}

func (f *namedFile) read() ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.path) // #nosec G304 G703 -- whoever configures it says which file
	var named *fs.PathError
	switch {
	case err == nil:
		return text, nil
	case errors.As(err, &named):
		return nil, fmt.Errorf("%s: the file cannot be read: %w", f.field, named.Err)
	}
	return nil, errors.New(f.field + ": the file cannot be read")
}

// secret is what a file holds that holds nothing else, and perhaps the end of a line.
func (f *namedFile) secret() (Secret, error) {
	text, err := f.read()
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", errors.New(f.field + ": the file is empty")
	}
	return Secret(secret), nil
}
