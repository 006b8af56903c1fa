// Package embedded runs a Kafka broker inside the process, for tests, examples and development without a Kafka: franz-go's kfake on
// 127.0.0.1. It speaks Kafka's protocol, groups and transactions included, and keeps everything in memory. It is not replicated and
// not made for production.
package embedded

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/dreamscape/eventbus"
)

// Options are the properties of a broker; the zero value works.
type Options struct {
	// Port to listen on, of 127.0.0.1. 0: any free one.
	Port int
	// Topics that exist from the start. nil: DreamScape's, with the prefix; empty: none.
	Topics []string
	// TopicPrefix is put before the names of DreamScape's topics where Topics is nil.
	TopicPrefix string
	// Partitions of each topic. Default: 3.
	Partitions int
	// Kfake are further options of the fake, such as TLS, SASL or a virtual network; kfake.Ports with more ports makes more brokers.
	Kfake []kfake.Opt
}

// Broker is a running broker. It is safe for concurrent use.
type Broker struct {
	cluster *kfake.Cluster
}

// Start starts a broker; it answers when Start returns. An error names the option.
func Start(opts Options) (*Broker, error) {
	if opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("embedded: Options.Port: %d is not 0 to 65535", opts.Port)
	}
	if opts.Partitions < 0 {
		return nil, fmt.Errorf("embedded: Options.Partitions: %d is negative", opts.Partitions)
	}
	if opts.Partitions == 0 {
		opts.Partitions = 3
	}
	if opts.Topics == nil {
		for _, t := range eventbus.Catalogue() {
			opts.Topics = append(opts.Topics, opts.TopicPrefix+t.Name())
		}
	}
	base := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(opts.Port),
		kfake.ClusterID("eventbus-embedded"),
		kfake.DefaultNumPartitions(opts.Partitions),
		kfake.SeedTopics(int32(opts.Partitions), opts.Topics...),
	}
	cluster, err := kfake.NewCluster(slices.Concat(base, opts.Kfake)...)
	if err != nil {
		return nil, fmt.Errorf("embedded: Options.Port %s: %w", net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.Port)), err)
	}
	return &Broker{cluster: cluster}, nil
}

// Brokers returns the addresses, for [eventbus.Config].Brokers. The slice is the caller's.
func (b *Broker) Brokers() []string { return b.cluster.ListenAddrs() }

// Cluster returns the fake itself, for faults and a look inside; its API is franz-go's and may change with it.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close ends the broker; everything that it kept is gone.
func (b *Broker) Close() { b.cluster.Close() }
