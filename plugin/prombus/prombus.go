// Package prombus shows a bus to Prometheus:
//
//	metrics := prombus.New(nil)
//	bus, err := eventbus.New(eventbus.Config{Service: "auth-service", Hooks: []eventbus.Hooks{metrics.Hooks()}})
//	…
//	metrics.Watch(bus)
//	prometheus.MustRegister(metrics)
//
// Series have the labels topic, group and outcome at most, with the names that the code gives them (no Config.TopicPrefix), and never a key, an id or a
// payload. The folder has a dashboard for Grafana (dashboard.json) and alerting rules (alerts.yml). Names and units follow Prometheus' own
// recommendations (https://prometheus.io/docs/practices/naming).
package prombus

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dreamscape/eventbus"
)

// Options are the properties of a [Collector]; the zero value works.
type Options struct {
	// Buckets are the upper bounds of the duration histograms' buckets, in seconds, ascending. Default: [DefaultBuckets].
	Buckets []float64
	// MaxTopics is how many topics have series of their own; those that come later share the label "other". Default: 500.
	MaxTopics int
}

// DefaultBuckets reach from half a millisecond, a publish on a quiet cluster, to the minute in which a shutdown has to end.
var DefaultBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// ageBuckets reach to an hour, as the age of an event does that waits for another try.
var ageBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}

// other is the topic of all topics beyond MaxTopics.
const other = "other"

// Collector is what is known of one bus, as a [prometheus.Collector]. It is safe for concurrent use. For several buses in a process, register one each by
// [prometheus.WrapRegistererWith] and a label of your own.
type Collector struct {
	bus       atomic.Pointer[eventbus.Bus]
	published *prometheus.HistogramVec
	handled   *prometheus.HistogramVec
	age       *prometheus.HistogramVec
	outcomes  *prometheus.CounterVec
	failed    *prometheus.CounterVec

	maxTopics int
	mu        sync.Mutex
	topics    map[string]struct{}
}

// New returns a collector of no bus yet; nil options are the defaults. It panics where the buckets do not ascend.
func New(options *Options) *Collector {
	o := Options{}
	if options != nil {
		o = *options
	}
	if o.Buckets == nil {
		o.Buckets = DefaultBuckets
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &Collector{
		maxTopics: cmp.Or(max(o.MaxTopics, 0), 500),
		topics:    map[string]struct{}{},
		published: histogram("eventbus_publish_duration_seconds", "From the call of a publish to its result: ok, not_sent or unknown.", o.Buckets, "topic", "outcome"),
		handled:   histogram("eventbus_handle_duration_seconds", "Of the last try of a handler, by what became of the event: handled, or why it was dead-lettered.", o.Buckets, "topic", "group", "outcome"),
		age:       histogram("eventbus_event_age_seconds", "Of a handled event, from its record's timestamp to its end.", ageBuckets, "topic", "group"),
		outcomes:  counter("eventbus_outcomes_total", "Events that a group is done with: handled, or why they were dead-lettered.", "topic", "group", "outcome"),
		failed:    counter("eventbus_failed_tries_total", "Failed tries after which the event's key waits for another one, by the class of the failure.", "topic", "outcome"),
	}
}

// Hooks are for [eventbus.Config.Hooks]; what happens is counted by them.
func (c *Collector) Hooks() eventbus.Hooks {
	return eventbus.Hooks{
		Published: func(i eventbus.PublishedInfo) {
			c.published.WithLabelValues(c.topic(i.Topic), publishOutcome(i.Err)).Observe(i.Took.Seconds())
		},
		Handled: func(i eventbus.HandledInfo) {
			topic, outcome := c.topic(i.Topic), cmp.Or(string(i.DeadLetter), "handled")
			c.outcomes.WithLabelValues(topic, i.Group, outcome).Inc()
			if i.Attempts > 0 {
				c.handled.WithLabelValues(topic, i.Group, outcome).Observe(i.Took.Seconds())
			}
			if i.DeadLetter == "" {
				c.age.WithLabelValues(topic, i.Group).Observe(i.Age.Seconds())
			}
		},
		Parked: func(k eventbus.ParkedKey) {
			c.failed.WithLabelValues(c.topic(c.plain(k.Topic)), string(k.Class)).Inc()
		},
	}
}

func publishOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, eventbus.ErrOutcomeUnknown):
		return "unknown"
	}
	return "not_sent"
}

// Watch has the counters and the state of bus be collected too, from now on; it is the one whose Config has the collector's Hooks.
func (c *Collector) Watch(bus *eventbus.Bus) { c.bus.Store(bus) }

// plain is a name without the bus's prefix. A retry topic's has it twice: its group's, too.
func (c *Collector) plain(name string) string {
	bus := c.bus.Load()
	if bus == nil || bus.TopicPrefix() == "" {
		return name
	}
	return strings.Replace(strings.TrimPrefix(name, bus.TopicPrefix()), ".retry."+bus.TopicPrefix(), ".retry.", 1)
}

// topic is the label of a topic.
func (c *Collector) topic(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.topics[name]; known {
		return name
	}
	if len(c.topics) >= c.maxTopics {
		return other
	}
	c.topics[name] = struct{}{}
	return name
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, each := range c.counted() {
		each.Describe(descs)
	}
	for _, each := range snapshot {
		descs <- each.desc
	}
	for _, each := range states {
		descs <- each.desc
	}
	for _, desc := range groupDescs {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector]. It reads memory and does not ask Kafka.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	for _, each := range c.counted() {
		each.Collect(metrics)
	}
	bus := c.bus.Load()
	if bus == nil {
		return
	}
	m := bus.Metrics()
	for _, each := range snapshot {
		metrics <- prometheus.MustNewConstMetric(each.desc, each.kind, each.of(m))
	}
	h := bus.Health(context.Background())
	for _, each := range states {
		metrics <- prometheus.MustNewConstMetric(each.desc, prometheus.GaugeValue, number(each.of(h)))
	}
	for _, g := range h.Groups {
		c.collectGroup(metrics, g)
	}
}

func (c *Collector) counted() []prometheus.Collector {
	return []prometheus.Collector{c.published, c.handled, c.age, c.outcomes, c.failed}
}
