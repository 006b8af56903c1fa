package eventbus_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

func header(key, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: []byte(value)}
}

func bigEndian[N int32 | int64](n N) string {
	var b []byte
	switch n := any(n).(type) {
	case int32:
		b = binary.BigEndian.AppendUint32(nil, uint32(n))
	case int64:
		b = binary.BigEndian.AppendUint64(nil, uint64(n))
	}
	return string(b)
}

// foreigners are dead letters of the other families, of offset 7 of partition 2 of shop.orders.
func foreigners() map[eventbus.Family][]kgo.RecordHeader {
	text := func(prefix string, more ...kgo.RecordHeader) []kgo.RecordHeader {
		return append([]kgo.RecordHeader{header(prefix+"topic", "shop.orders"), header(prefix+"partition", "2"), header(prefix+"offset", "7")}, more...)
	}
	return map[eventbus.Family][]kgo.RecordHeader{
		eventbus.FamilySpring: {
			header("kafka_dlt-original-topic", "shop.orders"), header("kafka_dlt-original-partition", bigEndian(int32(2))),
			header("kafka_dlt-original-offset", bigEndian(int64(7))), header("kafka_dlt-original-timestamp", bigEndian(int64(1767780000123))),
			header("kafka_dlt-original-timestamp-type", "CreateTime"), header("kafka_dlt-original-consumer-group", "billing"),
			header("kafka_dlt-exception-fqcn", "org.springframework.kafka.listener.ListenerExecutionFailedException"),
			header("kafka_dlt-exception-cause-fqcn", "java.lang.IllegalStateException"),
			header("kafka_dlt-exception-message", "no stock of 4711"), header("kafka_dlt-exception-stacktrace", "at a.b.C\n\tat d"),
			header("retry_topic-attempts", bigEndian(int32(4))),
		},
		eventbus.FamilyConnect: text("__connect.errors.", header("__connect.errors.connector.name", "sink"), header("__connect.errors.task.id", "0"),
			header("__connect.errors.stage", "VALUE_CONVERTER"), header("__connect.errors.exception.class.name", "org.apache.kafka.connect.errors.DataException"),
			header("__connect.errors.exception.message", "no stock of 4711"), header("__connect.errors.exception.stacktrace", "at a.b.C")),
		eventbus.FamilyStreams: text("__streams.errors.", header("__streams.errors.exception", "java.lang.IllegalStateException: no stock of 4711"),
			header("__streams.errors.message", "no stock of 4711"), header("__streams.errors.stacktrace", "at a.b.C")),
		eventbus.FamilyKafka: text("__dlq.errors.", header("__dlq.errors.group", "share"), header("__dlq.errors.delivery.count", "5"),
			header("__dlq.errors.message", "no stock of 4711")),
	}
}

func TestParseDeadLetterOfOtherFamilies(t *testing.T) {
	at := time.UnixMilli(1767790000000).UTC()
	wanted := map[eventbus.Family]eventbus.DeadLetter{
		eventbus.FamilySpring: {
			Timestamp: time.UnixMilli(1767780000123).UTC(), Group: "billing", Attempts: 4, FailedAt: at,
			Exception: "java.lang.IllegalStateException", Stack: "at a.b.C\n\tat d",
		},
		eventbus.FamilyConnect: {Timestamp: at, Exception: "org.apache.kafka.connect.errors.DataException", Stack: "at a.b.C"},
		eventbus.FamilyStreams: {Timestamp: at, Exception: "java.lang.IllegalStateException", Stack: "at a.b.C"},
		eventbus.FamilyKafka:   {Group: "share", Attempts: 5, FailedAt: at},
	}
	for family, headers := range foreigners() {
		want := wanted[family]
		want.Family, want.Topic, want.Partition, want.Offset, want.Error = family, "shop.orders", 2, 7, "no stock of 4711"
		got, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: headers, Timestamp: at})
		require.NoError(t, err, family)
		require.Len(t, got.Fingerprint, 16)
		same, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: headers, Timestamp: at.Add(time.Hour)})
		require.NoError(t, err)
		require.Equal(t, got.Fingerprint, same.Fingerprint)
		got.Fingerprint = ""
		require.Equal(t, want, got, family)
	}
}

