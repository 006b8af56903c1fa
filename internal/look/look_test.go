package look_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/internal/look"
)

func open(t *testing.T, bus *eventbus.Bus) *look.Cluster {
	t.Helper()
	c, err := look.New(bus, nil)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func publish(t *testing.T, b *bustest.Bus, ctx context.Context, userID string) *eventbus.BaseEvent[eventbus.UserCreatedPayload] {
	t.Helper()
	e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: userID, Email: userID + "@example.com"})
	require.NoError(t, b.Publish(ctx, e))
	return e
}

func tail(t *testing.T, c *look.Cluster, opts look.TailOptions) (events []look.Event) {
	t.Helper()
	require.NoError(t, c.Tail(t.Context(), opts, func(e look.Event) bool {
		events = append(events, e)
		return true
	}))
	return events
}

func TestTailGivesWhatIsThereAndEnds(t *testing.T) {
	b := bustest.New(t)
	c := open(t, b.Bus)
	for i := range 20 {
		publish(t, b, eventbus.WithCorrelationID(t.Context(), fmt.Sprint("corr-", i%2)), fmt.Sprint("u", i))
	}
	all := tail(t, c, look.TailOptions{})
	require.Len(t, all, 20)
	for _, e := range all {
		assert.Equal(t, "dreamscape.user.created", e.Topic)
		assert.Equal(t, "user.created", e.EventType)
		assert.Empty(t, e.Problem)
		assert.NotEmpty(t, e.EventID)
	}
	assert.Len(t, tail(t, c, look.TailOptions{Filter: look.Filter{Correlation: "corr-1"}}), 10)
	assert.Len(t, tail(t, c, look.TailOptions{Filter: look.Filter{Key: "u3"}}), 1)
	assert.Empty(t, tail(t, c, look.TailOptions{Filter: look.Filter{Topic: "dreamscape.payment.*"}}))
	where, err := look.ParseConditions([]string{"payload.userId~^u1.$", "source=test"})
	require.NoError(t, err)
	assert.Len(t, tail(t, c, look.TailOptions{Filter: look.Filter{Where: where}}), 10)
	assert.ErrorIs(t, c.Tail(t.Context(), look.TailOptions{Topics: []string{"no.such"}}, nil), look.ErrNoTopic)
}

// Partitions end while others have more, and some of them have a batch that cannot be read.
func TestTailReadsOnBehindWhatCannotBeRead(t *testing.T) {
	const topics, many = 8, 12_000
	b := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Client: []kgo.Opt{kgo.MaxDecompressBatchBytes(1 << 20)}}})
	c := open(t, b.Bus)
	client, err := kgo.NewClient(append(b.ClientOptions(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.GzipCompression()),
		kgo.ProducerBatchMaxBytes(4<<20), kgo.MaxBufferedRecords(2*many))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	write := func(topic string, partition int32, values ...[]byte) {
		records := make([]*kgo.Record, 0, len(values))
		for _, v := range values {
			records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: v})
		}
		require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
	}
	small, bomb := []byte("{}"), make([]byte, 2<<20)
	all := 0
	for i := range topics {
		topic := fmt.Sprintf("%sbombs-%d", b.TopicPrefix(), i)
		_, err := admin.CreateTopic(t.Context(), 3, 1, nil, topic)
		require.NoError(t, err)
		write(topic, 0, small)
		write(topic, 1, slices.Repeat([][]byte{small}, many)...)
		write(topic, 2, small)
		write(topic, 2, bomb)
		write(topic, 2, small)
		write(topic, 2, bomb)
		if i%2 == 0 {
			write(topic, 2, small, small)
		}
		all += 1 + many + 4 - 2*(i%2)
	}
	for name, follow := range map[string]bool{"to the ends": false, "following": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			read, n, troubles := map[string]int{}, 0, 0
			require.NoError(t, c.Tail(ctx, look.TailOptions{Topics: []string{"bombs-*"}, Follow: follow, Trouble: func(err error) {
				require.ErrorContains(t, err, "partition 2: the records from offset")
				troubles++
			}}, func(e look.Event) bool {
				read[fmt.Sprint(e.Topic, "/", e.Partition)]++
				n++
				return !follow || n < all
			}))
			require.NoError(t, ctx.Err())
			if !follow {
				require.Equal(t, 2*topics, troubles)
			}
			for i := range topics {
				require.Equal(t, 1, read[fmt.Sprintf("bombs-%d/0", i)])
				require.Equal(t, many, read[fmt.Sprintf("bombs-%d/1", i)])
				require.Equal(t, 4-2*(i%2), read[fmt.Sprintf("bombs-%d/2", i)], i)
			}
		})
	}
}

