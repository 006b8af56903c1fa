package bustest

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dreamscape/eventbus/embedded"
)

// Action is what becomes of a request that a fault meets. The zero value is none.
type Action struct {
	kind  actionKind
	code  *kerr.Error
	delay time.Duration
	flaw  string // why it cannot be done
}

type actionKind int

const (
	doNothing actionKind = iota
	doFail
	doDelay
	doDelayAnswer
	doCut
	doCutAnswer
	doSilence
	doRefuse
)

// Fail answers with an error of Kafka's and does not do the work. As in Kafka, RequestTimedOut and, of Produce,
// NotEnoughReplicasAfterAppend come after the work: it is done and the client told that it failed. An answer that has no place for an
// error, such as that to a Metadata request for no topic, stays as it is.
func Fail(code *kerr.Error) Action {
	if code == nil {
		return Action{kind: doFail, flaw: "Fail: the error is required"}
	}
	return Action{kind: doFail, code: code}
}

// Delay hands the request to the broker d later. What its client sends on the same connection waits behind it.
func Delay(d time.Duration) Action { return delaying(doDelay, d) }

// DelayAnswer does the work at once and answers d later. What is answered on the same connection waits behind it.
func DelayAnswer(d time.Duration) Action { return delaying(doDelayAnswer, d) }

func delaying(kind actionKind, d time.Duration) Action {
	if d <= 0 {
		return Action{kind: kind, flaw: fmt.Sprintf("the delay %v is not above zero", d)}
	}
	return Action{kind: kind, delay: d}
}

// Cut closes the connection instead of doing the work. Other requests that wait for an answer on it lose theirs.
func Cut() Action { return Action{kind: doCut} }

// CutAnswer does the work and closes the connection instead of answering: the client cannot know whether it was done.
func CutAnswer() Action { return Action{kind: doCutAnswer} }

// Silence neither does the work nor answers, nor anything else on that connection, until the client closes it or the fault is
// removed: a broker that hangs.
func Silence() Action { return Action{kind: doSilence} }

// Refuse closes every connection and refuses new ones, until the fault is removed: a broker that is down. It takes no filters and a
// call of its own, meets the test's own reader too, and has no hits: they count requests.
func Refuse() Action { return Action{kind: doRefuse} }

// do carries out a step on a request.
func (s *Script) do(ctx context.Context, st step, r *embedded.Request) embedded.Verdict {
	switch st.Do.kind {
	case doFail:
		if !st.putMark(r.Message) {
			s.t.Errorf("bustest: Fail: a client sends %s in a version that is too old for it: %d", kmsg.NameForKey(r.Message.Key()), r.Message.GetVersion())
		}
	case doDelay:
		s.pause(ctx, st.Do.delay)
	case doDelayAnswer:
		r.Answered = func(ctx context.Context) bool {
			s.pause(ctx, st.Do.delay)
			return true
		}
	case doCutAnswer:
		r.Answered = func(context.Context) bool { return false }
	case doSilence:
		select {
		case <-ctx.Done():
		case <-s.removed.Done():
		}
		return embedded.Cut
	default:
		return embedded.Cut
	}
	return embedded.Forward
}

func (s *Script) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.removed.Done():
	}
}

// fail has the fake refuse the requests that have the step's mark: it knows which errors each kind of answer takes, and where.
func (st *step) fail(cluster *kfake.Cluster) (remove func()) {
	f := kfake.Fault{Topic: st.Topic, Group: st.Group, Err: st.Do.code, Count: -1, When: st.hasMark}
	return cluster.Fault(f).Remove
}

// putMark marks a request with a tagged field (KIP-482), which the broker skips as one that it does not know.
func (st *step) putMark(m kmsg.Request) bool {
	if !m.IsFlexible() {
		return false
	}
	tags, ok := tagsOf(m)
	if ok {
		tags.Set(st.mark, nil)
	}
	return ok
}

func (st *step) hasMark(m kmsg.Request) bool {
	tags, ok := tagsOf(m)
	if !ok {
		return false
	}
	marked := false
	tags.Each(func(key uint32, _ []byte) { marked = marked || key == st.mark })
	return marked
}

func tagsOf(m kmsg.Request) (*kmsg.Tags, bool) {
	field := reflect.ValueOf(m).Elem().FieldByName("UnknownTags")
	if !field.IsValid() {
		return nil, false
	}
	tags, ok := field.Addr().Interface().(*kmsg.Tags)
	return tags, ok
}
