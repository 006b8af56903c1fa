package sim

import (
	"math/rand/v2"
	"time"
)

// Mix says how often what happens in a script. The zero Mix has quick handlers that succeed, and nothing that befalls them.
type Mix struct {
	// Actions are the weights of what befalls the group.
	Actions []Weight
	// Pause is the longest time between two steps; the shortest is a quarter of it.
	Pause time.Duration
	// Slow, Overdue and Failing are how many handlers in a hundred take long, overstay their time, and fail.
	Slow, Overdue, Failing int
	// Stubborn is how many handlers in a thousand ignore their ctx.
	Stubborn int
	// Unkeyed and Garbage are how many records in a hundred have no key, and cannot be decoded.
	Unkeyed, Garbage int
	// Outage is how many scripts in a hundred have an outage of what the handlers call.
	Outage int
	// Faults are what brokers do wrong. Default: everything the package knows.
	Faults []BrokerFault
}

// Weight is how often an action is drawn, against the others.
type Weight struct {
	Do Action
	N  int
}

// BrokerFault is a request and the error codes that a broker may answer it with.
type BrokerFault struct {
	Request int16
	Codes   []int16
	Letters bool // only for the dead-letter topic
	Top     bool // for the request as a whole
}

func (m Mix) draw(r *rand.Rand) Action {
	total := 0
	for _, w := range m.Actions {
		total += w.N
	}
	draw := r.IntN(max(total, 1))
	for _, w := range m.Actions {
		if draw -= w.N; draw < 0 {
			return w.Do
		}
	}
	return ""
}

// Mixes are the ones that New takes turns with.
func Mixes() []Mix { return []Mix{Calm(), Churn(), Faulty(), Storm()} }

// Calm has members come and leave in good order, and leaders and coordinators move: nothing may be repeated.
func Calm() Mix {
	return Mix{
		Actions: []Weight{{Join, 4}, {Leave, 3}, {Retire, 1}, {Pause, 1}, {Move, 1}, {Shuffle, 1}, {Rehash, 1}}, Pause: 8 * time.Second,
		Slow: 4, Failing: 8, Unkeyed: 5, Garbage: 2, Outage: 30,
	}
}

// Churn has members come, leave, crash and be cut off, with handlers that do not end in time.
func Churn() Mix {
	return Mix{
		Actions: []Weight{{Join, 5}, {Leave, 2}, {Retire, 1}, {Crash, 2}, {Cut, 2}, {Drop, 1}}, Pause: 6 * time.Second,
		Slow: 5, Overdue: 1, Failing: 5, Stubborn: 5, Unkeyed: 3, Garbage: 1, Outage: 30,
	}
}

// Faulty has brokers that answer with errors, before and after the fact, or not at all.
func Faulty() Mix {
	return Mix{
		Actions: []Weight{{Join, 3}, {Leave, 2}, {Retire, 1}, {Fault, 10}, {Break, 2}, {Swallow, 1}, {Move, 1}, {Shuffle, 1}, {Rehash, 1}}, Pause: 4 * time.Second,
		Slow: 3, Failing: 8, Unkeyed: 3, Garbage: 2, Outage: 30,
	}
}

// Storm has all of it.
func Storm() Mix {
	return Mix{
		Actions: []Weight{
			{Join, 5}, {Leave, 2}, {Retire, 1}, {Crash, 2}, {Cut, 2}, {Drop, 2}, {Fault, 6}, {Break, 1}, {Swallow, 1}, {Move, 1}, {Shuffle, 1}, {Rehash, 1}, {Pause, 1},
		}, Pause: 4 * time.Second,
		Slow: 4, Overdue: 1, Failing: 8, Stubborn: 3, Unkeyed: 3, Garbage: 2, Outage: 30,
	}
}

// Keys of Kafka's requests (kafka.apache.org/protocol).
const (
	produce         = 0
	fetch           = 1
	metadata        = 3
	offsetCommit    = 8
	offsetFetch     = 9
	findCoordinator = 10
	joinGroup       = 11
	heartbeat       = 12
	syncGroup       = 14
	groupHeartbeat  = 68 // of KIP-848
)

// Error codes of Kafka's answers.
const (
	unknownServerError        = -1
	leaderNotAvailable        = 5
	notLeader                 = 6
	requestTimedOut           = 7 // after the fact, of a produce and of a commit
	coordinatorLoading        = 14
	coordinatorNotAvailable   = 15
	notCoordinator            = 16
	notEnoughReplicas         = 19
	notEnoughReplicasAppended = 20 // after the fact
	illegalGeneration         = 22
	unknownMember             = 25
	rebalanceInProgress       = 27
	storageError              = 56
	fencedMemberEpoch         = 110
)

func allFaults() []BrokerFault {
	return append(CommitFaults(), append(LetterFaults(),
		BrokerFault{Request: produce, Codes: []int16{notLeader, notEnoughReplicas, requestTimedOut, notEnoughReplicasAppended}},
		BrokerFault{Request: fetch, Codes: []int16{notLeader, unknownServerError, storageError}},
		BrokerFault{Request: metadata, Codes: []int16{leaderNotAvailable, unknownServerError}},
		BrokerFault{Request: offsetFetch, Codes: []int16{coordinatorLoading, notCoordinator, unknownServerError}},
		BrokerFault{Request: findCoordinator, Codes: []int16{coordinatorNotAvailable}},
		BrokerFault{Request: joinGroup, Codes: []int16{coordinatorLoading, notCoordinator, unknownMember}, Top: true},
		BrokerFault{Request: heartbeat, Codes: []int16{notCoordinator, rebalanceInProgress, unknownMember, illegalGeneration}, Top: true},
		BrokerFault{Request: groupHeartbeat, Codes: []int16{coordinatorLoading, notCoordinator, unknownMember, fencedMemberEpoch}, Top: true},
		BrokerFault{Request: syncGroup, Codes: []int16{rebalanceInProgress, notCoordinator, unknownMember}, Top: true},
	)...)
}

// CommitFaults are refused commits, and one whose outcome is unknown.
func CommitFaults() []BrokerFault {
	return []BrokerFault{{Request: offsetCommit, Codes: []int16{
		rebalanceInProgress, illegalGeneration, unknownMember, notCoordinator, coordinatorLoading, coordinatorNotAvailable, unknownServerError, requestTimedOut,
	}}}
}

// LetterFaults are dead letters that cannot be written, or whose acknowledgement is lost.
func LetterFaults() []BrokerFault {
	return []BrokerFault{{Request: produce, Codes: []int16{notEnoughReplicas, requestTimedOut, notLeader}, Letters: true}}
}
