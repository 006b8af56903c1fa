package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// settings are those of part of the wire that -settings tries; zero values, and a linger that is "", are the client's own.
type settings struct {
	Linger         string `json:"linger,omitempty"` // a Go duration
	BatchBytes     int32  `json:"batchBytes,omitempty"`
	FetchBytes     int32  `json:"fetchBytes,omitempty"`
	PartitionBytes int32  `json:"partitionBytes,omitempty"`
	Concurrency    int    `json:"concurrency,omitempty"`
	InFlight       int    `json:"inFlight,omitempty"` // records of a partition
	Buffered       int    `json:"buffered,omitempty"` // events that are published
}

func (s settings) options() []kgo.Opt {
	var opts []kgo.Opt
	if d, err := time.ParseDuration(s.Linger); err == nil {
		opts = append(opts, kgo.ProducerLinger(d))
	}
	if s.BatchBytes > 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(s.BatchBytes))
	}
	if s.FetchBytes > 0 {
		opts = append(opts, kgo.FetchMaxBytes(s.FetchBytes))
	}
	if s.PartitionBytes > 0 {
		opts = append(opts, kgo.FetchMaxPartitionBytes(s.PartitionBytes))
	}
	return opts
}

// variants are a contender, as it is and with one setting of another value.
func variants(of contender) []contender {
	of.except = poisoned
	all := []contender{of}
	add := func(name string, s settings, only ...string) {
		c := of
		c.name, c.label, c.base, c.settings, c.only = name, name, of.name, s, only
		all = append(all, c)
	}
	for _, d := range []string{"0s", "500us", "1ms", "2ms", "5ms", "10ms"} {
		add("linger "+d, settings{Linger: d}, "pipelined", "paced", "awaited-1", "awaited-64")
	}
	for _, n := range []int32{64 << 10, 256 << 10, 4 << 20} {
		add("batches of "+size(n), settings{BatchBytes: n}, "pipelined")
	}
	for _, n := range []int32{1 << 20, 8 << 20, 100 << 20} {
		add("fetches of "+size(n), settings{FetchBytes: n}, "consume", "handler")
	}
	for _, n := range []int32{64 << 10, 256 << 10, 4 << 20} {
		add("fetches of "+size(n)+" a partition", settings{PartitionBytes: n}, "consume", "handler")
	}
	if of.name == "eventbus" {
		for _, n := range []int{1, 12, keys} {
			add("concurrency "+count(float64(n)), settings{Concurrency: n}, "consume")
		}
		for _, n := range []int{1_000, 50_000} {
			add(count(float64(n))+" buffered events", settings{Buffered: n}, "pipelined")
		}
		for _, n := range []int{100, 1_000, 3_000} {
			add(count(float64(n))+" in flight a partition", settings{InFlight: n}, "consume", "handler")
		}
	}
	return all
}
