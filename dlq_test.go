package eventbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
)

type trap struct {
	ID string `json:"id"`
	In inner  `json:"in"`
}

type inner struct{ first byte }

func (i *inner) UnmarshalJSON(b []byte) error {
	var parts []string
	i.first = parts[len(b)][0] // a bug in the user's own type
	return nil
}

func TestAPayloadTypeThatPanicsIsDeadLettered(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic[trap](orders, nil)
		bus := w.bus(nil)
		publish(w, bus, 1)
		_ = topic
		hostile := eventbus.NewTopic[map[string]any](orders, nil)
		require.NoError(t, bus.Publish(context.Background(), hostile.New(map[string]any{"id": "o", "in": "x"})))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(ctx, eventbus.Subscription{Group: "group", Routes: []eventbus.Route{
				topic.Handle(func(context.Context, *eventbus.BaseEvent[trap]) error { return nil }, nil)}})
		}()
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		cancel()
		require.NoError(t, <-ended)
	})
}

// Dead letters that are written at once share a batch. A broker that finds that too large refuses letters that it would take one by one.
func TestABurstOfDeadLettersKeepsItsReasons(t *testing.T) {
	const n = 600
	for name, limit := range map[string]string{"a topic as usual": "1048588", "a topic that takes little": "40000"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus, cl := w.bus(nil), w.raw()
				_, err := kadm.NewClient(cl).CreateTopic(context.Background(), 1, 1, map[string]*string{"max.message.bytes": &limit}, orders+".dlq.burst")
				require.NoError(t, err)
				for i := range n {
					cl.Produce(context.Background(), &kgo.Record{Topic: orders, Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte("no event "), 2500)}, nil)
				}
				require.NoError(t, cl.Flush(context.Background()))
				w.run(bus, ignore, nil, func(s *eventbus.Subscription) { s.Group = "burst" })
				w.until("all are given up", func() bool { return w.held(orders+".dlq.burst") == n })
				for _, r := range w.read(orders+".dlq.burst", n) {
					letter, err := eventbus.ParseDeadLetter(r)
					require.NoError(t, err)
					require.NotEmpty(t, letter.Error)
				}
				require.Empty(t, bus.Health(context.Background()).Error)
			})
		})
	}
}

// Letters of several partitions share a batch where their topic has fewer.
func TestDeadLettersOfManyPartitionsInOneKeepTheirReasons(t *testing.T) {
	inWorld(t, func(w *world) {
		limit, topic, bus := "40000", eventbus.NewTopic[order]("acme.four", nil), w.bus(nil)
		_, err := kadm.NewClient(w.raw()).CreateTopic(context.Background(), 1, 1, map[string]*string{"max.message.bytes": &limit}, "acme.four.dlq.group")
		require.NoError(t, err)
		cl := w.raw(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for p := range int32(4) {
			r := &kgo.Record{Topic: "acme.four", Partition: p, Key: fmt.Append(nil, p), Value: bytes.Repeat([]byte("no event "), 2500)}
			require.NoError(t, cl.ProduceSync(context.Background(), r).FirstErr())
		}
		w.run(bus, nil, nil, func(s *eventbus.Subscription) { s.Routes = []eventbus.Route{topic.Handle(ignore, nil)} })
		w.until("dead-lettered", func() bool { return bus.Metrics().DeadLettered == 4 })
		for _, r := range w.read("acme.four.dlq.group", 4) {
			letter, err := eventbus.ParseDeadLetter(r)
			require.NoError(t, err)
			require.NotEmpty(t, letter.Error)
		}
	}, kfake.SeedTopics(4, "acme.four"))
}

func TestStuckDeadLettersStopInTime(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic("acme.four", &eventbus.TopicOptions[order]{Key: func(o order) string { return o.ID }})
		bus := w.bus(func(c *eventbus.Config) { c.MaxBufferedEvents = 1 })
		for i := range 40 {
			require.NoError(t, bus.Publish(context.Background(), topic.New(order{ID: fmt.Sprint(i)})))
		}
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{produce}, Topic: "acme.four.dlq.group", Err: kerr.NotEnoughReplicas, Count: -1})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Run(ctx, eventbus.Subscription{Group: "group", Routes: []eventbus.Route{topic.Handle(func(context.Context, *eventbus.BaseEvent[order]) error {
				return eventbus.Permanent(errors.New("no"))
			}, nil)}})
		}()
		time.Sleep(10 * time.Second)
		cancel()
		require.NoError(t, <-ended)
	}, kfake.SeedTopics(4, "acme.four", "acme.four.dlq.group"))
}

