package eventbus_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/recorded"
)

// fixtures are the dead letters that scripts/record-letters has recorded from the programs that wrote them.
func fixtures(t *testing.T) map[string]recorded.Fixture {
	t.Helper()
	found, err := recorded.Load("testdata/letters")
	require.NoError(t, err)
	return found
}

const (
	noStock   = "no stock of 4711: ausverkauft, 売り切れ 🛒  [31m" // the escape is masked
	undecoded = "org.springframework.kafka.support.serializer.DeserializationException"
	dataError = "org.apache.kafka.connect.errors.DataException"
)

// told is what a recorded dead letter says beside its origin.
type told struct {
	attempts                     int
	exception, text, fingerprint string
}

// recordedLetters is what was read off the fixtures by eye.
func recordedLetters() map[string]told {
	const (
		state, argument = "java.lang.IllegalStateException", "java.lang.IllegalArgumentException"
		batch           = "org.springframework.kafka.listener.BatchListenerFailedException"
		serialization   = "org.apache.kafka.common.errors.SerializationException"
		unconverted     = "Converting byte[] to Kafka Connect data failed due to serialization error: "
	)
	return map[string]told{
		"spring-exception":         {0, state, "Listener failed; " + noStock, "f5d05029acad6a5f"},
		"spring-null-key":          {0, state, "Listener failed; " + noStock, "3079d73f625beb72"},
		"spring-tombstone":         {0, state, "Listener failed; " + noStock, "2f31dd88fb02e8b0"},
		"spring-no-message":        {0, "java.lang.NullPointerException", "Listener failed; ", "962c25df51cb486c"},
		"spring-attempts":          {3, state, "Listener failed; " + noStock, "6620832a3e44434d"},
		"spring-batch":             {0, batch, "Listener failed; the first of the batch @-0", "fe3a1d96cfd8de78"},
		"spring-value":             {0, undecoded, "failed to deserialize", "c74035149410b8e2"},
		"spring-key":               {0, undecoded, "failed to deserialize", "882d7bcdee3f4b10"},
		"spring-key-and-value":     {0, undecoded, "failed to deserialize", "c019d2d87313a206"},
		"spring-again":             {0, argument, "Listener failed; nobody cares for 4711", "8dbe4f0c1ac96d54"},
		"spring-again-kept":        {0, argument, "Listener failed; nobody cares for 4711", "18c0c73d47dc188a"},
		"spring-retry-topic":       {3, state, "Listener failed; " + noStock, "af70143eecb17002"},
		"spring-retry-topic-again": {3, argument, "Listener failed; nobody cares for 4711", "68090bd4a566f21f"},
		"connect-value":            {0, dataError, unconverted, "d77532cc9e1b3625"},
		"connect-key":              {0, dataError, unconverted, "83b637f202e7dba8"},
		"connect-transform":        {0, dataError, "Value (4711 pieces) was out of range for requested data type", "5b4e93b3a28eca92"},
		"connect-put":              {0, dataError, "no stock of 4711", "f8b1d3285b521da9"},
		"connect-again":            {0, dataError, unconverted, "d77532cc9e1b3625"},
		"streams-processing":       {0, state, noStock, "2659589b05f8553f"},
		"streams-value":            {0, serialization, "Size of data received by IntegerDeserializer is not 4", "781e5d0fcf76ebdb"},
		"streams-again":            {0, serialization, "Size of data received by IntegerDeserializer is not 4", "781e5d0fcf76ebdb"},
		"share-rejected":           {1, "", "Offset rejected by client.", "7e1b09e7b4a21434"},
		"share-released":           {3, "", "Offset delivery count exceeded the threshold.", "798afa3e7cd9e485"},
		"share-bare":               {1, "", "Offset rejected by client.", "3d05c21112f3682b"},
	}
}