func TestParseDeadLetterOfSpring(t *testing.T) {
	dlt := foreigners()[eventbus.FamilySpring]
	var plain []kgo.RecordHeader
	for _, h := range dlt {
		plain = append(plain, header(strings.Replace(h.Key, "kafka_dlt-", "kafka_", 1), string(h.Value)))
	}
	d, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: plain})
	require.NoError(t, err)
	require.Equal(t, []any{"shop.orders", int32(2), int64(7), "billing", "java.lang.IllegalStateException"}, []any{d.Topic, d.Partition, d.Offset, d.Group, d.Exception})

	again := append(dlt[:len(dlt):len(dlt)], // failed once more, in a retry topic
		header("kafka_dlt-original-topic", "shop.orders-retry"), header("kafka_dlt-original-partition", bigEndian(int32(0))),
		header("kafka_dlt-original-offset", bigEndian(int64(1))), header("kafka_dlt-original-timestamp", bigEndian(int64(0))),
		header("kafka_dlt-exception-fqcn", "a.B"), header("kafka_dlt-exception-cause-fqcn", "a.C"), header("kafka_dlt-exception-message", "still no stock"),
	)
	d, err = eventbus.ParseDeadLetter(&kgo.Record{Headers: again})
	require.NoError(t, err)
	require.Equal(t, []any{"shop.orders", int32(2), int64(7), int64(1767780000123)}, []any{d.Topic, d.Partition, d.Offset, d.Timestamp.UnixMilli()}, "the first")
	require.Equal(t, []any{"a.C", "still no stock"}, []any{d.Exception, d.Error}, "the last")

	d, err = eventbus.ParseDeadLetter(&kgo.Record{Headers: []kgo.RecordHeader{
		header("kafka_dlt-original-topic", "t"), header("kafka_dlt-key-exception-fqcn", "a.K"), header("kafka_dlt-key-exception-message", "bad key"),
		header("retry_topic-attempts", "\x03"), // older versions: one byte
	}})
	require.NoError(t, err)
	require.Equal(t, []any{"a.K", "bad key", 3, int32(0), int64(0)}, []any{d.Exception, d.Error, d.Attempts, d.Partition, d.Offset})
}

func TestParseDeadLetterNamesTheHeader(t *testing.T) {
	ours := deadLetter(&kgo.Record{Topic: orders}, errors.New("no")).Headers
	for name, c := range map[string]struct {
		of  []kgo.RecordHeader
		bad kgo.RecordHeader
	}{
		"eb-orig-partition negative": {ours, header("eb-orig-partition", "-1")},
		"eb-orig-partition too big":  {ours, header("eb-orig-partition", "2147483648")},
		"eb-orig-offset":             {ours, header("eb-orig-offset", "x")},
		"eb-attempts":                {ours, header("eb-attempts", "")},
		"eb-redrives":                {ours, header("eb-redrives", "1e3")},
		"eb-failed-at":               {ours, header("eb-failed-at", "yesterday")},
		"eb-orig-topic":              {ours, header("eb-orig-topic", "")},
		"kafka_dlt-original-partition": {
			foreigners()[eventbus.FamilyConnect], header("kafka_dlt-original-partition", "2"),
		},
		"kafka_original-offset":          {nil, header("kafka_original-offset", "7")},
		"kafka_dlt-original-timestamp":   {nil, header("kafka_dlt-original-timestamp", "\x00")},
		"kafka_dlt-original-topic":       {nil, header("kafka_dlt-exception-message", "no")},
		"retry_topic-attempts":           {nil, header("retry_topic-attempts", "\x00\x00")},
		"kafka_deliveryAttempt":          {nil, header("kafka_deliveryAttempt", bigEndian(int32(-1)))},
		"__connect.errors.offset":        {foreigners()[eventbus.FamilyConnect], header("__connect.errors.offset", bigEndian(int64(7)))},
		"__streams.errors.partition":     {foreigners()[eventbus.FamilyStreams], header("__streams.errors.partition", "two")},
		"__streams.errors.topic":         {foreigners()[eventbus.FamilyStreams], header("__streams.errors.topic", "")},
		"__dlq.errors.delivery.count":    {foreigners()[eventbus.FamilyKafka], header("__dlq.errors.delivery.count", "many")},
		"__dlq.errors.offset overflow":   {foreigners()[eventbus.FamilyKafka], header("__dlq.errors.offset", "9223372036854775808")},
		"kafka_dlt-original-partition -": {nil, header("kafka_dlt-original-partition", bigEndian(int32(-2)))},
	} {
		of := c.of
		if of == nil {
			of = []kgo.RecordHeader{header("kafka_original-topic", "t")}
			if strings.HasPrefix(name, "kafka_dlt-original-topic") {
				of = nil
			}
		}
		_, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: append(of[:len(of):len(of)], c.bad)})
		want, _, _ := strings.Cut(name, " ")
		require.ErrorContains(t, err, want, name)
		require.NotContains(t, err.Error(), "yesterday", "no values")
	}
	_, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: []kgo.RecordHeader{header("causationId", "x")}})
	require.ErrorContains(t, err, "none of the headers eb-orig-topic, kafka_dlt-*, __connect.errors.*")
}

