package prombus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dreamscape/eventbus"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("eventbus_"+name, help, labels, nil)
}

// counter is a number of [eventbus.Metrics].
type counter struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(eventbus.Metrics) float64
}

func total(name, help string, of func(eventbus.Metrics) int64) counter {
	return counter{describe(name+"_total", help), prometheus.CounterValue, func(m eventbus.Metrics) float64 { return float64(of(m)) }}
}

func gauge(name, help string, of func(eventbus.Metrics) int64) counter {
	return counter{describe(name, help), prometheus.GaugeValue, func(m eventbus.Metrics) float64 { return float64(of(m)) }}
}

// snapshot is what [eventbus.Bus.Metrics] has. The first five are those of the TypeScript package.
var snapshot = []counter{
	total("messages_published", "Events acknowledged by the broker.", func(m eventbus.Metrics) int64 { return m.MessagesPublished }),
	total("messages_consumed", "Events handled, by all groups.", func(m eventbus.Metrics) int64 { return m.MessagesConsumed }),
	total("publish_errors", "Events whose publish returned an error.", func(m eventbus.Metrics) int64 { return m.PublishErrors }),
	gauge("consumer_lag", "Records from the first not done to the end, over all assigned partitions.", func(m eventbus.Metrics) int64 { return m.ConsumerLag }),
	{
		describe("avg_processing_time_seconds", "Mean time that handlers took, over all tries since the start."), prometheus.GaugeValue,
		func(m eventbus.Metrics) float64 { return m.AvgProcessingTime.Seconds() },
	},

	total("dead_letters", "Events moved to a dead-letter topic.", func(m eventbus.Metrics) int64 { return m.DeadLettered }),
	total("dead_letters_followed", "Of the dead letters, those that followed a parked key.", func(m eventbus.Metrics) int64 { return m.Followed }),
	total("retries", "Tries after the first.", func(m eventbus.Metrics) int64 { return m.Retries }),
	total("schema_reports", "Events that broke their schema and were handled all the same.", func(m eventbus.Metrics) int64 { return m.SchemaReports }),
	total("undecided_checks", "Checks that were not decided in one pass over the bytes.", func(m eventbus.Metrics) int64 { return m.Undecided }),
	total("commits", "Commits of offsets that the group has taken.", func(m eventbus.Metrics) int64 { return m.Commits }),
	total("commit_errors", "Commits that the group has not taken; a rebalance refuses some as a matter of course.", func(m eventbus.Metrics) int64 { return m.CommitErrors }),
	total("rebalances", "How often a group has given partitions to this bus.", func(m eventbus.Metrics) int64 { return m.Rebalances }),
	total("transactions_aborted", "Consumers' transactions that were aborted.", func(m eventbus.Metrics) int64 { return m.Aborted }),
	total("breaker_opened", "How often a route was paused because what its handler calls was down.", func(m eventbus.Metrics) int64 { return m.BreakerOpened }),
	total("handlers_left_behind", "Handlers that ignored the end of their context.", func(m eventbus.Metrics) int64 { return m.Detached }),
	total("events_skipped", "Events that came again and were done already.", func(m eventbus.Metrics) int64 { return m.Skipped }),
	total("commit_maps_cut", "Commits whose map of what is done out of order was too large.", func(m eventbus.Metrics) int64 { return m.MapsCut }),
	total("topics_recreated", "Topics found deleted and made again.", func(m eventbus.Metrics) int64 { return m.Recreated }),
	gauge("publish_buffered", "Events handed over and not yet acknowledged.", func(m eventbus.Metrics) int64 { return m.Buffered }),
	gauge("in_flight_records", "Records fetched and not done.", func(m eventbus.Metrics) int64 { return m.InFlight }),
	gauge("in_flight_bytes", "Memory that the records in flight take.", func(m eventbus.Metrics) int64 { return m.InFlightBytes }),
}

// state is a yes or no of [eventbus.Health].
type state struct {
	desc *prometheus.Desc
	of   func(eventbus.Health) bool
}

var states = []state{
	{describe("live", "1 while the process can make progress."), func(h eventbus.Health) bool { return h.Live }},
	{describe("ready", "1 while brokers answer and every group has joined and finds its topics."), func(h eventbus.Health) bool { return h.Ready }},
	{describe("connected", "1 while brokers answer."), func(h eventbus.Health) bool { return h.Kafka == "connected" }},
}

var (
	groupJoined   = describe("group_joined", "1 while this bus is a member of the group.", "group")
	groupProblems = describe("group_problems", "What is wrong with the group, such as a missing topic.", "group")
	groupStopped  = describe("group_paused", "1 while the group is paused: by Pause, or because what its handlers call is down.", "group")

	lagRecords = describe("lag_records", "Records from the first not done to the end, over the assigned partitions of a topic.", "topic", "group")
	lagSeconds = describe("lag_seconds", "How much older the first record not done is than the newest: the largest of the assigned partitions of a topic.", "topic", "group")
	oldest     = describe("oldest_in_flight_seconds", "Age of the first record not done, by its timestamp: the largest of the assigned partitions of a topic.", "topic", "group")
	blocked    = describe("blocked_keys", "Keys whose first event waits for another try.", "topic", "group")
	parked     = describe("parked_keys", "Keys that are parked among the dead letters.", "topic", "group")
	paused     = describe("paused_partitions", "Assigned partitions that are not fetched.", "topic", "group")
	assigned   = describe("assigned_partitions", "Partitions assigned to this bus.", "topic", "group")

	groupDescs = []*prometheus.Desc{groupJoined, groupProblems, groupStopped, lagRecords, lagSeconds, oldest, blocked, parked, paused, assigned}
)

// behind is what the partitions of a topic sum up to.
type behind struct {
	lag, blocked, parked, paused, assigned int
	lagTime, oldest                        time.Duration
}

// collectGroup tells of a group's partitions by topic: their number is Kafka's, and not bounded.
func (c *Collector) collectGroup(metrics chan<- prometheus.Metric, g eventbus.GroupHealth) {
	group := c.plain(g.Group)
	tell := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	tell(groupJoined, number(g.Joined), group)
	tell(groupProblems, float64(len(g.Problems)), group)
	tell(groupStopped, number(g.Paused != ""), group)
	topics := map[string]behind{}
	for _, p := range g.Partitions {
		topic := c.topic(c.plain(p.Topic))
		b := topics[topic]
		b.lag += int(p.Lag)
		b.lagTime, b.oldest = max(b.lagTime, p.LagTime), max(b.oldest, p.Oldest)
		b.blocked += p.ParkedKeys
		b.parked += p.Sequences
		b.assigned++
		if p.Paused != "" {
			b.paused++
		}
		topics[topic] = b
	}
	for topic, b := range topics {
		tell(lagRecords, float64(b.lag), topic, group)
		tell(lagSeconds, b.lagTime.Seconds(), topic, group)
		tell(oldest, b.oldest.Seconds(), topic, group)
		tell(blocked, float64(b.blocked), topic, group)
		tell(parked, float64(b.parked), topic, group)
		tell(paused, float64(b.paused), topic, group)
		tell(assigned, float64(b.assigned), topic, group)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
