package ledger

import (
	"fmt"
	"slices"
	"strings"
)

// Finding is a broken promise and what proves it.
type Finding struct {
	Promise Promise
	Text    string
	Proof   []Entry // in the history's order
}

// Promise names what a Finding says is broken.
type Promise string

const (
	// NotLost: what was acknowledged, or is in the log, is handled or dead-lettered in the end; an acknowledged dead letter is in its log.
	NotLost Promise = "lost"
	// NotPhantom: a publish that failed for certain is not in the log.
	NotPhantom Promise = "phantom"
	// InOrder: the events of a key are first done in the order of their offsets, and none begins before the earlier ones are done.
	InOrder Promise = "order"
	// OneAtATime: two tries of one key of one partition do not run at once.
	OneAtATime Promise = "overlap"
	// CommitsDone: a commit passes or names as done only what is done.
	CommitsDone Promise = "commit-past-unhandled"
	// CommitsGrow: a partition's committed offset does not fall.
	CommitsGrow Promise = "commit-regression"
	// CommitsOwned: only the owner of a partition commits for it.
	CommitsOwned Promise = "commit-unowned"
	// OnlyOnce: nothing is handled again that the broker knew was done, or without a crash or something like it.
	OnlyOnce Promise = "duplicate"
	// OneLetter: nothing is dead-lettered twice without a reason.
	OneLetter Promise = "letter-doubled"
	// NoLetterForOutage: nothing is dead-lettered whose handler failed in an outage only.
	NoLetterForOutage Promise = "letter-in-outage"
	// NoLetterForDone: nothing is dead-lettered that was handled.
	NoLetterForDone Promise = "letter-after-success"
)

// String is the finding and its proof, in several lines.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Promise, f.Text)
	for _, e := range f.Proof {
		fmt.Fprintf(&b, "\n\t%s", e)
	}
	return b.String()
}

// String is the entry in one line.
func (e Entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %v %s %s/%d@%d", e.Seq, e.At, e.Kind, e.Topic, e.Partition, e.Offset)
	for _, part := range []struct{ name, value string }{
		{"member", e.Member}, {"id", e.ID}, {"key", e.Key}, {"result", string(e.Result)}, {"detail", e.Detail},
	} {
		if part.value != "" {
			fmt.Fprintf(&b, " %s=%s", part.name, part.value)
		}
	}
	if e.Try > 0 {
		fmt.Fprintf(&b, " try=%d", e.Try)
	}
	if len(e.Done) > 0 {
		fmt.Fprintf(&b, " done=%v", e.Done)
	}
	return b.String()
}

// Report is what Check found, and how much there was to see: a run in which nothing happened proves nothing.
type Report struct {
	Findings []Finding
	Events   int // in the log
	Tries    int
	Letters  int
	Commits  int // that reached the broker
	Repeated int // done again, for a reason
	Overlaps int // with a try of a dead member, or one that ignored its ctx
	Losses   int // partitions whose session the group ended
	Crashes  int
}

// Plus returns both reports as one.
func (r Report) Plus(other Report) Report {
	return Report{
		Findings: slices.Concat(r.Findings, other.Findings), Events: r.Events + other.Events, Tries: r.Tries + other.Tries,
		Letters: r.Letters + other.Letters, Commits: r.Commits + other.Commits, Repeated: r.Repeated + other.Repeated,
		Overlaps: r.Overlaps + other.Overlaps, Losses: r.Losses + other.Losses, Crashes: r.Crashes + other.Crashes,
	}
}

// Broken returns the promises that the findings name, each once, sorted.
func (r Report) Broken() []Promise {
	var broken []Promise
	for _, f := range r.Findings {
		broken = append(broken, f.Promise)
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

// String is the figures and then every finding.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d findings; %d events, %d tries, %d dead letters, %d commits; repeated %d, overlaps with the dead or stubborn %d, "+
		"partitions lost %d, crashes %d", len(r.Findings), r.Events, r.Tries, r.Letters, r.Commits, r.Repeated, r.Overlaps, r.Losses, r.Crashes)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%s", f)
	}
	return b.String()
}