func TestTailFollowsTopicsThatAreNew(t *testing.T) {
	b := bustest.New(t)
	c := open(t, b.Bus)
	publish(t, b, t.Context(), "before")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan look.Event, 10_000)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Tail(ctx, look.TailOptions{New: true, Follow: true}, func(e look.Event) bool { got <- e; return true })
	}()
	for following := false; !following; { // what came before it began, it does not give
		publish(t, b, t.Context(), "after")
		select {
		case e := <-got:
			following = true
			assert.Equal(t, "after", e.Key)
		case <-time.After(10 * time.Millisecond):
		}
	}
	fresh := eventbus.NewTopic[map[string]any]("a.new.one", nil)
	require.NoError(t, b.EnsureTopics(t.Context(), fresh))
	require.NoError(t, b.Publish(t.Context(), fresh.New(map[string]any{"password": "hunter2", "n": 1})))
	for e := range got {
		if e.Topic == "a.new.one" {
			assert.JSONEq(t, `{"password":"***","n":1}`, string(e.Payload), "no schema says what is secret, the name does")
			break
		}
	}
	cancel()
	assert.NoError(t, <-ended)
}

// afterAnswers is called after each answer to a question of a kind.
type afterAnswers struct {
	key  int16
	call func()
}

func (a afterAnswers) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == a.key && err == nil {
		a.call()
	}
}

// Between two of the questions that say where to begin, an event may come.
func TestTailFollowsFromAMomentOn(t *testing.T) {
	b := bustest.New(t)
	var published atomic.Int32
	answered := afterAnswers{kmsg.ListOffsets.Int16(), func() {
		if published.Add(1) <= 20 {
			assert.NoError(t, b.Publish(t.Context(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "same", Email: "ada@example.com"})))
		}
	}}
	c := open(t, bustest.NewWith(t, bustest.Options{Broker: b.Broker, Config: eventbus.Config{Client: []kgo.Opt{kgo.WithHooks(answered)}}}).Bus)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var offsets []int64
	opts := look.TailOptions{Topics: []string{eventbus.UserCreated.Name()}, Since: time.Now(), Follow: true}
	require.NoError(t, c.Tail(ctx, opts, func(e look.Event) bool {
		offsets = append(offsets, e.Offset)
		return len(offsets) < 3
	}))
	assert.Equal(t, []int64{0, 1, 2}, offsets)
}

func TestTailFollowsATopicMadeAgain(t *testing.T) {
	b := bustest.New(t)
	c := open(t, b.Bus)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan look.Event, 10_000)
	ended := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		ended <- c.Tail(ctx, look.TailOptions{New: true, Follow: true, Began: func() { close(began) }}, func(e look.Event) bool { got <- e; return true })
	}()
	<-began
	publish(t, b, t.Context(), "before")
	assert.Equal(t, "before", (<-got).Key)
	_, err := c.Admin().DeleteTopics(t.Context(), "dreamscape.user.created")
	require.NoError(t, err)
	require.NoError(t, b.EnsureTopics(t.Context(), eventbus.UserCreated))
	publish(t, b, t.Context(), "after")
	assert.Equal(t, "after", (<-got).Key)
	cancel()
	assert.NoError(t, <-ended)
}

func TestSecretsAreMasked(t *testing.T) {
	b := bustest.New(t)
	c := open(t, b.Bus)
	require.NoError(t, b.Publish(t.Context(), eventbus.AuthPasswordResetRequested.New(eventbus.AuthPasswordResetRequestedPayload{
		Email: "a@example.com", ResetToken: "s3cr3t", ExpiresAt: time.Now().Add(time.Hour),
	})))
	producer, err := kgo.NewClient(b.Bus.ClientOptions()...)
	require.NoError(t, err)
	defer producer.Close()
	for _, value := range []string{`{"broken":1,"token":"s3cr3t"}`, `no json`, "\xff\xfe",
		"{\"password\":\"s3cr3t\",\"name\":\"Andr\xe9\"}", `{"pass\u0077ord":"s3cr3t",`, `{"password":"s3cr3t","password":"s3cr3t"}`,
	} {
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{
			Topic: "dreamscape.auth.password.reset.requested", Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "Authorization", Value: []byte("s3cr3t")}},
		}).FirstErr())
	}
	events := tail(t, c, look.TailOptions{})
	require.Len(t, events, 7)
	problems := 0
	for _, e := range events {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "s3cr3t")
		assert.NotContains(t, string(text), "base64:eyJ", "not in another form either")
		if e.Problem != "" {
			problems++
		}
	}
	assert.Equal(t, 6, problems)
}

