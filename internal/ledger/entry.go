package ledger

import "time"

// Entry is one thing that happened. Which fields count says its Kind; the others are zero.
type Entry struct {
	Seq       int           `json:"seq"` // its place in the history, from 1
	At        time.Duration `json:"at"`  // since the history began, in nanoseconds
	Kind      Kind          `json:"kind"`
	Member    string        `json:"member,omitempty"`  // a member of the group, by the name it keeps across sessions
	Session   string        `json:"session,omitempty"` // Kafka's id of the member
	Topic     string        `json:"topic,omitempty"`
	Partition int32         `json:"partition"`
	Offset    int64         `json:"offset"`
	ID        string        `json:"id,omitempty"` // the event's
	Key       string        `json:"key,omitempty"`
	N         int           `json:"n,omitempty"`       // the event's place among those of its key, for people
	Try       int           `json:"try,omitempty"`     // what Began, Cancelled and Ended of one try share
	Attempt   int           `json:"attempt,omitempty"` // of this delivery, from 1
	Result    Result        `json:"result,omitempty"`
	Done      []int64       `json:"done,omitempty"`    // offsets above Offset that the commit's metadata says are done
	Current   bool          `json:"current,omitempty"` // the group knows the session, and its generation is the present one
	Stubborn  bool          `json:"stubborn,omitempty"`
	Sound     bool          `json:"sound,omitempty"`  // of Read: its handler fails in an outage only
	Detail    string        `json:"detail,omitempty"` // for people; of TroubleBegan and TroubleOver, what they share
}

// Kind says what happened.
type Kind string

const (
	// Published is a publish that ended: ID, Key, N, Topic, Result, and where it is OK, Partition and Offset.
	Published Kind = "published"
	// Read is a record found in the topic at the end: ID, Key, N, Topic, Partition, Offset. A history that has one has all.
	Read Kind = "read"
	// Began is a try of the handler that begins: Try, Member, Topic, Partition, Offset, ID, Key, Attempt; Stubborn where it will ignore
	// its ctx.
	Began Kind = "began"
	// Cancelled is the end of a running try's ctx: Try.
	Cancelled Kind = "cancelled"
	// Ended is the end of a try: Try, Result. It has to be recorded before the handler returns.
	Ended Kind = "ended"
	// Letter is a dead letter whose acknowledgement reached the member: Member, and the Topic, Partition and Offset that it is about. It has
	// to be recorded before the engine knows.
	Letter Kind = "letter"
	// LetterRead is a dead letter found in its topic at the end: Topic, Partition and Offset that it is about.
	LetterRead Kind = "letter-read"
	// Commit is a commit as it reaches the broker: Member, Session, Topic, Partition, Offset, Done, Current.
	Commit Kind = "commit"
	// Committed is what the broker has for a partition after a commit that it took: Topic, Partition, Offset, Done.
	Committed Kind = "committed"
	// Refused is a commit that the broker did not take: Member, Topic, Partition, Offset.
	Refused Kind = "refused"
	// Assigned is a partition that the group gives to a session: Member, Session, Topic, Partition.
	Assigned Kind = "assigned"
	// Released is a partition that a session gives back in good order: Member, Session, Topic, Partition. Its final commit may follow, until
	// the partition is assigned anew.
	Released Kind = "released"
	// Lost is a partition whose session the group has ended against its member's will: Member, Session, Topic, Partition.
	Lost Kind = "lost"
	// Crashed is the end of a member, without a goodbye: Member.
	Crashed Kind = "crashed"
	// TroubleBegan is the beginning of something that explains repetitions, such as a fault of the broker's: Detail.
	TroubleBegan Kind = "trouble-began"
	// TroubleOver is the end of its consequences: Detail.
	TroubleOver Kind = "trouble-over"
)

// Result is how a publish or a try ended.
type Result string

const (
	// OK is success.
	OK Result = "ok"
	// Failed is an error: of a publish, that nothing was written; of a try, that it did not succeed.
	Failed Result = "fail"
	// Unknown is a publish that may have been written.
	Unknown Result = "unknown"
	// Panicked is a try that panicked.
	Panicked Result = "panic"
	// GaveUp is a try that returned its ctx's error.
	GaveUp Result = "cancelled"
	// Died is a try whose member crashed meanwhile: nobody knows how far it came.
	Died Result = "died"
)
