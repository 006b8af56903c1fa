package look

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TailOptions say what [Cluster.Tail] reads. Its zero value reads what is there of all topics, from their beginnings.
type TailOptions struct {
	Topics []string  // names, or patterns of path.Match; none: all
	Since  time.Time // from the records of then on, by their timestamps; zero: from the beginning
	Last   int       // at most so many records of each partition, the last ones; 0: all
	New    bool      // only what comes from now on
	Follow bool      // goes on at the ends, also with topics and partitions that are new, until ctx ends; else it stops at the ends that it found
	Filter Filter
	// Gather is how long brokers may gather records before they answer, so that they are asked seldom. Default: 0, they answer at once.
	Gather time.Duration
	// Began, if not nil, is called once it is known what there is to read.
	Began func()
	// Trouble, if not nil, is told what cannot be read; reading goes on with what can. While it follows it is told nil when a broker answers again.
	Trouble func(error)
	// Progress, if not nil, is told how many records of how many are read; not while it follows.
	Progress func(done, all int64)
	// contains leaves out records whose value does not have these bytes: cheaper than a Filter.
	contains []byte
}

// ErrNoTopic is wrapped where no topic has a name.
var ErrNoTopic = errors.New("there is no such topic")

type place struct {
	topic     string // Kafka's name
	partition int32
}

// tail is a reading.
type tail struct {
	c      *Cluster
	opts   TailOptions
	client *kgo.Client
	open   map[place]int64 // where each stops; following: nothing to stop at
	seen   map[place]bool
	ids    map[string]kadm.TopicID // of the topics that are read
	next   map[place]int64         // what is read of each that is open
	done   int64                   // records that are read, or are no more
	all    int64
	got    time.Time // when records last came
	looked time.Time // when topics were last looked for
	away   bool      // no broker answered then, and that was told
}

const (
	lookEvery  = 3 * time.Second // for new topics, or for what became of those that give nothing
	stuckAfter = time.Minute     // of nothing, from partitions that have more
	fetchBytes = 8 << 20
	fetchWait  = 500 * time.Millisecond
)

// Tail gives each the events that opts mean, in the order of their offsets within a partition, and by time within what comes at once, until each returns
// false, all is read, or ctx ends, which is no error where it follows. Only what is committed counts.
func (c *Cluster) Tail(ctx context.Context, opts TailOptions, each func(Event) bool) error {
	if err := opts.Filter.Check(); err != nil {
		return err
	}
	t := &tail{c: c, opts: opts, open: map[place]int64{}, seen: map[place]bool{}, ids: map[string]kadm.TopicID{}, next: map[place]int64{}}
	starts, err := t.begin(ctx)
	if err != nil {
		return err
	}
	minBytes, maxWait := int32(1), fetchWait
	if opts.Gather > 0 {
		minBytes, maxWait = fetchBytes/8, opts.Gather
	}
	t.client, err = kgo.NewClient(append(c.bus.ClientOptions(),
		kgo.ConsumePartitions(starts),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last record before an end may be a transaction's marker
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMinBytes(minBytes),
		kgo.FetchMaxWait(maxWait),
	)...)
	if err != nil {
		return err
	}
	defer t.client.Close()
	if opts.Began != nil {
		opts.Began()
	}
	return t.read(ctx, each)
}

func (t *tail) begin(ctx context.Context) (map[string]map[int32]kgo.Offset, error) {
	for _, name := range t.opts.Topics {
		if _, err := path.Match(name, ""); err != nil {
			return nil, fmt.Errorf("topic %q: not a name or a pattern such as dreamscape.payment.*", name)
		}
	}
	starts, err := ask(ctx, t.c, t.places)
	if err != nil {
		return nil, err
	}
	t.got, t.looked = time.Now(), time.Now()
	return starts, nil
}

// places finds partitions that are not read yet, and from where they are to be.
func (t *tail) places(ctx context.Context) (map[string]map[int32]kgo.Offset, error) {
	details, err := t.c.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	names, err := t.wanted(details)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	t.forgetOlder(details, names)
	from, to, err := t.limits(ctx, names)
	if err != nil {
		return nil, err
	}
	starts := map[string]map[int32]kgo.Offset{}
	first := len(t.seen) == 0 && t.looked.IsZero()
	to.Each(func(end kadm.ListedOffset) {
		at := place{end.Topic, end.Partition}
		start, ok := from.Lookup(end.Topic, end.Partition)
		if !ok || t.seen[at] {
			return
		}
		if err := cmp.Or(start.Err, end.Err); err != nil {
			t.trouble(fmt.Errorf("topic %s, partition %d: %w", end.Topic, end.Partition, err))
			return
		}
		t.seen[at] = true
		switch {
		case t.opts.New && first, start.Offset < 0, start.Offset > end.Offset:
			start.Offset = end.Offset
		case t.opts.Last > 0:
			start.Offset = max(start.Offset, end.Offset-int64(t.opts.Last))
		}
		if !t.opts.Follow && start.Offset >= end.Offset {
			return
		}
		t.open[at], t.next[at] = end.Offset, start.Offset
		t.all += end.Offset - start.Offset
		if starts[end.Topic] == nil {
			starts[end.Topic] = map[int32]kgo.Offset{}
		}
		starts[end.Topic][end.Partition] = kgo.NewOffset().At(start.Offset)
	})
	return starts, nil
}

