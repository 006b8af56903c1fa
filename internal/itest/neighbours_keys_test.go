package itest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// keyed is the payload of a topic that is nobody's.
type keyed struct {
	Key string `json:"key"`
}

// keys are what a hash may stumble over: each length modulo four, bytes from 0x80 on, characters of two halves in JavaScript, and what
// looks like nothing.
func keys() []string {
	all := []string{
		" ", "\t", "\n", "\x00", "\x00\x00\x00\x00", "\u00a0", "\u200b", "\ufeff", "\ufffd",
		"null", "undefined", "0", "-0", "{}", `"`, `\`,
		"ü", "ÿ", "Łódź", "ключ", "鍵", "مفتاح", "e\u0301", "é", "😀", "👩‍🚀", "🇨🇭", "a😀", "ab😀", "abc😀", "\U0010FFFF", "ada@example.com",
		strings.Repeat("k", 10_000), strings.Repeat("ä", 10_000), strings.Repeat("😀", 10_000),
	}
	for n := range 40 {
		all = append(all, strings.Repeat("x", n+1), strings.Repeat("\u007f\u0080", n+1), strings.Repeat("é", n+1)+"z")
	}
	for n := range 200 {
		all = append(all, fmt.Sprint("u-", n), fmt.Sprintf("%08x-0000-4000-8000-%012x", n*2654435761, n*n*n))
	}
	return all
}

// aKeyHasOnePartition publishes events of the same keys from both sides; both read where they are.
func aKeyHasOnePartition(t *testing.T, s *street) {
	all, bus, service := keys(), s.bus(nil), s.neighbour()
	for _, partitions := range []int32{1, 3, 12} {
		name := fmt.Sprint("dreamscape.keys.", partitions)
		s.topics(partitions, name)
		topic := eventbus.NewTopic(name, &eventbus.TopicOptions[keyed]{Key: func(k keyed) string { return k.Key }})
		var events []eventbus.AnyEvent
		for _, key := range all {
			events = append(events, topic.New(keyed{key}))
		}
		require.NoError(t, bus.Publish(s.ctx, events...))
		service.do("keyed", command{"topic": name, "keys": all}, new(any))
		service.subscribe(name, nil, name)
		service.await(name, 2*len(all))

		ours, theirs, used := map[string]int32{}, map[string]int32{}, map[int32]bool{}
		read := s.read(2*len(all), name)
		for _, record := range read {
			envelope, payload := s.parts(record.Value)
			require.Equal(t, payload["key"], string(record.Key), "the key's bytes")
			of := theirs // the helper tells no source
			if envelope["source"] == "go-service" {
				of = ours
			}
			of[string(record.Key)], used[record.Partition] = record.Partition, true
		}
		require.Len(t, ours, len(all))
		require.Equal(t, ours, theirs)
		require.Len(t, used, int(partitions))
		at := map[string]int32{}
		for _, e := range service.handled(name, 0) {
			at[string(e.Key)] = e.Partition
		}
		require.Equal(t, ours, at, "as the service reads them")
	}
	t.Logf("%d keys have the same partition of 1, 3 and 12", len(all))
}
