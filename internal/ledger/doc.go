// Package ledger judges what a consumer group did. A test records what happened into a [History]: what was published, which handlers ran and when,
// what was committed and who owned what. [Check] then says which promises were broken, and shows the entries that prove it. It knows neither Kafka
// nor the engine: whatever can write the entries can be judged, also from a file (go run ./internal/ledger/judge FILE).
//
// The order of the entries decides what came first, not their times: in virtual time much happens at one instant. Whoever records must therefore
// do so before the consequence can happen, such as the end of a handler before it returns. One history is one group's.
//
// The definitions are those of Jepsen's Kafka tests (jepsen.io/analyses/redpanda-21.10.1), with what a consumer adds to them: commits and owners.
package ledger
