package itest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// oursAreValidToTheirs publishes events of all 27 topics; the service's Ajv holds them against the same schema files, strictly. So that
// this says something, it must also find broken ones broken.
func oursAreValidToTheirs(t *testing.T, s *street) {
	bus := s.bus(nil)
	require.NoError(t, bus.EnsureTopics(s.ctx, eventbus.Catalogue()...))
	events := ourEvents()
	for _, of := range ourEvents() {
		events = append(events, s.wholeRow(bus, of))
	}
	sent, bad := s.publishAlsoBroken(bus, events)

	service := s.neighbour()
	var topics []string
	service.do("topics", nil, &topics)
	require.ElementsMatch(t, eventTopics(), topics)
	service.subscribe("all-of-ours", command{"values": true}, topics...)
	service.await("all-of-ours", len(sent)+len(bad))

	valid, broken, of := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range service.handled("all-of-ours", 0) {
		if what, is := bad[string(e.Value)]; is {
			require.NotEmpty(t, e.Problems, what)
			broken[string(e.Value)] = true
			continue
		}
		record := sent[e.EventID]
		require.NotNil(t, record, e.EventID)
		require.Empty(t, e.Problems, "%s: %s", e.Topic, record.Value)
		require.Equal(t, string(record.Value), string(e.Value))
		require.Equal(t, string(record.Key), string(e.Key))
		require.False(t, valid[e.EventID], "twice")
		valid[e.EventID], of[e.Topic] = true, true
	}
	require.Len(t, valid, len(sent))
	require.Len(t, broken, len(bad))
	require.Len(t, of, 27)
	t.Logf("%d events of 27 topics are valid to Ajv, %d broken ones are not", len(valid), len(broken))
}

// publishAlsoBroken publishes events, and of each some broken ones past the bus. It returns the records of the former by id, and of the
// latter what is wrong with them by value.
func (s *street) publishAlsoBroken(bus *eventbus.Bus, events []ours) (sent map[string]*kgo.Record, bad map[string]string) {
	sent, bad = map[string]*kgo.Record{}, map[string]string{}
	var raw []*kgo.Record
	for _, of := range events {
		record, err := bus.Encode(s.ctx, of.event)
		require.NoError(s.t, err)
		sent[of.id] = record
		for what, value := range s.broken(record.Value) {
			bad[string(value)] = record.Topic + " " + what
			raw = append(raw, &kgo.Record{Topic: record.Topic, Key: record.Key, Value: value})
		}
		require.NoError(s.t, bus.Publish(s.ctx, of.event))
	}
	require.NoError(s.t, s.client().ProduceSync(s.ctx, raw...).FirstErr())
	return sent, bad
}

// theirs is an event that the service says it has written.
type theirs struct {
	Topic string `json:"topic"`
	Event struct {
		EventID       string         `json:"eventId"`
		EventType     string         `json:"eventType"`
		Timestamp     time.Time      `json:"timestamp"`
		Version       string         `json:"version"`
		Source        string         `json:"source"`
		CorrelationID string         `json:"correlationId"`
		Payload       map[string]any `json:"payload"`
	} `json:"event"`
}

// theirsAreValidToOurs has the service publish events of all 27 topics, in each form in which TypeScript services write them; a
// subscription that enforces the schemas handles them all, and dead-letters broken ones.
func theirsAreValidToOurs(t *testing.T, s *street) {
	bus := s.bus(nil)
	got := &arrivals{}
	sub := eventbus.Subscription{Group: "all-of-theirs", Routes: allRoutes(got), Validation: eventbus.ValidationEnforce}
	require.NoError(t, bus.EnsureTopics(s.ctx, sub.Topics()...))
	sent := s.theirExamples()
	end := s.run(bus, sub)
	s.eventually("all have an end", func() (bool, string) {
		handled, dead := got.len(), bus.Metrics().DeadLettered
		return handled >= len(sent) && dead >= 27, fmt.Sprintf("%d of %d handled, %d dead-lettered", handled, len(sent), dead)
	})
	require.NoError(t, end())
	require.Equal(t, int64(27), bus.Metrics().DeadLettered, "the broken ones, and no other")
	for _, topic := range eventbus.Catalogue()[:27] {
		letters, err := bus.DeadLetters(topic, sub.Group)
		require.NoError(t, err)
		groups, err := letters.Groups(s.ctx, eventbus.LetterFilter{Class: eventbus.ClassSchema})
		require.NoError(t, err)
		require.Len(t, groups, 1, topic.Name())
	}
	ids := map[string]bool{}
	for _, a := range got.list() {
		require.Contains(t, sent, a.event.EventID)
		require.False(t, ids[a.event.EventID], "twice")
		ids[a.event.EventID] = true
		requireSame(t, sent[a.event.EventID], a)
	}
	require.Len(t, ids, len(sent))
	t.Logf("%d events of 27 topics are handled as valid, 27 broken ones are dead-lettered", len(ids))
}

// theirExamples has the service publish all its examples, and on each topic a broken event. It returns the examples by id.
func (s *street) theirExamples() map[string]theirs {
	service, sent := s.neighbour(), map[string]theirs{}
	for _, topic := range eventTopics() {
		var written []theirs
		service.do("examples", command{"topic": topic}, &written)
		require.GreaterOrEqual(s.t, len(written), 4, topic)
		for _, e := range written {
			sent[e.Event.EventID] = e
		}
		service.do("send", command{"topic": topic, "key": "k", "value": `{"eventId":"` + written[0].Event.EventID +
			`","timestamp":"2026-01-07T10:00:00.000Z","payload":{"userId":7}}`}, new(any))
	}
	return sent
}

// fromTheRow are fields that no schema knows.
var fromTheRow = []string{"id", "createdAt", "updatedAt", "passwordHash", "relations", "$schema"}

// requireSame holds what a handler got against what the service wrote. What that left out of the envelope is filled in.
func requireSame(t *testing.T, wrote theirs, got arrival) {
	t.Helper()
	e := wrote.Event
	or := func(s, fallback string) string {
		if s == "" {
			return fallback
		}
		return s
	}
	require.Equal(t, wrote.Topic, got.delivery.Topic)
	require.Equal(t, strings.TrimPrefix(wrote.Topic, "dreamscape."), got.event.EventType)
	require.Equal(t, []string{or(e.Version, "1.0"), or(e.Source, "unknown"), or(e.CorrelationID, e.EventID)},
		[]string{got.event.Version, got.event.Source, got.event.CorrelationID})
	require.True(t, e.Timestamp.Equal(got.event.Timestamp), "timestamp")
	for name, value := range e.Payload {
		if !slices.Contains(fromTheRow, name) && name != "resetToken" { // which encoding/json does not show
			require.Equal(t, plainly(value), plainly(got.event.Payload[name]), "%s: %s", wrote.Topic, name)
		}
	}
}

// plainly is a time as one, and everything else as it is.
func plainly(value any) any {
	if s, ok := value.(string); ok {
		if at, err := time.Parse(time.RFC3339, s); err == nil {
			return at.UTC()
		}
	}
	return value
}