func TestTrailAndGroups(t *testing.T) {
	for name, protocol := range map[string]eventbus.GroupProtocol{"classic": eventbus.ProtocolClassic, "consumer": eventbus.ProtocolConsumer} {
		t.Run(name, func(t *testing.T) {
			b := bustest.New(t)
			c := open(t, b.Bus)
			handle := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
				return b.Publish(ctx, eventbus.UserProfileUpdated.New(eventbus.UserProfileUpdatedPayload{
					UserID: e.Payload.UserID, ProfileData: map[string]any{"email": "x@example.com"},
				}))
			}
			stop := b.Start(eventbus.Subscription{Group: "welcome", Protocol: protocol, Routes: []eventbus.Route{eventbus.UserCreated.Handle(handle, nil)}})
			publish(t, b, eventbus.WithCorrelationID(t.Context(), "journey"), "ada")
			publish(t, b, eventbus.WithCorrelationID(t.Context(), "another"), "bob")
			for b.Bus.Metrics().MessagesConsumed < 2 {
				time.Sleep(time.Millisecond)
			}
			groups, err := c.Groups(t.Context(), "welcome")
			require.NoError(t, err)
			require.Len(t, groups, 1)
			assert.Empty(t, groups[0].Problem)
			assert.Equal(t, name, groups[0].Protocol)
			require.Len(t, groups[0].Members, 1)
			assert.Positive(t, groups[0].Members[0].Partitions)
			for _, p := range groups[0].Partitions {
				assert.NotEmpty(t, p.Member)
			}
			stop()
			groups, err = c.Groups(t.Context())
			require.NoError(t, err)
			require.Len(t, groups, 1)
			assert.Zero(t, groups[0].Lag, "%+v", groups[0])
			assert.NotEmpty(t, groups[0].Partitions)
			publish(t, b, t.Context(), "late")
			groups, err = c.Groups(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, 1, groups[0].Lag, "%+v", groups[0])

			trail, err := c.Trail(t.Context(), "journey", look.TailOptions{})
			require.NoError(t, err)
			require.Len(t, trail.Steps, 2)
			assert.Equal(t, "user.created", trail.Steps[0].EventType)
			assert.Equal(t, []string{"welcome"}, trail.Steps[0].Handled)
			assert.Equal(t, "user.profile.updated", trail.Steps[1].EventType)
			assert.Equal(t, 1, trail.Steps[1].Depth, "caused by the first")

			_, err = c.Groups(t.Context(), "nobody")
			assert.ErrorIs(t, err, look.ErrNoGroup)
		})
	}
}

// The times of a trail are those of the services' clocks, in milliseconds.
func TestATrailPutsEffectsBehindTheirCauses(t *testing.T) {
	b := bustest.New(t)
	c := open(t, b.Bus)
	ctx := eventbus.WithCorrelationID(t.Context(), "journey")
	handle := func(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		next := eventbus.UserProfileUpdated.New(eventbus.UserProfileUpdatedPayload{UserID: e.Payload.UserID, ProfileData: map[string]any{}})
		next.Timestamp = e.Timestamp.Add(-time.Second) // a clock that is late
		return errors.Join(b.Publish(ctx, next), eventbus.Permanent(errors.New("no")))
	}
	b.Start(eventbus.Subscription{Group: "welcome", Routes: []eventbus.Route{eventbus.UserCreated.Handle(handle, nil)}})
	publish(t, b, ctx, "ada")
	for b.Bus.Metrics().DeadLettered < 1 {
		time.Sleep(time.Millisecond)
	}
	trail, err := c.Trail(t.Context(), "journey", look.TailOptions{})
	require.NoError(t, err)
	require.Len(t, trail.Steps, 3)
	assert.Equal(t, "dreamscape.user.created", trail.Steps[0].Topic)
	for _, s := range trail.Steps[1:] {
		assert.Equal(t, 1, s.Depth, s.Topic)
	}
	assert.Equal(t, -time.Second, trail.Steps[1].After)
	assert.NotNil(t, trail.Steps[2].Letter)
	assert.False(t, trail.Steps[2].After < 0)
}

func TestTopics(t *testing.T) {
	b := bustest.New(t)
	c := open(t, b.Bus)
	publish(t, b, t.Context(), "ada")
	letters := eventbus.NewTopic[map[string]any](eventbus.DeadLetterTopic("dreamscape.user.created", "welcome"), nil)
	require.NoError(t, b.EnsureTopics(t.Context(), letters))
	topics, err := c.Topics(t.Context())
	require.NoError(t, err)
	found := map[string]look.Topic{}
	for _, topic := range topics {
		found[topic.Name] = topic
	}
	assert.EqualValues(t, 1, found["dreamscape.user.created"].Records)
	assert.Equal(t, "user.created", found["dreamscape.user.created"].EventType)
	dlq := found["dreamscape.user.created.dlq.welcome"]
	assert.True(t, dlq.Letters)
	assert.Equal(t, "dreamscape.user.created", dlq.Source)
	assert.Equal(t, "welcome", dlq.Group)
}

func TestConditionsThatAreNone(t *testing.T) {
	for text, says := range map[string]string{
		"payload.amount":    "expected FIELD OPERATOR VALUE",
		"=1":                "expected FIELD OPERATOR VALUE",
		"payload.a!1":       "expected FIELD OPERATOR VALUE",
		"amount>1":          `there is no field "amount"`,
		"payload.a>x":       "compares numbers",
		"payload.a~(":       "not a regular expression",
		"topic.name=orders": "topic has no fields",
	} {
		_, err := look.ParseConditions([]string{text})
		assert.ErrorContains(t, err, says, text)
	}
}

func TestNoBrokerIsNamedWithinSeconds(t *testing.T) {
	bus, err := eventbus.New(eventbus.Config{Service: "look", Brokers: []string{"127.0.0.1:1"}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = bus.Shutdown(t.Context()) })
	began := time.Now()
	_, err = open(t, bus).Topics(t.Context())
	assert.ErrorContains(t, err, "127.0.0.1:1")
	assert.Less(t, time.Since(began), 8*time.Second)
}
