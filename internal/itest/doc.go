// Package itest has only tests: the conformance suite on a broker in a container and on brokers that already run, the bus beside a
// TypeScript service, and a comparison of the dead letters that scripts/record-letters records; recorder has its Java.
// It is a module of its own so that whoever imports eventbus does not get testcontainers into their module graph.
package itest
