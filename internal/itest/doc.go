// Package itest has only tests: the conformance suite on a broker in a container and on brokers that already run, and the bus beside a
// TypeScript service. It is a module of its own so that whoever imports eventbus does not get testcontainers into their module graph.
package itest
