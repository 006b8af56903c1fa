// Package promcheck checks prombus's dashboard and alerting rules by Prometheus' own parser and engine. It is a module of its own, for them not to become
// a dependency of who imports prombus.
package promcheck