func TestParseDeadLettersThatWereRecorded(t *testing.T) {
	found, wanted := fixtures(t), recordedLetters()
	require.ElementsMatch(t, slices.Collect(maps.Keys(wanted)), slices.Collect(maps.Keys(found)))
	for name, f := range found {
		t.Run(name, func(t *testing.T) {
			d, err := eventbus.ParseDeadLetter(f.Letter)
			require.NoError(t, err)
			require.Equal(t, wanted[name], told{d.Attempts, d.Exception, d.Error, d.Fingerprint})
			want := eventbus.DeadLetter{
				Topic: f.Original.Topic, Partition: 2, Offset: 7,
				Attempts: d.Attempts, Exception: d.Exception, Error: d.Error, Stack: d.Stack, Fingerprint: d.Fingerprint,
			}
			first, original, written := d.Exception+": "+d.Error, time.UnixMilli(1767780000123).UTC(), f.Letter.Timestamp.UTC()
			switch family, _, _ := strings.Cut(name, "-"); family {
			case "spring":
				want.Family, want.Group, want.Timestamp, want.FailedAt = eventbus.FamilySpring, f.Original.Topic+".group", original, written
				if d.Exception != undecoded {
					first = "org.springframework.kafka.listener.ListenerExecutionFailedException: Listener failed"
				}
			case "share":
				want.Family, want.Group, want.FailedAt, first = eventbus.FamilyKafka, f.Original.Topic+".group", written, ""
			default:
				want.Family, want.Timestamp = eventbus.Family(family), original
			}
			line, _, _ := strings.Cut(d.Stack, "\n")
			require.Equal(t, first, line)
			require.Equal(t, want, d)
		})
	}
}

// What the other programs keep of a record, so that a redrive can bring it back.
func TestRecordedDeadLettersKeepTheirRecord(t *testing.T) {
	for name, f := range fixtures(t) {
		if name == "share-bare" {
			require.Nil(t, f.Letter.Key)
			require.Nil(t, f.Letter.Value)
			continue
		}
		require.Equal(t, f.Original.Key, f.Letter.Key, name)
		require.Equal(t, f.Original.Value, f.Letter.Value, name)
		require.Len(t, f.Original.Headers, 5, name)
		if strings.HasPrefix(name, "share-") { // Kafka 4.4 leaves the original's headers out
			for _, h := range f.Letter.Headers {
				require.True(t, strings.HasPrefix(h.Key, "__dlq.errors."), h.Key)
			}
			continue
		}
		require.Equal(t, f.Original.Headers, f.Letter.Headers[:5], name)
	}
	deep, err := eventbus.ParseDeadLetter(fixtures(t)["spring-exception"].Letter)
	require.NoError(t, err)
	require.Len(t, deep.Stack, 8<<10, "cut")
}

// Every one that has its record goes back to its group as it is, with the headers of ours behind those that it has.
func TestRedriveOfDeadLettersThatWereRecorded(t *testing.T) {
	found := fixtures(t)
	var topics []string
	for name, f := range found {
		topics = append(topics, f.Letter.Topic, f.Original.Topic+".retry."+name+"-owner")
	}
	inWorld(t, func(w *world) {
		bus := w.bus(nil)
		for name, f := range found {
			letter := *f.Letter
			w.put(&letter)
			parsed, err := eventbus.ParseDeadLetter(f.Letter)
			require.NoError(t, err)
			origin := eventbus.NewTopic[json.RawMessage](f.Original.Topic, nil)
			d, err := bus.DeadLettersIn(f.Letter.Topic, origin, name+"-owner")
			require.NoError(t, err)
			mine := eventbus.LetterFilter{Partitions: []int32{f.Letter.Partition}}
			if parsed.Group != "" {
				report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Filter: mine})
				require.NoError(t, err)
				require.Equal(t, []int{1, 0}, []int{report.Matched, report.Sent}, "%s: another group's", name)
			}
			report := w.redrive(d, eventbus.RedriveOptions{Filter: mine, AnyOrigin: true, Name: "all"})
			if name == "share-bare" {
				require.Equal(t, []int{1, 0, 1}, []int{report.Matched, report.Sent, report.Skipped})
				require.Contains(t, report.Left[0].Why, "errors.deadletterqueue.copy.record.enable")
				continue
			}
			require.Equal(t, 1, report.Sent, name)
			w.requireBack(name, f, w.readFrom(f.Original.Topic+".retry."+name+"-owner", 2))
		}
	}, kfake.SeedTopics(3, topics...))
}