func TestOursWinsOverOtherFamilies(t *testing.T) {
	for family, headers := range foreigners() {
		theirs := &kgo.Record{Topic: "shop.orders-dlt", Partition: 1, Offset: 3, Headers: headers}
		r := deadLetter(theirs, errors.New("not ours either"))
		require.Equal(t, headers, r.Headers[:len(headers)], "kept, byte for byte")
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(t, err, family)
		require.Equal(t, []any{eventbus.FamilyEventbus, "shop.orders-dlt", int64(3)}, []any{d.Family, d.Topic, d.Offset})
	}
	both := append(foreigners()[eventbus.FamilyConnect], foreigners()[eventbus.FamilySpring]...)
	d, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: both})
	require.NoError(t, err)
	require.Equal(t, eventbus.FamilySpring, d.Family, "the last that wrote")
}

// The headers of ours stay within a budget, whatever the error is and however often the letter goes round.
func TestHeadersDoNotPileUp(t *testing.T) {
	inWorld(t, func(w *world) {
		d := w.letters(w.bus(nil))
		require.NoError(t, w.bus(nil).EnsureTopics(context.Background(), eventbus.Subscription{
			Group: "group", Routes: []eventbus.Route{w.orders.Handle(ignore, nil)}}.Topics()...))
		hostile := errors.New("\x1b[2J\xff\u202e\r\x00" + strings.Repeat("ä", 10_000))
		original := &kgo.Record{Topic: orders, Offset: 5, Headers: []kgo.RecordHeader{header("traceparent", "x"), header("odd", "\xff\x00")}}
		letter := deadLetter(original, hostile)
		first := len(letter.Headers)
		for round := range 3 {
			w.put(letter)
			report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
			require.NoError(t, err)
			require.Equal(t, 1, report.Sent)
			back := w.read(retryTopic, round+1)[round]
			require.Equal(t, original.Headers, back.Headers[:2], "the original's, byte for byte")
			back.Topic, back.Offset = orders, 5 // its group takes it for the original
			letter = deadLetter(back, hostile)
			require.Len(t, letter.Headers, first)
			dead, err := eventbus.ParseDeadLetter(letter)
			require.NoError(t, err)
			require.Equal(t, round+1, dead.Redrives)
			require.Equal(t, int64(5), dead.Offset)
			text := headers(letter)["eb-error"]
			require.LessOrEqual(t, len(text), 1<<10)
			require.True(t, utf8.ValidString(text))
			require.NotContains(t, text, "\x1b")
			require.NotContains(t, text, "\u202e")
			require.NotContains(t, text, "\r")
		}
		report, err := d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.NoError(t, err)
		require.Zero(t, report.Matched)
		w.put(letter) // three times is enough
		report, err = d.Redrive(context.Background(), eventbus.RedriveOptions{Send: true})
		require.NoError(t, err)
		require.Equal(t, []int{1, 0, 1}, []int{report.Matched, report.Sent, report.Quarantined})
		report, err = d.Redrive(context.Background(), eventbus.RedriveOptions{
			Send: true, MaxRedrives: 4, Filter: eventbus.LetterFilter{MinRedrives: 3},
		})
		require.NoError(t, err)
		require.Equal(t, 1, report.Sent)
	})
}

func FuzzParseDeadLetter(f *testing.F) {
	pack := func(headers []kgo.RecordHeader) (data []byte) {
		for _, h := range headers {
			data = append(append(append(append(data, byte(len(h.Key))), h.Key...), byte(len(h.Value))), h.Value...)
		}
		return data
	}
	for _, headers := range foreigners() {
		f.Add(pack(headers))
	}
	f.Add(pack(deadLetter(&kgo.Record{Topic: orders, Timestamp: time.UnixMilli(1)}, errors.New("no")).Headers))
	f.Add(pack([]kgo.RecordHeader{header("retryCount", "3")}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &kgo.Record{Topic: orders + ".dlq", Timestamp: time.UnixMilli(1)}
		take := func() string {
			n := min(int(data[0]), len(data)-1)
			text := string(data[1 : 1+n])
			data = data[1+n:]
			return text
		}
		for len(data) > 0 {
			key, value := take(), ""
			if len(data) > 0 {
				value = take()
			}
			r.Headers = append(r.Headers, header(key, value))
		}
		d, err := eventbus.ParseDeadLetter(r)
		if err != nil {
			require.Zero(t, d)
			return
		}
		require.NotEmpty(t, d.Family)
		require.NotEmpty(t, d.Topic)
		require.NotEmpty(t, d.Fingerprint)
		require.False(t, d.Partition < 0 || d.Offset < 0 || d.Attempts < 0 || d.Redrives < 0)
		for _, text := range []string{d.Topic, d.Group, d.Exception, d.Error, d.Stack, d.Fingerprint, string(d.Class)} {
			require.True(t, utf8.ValidString(text))
			require.False(t, strings.ContainsAny(text, "\x1b\r\x00\x7f"))
			require.LessOrEqual(t, len(text), 8<<10)
		}
	})
}