// forgetOlder has topics that were deleted and made again be read from their beginnings: the client sticks to the ones that it knew.
func (t *tail) forgetOlder(details kadm.TopicDetails, names []string) {
	for _, name := range names {
		id := details[name].ID
		if before, known := t.ids[name]; known && before != id && t.client != nil {
			t.client.PurgeTopicsFromConsuming(name)
			for at := range t.seen {
				if at.topic == name {
					t.client.ResumeFetchPartitions(map[string][]int32{name: {at.partition}})
				}
			}
			gone := func(at place) bool { return at.topic == name }
			maps.DeleteFunc(t.seen, func(at place, _ bool) bool { return gone(at) })
			maps.DeleteFunc(t.open, func(at place, _ int64) bool { return gone(at) })
			maps.DeleteFunc(t.next, func(at place, _ int64) bool { return gone(at) })
		}
		t.ids[name] = id
	}
}

// wanted returns Kafka's names of the topics that are meant.
func (t *tail) wanted(details kadm.TopicDetails) ([]string, error) {
	names := map[string]bool{}
	for _, pattern := range cmpOr(t.opts.Topics, []string{"*"}) {
		found := false
		for full, d := range details {
			name, ours := strings.CutPrefix(full, t.c.prefix)
			if !ours || name != pattern && (d.IsInternal || strings.HasPrefix(name, "__")) || !like(pattern, name) {
				continue
			}
			found = true
			if d.Err != nil {
				return nil, fmt.Errorf("topic %s: %w", name, d.Err)
			}
			names[full] = like(t.opts.Filter.Topic, name)
		}
		if !found && pattern != "*" && t.looked.IsZero() {
			return nil, fmt.Errorf("topic %s: %w", pattern, ErrNoTopic)
		}
	}
	var wanted []string
	for name, passes := range names {
		if passes {
			wanted = append(wanted, name)
		}
	}
	slices.Sort(wanted)
	return wanted, nil
}

func cmpOr(names, otherwise []string) []string {
	if len(names) == 0 {
		return otherwise
	}
	return names
}

// limits asks for the ends first: where no record is of since or later, the answer to from is the end at that moment, and what came between the two
// questions would be left out.
func (t *tail) limits(ctx context.Context, names []string) (from, to kadm.ListedOffsets, err error) {
	to, err = t.c.admin.ListCommittedOffsets(ctx, names...)
	if err != nil && len(to) == 0 {
		return nil, nil, err
	}
	if t.opts.Since.IsZero() {
		from, err = t.c.admin.ListStartOffsets(ctx, names...)
	} else {
		from, err = t.c.admin.ListOffsetsAfterMilli(ctx, t.opts.Since.UnixMilli(), names...)
	}
	if err != nil && len(from) == 0 {
		return nil, nil, err
	}
	return from, to, nil
}

func (t *tail) trouble(err error) {
	if t.opts.Trouble != nil {
		t.opts.Trouble(err)
	}
}

func (t *tail) read(ctx context.Context, each func(Event) bool) error {
	for t.opts.Follow || len(t.open) > 0 {
		within, cancel := context.WithTimeout(ctx, lookEvery)
		fetches := t.client.PollRecords(within, 10_000)
		cancel()
		if ctx.Err() != nil {
			if t.opts.Follow {
				return nil
			}
			return context.Cause(ctx)
		}
		if !t.hand(fetches, each) {
			return nil
		}
		if err := t.refusals(fetches); err != nil {
			return err
		}
		if t.opts.Progress != nil && !t.opts.Follow {
			t.opts.Progress(t.done, t.all)
		}
		if err := t.lookAgain(ctx, fetches.NumRecords()); err != nil {
			return err
		}
	}
	return nil
}

