package eventbus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// typescript is a dead letter as @dreamscape/kafka writes it.
func typescript(topic, retryCount string) *kgo.Record {
	return &kgo.Record{
		Topic: topic, Partition: 2, Offset: 7, Timestamp: time.UnixMilli(1767790000000).UTC(), Key: []byte("u-1"), Value: []byte("{}"),
		Headers: []kgo.RecordHeader{header("causationId", "x"), header("retryCount", retryCount)},
	}
}

func TestParseDeadLetterOfTypeScript(t *testing.T) {
	for name, want := range map[string]struct{ topic, group string }{
		"shop.orders.dlq":           {"shop.orders", ""},
		"shop.orders.dlq.billing":   {"shop.orders", "billing"},
		"p.shop.orders.dlq.p.group": {"p.shop.orders", "p.group"},
		"shop.orders-dlt":           {"", ""},
		"dead-letters":              {"", ""},
		".dlq":                      {"", ""},
	} {
		r := typescript(name, "3")
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(t, err, name)
		require.Len(t, d.Fingerprint, 16)
		again, err := eventbus.ParseDeadLetter(typescript(name, "3"))
		require.NoError(t, err)
		require.Equal(t, d.Fingerprint, again.Fingerprint)
		d.Fingerprint = ""
		require.Equal(t, eventbus.DeadLetter{
			Family: eventbus.FamilyKafkaJS, Topic: want.topic, Group: want.group, Partition: 2, Offset: 7, Attempts: 4, FailedAt: r.Timestamp,
		}, d, name)
	}
}

func TestRetryCountIsHeldToBeANumber(t *testing.T) {
	for value, attempts := range map[string]int{
		"0": 1, "3": 4, "2147483646": 2147483647,
		"": 0, "-1": 0, "three": 0, "3.0": 0, "2147483647": 0, "\x00\x00\x00\x03": 0, "\x1b[2J": 0, "NaN": 0,
	} {
		d, err := eventbus.ParseDeadLetter(typescript("shop.orders.dlq", value))
		if attempts == 0 {
			require.EqualError(t, err, "eventbus: not a dead letter: header retryCount: expected a decimal number from 0 to 2147483646", "%q", value)
			require.Zero(t, d)
			continue
		}
		require.NoError(t, err, value)
		require.Equal(t, attempts, d.Attempts)
	}
}

// A service that tries again by the topic itself leaves its header to whoever gives the event up, or meets a letter that has gone through
// others' hands: theirs tell more.
func TestOtherFamiliesWinOverTypeScript(t *testing.T) {
	for family, headers := range foreigners() {
		for place, of := range map[string][]kgo.RecordHeader{
			"first": append([]kgo.RecordHeader{header("retryCount", "odd")}, headers...),
			"last":  append(headers[:len(headers):len(headers)], header("retryCount", "odd")),
		} {
			d, err := eventbus.ParseDeadLetter(&kgo.Record{Topic: "shop.orders.dlq", Headers: of})
			require.NoError(t, err, place)
			require.Equal(t, family, d.Family, place)
		}
	}
	ours := deadLetter(typescript("shop.orders", "2"), errors.New("no"))
	d, err := eventbus.ParseDeadLetter(ours)
	require.NoError(t, err)
	require.Equal(t, []any{eventbus.FamilyEventbus, "shop.orders", int64(7)}, []any{d.Family, d.Topic, d.Offset})
}

// The letters of a TypeScript service are listed and go to the Go service that takes over from it.
func TestTypeScriptLettersGoBack(t *testing.T) {
	const dlq, shared = orders + ".dlq", "dead-letters"
	inWorld(t, func(w *world) {
		bus, ctx := w.bus(noHold), context.Background()
		value, err := bus.Encode(ctx, w.order("o-1", 1))
		require.NoError(t, err)
		letter := func(topic string, partition int32) *kgo.Record {
			r := typescript(topic, "3")
			r.Partition, r.Key, r.Value, r.Timestamp = partition, value.Key, value.Value, time.Now()
			return r
		}
		w.put(letter(dlq, 1), letter(dlq, 1), letter(shared, 0))

		d, err := bus.DeadLettersIn(dlq, w.orders, "group")
		require.NoError(t, err)
		groups, err := d.Groups(ctx, eventbus.LetterFilter{Topic: orders})
		require.NoError(t, err)
		require.Len(t, groups, 1)
		require.Equal(t, 2, groups[0].Count)
		require.Equal(t, eventbus.FamilyKafkaJS, groups[0].Sample.Family)

		sub := eventbus.Subscription{Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}}
		require.NoError(t, bus.EnsureTopics(ctx, sub.Topics()...))
		report, err := d.Redrive(ctx, eventbus.RedriveOptions{Send: true})
		require.NoError(t, err)
		require.Equal(t, []int{2, 2, 0}, []int{report.Matched, report.Sent, report.Strangers})

		anywhere, err := bus.DeadLettersIn(shared, w.orders, "group")
		require.NoError(t, err)
		report, err = anywhere.Redrive(ctx, eventbus.RedriveOptions{Send: true})
		require.NoError(t, err)
		require.Equal(t, []int{1, 0, 1}, []int{report.Matched, report.Sent, report.Strangers})
		require.Equal(t, "of a topic that nothing tells: AnyOrigin takes it for one of acme.orders", report.Left[0].Why)
		report, err = anywhere.Redrive(ctx, eventbus.RedriveOptions{Send: true, AnyOrigin: true, Name: "any"})
		require.NoError(t, err)
		require.Equal(t, 1, report.Sent)

		var places []eventbus.Delivery
		run := w.run(bus, func(ctx context.Context, _ *eventbus.BaseEvent[order]) error {
			at, _ := eventbus.DeliveryFrom(ctx)
			places = append(places, at)
			return eventbus.Permanent(errors.New("still no"))
		}, nil, nil)
		w.until("all have failed again", func() bool { return bus.Metrics().DeadLettered == 3 })
		require.NoError(t, run.end())
		for i, offset := range []int64{0, 1, 0} {
			require.Equal(t, []any{orders, offset, 1}, []any{places[i].Topic, places[i].Offset, places[i].Redrives})
		}
		for l, err := range w.letters(bus).List(ctx, eventbus.LetterFilter{}) {
			require.NoError(t, err)
			require.Equal(t, []any{eventbus.FamilyEventbus, orders, "group", 1}, []any{l.Family, l.Topic, l.Group, l.Redrives})
			require.Equal(t, value.Value, l.Record.Value)
			require.Equal(t, "0", headers(l.Record)["retryCount"], "ours now")
		}
	}, kfake.SeedTopics(2, dlq), kfake.SeedTopics(1, shared))
}
