package conformance

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

const canaryHeader = "canary-header"

// hostileValues are record values that somebody may write who means harm; each is no event.
func hostileValues() map[string]string {
	envelope := func(payload string) string {
		return `{"eventId":"123e4567-e89b-12d3-a456-426614174000","timestamp":"2026-01-07T10:00:00Z","payload":` + payload + `}`
	}
	in := func(member string) string {
		return envelope(`{"id":"` + canary + `","number":1,"amount":1,` + member + `}`)
	}
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	return map[string]string{
		"deep in the payload":   in(`"x":` + deep),
		"deep beside it":        strings.Replace(in(`"x":1`), `"payload"`, `"x":`+deep+`,"payload"`, 1),
		"deep objects":          in(`"x":` + strings.Repeat(`{"`+canary+`":`, 9000) + "1" + strings.Repeat("}", 9000)),
		"deep and open":         strings.Repeat(`{"`+canary+`":[`, 30_000),
		"a number bomb":         envelope(`{"id":"x","number":1,"amount":1e10000000}`),
		"a number of a million": envelope(`{"id":"x","number":1,"amount":` + strings.Repeat("9", 900_000) + `}`),
		"very many values":      in(`"x":[` + strings.Repeat("0,", 400_000) + `0]`),
		"very many members":     in(`"x":{` + members(80_000) + `}`),
		"a duplicate name":      in(`"id":"` + canary + `"`),
		"invalid UTF-8":         in(`"x":"` + canary + "\xff\xfe\"" + ``),
		"half a surrogate":      in(`"x":"\ud800` + canary + `"`),
		"trailing data":         in(`"x":1`) + ` {"` + canary + `":1}`,
		"two texts":             in(`"x":1`) + "\x00",
		"not JSON":              canary + "\x1b[2J\r\n\x00\xff",
		"nothing":               "",
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	return b.String() + `"last":0`
}

// heard returns a bus that writes its log into what is returned with it.
func (f *fixture) heard() (*eventbus.Bus, *log) {
	heard := &log{}
	bus := f.bus(func(c *eventbus.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(heard, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Hooks = []eventbus.Hooks{{
			Published: func(i eventbus.PublishedInfo) { heard.add("%+v", i) },
			Handled:   func(i eventbus.HandledInfo) { heard.add("%+v", i) },
			Parked:    func(k eventbus.ParkedKey) { heard.add("%+v", k) },
		}}
	})
	return bus, heard
}

// Write takes a line of a bus's log.
func (l *log) Write(line []byte) (int, error) {
	l.add("%s", line)
	return len(line), nil
}

// requireSilence looks for what nobody may be shown in logs, hooks, health and metrics.
func requireSilence(t *testing.T, bus *eventbus.Bus, heard *log, secrets ...string) {
	for _, v := range []any{bus.Health(context.Background()), bus.Metrics()} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		heard.add("%s", text)
	}
	for _, line := range heard.all() {
		require.Less(t, len(line), 16<<10)
		for _, secret := range secrets {
			require.False(t, strings.Contains(line, secret), "%.1000s", line)
		}
	}
}

func hostileRecordsAreDeadLettered(t *testing.T, f *fixture) {
	f.ready()
	bus, heard := f.heard()
	var seen log
	f.start(bus, f.subscription(note(&seen)))
	values := hostileValues()
	headers := []kgo.RecordHeader{{Key: "traceparent", Value: []byte(canaryHeader)}, {Key: "eb-redrives", Value: []byte("-7")}, {Key: "", Value: nil}}
	var fine []string
	for name, value := range values {
		// All in one partition, by one key: what follows is behind it in the strictest sense.
		f.produce(&kgo.Record{
			Topic: f.placed.Name(), Key: []byte(canary), Value: []byte(value),
			Headers: append(headers[:len(headers):len(headers)], kgo.RecordHeader{Key: "name", Value: []byte(name)}),
		})
		f.produce(&kgo.Record{Topic: f.placed.Name(), Key: []byte(canary), Value: mustEncode(t, bus, f.order("fine", len(fine)))})
		fine = append(fine, fmt.Sprint("fine/", len(fine)))
	}
	f.eventually("all others are handled", func() bool { return seen.len() == len(values) })
	require.Equal(t, fine, seen.all())
	for _, r := range f.read(eventbus.DeadLetterTopic(f.placed.Name(), f.group), len(values)) {
		name := header(r, "name")
		require.Equal(t, values[name], string(r.Value), "%s: byte for byte", name)
		require.Equal(t, canary, string(r.Key))
		d, err := eventbus.ParseDeadLetter(r)
		require.NoError(t, err, name)
		require.Equal(t, eventbus.ClassDecode, d.Class, name)
		for _, h := range r.Headers {
			require.True(t, h.Key == "name" || h.Key == "traceparent" || !contains(string(h.Value), "CANARY"), "%s: header %s", name, h.Key)
		}
	}
	f.eventually("every offset is passed", func() bool { return f.committed() == int64(2*len(values)) })
	requireSilence(t, bus, heard, canary, canaryHeader, strings.Repeat("9", 10)) // a time of the log may have nine in a row
}

// aTombstoneIsDeadLettered also where the topic is compacted: its dead letters are not.
func aTombstoneIsDeadLettered(t *testing.T, f *fixture) {
	bus := f.bus(nil)
	compact := "compact"
	_, err := f.admin.CreateTopic(f.ctx, 1, 1, map[string]*string{"cleanup.policy": &compact}, f.placed.Name())
	require.NoError(t, err)
	require.NoError(t, bus.EnsureTopics(f.ctx, f.shipped))
	var seen log
	f.start(bus, f.subscription(note(&seen)))
	f.produce(&kgo.Record{Topic: f.placed.Name(), Key: []byte("o"), Value: nil})
	require.NoError(t, bus.Publish(f.ctx, f.order("o", 1)))
	f.eventually("the next one is handled", func() bool { return seen.len() == 1 })
	letters := eventbus.DeadLetterTopic(f.placed.Name(), f.group)
	r := f.read(letters, 1)[0]
	require.Nil(t, r.Value)
	require.Equal(t, "o", string(r.Key))
	d, err := eventbus.ParseDeadLetter(r)
	require.NoError(t, err)
	require.Equal(t, eventbus.ClassDecode, d.Class)
	configs, err := f.admin.DescribeTopicConfigs(f.ctx, letters)
	require.NoError(t, err)
	for _, c := range configs[0].Configs {
		require.True(t, c.Key != "cleanup.policy" || c.MaybeValue() == "delete", "a dead letter without a value must not delete others")
	}
}

// manyHeadersGoRound and largeKeysGoRound: handled, given up, sent back and handled.
func manyHeadersGoRound(t *testing.T, f *fixture) {
	headers := make([]kgo.RecordHeader, 10_000)
	for i := range headers {
		headers[i] = kgo.RecordHeader{Key: fmt.Sprint("h-", i%100), Value: fmt.Appendf(nil, canaryHeader+"-%d", i)}
	}
	f.goesRound(&kgo.Record{Key: []byte("o"), Headers: headers}, canaryHeader)
}

func largeKeysGoRound(t *testing.T, f *fixture) {
	f.goesRound(&kgo.Record{Key: []byte(strings.Repeat(canary, 1_047_000/len(canary)))}, canary)
}

// goesRound has an event with the key and headers of r fail for good, then sent back and handled.
func (f *fixture) goesRound(r *kgo.Record, secret string) {
	t := f.t
	f.ready()
	bus, heard := f.heard()
	var seen log
	f.start(bus, f.subscription(func(ctx context.Context, e *eventbus.BaseEvent[order]) error {
		d, _ := eventbus.DeliveryFrom(ctx)
		seen.add("%s/%d redrives %d, %d bytes of key", e.Payload.ID, e.Payload.Number, d.Redrives, len(d.Key))
		for i, h := range r.Headers {
			if i >= len(d.Headers) || d.Headers[i].Key != h.Key || !bytes.Equal(d.Headers[i].Value, h.Value) {
				return eventbus.Permanent(fmt.Errorf("header %d is missing", i))
			}
		}
		if d.Redrives == 0 {
			return eventbus.Permanent(errors.New("not yet"))
		}
		return nil
	}))
	r.Topic, r.Value = f.placed.Name(), mustEncode(t, bus, f.order("hostile", 1))
	f.produce(r)
	f.eventually("given up", func() bool { return bus.Metrics().DeadLettered == 1 })
	letter := f.read(eventbus.DeadLetterTopic(f.placed.Name(), f.group), 1)[0]
	require.True(t, bytes.Equal(r.Key, letter.Key) && bytes.Equal(r.Value, letter.Value), "byte for byte")
	for i, h := range r.Headers {
		require.Equal(t, h, letter.Headers[i])
	}
	d, err := eventbus.ParseDeadLetter(letter)
	require.NoError(t, err)
	require.Equal(t, "not yet", d.Error)

	letters, err := bus.DeadLetters(f.placed, f.group)
	require.NoError(t, err)
	report, err := letters.Redrive(f.ctx, eventbus.RedriveOptions{Send: true})
	require.NoError(t, err)
	require.Equal(t, 1, report.Sent)
	f.eventually("handled", func() bool { return bus.Metrics().MessagesConsumed == 1 })
	size := len(r.Key)
	require.Equal(t, []string{
		fmt.Sprintf("hostile/1 redrives 0, %d bytes of key", size), fmt.Sprintf("hostile/1 redrives 1, %d bytes of key", size),
	}, seen.all())
	requireSilence(t, bus, heard, secret)
}

func aKeyTooLargeIsNamed(t *testing.T, f *fixture) {
	bus := f.ready()
	large := f.order(strings.Repeat(canary, 2<<20/len(canary)), 1)
	err := bus.Publish(f.ctx, large)
	require.ErrorIs(t, err, eventbus.ErrNotSent)
	require.ErrorIs(t, err, kerr.MessageTooLarge)
	require.ErrorContains(t, err, f.placed.Name())
	require.NotContains(t, err.Error(), canary)
	require.NoError(t, bus.Publish(f.ctx, f.order("fine", 1)), "its neighbours are unharmed")
}

// bomb compresses to a few kilobytes. It stands in for the records that a producer was given.
type bomb struct {
	codec   kgo.CompressionCodecType
	content []byte
}

func (b bomb) Compress(*bytes.Buffer, []byte, ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	return b.content, b.codec
}

// zeros are records of the batch format (KIP-98) with values of zeros of these sizes.
func zeros(t *testing.T, sizes ...int) bomb {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed) // the race detector has it take long as it is
	require.NoError(t, err)
	for i, size := range sizes {
		head := binary.AppendVarint([]byte{0, 0}, int64(i)) // attributes, time, offset
		head = binary.AppendVarint(binary.AppendVarint(head, -1), int64(size))
		length := binary.AppendVarint(nil, int64(len(head)+size+1))
		_, err = io.Copy(z, io.MultiReader(bytes.NewReader(length), bytes.NewReader(head), io.LimitReader(nothing{}, int64(size)),
			bytes.NewReader([]byte{0})))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return bomb{kgo.CodecGzip, out.Bytes()}
}

type nothing struct{}

func (nothing) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// plant writes a batch of n records, by what it says, into the first partition of a topic. The error is the broker's.
func (f *fixture) plant(topic string, n int, b bomb) error {
	client, err := kgo.NewClient(append(f.clientOptions(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.WithCompressor(b),
		kgo.ProducerLinger(50*time.Millisecond), kgo.ProducerBatchMaxBytes(16<<20), kgo.ProducerBatchCompression(kgo.GzipCompression()),
		kgo.RecordRetries(3))...)
	require.NoError(f.t, err)
	defer client.Close()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Value: make([]byte, 2*len(b.content)/n+64)} // or the client would find them smaller as they are
	}
	return client.ProduceSync(f.ctx, records...).FirstErr()
}