// refusals tells of partitions that cannot be read, and closes them; behind a batch that is too large it goes on.
func (t *tail) refusals(fetches kgo.Fetches) (refused error) {
	passed := false
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || topic == "" {
			return
		}
		at := place{topic, partition}
		unread, isUnread := errors.AsType[*kgo.ErrDecompressTooLarge](err)
		if isUnread {
			err = fmt.Errorf("the records from offset %d up to before %d cannot be read: their batch decompresses to more than kgo.MaxDecompressBatchBytes allows",
				unread.Offset, unread.NextOffset)
		}
		err = fmt.Errorf("topic %s, partition %d: %w", strings.TrimPrefix(topic, t.c.prefix), partition, err)
		if code := (*kerr.Error)(nil); errors.As(err, &code) && code.Retriable {
			return
		}
		t.trouble(err)
		if isUnread {
			passed, t.got = true, time.Now()
			t.pass(at, unread.NextOffset)
			return
		}
		t.close(at)
		if errors.Is(err, kerr.TopicAuthorizationFailed) && (t.opts.Trouble == nil || len(t.open) == 0) {
			refused = err
		}
	})
	if passed {
		t.goOn()
	}
	return refused
}

// pass notes that a partition is read up to before next, and closes it where that is its end.
func (t *tail) pass(at place, next int64) {
	end, reading := t.open[at]
	if !reading {
		return
	}
	t.done += next - t.next[at]
	t.next[at] = next
	if !t.opts.Follow && next >= end {
		t.close(at)
	}
}

// close has a partition be read no more. It is paused and stays: when one is removed, the client drops what it has fetched of all.
func (t *tail) close(at place) {
	if at.partition < 0 {
		return // of a topic that cannot be looked up: that may pass, and nothing comes of it meanwhile
	}
	delete(t.open, at)
	t.client.PauseFetchPartitions(map[string][]int32{at.topic: {at.partition}})
}

