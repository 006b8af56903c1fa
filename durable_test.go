//go:build synctests

package eventbus_test

const durableLocks = true
