package eventbus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ClientOptions returns what franz-go needs to connect as the bus does: brokers, TLS, login, the dialer and [Config.Client]. It is for a client of
// your own, such as a kadm.Client; the slice is the caller's. A connection of that client that fails counts in [Bus.Health].
func (b *Bus) ClientOptions() []kgo.Opt { return b.clientOptions() }

// clientOptions are those of every connection; what a promise rests on comes after the user's.
func (b *Bus) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.RetryBackoffFn(backOff),
		kgo.MetadataMinAge(250 * time.Millisecond), // the client's own 5 s would outlast a fail-over
		kgo.MetadataMaxAge(time.Minute),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.ConnIdleTimeout(5 * time.Minute),
		kgo.MaxDecompressBatchBytes(maxBatchBytes),
	}
	opts = append(opts, b.cfg.Client...)
	opts = append(opts,
		kgo.SeedBrokers(b.cfg.Brokers...),
		kgo.ClientID(b.cfg.Service),
		kgo.WithHooks(&b.link),
		kgo.Dialer(b.dialer.connect),
	)
	if b.login != nil {
		opts = append(opts, kgo.SASL(b.login))
	}
	return opts
}

// backOff waits 100 ms, doubling up to 2 s, ±20 %: longer waits would outlast a fail-over.
func backOff(fails int) time.Duration {
	d := min(100*time.Millisecond<<min(max(fails-1, 0), 5), 2*time.Second)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) // #nosec G404 -- it spreads retries and is no secret
}

// producerOptions are those of a client that publishes events. Idempotence, acks=all and 5 requests in flight are franz-go's
// defaults; refuseClientOptions keeps them.
func (b *Bus) producerOptions() []kgo.Opt {
	compression := kgo.ProducerBatchCompression(kgo.NoCompression()) // kafkajs dies on snappy
	opts := append([]kgo.Opt{compression, kgo.ProduceRequestTimeout(5 * time.Second), kgo.ProducerLinger(0)}, b.clientOptions()...)
	return append(opts,
		kgo.RecordPartitioner(keyPartitioner),
		kgo.MaxBufferedRecords(b.cfg.MaxBufferedEvents+1), // the gate bounds them, so that the wait for room obeys a ctx of its own
	)
}

// letterOptions are those of the client that publishes dead letters: into the partition that their record came from.
func (b *Bus) letterOptions() []kgo.Opt {
	return append(b.producerOptions(),
		kgo.RecordPartitioner(b.samePartition()),
		kgo.MaxBufferedRecords(1<<20),     // none may wait for room
		kgo.ProducerBatchMaxBytes(64<<20), // the topic's own limit decides: a dead letter is larger than its event; see letterWindow
	)
}

// keyPartitioner spreads keys as Kafka's Java client and kafkajs do: murmur2.
var keyPartitioner = kgo.StickyKeyPartitioner(nil)

// samePartition leaves a record where it says that it belongs, as far as the topic has so many partitions, and remembers how many it has.
func (b *Bus) samePartition() kgo.Partitioner {
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, n int) int {
			b.letterPartitions.Store(topic, int32(n)) // #nosec G115 -- Kafka's own number of partitions, an int32
			return int(r.Partition) % n
		}
	})
}

// partitionOf is where the events of a key are, among n partitions.
func partitionOf(topic string, key []byte, n int) int32 {
	p := keyPartitioner.ForTopic(topic).Partition(&kgo.Record{Topic: topic, Key: key}, n)
	return int32(p) // #nosec G115 -- below n, Kafka's number of partitions, an int32
}

