package eventbus

import (
	"encoding/json"
	"sync/atomic"
	"time"
)

// Metrics is a snapshot of a bus's counters since it was made. The first five have the names of the TypeScript package.
type Metrics struct {
	MessagesPublished int64 `json:"messagesPublished"` // events acknowledged by the broker
	MessagesConsumed  int64 `json:"messagesConsumed"`  // events handled, by all groups of this bus
	PublishErrors     int64 `json:"publishErrors"`     // events whose publish returned an error
	ConsumerLag       int64 `json:"consumerLag"`       // records from the first not done to the end, over the partitions assigned to this bus
	// AvgProcessingTime is the mean time that handlers took, over all tries. In JSON: milliseconds.
	AvgProcessingTime time.Duration `json:"avgProcessingTime"`

	DeadLettered  int64 `json:"deadLettered"`  // events moved to a dead-letter topic
	Followed      int64 `json:"followed"`      // those of them that were not tried, but followed a parked key: see OrderSequenced
	Retries       int64 `json:"retries"`       // tries after the first
	SchemaReports int64 `json:"schemaReports"` // events that broke their schema and were handled all the same (ValidationReport)
	Buffered      int64 `json:"buffered"`      // events handed over and not yet acknowledged
	Undecided     int64 `json:"undecided"`     // events, published or consumed, whose check was not decided in one pass over the bytes: it took some ten times as long

	// ConsumerLagTime is the largest lag of an assigned partition in time: see PartitionHealth. In JSON: seconds, consumerLagSeconds.
	ConsumerLagTime time.Duration `json:"-"`
	InFlight        int64         `json:"inFlight"`         // records fetched and not done, by all groups of this bus
	InFlightBytes   int64         `json:"inFlightBytes"`    // what they hold
	ParkedKeys      int64         `json:"parkedKeys"`       // keys whose first event waits for another try
	Parked          []ParkedKey   `json:"parked,omitempty"` // of them, those of PartitionHealth.Parked
	Paused          int64         `json:"paused"`           // assigned partitions that are not fetched: see PartitionHealth.Paused
	BreakerOpened   int64         `json:"breakerOpened"`    // how often a route was paused because what its handler calls was down
	Detached        int64         `json:"detached"`         // handlers that ignored the end of their ctx and were left behind
	Skipped         int64         `json:"skipped"`          // events that came again and were not handled again: a commit's map had them as done
	MapsCut         int64         `json:"mapsCut"`          // commits whose map of what is done out of order was too large; the rest may come again
	Commits         int64         `json:"commits"`          // commits of offsets that the group has taken, transactions' included
	CommitErrors    int64         `json:"commitErrors"`     // commits that it has not: refused by a rebalance, as a matter of course, or failed; the next says the same or more
	Rebalances      int64         `json:"rebalances"`       // how often a group has given partitions to this bus, the first time included
	Aborted         int64         `json:"aborted"`          // consumers' transactions that were aborted: their events are handled again
	Recreated       int64         `json:"recreated"`        // topics found deleted and made again, by each group and publisher for itself; by a publisher, only deleted too
}

// ParkedKey is a key whose first event failed and waits for another try; its later events wait behind it.
type ParkedKey struct {
	Topic         string    `json:"topic"` // Kafka's name
	Partition     int32     `json:"partition"`
	Offset        int64     `json:"offset"`
	KeyHash       string    `json:"keyHash"`  // see KeyHash
	Attempts      int       `json:"attempts"` // tries that count so far; one that an outage may have failed does not
	FirstFailedAt time.Time `json:"firstFailedAt"`
	NextTry       time.Time `json:"nextTry"`
	Class         Class     `json:"class"`  // of the last failure
	Behind        int       `json:"behind"` // events of the key that wait behind it
}

// MarshalJSON writes AvgProcessingTime in milliseconds and ConsumerLagTime in seconds.
func (m Metrics) MarshalJSON() ([]byte, error) {
	type plain Metrics
	return json.Marshal(struct {
		plain
		AvgProcessingTime  float64 `json:"avgProcessingTime"`
		ConsumerLagSeconds float64 `json:"consumerLagSeconds"`
	}{plain(m), float64(m.AvgProcessingTime) / float64(time.Millisecond), m.ConsumerLagTime.Seconds()})
}

// counters count since the bus was made.
type counters struct {
	published, publishErrors, consumed, deadLettered, followed, retries, schemaReports atomic.Int64
	breakerOpened, detached, skipped, mapsCut, recreated                               atomic.Int64
	commits, commitErrors, rebalances, aborted                                         atomic.Int64
	tries, tryTime, undecided                                                          atomic.Int64
}

// checked counts one check of an event.
func (c *counters) checked(undecided bool) {
	if undecided {
		c.undecided.Add(1)
	}
}

// tried counts one try of a handler.
func (c *counters) tried(took time.Duration, again bool) {
	c.tries.Add(1)
	c.tryTime.Add(int64(took))
	if again {
		c.retries.Add(1)
	}
}

func (c *counters) snapshot() Metrics {
	m := Metrics{
		MessagesPublished: c.published.Load(), MessagesConsumed: c.consumed.Load(), PublishErrors: c.publishErrors.Load(),
		DeadLettered: c.deadLettered.Load(), Followed: c.followed.Load(), Retries: c.retries.Load(), SchemaReports: c.schemaReports.Load(),
		BreakerOpened: c.breakerOpened.Load(), Detached: c.detached.Load(), Skipped: c.skipped.Load(), MapsCut: c.mapsCut.Load(),
		Recreated: c.recreated.Load(), Undecided: c.undecided.Load(),
		Commits: c.commits.Load(), CommitErrors: c.commitErrors.Load(), Rebalances: c.rebalances.Load(), Aborted: c.aborted.Load(),
	}
	if tries := c.tries.Load(); tries > 0 {
		m.AvgProcessingTime = time.Duration(c.tryTime.Load() / tries)
	}
	return m
}
