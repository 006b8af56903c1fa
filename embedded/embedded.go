// Package embedded runs a Kafka broker inside the process, for tests, examples and development without a Kafka: franz-go's kfake on
// 127.0.0.1. It speaks Kafka's protocol, groups and transactions included, and keeps everything in memory, or in a folder
// ([Options].Dir). It is not replicated and not made for production.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	// Dir is the folder that keeps everything across Close and Start; it is made if it is not there, for its owner only, and locked while
	// the broker runs.
	// Empty: in memory. A broker that starts on what another left has its topics with their records, partitions and configurations,
	// its groups' committed offsets with their metadata, and its transactions; Topics that are not there are added. Clients that
	// outlive the broker find it again where Port is the same: it is not kept.
	//
	// What was acknowledged is there as well after the process was killed (kill -9). It is then as after a crash: open transactions
	// are aborted, members have to join their groups again, a record without an answer may be there or not, its retry may double it,
	// and one that was being removed (DeleteRecords, retention) may be back. Where the machine itself stops, the last writes may be
	// lost: [kfake.SyncWrites] in Kfake writes each through to the disk. On a full disk records are refused; a commit that could not
	// be written is acknowledged all the same, and the Logger told.
	Dir string
	// Logger gets what the fake warns of while it works with Dir. nil: slog.Default().
	Logger *slog.Logger
	// Topics that exist from the start. nil: DreamScape's, with the prefix; empty: none.
	Topics []string
	// TopicPrefix is put before the names of DreamScape's topics where Topics is nil.
	TopicPrefix string
	// Partitions of each new topic. Default: 3.
	Partitions int
	// Listen makes the listeners, such as those of a [kfake.VirtualNetwork]. nil: net.Listen.
	Listen func(network, address string) (net.Listener, error)
	// Kfake are further options of the fake, such as TLS or SASL; kfake.Ports with more ports makes more brokers.
	// On a Dir that was used before, its own users and ACLs apply, not these.
	Kfake []kfake.Opt
}

// Broker is a running broker. It is safe for concurrent use.
type Broker struct {
	cluster *kfake.Cluster
	wire    *wire
	folder  *folder // nil: in memory
}

// Start starts a broker; it answers when Start returns. An error names the option: a port that is taken, a folder that cannot be
// written, that another broker uses, or whose files are not a broker's or are damaged.
func Start(opts Options) (*Broker, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{wire: &wire{}}
	if opts.Dir != "" {
		if b.folder, err = openFolder(opts.Dir); err != nil {
			return nil, fmt.Errorf("embedded: Options.Dir: %w", err)
		}
	}
	if b.cluster, err = kfake.NewCluster(opts.kfake(b.wire)...); err != nil {
		b.folder.close()
		return nil, opts.blame(err)
	}
	b.wire.use(b.cluster)
	if opts.Dir != "" {
		if err := b.addTopics(opts); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Port < 0 || o.Port > 65535 {
		return o, fmt.Errorf("embedded: Options.Port: %d is not 0 to 65535", o.Port)
	}
	if o.Partitions < 0 || o.Partitions > math.MaxInt32 {
		return o, fmt.Errorf("embedded: Options.Partitions: %d is not 0 to %d", o.Partitions, math.MaxInt32)
	}
	if o.Partitions == 0 {
		o.Partitions = 3
	}
	if o.Topics == nil {
		for _, t := range eventbus.Catalogue() {
			o.Topics = append(o.Topics, o.TopicPrefix+t.Name())
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	return o, nil
}

func (o Options) kfake(w *wire) []kfake.Opt {
	base := []kfake.Opt{
		kfake.ListenFn(func(network, address string) (net.Listener, error) { return w.newListener(o.Listen, network, address) }),
		kfake.NumBrokers(1),
		kfake.Ports(o.Port),
		kfake.ClusterID("eventbus-embedded"),
		kfake.DefaultNumPartitions(o.Partitions),
		kfake.SeedTopics(int32(o.Partitions), o.Topics...), // #nosec G115 -- withDefaults has checked it
	}
	if o.Dir != "" {
		base = append(base, kfake.DataDir(o.Dir), kfake.WithLogger(warnings{o.Logger}))
	}
	return slices.Concat(base, o.Kfake)
}

// blame names the option that the fake's error is about: a listener's is the port's, any other the folder's where there is one.
func (o Options) blame(err error) error {
	if _, listening := errors.AsType[*net.OpError](err); o.Dir != "" && !listening {
		return fmt.Errorf("embedded: Options.Dir %s: %w", o.Dir, err)
	}
	return fmt.Errorf("embedded: Options.Port %s: %w", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)), err)
}

// addTopics adds what a folder does not have yet: the fake seeds empty folders only.
func (b *Broker) addTopics(opts Options) error {
	for _, topic := range opts.Topics {
		if b.cluster.TopicInfo(topic) != nil {
			continue
		}
		if err := b.cluster.CreateTopic(topic, int32(opts.Partitions), nil); err != nil { // #nosec G115 -- withDefaults has checked it
			return fmt.Errorf("embedded: Options.Topics: %s: %w", topic, err)
		}
	}
	return nil
}

// Brokers returns the addresses, for [eventbus.Config].Brokers. The slice is the caller's.
func (b *Broker) Brokers() []string { return b.cluster.ListenAddrs() }

// Cluster returns the fake itself, for faults and a look inside; its API is franz-go's and may change with it.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close ends the broker. Everything that it kept is gone, unless it has a folder; that one may then be used again.
func (b *Broker) Close() {
	b.wire.use(nil)
	b.cluster.Close()
	b.folder.close()
}
