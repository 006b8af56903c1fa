// Package service is what the five example services share: their life (a bus, an HTTP server, a subscription), JSON requests, and
// the few things that make a repeated event or request harmless.
//
// # Why a repetition changes nothing
//
// An event may be delivered again: after a crash, a rebalance, or a try that failed half-way. Every handler therefore does three
// things in this order, with the [Keys] of what it changes locked:
//
//  1. decide what follows, from the event and the state;
//  2. publish what follows;
//  3. change the state, and remember the event's id ([Once]).
//
// If publishing fails, the state and the memory are as they were, and the next try decides the same again. What follows may then be
// on its topic twice, but under one id, because [FollowUp] derives it from the id of the event that caused it: whoever remembers ids
// handles it once. The other way round, a crash after the change would leave nothing to publish it.
//
// HTTP requests keep the same order, so an answer of 503 means that the state here is as it was. It may happen all the same that
// the event was written and only its acknowledgement lost. A service with a database closes that gap by writing the event into an
// outbox, in the transaction that changes the state.
package service