// aBombStopsNobody: a batch of 200 MiB is passed, and named; so is one that is garbage, where the broker takes such.
func aBombStopsNobody(t *testing.T, f *fixture) {
	f.ready()
	bus, heard := f.heard()
	var seen log
	f.start(bus, f.subscription(note(&seen)))
	fine := mustEncode(t, bus, f.order("fine", 1))
	behindIt := func() {
		f.produce(&kgo.Record{Topic: f.placed.Name(), Partition: 0, Value: fine, Key: keyOf(f.placed.Name(), 3)})
	}
	require.NoError(t, f.plant(f.placed.Name(), 3, zeros(t, 10, 200<<20, 10)))
	behindIt()
	want := 1
	for codec, text := range map[kgo.CompressionCodecType]string{
		kgo.CodecGzip: "\x1f\x8bno gzip", kgo.CodecZstd: "no zstd", kgo.CodecLz4: "no lz4", kgo.CodecSnappy: "\xff",
	} {
		if err := f.plant(f.placed.Name(), 1, bomb{codec, []byte(text)}); err == nil { // Kafka refuses it, the embedded broker does not
			want++
		}
		behindIt()
	}
	f.eventually("the events behind are handled", func() bool { return seen.len() == 5 })
	letters := f.read(eventbus.DeadLetterTopic(f.placed.Name(), f.group), want)
	require.Len(t, letters, want)
	first, err := eventbus.ParseDeadLetter(letters[0])
	require.NoError(t, err)
	require.Equal(t, []any{eventbus.ClassUnreadable, f.placed.Name(), int32(0), int64(0), int64(3)},
		[]any{first.Class, first.Topic, first.Partition, first.Offset, first.Until})
	f.eventually("every offset is passed", func() bool { return f.committed() == int64(3+want-1+5) })
	require.EqualValues(t, want, bus.Metrics().DeadLettered)
	f.requireReferencesStay(bus, want)
	requireSilence(t, bus, heard, "\x00\x00\x00\x00")

	// Reading beside a group gets past it as well, and says so.
	state, err := eventbus.Fold(f.ctx, bus, string(keyOf(f.placed.Name(), 3)), 0,
		eventbus.On(f.placed, func(n int, e *eventbus.BaseEvent[order]) int { return n + e.Payload.Number }))
	require.Equal(t, 5, state)
	require.ErrorContains(t, err, "the records from offset 0 up to before 3 cannot be read")
}

