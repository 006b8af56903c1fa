package masking_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dreamscape/eventbus/internal/masking"
)

func TestSecret(t *testing.T) {
	for _, name := range []string{"password", "newPassword", "API-Key", "api_key", "resetToken", "Authorization", "Set-Cookie", "private key", "db.passwd"} {
		assert.True(t, masking.Secret(name), name)
	}
	for _, name := range []string{"", "userId", "amount", "email", "key", "correlationId"} {
		assert.False(t, masking.Secret(name), name)
	}
}
