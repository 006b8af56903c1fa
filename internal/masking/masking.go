// Package masking knows what is named like a secret, for what is shown to people where no schema says what is one.
package masking

import (
	"slices"
	"strings"
)

// Masked stands for what must not be shown.
const Masked = "***"

// secretNames are parts of names, in lower case and without what separates words.
var secretNames = []string{"password", "passwd", "passphrase", "pwd", "secret", "token", "authorization", "cookie", "apikey", "credential", "privatekey"}

var separators = strings.NewReplacer("-", "", "_", "", ".", "", " ", "")

// Secret says whether a name is one like "password", "api-key" or "resetToken".
func Secret(name string) bool {
	name = separators.Replace(strings.ToLower(name))
	return slices.ContainsFunc(secretNames, func(part string) bool { return strings.Contains(name, part) })
}
