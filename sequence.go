package eventbus

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sequenceInfix stands between a topic and a group in the name of the topic that says which keys are parked.
const sequenceInfix = ".sequences."

// SequenceTopic returns the name of the compacted topic that says which keys of a topic a group has parked, <topic>.sequences.<group>, without
// [Config.TopicPrefix]: see [OrderSequenced].
func SequenceTopic(topic, group string) string { return topic + sequenceInfix + group }

// Sequence is a parked key and what is parked of it: its dead letters of one partition, from Next on, which [DeadLetters.Release] has handled.
type Sequence struct {
	Key       string
	Partition int32     // of the topic, and of its dead letters
	Next      int64     // the offset among the dead letters of the first that was not handled since
	Since     time.Time // when the key was parked
	Error     string    // why its first event was given up the last time; at most 1 kB
	Releases  int       // how often it was released and failed again
	Released  bool      // it is to be released, or is being
}

// ErrNotParked is the error of a release of a key that is not parked.
var ErrNotParked = errors.New("the key is not parked")

// parked is the value of a key that is parked, in a sequence topic. The names of its fields are on the wire.
type parked struct {
	From  int64     `json:"from"`  // the dead letter that parked it: no two sequences of a key have the same
	Next  int64     `json:"next"`  // the first dead letter that was not handled since
	Round int       `json:"round"` // how often it was released and failed again
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
	Log   string    `json:"log,omitempty"` // the id of the dead-letter topic that From and Next are of
}

// followedTo is how far the events of a parked key have followed, the one that parked it among them: those of them that come again are passed.
type followedTo struct {
	To      int64  `json:"to"`    // one above the offset of the last
	Epoch   int32  `json:"epoch"` // of its leader: a later one has written other events
	Lineage uint32 `json:"topic"` // which topic of the name
}

// has says whether an event is one of them.
func (f followedTo) has(offset int64, epoch int32, lineage uint32) bool {
	return offset < f.To && epoch <= f.Epoch && lineage == f.Lineage
}

// release is the value of a key that is to be released. One for another sequence of the key, or another round, says nothing.
type release struct {
	From  int64  `json:"from"`
	Round int    `json:"round"`
	Skip  *int64 `json:"skip,omitempty"` // the first event is left as it is, if this is still parked.Next
}

// skips says whether the next event of a sequence is to be left.
func (r *release) skips(p parked) bool { return r != nil && r.Skip != nil && *r.Skip == p.Next }

func (r release) of(p parked) bool { return r.From == p.From && r.Round == p.Round }

// What a record of a sequence topic is about, before the key: the group writes the first two in its transactions, and whoever releases the third.
const (
	parkedPrefix   = "parked:"
	followedPrefix = "followed:"
	releasePrefix  = "release:"
)

// sequenceRecord is a record of a sequence topic; value nil ends what the key had.
func sequenceRecord(topic string, partition int32, prefix, key string, value any) *kgo.Record {
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(prefix + key)}
	if value != nil {
		r.Value, _ = json.Marshal(value) // numbers and texts
	}
	return r
}

// sequenceHash names a key in the headers of its dead letters: those that have no room for the key, or no key but that of their payload, have one too.
func sequenceHash(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }

// sequences are the parked keys of a partition as its sequence topic says.
type sequences struct {
	parked   map[string]parked
	followed map[string]followedTo
	releases map[string]release
}

func newSequences() sequences {
	return sequences{parked: map[string]parked{}, followed: map[string]followedTo{}, releases: map[string]release{}}
}

// take takes a record; an error is why it cannot be read. A request that nobody can read is none.
func (s sequences) take(r *kgo.Record, unread error) error {
	if unread != nil {
		return unread
	}
	if key, ok := strings.CutPrefix(string(r.Key), releasePrefix); ok {
		if takeInto(s.releases, key, r.Value) != nil {
			delete(s.releases, key)
		}
		return nil
	}
	var err error
	if key, ok := strings.CutPrefix(string(r.Key), parkedPrefix); ok {
		err = takeInto(s.parked, key, r.Value)
	}
	if key, ok := strings.CutPrefix(string(r.Key), followedPrefix); ok {
		err = takeInto(s.followed, key, r.Value)
	}
	if err != nil {
		return fmt.Errorf("offset %d: %w", r.Offset, err)
	}
	return nil
}

func takeInto[T any](m map[string]T, key string, value []byte) error {
	if len(value) == 0 {
		delete(m, key)
		return nil
	}
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	m[key] = v
	return nil
}

