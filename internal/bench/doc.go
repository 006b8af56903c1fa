// Package bench has only benchmarks: what a failing event costs the events of other keys, for eventbus and, in the same run, for a
// careful consumer on bare franz-go. It is a module of its own, is in no go.work and is never released:
//
//	cd internal/bench && GOWORK=off go test -run '^$' -bench . -benchtime 9x
//
// Each benchmark reads 60,000 preloaded events of 1,000 keys from 12 partitions of an embedded broker, with a handler that takes 1 ms.
// One in 1,000 always fails where there is poison: it is tried four times, 100, 200 and 400 ms apart, and dead-lettered. good/s is the
// throughput of the keys without poison, from the first event handled to the last of theirs, and of-clean its ratio to that of the
// same keys in the run without poison that came before. Both are medians of the rounds.
package bench
