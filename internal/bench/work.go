package main

import (
	"slices"
	"time"
)

// kind is what a client does in a work.
type kind string

const (
	pipelined kind = "pipelined" // publish, and do not wait
	awaited   kind = "awaited"   // publish, and wait for the acknowledgement
	consume   kind = "consume"
)

// work is what is measured. Those of one group are compared with each other, so a round runs them one after the other.
type work struct {
	name, label, group string
	kind               kind
	goroutines         int           // that publish
	rate               int           // events a second that are published; 0: as many as there can be
	handler            time.Duration // what it takes; the keys are in order, and as many at once as the client can
	sick               int           // keys that have the poison
	forSettings        bool          // it is for -settings alone, unless it is named
}

var works = []work{
	{name: "pipelined", label: "publish, pipelined", group: "pipelined", kind: pipelined},
	{name: "awaited-1", label: "publish awaited, 1 goroutine", group: "awaited-1", kind: awaited, goroutines: 1},
	{name: "awaited-64", label: "publish awaited, 64 goroutines", group: "awaited-64", kind: awaited, goroutines: 64},
	{name: "paced", label: "publish 10,000/s, not awaited", group: "paced", kind: pipelined, rate: 10_000, forSettings: true},
	{name: "consume", label: "consume", group: "consume", kind: consume},
	{name: "handler", label: "consume, 1 ms handler", group: "handler", kind: consume, handler: time.Millisecond},
	{name: "poison-100", label: "consume, 1 ms handler, 0.1 % poison on 100 keys", group: "handler", kind: consume, handler: time.Millisecond, sick: 100},
	{name: "poison-1", label: "consume, 1 ms handler, 0.1 % poison on one key", group: "handler", kind: consume, handler: time.Millisecond, sick: 1},
}

// contender is a client, as its users would set it up for speed.
type contender struct {
	name, label string
	writes      string   // what is to be said of it where it publishes
	except      []string // works that it has no part in
	only        []string // else: all
	publish     func(task) (publisher, error)
	consume     consumeFunc
	outside     *outside // it is a program in another language
	missing     string   // why it cannot run here
	settings    settings
	base        string // of a variant: whose it is
}

func (c contender) labelIn(w work) string {
	if w.kind == consume {
		return c.label
	}
	return c.label + c.writes
}

func (c contender) runs(w work) bool {
	return !slices.Contains(c.except, w.name) && (len(c.only) == 0 || slices.Contains(c.only, w.name)) &&
		(c.outside != nil || w.kind == consume && c.consume != nil || w.kind != consume && c.publish != nil)
}

var poisoned = []string{"poison-100", "poison-1"}

// contenders come in the order of the table; eventbus is first. Only those with a poison run of their own try again and dead-letter: for
// the others it would be the harness that is measured.
func contenders() []contender {
	return []contender{
		{name: "eventbus", label: "eventbus, validated", publish: eventbusPublishes, consume: eventbusConsumes},
		{name: "franz-go", label: "franz-go", publish: franzPublishes, consume: franzConsumes},
		{name: "partition", label: "franz-go, eventbus's decoder, a goroutine a partition", only: []string{"consume"}, consume: partitionsConsume},
		{name: "sarama", label: "sarama", except: poisoned, publish: saramaPublishes, consume: saramaConsumes},
		{name: "sarama-plain", label: "sarama", writes: ", not idempotent", publish: saramaPublishesPlain},
		{name: "kafka-go", label: "kafka-go", writes: ", not idempotent", except: poisoned, publish: kafkaGoPublishes, consume: kafkaGoConsumes},
		{name: "confluent", label: "confluent-kafka-go", except: poisoned, publish: confluentPublishes, consume: confluentConsumes, missing: confluentMissing},
		{name: "watermill", label: "Watermill-Kafka", except: poisoned, publish: watermillPublishes, consume: watermillConsumes},
		{name: "kafkajs", label: "kafkajs + Ajv", except: poisoned, outside: kafkajs},
		{name: "parallel", label: "Parallel Consumer", only: []string{"handler"}, outside: parallel},
	}
}