func (w *world) requireBack(name string, f recorded.Fixture, back *kgo.Record) {
	w.Helper()
	require.Equal(w, f.Letter.Key, back.Key, name)
	require.Equal(w, f.Letter.Value, back.Value, name)
	n := len(f.Letter.Headers)
	require.Equal(w, f.Letter.Headers, back.Headers[:n], "%s: byte for byte", name)
	at := f.Original.Timestamp
	if strings.HasPrefix(name, "share-") {
		at = f.Letter.Timestamp // it does not tell the original's
	}
	require.Equal(w, []kgo.RecordHeader{
		header("eb-orig-topic", f.Original.Topic), header("eb-orig-partition", "2"), header("eb-orig-offset", "7"),
		header("eb-orig-timestamp", at.UTC().Format("2006-01-02T15:04:05.000Z")), header("eb-group", name+"-owner"), header("eb-redrives", "1"),
	}, back.Headers[n:], name)
	require.Equal(w, int32(2), back.Partition, name)
}

// readFrom returns the only record of a partition.
func (w *world) readFrom(topic string, partition int32) *kgo.Record {
	w.Helper()
	cl := w.raw(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	records := cl.PollFetches(context.Background()).Records()
	require.Len(w, records, 1, topic)
	return records[0]
}

// A Spring service is replaced by one of ours: what Spring gave up is handled under the origin's name, and what fails again is ours.
func TestAServiceTakesOverSpringsDeadLetters(t *testing.T) {
	f := fixtures(t)["spring-retry-topic-again"]
	inWorld(t, func(w *world) {
		bus := w.bus(noHold)
		w.orders = eventbus.NewTopic(f.Original.Topic, &eventbus.TopicOptions[order]{})
		letter := *f.Letter
		w.put(&letter)
		var seen journal
		w.run(bus, func(ctx context.Context, _ *eventbus.BaseEvent[order]) error {
			d, _ := eventbus.DeliveryFrom(ctx)
			seen.add("%s/%d/%d redrives %d", d.Topic, d.Partition, d.Offset, d.Redrives)
			return eventbus.Permanent(errors.New("not ours either"))
		}, nil, func(s *eventbus.Subscription) { s.Group = f.Original.Topic + ".group" })
		d, err := bus.DeadLettersIn(f.Letter.Topic, w.orders, f.Original.Topic+".group")
		require.NoError(t, err)
		require.Equal(t, 1, w.redrive(d, eventbus.RedriveOptions{}).Sent)
		ours := f.Original.Topic + ".dlq." + f.Original.Topic + ".group"
		w.until("dead-lettered", func() bool { return w.held3(ours) == 1 })
		r := w.readFrom(ours, 2)
		require.Equal(t, f.Letter.Headers, r.Headers[:len(f.Letter.Headers)])
		again, err := eventbus.ParseDeadLetter(r)
		require.NoError(t, err)
		require.Equal(t, []any{eventbus.FamilyEventbus, f.Original.Topic, "2", int64(7), 1},
			[]any{again.Family, again.Topic, strconv.Itoa(int(again.Partition)), again.Offset, again.Redrives})
	}, kfake.SeedTopics(3, f.Original.Topic, f.Letter.Topic, f.Original.Topic+".retry."+f.Original.Topic+".group",
		f.Original.Topic+".dlq."+f.Original.Topic+".group"))
}

// held3 is how many records a topic of three partitions has.
func (w *world) held3(topic string) (n int64) {
	for p := range int32(3) {
		n += w.cluster.PartitionInfo(topic, p).HighWatermark
	}
	return n
}
