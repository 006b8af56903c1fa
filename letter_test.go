package eventbus_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/recorded"
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
			header("retry_topic-attempts", bigEndian(int32(5))), // the next try
		},
		eventbus.FamilyConnect: text("__connect.errors.", header("__connect.errors.connector.name", "sink"), header("__connect.errors.task.id", "0"),
			header("__connect.errors.stage", "VALUE_CONVERTER"), header("__connect.errors.exception.class.name", "org.apache.kafka.connect.errors.DataException"),
			header("__connect.errors.exception.message", "no stock of 4711"), header("__connect.errors.exception.stacktrace", "at a.b.C")),
		eventbus.FamilyStreams: text("__streams.errors.", header("__streams.errors.exception", "java.lang.IllegalStateException"),
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

	again = append(dlt[:len(dlt):len(dlt)], // a retry topic read the dead letter, and has the other form of the names
		header("kafka_original-topic", "shop.orders-dlt"), header("kafka_exception-cause-fqcn", "a.C"), header("kafka_exception-message", "still no stock"))
	d, err = eventbus.ParseDeadLetter(&kgo.Record{Headers: again})
	require.NoError(t, err)
	require.Equal(t, []any{"shop.orders", "a.C", "still no stock"}, []any{d.Topic, d.Exception, d.Error}, "the first, the last, whatever their form")

	d, err = eventbus.ParseDeadLetter(&kgo.Record{Headers: []kgo.RecordHeader{
		header("kafka_dlt-original-topic", "t"), header("kafka_dlt-key-exception-fqcn", "a.K"), header("kafka_dlt-key-exception-message", "bad key"),
		header("retry_topic-attempts", "\x03"), // older versions: one byte
	}})
	require.NoError(t, err)
	require.Equal(t, []any{"a.K", "bad key", 2, int32(0), int64(0)}, []any{d.Exception, d.Error, d.Attempts, d.Partition, d.Offset})
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
		of = slices.DeleteFunc(slices.Clone(of), func(h kgo.RecordHeader) bool { return h.Key == c.bad.Key })
		_, err := eventbus.ParseDeadLetter(&kgo.Record{Headers: append(of, c.bad)})
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

// pack makes one text of headers, for a fuzzer to change; unpack reads any text.
func pack(headers ...kgo.RecordHeader) (data []byte) {
	for _, h := range headers {
		data = append(append(append(append(data, byte(len(h.Key))), h.Key...), byte(len(h.Value))), h.Value...)
	}
	return data
}

func unpack(data []byte) (headers []kgo.RecordHeader) {
	take := func() string {
		if len(data) == 0 {
			return ""
		}
		n := min(int(data[0]), len(data)-1)
		text := string(data[1 : 1+n])
		data = data[1+n:]
		return text
	}
	for len(data) > 0 {
		headers = append(headers, header(take(), take()))
	}
	return headers
}

// hostileHeaders are those that somebody may write who wants to be taken for us, or wants us to fall.
func hostileHeaders() [][]kgo.RecordHeader {
	ours := deadLetter(&kgo.Record{Topic: orders, Timestamp: time.UnixMilli(1)}, errors.New("no")).Headers
	return [][]kgo.RecordHeader{
		nil, ours,
		append(ours[:len(ours):len(ours)], header("eb-orig-until", "1")), append(ours[:len(ours):len(ours)], header("eb-orig-until", "0")),
		{header("eb-redrives", "-1"), header("eb-redrives", "2147483648"), header("retryCount", "99")},
		{header("eb-redrives", "2147483647"), header("eb-orig-topic", "other"), header("eb-orig-partition", "7"), header("eb-orig-offset", "8")},
		{header("eb-orig-partition", "0"), header("eb-orig-offset", "9223372036854775807"), header("eb-orig-timestamp", "9999-12-31T23:59:59Z")},
		{header("eb-orig-offset", "9223372036854775808"), header("eb-orig-timestamp", "0000-01-01T00:00:00+23:59")},
		{header("causationId", "\x1b[2J\r\n\x00\u202e"), header("causationId", ""), header("", ""), header("eb-", "")},
		{header("kafka_dlt-original-topic", "\xff"), header("kafka_dlt-original-offset", "\xff\xff\xff\xff\xff\xff\xff\xff")},
		{header("__connect.errors.topic", "t"), header("__streams.errors.topic", "t"), header("__dlq.errors.topic", "t")},
	}
}

// FuzzRecordHeaders has the headers of a record decide nothing that is the bus's: where an event is from, how often it was tried, and where it
// goes when it fails.
func FuzzRecordHeaders(f *testing.F) {
	for _, headers := range hostileHeaders() {
		f.Add(pack(headers...), false)
		f.Add(pack(headers...), true)
	}
	topic := eventbus.NewTopic[order](orders, nil)
	f.Fuzz(func(t *testing.T, data []byte, retry bool) {
		r := &kgo.Record{Topic: orders, Partition: 3, Offset: 4, Timestamp: time.UnixMilli(5), Key: []byte("k"), Value: []byte("v"), Headers: unpack(data)}
		foreign := append([]kgo.RecordHeader{}, slices.DeleteFunc(unpack(data), reserved)...)
		d, letter := eventbus.DeliveryForTest(topic, retry, r)
		require.Equal(t, []any{orders, "group", 1, "k"}, []any{d.Topic, d.Group, d.Attempt, string(d.Key)})
		require.Len(t, d.Headers, len(r.Headers), "seen as they are")
		if !retry {
			require.Equal(t, []any{int32(3), int64(4), time.UnixMilli(5)}, []any{d.Partition, d.Offset, d.Timestamp}, "the record's own place")
		}
		require.False(t, d.Partition < 0 || d.Offset < 0 || d.Redrives < 0 || d.Redrives > math.MaxInt32)
		requireLetter(t, letter, r, foreign, d)
	})
}

func reserved(h kgo.RecordHeader) bool {
	return strings.HasPrefix(h.Key, "eb-") || h.Key == "retryCount"
}

// requireLetter holds the dead letter of a record against what it has to be, and what a redrive makes of it.
func requireLetter(t *testing.T, letter, r *kgo.Record, foreign []kgo.RecordHeader, d eventbus.Delivery) {
	require.Equal(t, []any{orders + ".dlq.group", r.Partition, r.Key, r.Value}, []any{letter.Topic, letter.Partition, letter.Key, letter.Value})
	require.Equal(t, foreign, slices.Clone(letter.Headers[:len(foreign)]), "others are kept")
	ours, size := letter.Headers[len(foreign):], 0
	require.LessOrEqual(t, len(ours), 16)
	for i, h := range ours {
		size += len(h.Key) + len(h.Value)
		require.False(t, slices.ContainsFunc(ours[:i], func(other kgo.RecordHeader) bool { return other.Key == h.Key }), "each once")
	}
	require.Less(t, size, 4<<10)
	dead, err := eventbus.ParseDeadLetter(letter)
	require.NoError(t, err)
	require.Equal(t, []any{eventbus.FamilyEventbus, orders, "group", d.Partition, d.Offset, d.Redrives, 4, int64(0)},
		[]any{dead.Family, dead.Topic, dead.Group, dead.Partition, dead.Offset, dead.Redrives, dead.Attempts, dead.Until})
	back := eventbus.SendBackForTest(letter, orders+".retry.group", "group")
	require.Equal(t, foreign, slices.Clone(back.Headers[:len(foreign)]))
	again, _ := eventbus.DeliveryForTest(eventbus.NewTopic[order](orders, nil), true, back)
	require.Equal(t, []any{d.Partition, d.Offset, min(d.Redrives+1, math.MaxInt32)}, []any{again.Partition, again.Offset, again.Redrives})
}

// FuzzParseDeadLetter has no header crash the reading of dead letters, and what is read be safe to print and to count with.
func FuzzParseDeadLetter(f *testing.F) {
	for _, headers := range foreigners() {
		f.Add(pack(headers...))
	}
	for _, headers := range hostileHeaders() {
		f.Add(pack(headers...))
	}
	fixtures, err := recorded.Load("testdata/letters")
	require.NoError(f, err)
	for _, fixture := range fixtures {
		f.Add(pack(fixture.Letter.Headers...))
	}
	f.Add(pack(header("retryCount", "3")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &kgo.Record{Topic: orders + ".dlq", Timestamp: time.UnixMilli(1), Headers: unpack(data)}
		d, err := eventbus.ParseDeadLetter(r)
		if err != nil {
			require.Zero(t, d)
			require.Regexp(t, `^[ -~\n]+$`, err.Error())
			return
		}
		same, err := eventbus.ParseDeadLetter(r)
		require.NoError(t, err)
		require.Equal(t, d, same)
		require.True(t, d.Until == 0 || d.Until > d.Offset)
		require.NotEmpty(t, d.Family)
		require.NotEmpty(t, d.Topic)
		require.NotEmpty(t, d.Fingerprint)
		require.False(t, d.Partition < 0 || d.Offset < 0 || d.Attempts < 0 || d.Redrives < 0)
		for _, text := range []string{d.Topic, d.Group, d.Exception, d.Error, d.Stack, d.Fingerprint, string(d.Class)} {
			require.True(t, utf8.ValidString(text))
			require.False(t, strings.ContainsAny(text, "\x1b\r\x00\x7f\u0085\u200b\u2028\u202e\ufeff"))
			require.LessOrEqual(t, len(text), 8<<10)
		}
	})
}