// readSequences reads a partition of a sequence topic, from an offset on.
func (b *Bus) readSequences(ctx context.Context, topic string, partition int32, from int64) (found sequences, end int64, err error) {
	found = newSequences()
	var broken error
	end, err = b.readWhole(ctx, topic, partition, from, func(r *kgo.Record, unread error) bool {
		broken = found.take(r, unread)
		return broken == nil
	})
	if err = cmp.Or(err, broken); err != nil {
		err = fmt.Errorf("topic %s, partition %d: %w", topic, partition, err)
	}
	return found, end, err
}

// released says whether a key that is parked is to be released, and how.
func (s sequences) released(key string) (release, bool) {
	r, ok := s.releases[key]
	return r, ok && r.of(s.parked[key])
}

// readWhole reads a partition as far as it has been written when this begins, once all transactions up to there have ended. One that ends below from is not the
// one that from was of, and is read from its beginning.
func (b *Bus) readWhole(ctx context.Context, topic string, partition int32, from int64, each eacher) (end int64, err error) {
	limits, err := b.limitsBy(ctx, b.admin.ListEndOffsets, topic)
	if err != nil {
		return 0, err
	}
	s, err := limits.span(topic, partition)
	if err != nil {
		return 0, err
	}
	if from <= s.end {
		s.start = max(s.start, from)
	}
	return max(s.end, s.start), b.read(ctx, []span{s}, each)
}

// ReleaseOptions say what [DeadLetters.Release] does; the zero value releases all of a sequence.
type ReleaseOptions struct {
	// SkipFirst leaves the first event of the sequence as it is, a dead letter, for good: it will never be handled. Default: false.
	SkipFirst bool
}

// Sequences returns the keys of the topic that the group has parked, by partition and key. A key can be in two partitions, where its events
// were published by programs that do not agree on where a key belongs.
func (d *DeadLetters) Sequences(ctx context.Context) ([]Sequence, error) {
	found, err := d.sequences(ctx)
	if err != nil {
		return nil, d.failed("Sequences", err)
	}
	var all []Sequence
	for partition, of := range found {
		for key, p := range of.parked {
			_, released := of.released(key)
			all = append(all, Sequence{
				Key: key, Partition: partition, Next: p.Next, Since: p.Since, Error: printable(p.Error, maxErrorText), Releases: p.Round, Released: released,
			})
		}
	}
	slices.SortFunc(all, func(a, b Sequence) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return strings.Compare(a.Key, b.Key)
	})
	return all, nil
}

// Release has the group handle what it has parked of a key, in order, and then the key's newer events; those that come meanwhile follow. It asks for that,
// and returns when Kafka has the request: the member that has the partition takes it within a second or two, or when there is one. Where an event
// is given up once more, the key stays parked from that one on. Releasing a key that is being released is no error. The error is
// [ErrNotParked] where no partition has it parked. It needs a subscription with [OrderSequenced] for the topic.
func (d *DeadLetters) Release(ctx context.Context, key string, opts ReleaseOptions) error {
	found, err := d.sequences(ctx)
	if err != nil {
		return d.failed("Release", err)
	}
	any := false
	for partition, of := range found {
		p, is := of.parked[key]
		if !is {
			continue
		}
		any = true
		request := release{From: p.From, Round: p.Round}
		if opts.SkipFirst {
			request.Skip = &p.Next
		}
		if r, released := of.released(key); released && r.skips(p) == opts.SkipFirst {
			continue
		}
		if err := d.write(ctx, sequenceRecord(d.sequenceTopic(), partition, releasePrefix, key, request)); err != nil {
			return d.failed("Release", err)
		}
	}
	if !any {
		return d.failed("Release", fmt.Errorf("%w: %q, of group %s of topic %s", ErrNotParked, key, d.group, d.topic))
	}
	return nil
}

func (d *DeadLetters) write(ctx context.Context, r *kgo.Record) error {
	result := make(chan error, 1)
	d.bus.letters.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *DeadLetters) sequenceTopic() string { return d.topic + sequenceInfix + d.group }

// sequences reads the sequence topic.
func (d *DeadLetters) sequences(ctx context.Context) (map[int32]sequences, error) {
	if d.topic == "" {
		return nil, errors.New("no topic and group: give them to DeadLettersIn")
	}
	leave, err := d.bus.busy()
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := d.bus.untilShutdown(ctx)
	defer cancel()
	topic := d.sequenceTopic()
	info, err := d.bus.mayUse(ctx, topic, kmsg.ACLOperationRead)
	if err != nil {
		return nil, fmt.Errorf("%w: it is there where a subscription has OrderSequenced, and EnsureTopics makes it, with Subscription.Topics", err)
	}
	found := map[int32]sequences{}
	for p := range info.partitions {
		if found[p], _, err = d.bus.readSequences(ctx, topic, p, 0); err != nil {
			return nil, err
		}
	}
	return found, nil
}