// goOn sets the client behind batches that cannot be read. It drops what it has fetched of all partitions then, and with that the word that a batch of another
// one cannot be read, which it gives once: so all are set to where they are.
func (t *tail) goOn() {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for at := range t.open {
		if offsets[at.topic] == nil {
			offsets[at.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[at.topic][at.partition] = kgo.EpochOffset{Epoch: -1, Offset: t.next[at]}
	}
	t.client.SetOffsets(offsets)
}

// hand gives each what came, by time.
func (t *tail) hand(fetches kgo.Fetches, each func(Event) bool) bool {
	var events []Event
	for r := range fetches.RecordsAll() {
		at := place{r.Topic, r.Partition}
		end, reading := t.open[at]
		if !reading || !t.opts.Follow && r.Offset >= end {
			continue
		}
		t.pass(at, r.Offset+1)
		if r.Attrs.IsControl() || t.leavesOut(r.Value) {
			continue
		}
		if e := t.c.Event(r); t.opts.Filter.Passes(&e) {
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	for _, e := range events {
		if !each(e) {
			return false
		}
	}
	return true
}

// leavesOut says of a value that it has not what is looked for. JSON may have it escaped.
func (t *tail) leavesOut(value []byte) bool {
	return len(t.opts.contains) > 0 && !bytes.Contains(value, t.opts.contains) && !bytes.Contains(value, []byte(`\`))
}

// lookAgain finds new topics where the reading follows, and what was deleted meanwhile where it does not.
func (t *tail) lookAgain(ctx context.Context, got int) error {
	now := time.Now()
	if got > 0 {
		t.got = now
	}
	if now.Sub(t.looked) < lookEvery || !t.opts.Follow && now.Sub(t.got) < lookEvery {
		return nil
	}
	t.looked = now
	if t.opts.Follow {
		starts, err := ask(ctx, t.c, t.places)
		if err == nil && len(starts) > 0 {
			t.client.AddConsumePartitions(starts)
		}
		if away := errors.As(err, new(*AwayError)); away != t.away && ctx.Err() == nil {
			if t.away = away; away {
				t.trouble(fmt.Errorf("no broker answers, waiting: %w", err))
			} else {
				t.trouble(nil)
			}
		}
		return nil
	}
	return t.closeDeleted(ctx)
}

func (t *tail) closeDeleted(ctx context.Context) error {
	topics := map[string]bool{}
	for at := range t.open {
		topics[at.topic] = true
	}
	names := make([]string, 0, len(topics))
	for name := range topics {
		names = append(names, name)
	}
	starts, err := ask(ctx, t.c, func(ctx context.Context) (kadm.ListedOffsets, error) {
		return t.c.admin.ListStartOffsets(ctx, names...)
	})
	if err != nil {
		return err
	}
	for at, end := range t.open {
		start, there := starts.Lookup(at.topic, at.partition)
		if !there || errors.Is(start.Err, kerr.UnknownTopicOrPartition) || start.Err == nil && start.Offset >= end {
			t.close(at)
		}
	}
	for at := range t.open {
		if time.Since(t.got) > stuckAfter {
			return fmt.Errorf("topic %s, partition %d: nothing has come from offset %d on for %v, though brokers answer: see whether the partition has a leader",
				strings.TrimPrefix(at.topic, t.c.prefix), at.partition, t.next[at], stuckAfter)
		}
	}
	return nil
}

// Trail is what has one correlation id.
type Trail struct {
	Correlation string
	Steps       []Step
}

// Step is an event of a trail.
type Step struct {
	Event
	After   time.Duration `json:"afterNanoseconds"`     // since the first
	Depth   int           `json:"depth"`                // how many events of the trail caused it, one after the other
	Handled []string      `json:"handledBy,omitempty"`  // groups that have passed it
	Waiting []string      `json:"waitingFor,omitempty"` // groups that have not yet
}

// Trail finds the events of a correlation id, dead letters and redriven ones included, in the topics that pass, from since on; in the order of their
// times, and what an event caused behind it. With an error it has what was found until then.
func (c *Cluster) Trail(ctx context.Context, correlation string, opts TailOptions) (Trail, error) {
	if correlation == "" {
		return Trail{}, errors.New("correlation id: expected one")
	}
	opts.Filter.Correlation, opts.contains, opts.Follow = correlation, []byte(correlation), false
	trail := Trail{Correlation: correlation}
	err := c.Tail(ctx, opts, func(e Event) bool {
		trail.Steps = append(trail.Steps, Step{Event: e})
		return len(trail.Steps) < maxSteps
	})
	if len(trail.Steps) > 0 {
		trail.order()
	}
	if err != nil || len(trail.Steps) == 0 {
		return trail, err
	}
	groups, err := c.Groups(ctx)
	if err != nil {
		return trail, err
	}
	for i := range trail.Steps {
		trail.Steps[i].passed(groups)
	}
	return trail, nil
}

const (
	maxSteps = 10_000
	maxDepth = 1000
)

// order puts each step behind what caused it, also where the clocks of services differ, and else by time. What stands beside a topic was caused by the event
// that it is of.
func (t *Trail) order() {
	slices.SortStableFunc(t.Steps, func(a, b Step) int { return a.when().Compare(b.when()) })
	at := map[string]int{} // the events themselves, by id
	for i, s := range t.Steps {
		if _, there := at[s.EventID]; !there && s.Group == "" && s.EventID != "" {
			at[s.EventID] = i
		}
	}
	placed := make([]time.Time, len(t.Steps)) // not before its cause
	for i := range t.Steps {
		s := &t.Steps[i]
		placed[i] = s.when()
		for above := s; s.Depth < maxDepth; s.Depth++ { // a ring of causes ends there
			cause, there := at[above.cause()]
			if !there || &t.Steps[cause] == s {
				break
			}
			above = &t.Steps[cause]
			if above.when().After(placed[i]) {
				placed[i] = above.when()
			}
		}
	}
	t.sort(placed)
	for i := range t.Steps {
		t.Steps[i].After = t.Steps[i].when().Sub(t.Steps[0].when())
	}
}

// when is the time of a step: a dead letter has that of its event in its envelope.
func (s *Step) when() time.Time {
	if s.Letter != nil && !s.Letter.FailedAt.IsZero() {
		return s.Letter.FailedAt
	}
	return s.Time
}

// cause is the id of the event that a step came of.
func (s *Step) cause() string {
	if s.Group != "" {
		return s.EventID
	}
	return s.CausationID
}

func (t *Trail) sort(placed []time.Time) {
	order := make([]int, len(t.Steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(placed[a].Compare(placed[b]), cmp.Compare(t.Steps[a].Depth, t.Steps[b].Depth))
	})
	sorted := make([]Step, 0, len(order))
	for _, i := range order {
		sorted = append(sorted, t.Steps[i])
	}
	t.Steps = sorted
}

// passed finds the groups that read the step's topic.
func (s *Step) passed(groups []Group) {
	for _, g := range groups {
		for _, p := range g.Partitions {
			if p.Topic != s.Topic || p.Partition != s.Partition || p.Committed < 0 {
				continue
			}
			if p.Committed > s.Offset {
				s.Handled = append(s.Handled, g.Name)
			} else {
				s.Waiting = append(s.Waiting, g.Name)
			}
		}
	}
}