// ownOptions are the client options that a promise rests on, or that a field of Config or Subscription sets.
var ownOptions = []struct {
	name string
	opt  any
}{
	{"RequiredAcks", kgo.RequiredAcks},
	{"DisableIdempotentWrite", kgo.DisableIdempotentWrite},
	{"AllowIdempotentProduceCancellation", kgo.AllowIdempotentProduceCancellation},
	{"MaxProduceRequestsInflightPerBroker", kgo.MaxProduceRequestsInflightPerBroker},
	{"RecordRetries", kgo.RecordRetries},
	{"RecordDeliveryTimeout", kgo.RecordDeliveryTimeout},
	{"RecordPartitioner", kgo.RecordPartitioner},
	{"RackAwarePartitioning", kgo.RackAwarePartitioning},
	{"DefaultProduceTopic", kgo.DefaultProduceTopic},
	{"DefaultProduceTopicAlways", kgo.DefaultProduceTopicAlways},
	{"TransactionalID", kgo.TransactionalID},
	{"ManualFlushing", kgo.ManualFlushing},
	{"MaxBufferedRecords (use Config.MaxBufferedEvents)", kgo.MaxBufferedRecords},
	{"MaxBufferedBytes (use Config.MaxBufferedBytes)", kgo.MaxBufferedBytes},
	{"AllowAutoTopicCreation", kgo.AllowAutoTopicCreation},
	{"SeedBrokers (use Config.Brokers)", kgo.SeedBrokers},
	{"SASL (use Config.SASL)", kgo.SASL},
	{"DialTLSConfig (use Config.TLS)", kgo.DialTLSConfig},
	{"ClientID (use Config.Service)", kgo.ClientID},
	{"WithContext", kgo.WithContext},
	{"ConsumerGroup", kgo.ConsumerGroup},
	{"ShareGroup", kgo.ShareGroup},
	{"GroupProtocol", kgo.GroupProtocol},
	{"ConsumeTopics", kgo.ConsumeTopics},
	{"ConsumePartitions", kgo.ConsumePartitions},
	{"ConsumeRegex", kgo.ConsumeRegex},
	{"ConsumeStartOffset", kgo.ConsumeStartOffset},
	{"ConsumeResetOffset", kgo.ConsumeResetOffset},
	{"FetchIsolationLevel", kgo.FetchIsolationLevel},
	{"KeepControlRecords", kgo.KeepControlRecords},
	{"Balancers", kgo.Balancers},
	{"ServerSideBalancer", kgo.ServerSideBalancer},
	{"SessionTimeout (use Subscription.SessionTimeout)", kgo.SessionTimeout},
	{"RebalanceTimeout (use Subscription.RebalanceTimeout)", kgo.RebalanceTimeout},
	{"HeartbeatInterval", kgo.HeartbeatInterval},
	{"InstanceID", kgo.InstanceID},
	{"BlockRebalanceOnPoll", kgo.BlockRebalanceOnPoll},
	{"AdjustFetchOffsetsFn", kgo.AdjustFetchOffsetsFn},
	{"OnPartitionsAssigned", kgo.OnPartitionsAssigned},
	{"OnPartitionsRevoked", kgo.OnPartitionsRevoked},
	{"OnPartitionsLost", kgo.OnPartitionsLost},
	{"DisableAutoCommit", kgo.DisableAutoCommit},
	{"GreedyAutoCommit", kgo.GreedyAutoCommit},
	{"AutoCommitMarks", kgo.AutoCommitMarks},
	{"AutoCommitInterval", kgo.AutoCommitInterval},
	{"AutoCommitCallback", kgo.AutoCommitCallback},
}

// checkClientOptions names the first of a user's options that is not the user's to set, and returns how connections are made by the others.
// Options are opaque, so it compares what a client makes of them with what it is without them.
func checkClientOptions(opts []kgo.Opt) (dialer, error) {
	base := []kgo.Opt{kgo.RecordPartitioner(keyPartitioner), kgo.DialTimeout(dialTimeout)}
	without, err := kgo.NewClient(base...)
	if err != nil {
		return dialer{}, fmt.Errorf("eventbus: Config.Client: %w", err)
	}
	defer without.Close()
	with, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return dialer{}, fmt.Errorf("eventbus: Config.Client: %w", err)
	}
	defer with.Close()
	for _, own := range ownOptions {
		if !sameOption(with.OptValue(own.opt), without.OptValue(own.opt)) {
			return dialer{}, fmt.Errorf("eventbus: Config.Client: kgo.%s is not for users to set: a promise of this package rests on it", own.name)
		}
	}
	d := dialer{}
	d.dial, _ = with.OptValue(kgo.Dialer).(func(context.Context, string, string) (net.Conn, error))
	d.timeout, _ = with.OptValue(kgo.DialTimeout).(time.Duration)
	return d, nil
}

const dialTimeout = 5 * time.Second

func sameOption(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if va.IsValid() && vb.IsValid() && va.Kind() == reflect.Func && vb.Kind() == reflect.Func {
		return va.Pointer() == vb.Pointer()
	}
	return reflect.DeepEqual(a, b)
}