func TestDeadLetterOfAFarTimestampCanBeRead(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...))...)
		require.NoError(t, err)
		defer cl.Close()
		require.NoError(t, cl.ProduceSync(context.Background(), &kgo.Record{Topic: orders, Value: []byte("x"), Timestamp: time.UnixMilli(1 << 52)}).FirstErr())
		w.run(bus, func(context.Context, *eventbus.BaseEvent[order]) error { return nil }, nil, nil)
		w.until("dead-lettered", func() bool { return w.held(orders+".dlq.group") == 1 })
		_, err = eventbus.ParseDeadLetter(w.read(orders+".dlq.group", 1)[0])
		require.NoError(t, err)
	})
}

func TestADeadLetterKeepsItsPartition(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := eventbus.NewTopic[order]("acme.four", nil)
		bus := w.bus(nil)
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		require.NoError(t, err)
		defer cl.Close()
		for p := range int32(4) { // one key in every partition, as another writer's hash may have it
			require.NoError(t, cl.ProduceSync(context.Background(), &kgo.Record{Topic: "acme.four", Partition: p, Key: []byte("o"), Value: []byte("no event")}).FirstErr())
		}
		w.run(bus, nil, nil, func(s *eventbus.Subscription) { s.Routes = []eventbus.Route{topic.Handle(ignore, nil)} })
		w.until("dead-lettered", func() bool { return bus.Metrics().DeadLettered == 4 })
		for _, r := range w.read("acme.four.dlq.group", 4) {
			d, err := eventbus.ParseDeadLetter(r)
			require.NoError(t, err)
			require.Equal(t, d.Partition, r.Partition)
		}
	}, kfake.SeedTopics(4, "acme.four", "acme.four.dlq.group"))
}

func TestEnsureTopicsGivesDeadLettersRoomAndTime(t *testing.T) {
	inWorld(t, func(w *world) {
		bus := w.bus(func(c *eventbus.Config) { c.NewTopics = eventbus.TopicDefaults{Partitions: 5, Retention: time.Hour} })
		topic := eventbus.NewTopic[order]("acme.five", nil)
		require.NoError(t, bus.EnsureTopics(context.Background(), eventbus.Subscription{Group: "group", Routes: []eventbus.Route{topic.Handle(ignore, nil)}}.Topics()...))
		cl, err := kgo.NewClient(append(w.client(), kgo.SeedBrokers(w.cluster.ListenAddrs()...))...)
		require.NoError(t, err)
		defer cl.Close()
		configs, err := kadm.NewClient(cl).DescribeTopicConfigs(context.Background(), "acme.five", "acme.five.dlq.group")
		require.NoError(t, err)
		value := map[string]string{}
		for _, rc := range configs {
			for _, c := range rc.Configs {
				value[rc.Name+" "+c.Key] = c.MaybeValue()
			}
		}
		require.Equal(t, "3600000", value["acme.five retention.ms"])
		require.Equal(t, "14400000", value["acme.five.dlq.group retention.ms"])
		require.Equal(t, "1048588", value["acme.five max.message.bytes"])
		require.Equal(t, "1114124", value["acme.five.dlq.group max.message.bytes"])
		require.NotNil(t, w.cluster.PartitionInfo("acme.five.dlq.group", 4))
	})
}

// The brokers of a cluster hear of a topic one after the other.
func TestEnsureTopicsWaitsUntilAllBrokersKnowTheSource(t *testing.T) {
	inWorld(t, func(w *world) {
		var asked atomic.Int64
		w.cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			req := r.(*kmsg.MetadataRequest)
			if !req.IncludeTopicAuthorizedOperations || *req.Topics[0].Topic != orders {
				return nil, nil, false
			}
			if n := asked.Add(1); n == 1 || n > 3 { // the others are of a broker that does not know it yet
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.MetadataResponse)
			unknown := kmsg.NewMetadataResponseTopic()
			unknown.Topic, unknown.ErrorCode = req.Topics[0].Topic, kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, unknown)
			return resp, nil, true
		})
		bus := w.bus(nil)
		sub := eventbus.Subscription{Group: "another", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}}
		require.NoError(t, bus.EnsureTopics(context.Background(), sub.Topics()...))
		require.EqualValues(t, 4, asked.Load())
		asked.Store(1)
		began := time.Now()
		require.ErrorContains(t, bus.EnsureTopics(context.Background(), sub.Topics()[1:]...), orders+", which "+orders+".dlq.another takes its partitions from")
		require.Zero(t, time.Since(began), "nobody has said that it is there")
	})
}