// requireReferencesStay: there is nothing in a reference to send back.
func (f *fixture) requireReferencesStay(bus *eventbus.Bus, n int) {
	letters, err := bus.DeadLetters(f.placed, f.group)
	require.NoError(f.t, err)
	report, err := letters.Redrive(f.ctx, eventbus.RedriveOptions{Send: true, Filter: eventbus.LetterFilter{Class: eventbus.ClassUnreadable}})
	require.NoError(f.t, err)
	require.Equal(f.t, []int{n, 0, n}, []int{report.Matched, report.Sent, report.Skipped})
	require.Contains(f.t, report.Left[0].Why, "a reference")
}

// aBombAmongDeadLettersStopsNobody: whoever may write dead letters could otherwise hide all others.
func aBombAmongDeadLettersStopsNobody(t *testing.T, f *fixture) {
	bus := f.ready()
	f.start(bus, f.subscription(func(context.Context, *eventbus.BaseEvent[order]) error { return eventbus.Permanent(errors.New("no")) }))
	letters, err := bus.DeadLetters(f.placed, f.group)
	require.NoError(t, err)
	require.NoError(t, f.plant(letters.Name(), 2, zeros(t, 100<<20, 1)))
	require.NoError(t, bus.Publish(f.ctx, f.placed.New(order{ID: string(keyOf(f.placed.Name(), 3)), Amount: eventbus.MustDecimal("1")})))
	f.eventually("given up", func() bool { return bus.Metrics().DeadLettered == 1 })
	var seen []string
	for l, err := range letters.List(f.ctx, eventbus.LetterFilter{}) {
		require.NoError(t, err)
		seen = append(seen, fmt.Sprintf("%d %q", l.Offset, l.Family))
	}
	require.Equal(t, []string{`0 ""`, `2 "eventbus"`}, seen)
	l, err := letters.Show(f.ctx, 0, 1)
	require.NoError(t, err)
	require.Contains(t, l.Error, "from offset 1 up to before 2 cannot be read")
	report, err := letters.Redrive(f.ctx, eventbus.RedriveOptions{Send: true})
	require.NoError(t, err)
	require.Equal(t, []int{2, 1, 1}, []int{report.Matched, report.Sent, report.Skipped})
}

// keyOf is a key of the first of n partitions.
func keyOf(topic string, n int) []byte {
	p := kgo.StickyKeyPartitioner(nil).ForTopic(topic)
	for i := 0; ; i++ {
		if key := fmt.Appendf(nil, "k-%d", i); p.Partition(&kgo.Record{Key: key}, n) == 0 {
			return key
		}
	}
}
