//go:build !race

package eventbus_test

const underRace = false
