package ledger_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus/internal/ledger"
)

// story writes a history of one partition by hand. Members are called a and b; the session of one is its name, unless it is named otherwise.
type story struct {
	ledger.History
	tries map[string]int
}

const topic = "acme.jobs"

func tell(parts ...func(*story)) []ledger.Entry {
	s := &story{tries: map[string]int{}}
	for _, part := range parts {
		part(s)
	}
	return s.Entries()
}

func add(e ledger.Entry) func(*story) {
	e.Topic = topic
	return func(s *story) { s.Add(e) }
}

// inLog has records in the log, by offset; each name is a key.
func inLog(keys ...string) func(*story) {
	return func(s *story) {
		for i, key := range keys {
			s.Add(ledger.Entry{Kind: ledger.Published, Topic: topic, Offset: int64(i), ID: fmt.Sprint("e-", i), Key: key, Result: ledger.OK})
		}
	}
}

func readBack(keys ...string) func(*story) {
	return func(s *story) {
		for i, key := range keys {
			s.Add(ledger.Entry{Kind: ledger.Read, Topic: topic, Offset: int64(i), ID: fmt.Sprint("e-", i), Key: key})
		}
	}
}

// began begins the try called name, such as "a0": by member a, of offset 0, key k.
func began(name string) func(*story) { return begin(name, "k", false) }

func begin(name, key string, stubborn bool) func(*story) {
	return func(s *story) {
		offset := int64(name[1] - '0')
		s.tries[name] = s.Begin(ledger.Entry{Member: name[:1], Topic: topic, Offset: offset, ID: fmt.Sprint("e-", offset), Key: key, Stubborn: stubborn})
	}
}

func ended(name string, result ledger.Result) func(*story) {
	return func(s *story) { s.Add(ledger.Entry{Kind: ledger.Ended, Try: s.tries[name], Result: result}) }
}

func cancelled(name string) func(*story) {
	return func(s *story) { s.Add(ledger.Entry{Kind: ledger.Cancelled, Try: s.tries[name]}) }
}

func handled(name string) func(*story) {
	return func(s *story) {
		began(name)(s)
		ended(name, ledger.OK)(s)
	}
}

func failed(name string) func(*story) {
	return func(s *story) {
		began(name)(s)
		ended(name, ledger.Failed)(s)
	}
}

func letter(name string) func(*story) {
	return add(ledger.Entry{Kind: ledger.Letter, Member: name[:1], Offset: int64(name[1] - '0')})
}

func letterRead(offset int64) func(*story) {
	return add(ledger.Entry{Kind: ledger.LetterRead, Offset: offset})
}

func owner(kind ledger.Kind, member string) func(*story) {
	return add(ledger.Entry{Kind: kind, Member: member, Session: member})
}

func commit(member string, offset int64, done ...int64) func(*story) {
	return add(ledger.Entry{Kind: ledger.Commit, Member: member, Session: member, Offset: offset, Done: done, Current: true})
}

func committed(offset int64, done ...int64) func(*story) {
	return add(ledger.Entry{Kind: ledger.Committed, Offset: offset, Done: done})
}

func crash(member string) func(*story) {
	return add(ledger.Entry{Kind: ledger.Crashed, Member: member})
}

func trouble(kind ledger.Kind) func(*story) {
	return add(ledger.Entry{Kind: kind, Detail: "commits refused"})
}

var a0, a1 = handled("a0"), handled("a1")

func TestCheck(t *testing.T) {
	assignedA, assignedB := owner(ledger.Assigned, "a"), owner(ledger.Assigned, "b")
	for name, test := range map[string]struct {
		history []ledger.Entry
		broken  []ledger.Promise
	}{
		"a quiet life": {tell(assignedA, inLog("k", "k"), a0, commit("a", 1), committed(1), a1, commit("a", 2), committed(2), readBack("k", "k")), nil},
		"a retry":      {tell(inLog("k", "k"), failed("a0"), failed("a0"), a0, a1), nil},

		"lost: never handled":                {tell(inLog("k", "k"), a0), []ledger.Promise{ledger.NotLost}},
		"lost: only failed":                  {tell(inLog("k"), failed("a0")), []ledger.Promise{ledger.NotLost}},
		"lost: read back and never handled":  {tell(readBack("k")), []ledger.Promise{ledger.NotLost}},
		"lost: acknowledged, not in the log": {tell(inLog("k", "k"), a0, a1, readBack("k")), []ledger.Promise{ledger.NotLost}},
		"lost: the letter is not in its log": {tell(inLog("k", "k"), failed("a0"), letter("a0"), a1, readBack("k", "k")), []ledger.Promise{ledger.NotLost}},
		"dead-lettered":                      {tell(inLog("k"), failed("a0"), letter("a0"), readBack("k"), letterRead(0)), nil},
		"dead-lettered, not acknowledged":    {tell(inLog("k"), failed("a0"), readBack("k"), letterRead(0)), nil},

		"phantom": {tell(add(ledger.Entry{Kind: ledger.Published, ID: "e-0", Result: ledger.Failed}), a0, readBack("k")),
			[]ledger.Promise{ledger.NotPhantom}},
		"unknown and in the log": {tell(add(ledger.Entry{Kind: ledger.Published, ID: "e-0", Result: ledger.Unknown}), a0, readBack("k")), nil},
		"failed and not there":   {tell(add(ledger.Entry{Kind: ledger.Published, ID: "e-9", Result: ledger.Failed}), a0, readBack("k")), nil},

		"order: the second first":     {tell(inLog("k", "k"), a1, a0), []ledger.Promise{ledger.InOrder}},
		"order: overtaken in a retry": {tell(inLog("k", "k"), failed("a0"), a1, a0), []ledger.Promise{ledger.InOrder}},
		"order: letters the wrong way round": {tell(inLog("k", "k"), letter("a1"), letter("a0"), letterRead(0), letterRead(1)),
			[]ledger.Promise{ledger.InOrder}},
		"order: a repetition goes on without finishing": {tell(inLog("k", "k"), assignedA, a0, owner(ledger.Lost, "a"), assignedB,
			failed("b0"), handled("b1"), handled("b0")), []ledger.Promise{ledger.InOrder}},
		"order: other keys":                  {tell(inLog("k", "l"), handled("a1"), a0), []ledger.Promise{}},
		"order: a letter between":            {tell(inLog("k", "k"), failed("a0"), letter("a0"), a1, letterRead(0)), nil},
		"order: a repetition that finishes":  {tell(inLog("k", "k"), assignedA, a0, owner(ledger.Lost, "a"), assignedB, failed("b0"), handled("b0"), handled("b1")), nil},
		"order: resumed after another owner": {tell(inLog("k", "k"), assignedA, failed("a0"), owner(ledger.Released, "a"), assignedB, handled("b0"), owner(ledger.Released, "b"), assignedA, a1), nil},

		"overlap: one member": {tell(inLog("k"), began("a0"), began("b0"), ended("a0", ledger.Failed), ended("b0", ledger.OK)),
			[]ledger.Promise{ledger.OneAtATime}},
		"overlap: a handler that obeys, and is not waited for": {tell(inLog("k"), began("a0"), cancelled("a0"), began("b0"), ended("a0", ledger.GaveUp), ended("b0", ledger.OK)),
			[]ledger.Promise{ledger.OneAtATime}},
		"overlap: with a crashed member":                 {tell(inLog("k"), began("a0"), crash("a"), began("b0"), ended("b0", ledger.OK), ended("a0", ledger.Died)), nil},
		"overlap: with a member that lost the partition": {tell(inLog("k"), assignedA, began("a0"), owner(ledger.Lost, "a"), assignedB, began("b0"), ended("b0", ledger.OK), ended("a0", ledger.Failed)), nil},
		"overlap: with a detached handler":               {tell(inLog("k"), begin("a0", "k", true), cancelled("a0"), began("b0"), ended("b0", ledger.OK), ended("a0", ledger.GaveUp)), nil},
		"overlap: another key":                           {tell(inLog("k", "l"), began("a0"), begin("a1", "l", false), ended("a1", ledger.OK), ended("a0", ledger.OK)), nil},

		"commit: past what is not done": {tell(inLog("k", "l"), assignedA, begin("a1", "l", false), ended("a1", ledger.OK), commit("a", 2), a0),
			[]ledger.Promise{ledger.CommitsDone}},
		"commit: past what runs":          {tell(inLog("k"), assignedA, began("a0"), commit("a", 1), ended("a0", ledger.OK)), []ledger.Promise{ledger.CommitsDone}},
		"commit: the map says too much":   {tell(inLog("k", "l"), assignedA, commit("a", 0, 1), a0, begin("a1", "l", false), ended("a1", ledger.OK)), []ledger.Promise{ledger.CommitsDone}},
		"commit: the map says what is":    {tell(inLog("k", "l"), assignedA, begin("a1", "l", false), ended("a1", ledger.OK), commit("a", 0, 1), a0), nil},
		"commit: the map names a marker":  {tell(inLog("k"), assignedA, commit("a", 0, 5), a0), nil},
		"commit: past a letter":           {tell(inLog("k"), assignedA, letter("a0"), letterRead(0), commit("a", 1)), nil},
		"commit: before the letter's ack": {tell(inLog("k"), assignedA, failed("a0"), commit("a", 1), letter("a0"), letterRead(0)), []ledger.Promise{ledger.CommitsDone}},

		"regression":    {tell(inLog("k", "k"), a0, a1, committed(2), committed(1)), []ledger.Promise{ledger.CommitsGrow}},
		"no regression": {tell(inLog("k", "k"), a0, a1, committed(1), committed(1), committed(2)), nil},

		"unowned: after another owner":      {tell(inLog("k"), assignedA, a0, owner(ledger.Released, "a"), assignedB, commit("a", 1)), []ledger.Promise{ledger.CommitsOwned}},
		"unowned: never assigned":           {tell(inLog("k"), a0, commit("a", 1)), []ledger.Promise{ledger.CommitsOwned}},
		"unowned: given back, not given on": {tell(inLog("k"), assignedA, a0, owner(ledger.Released, "a"), commit("a", 1)), nil},
		"unowned: evicted, and cannot know": {tell(inLog("k"), assignedA, a0, owner(ledger.Lost, "a"), assignedB,
			add(ledger.Entry{Kind: ledger.Commit, Member: "a", Session: "a", Offset: 1})), nil},

		"duplicate: committed before the new owner": {tell(inLog("k"), assignedA, a0, committed(1), crash("a"), assignedB, handled("b0")), []ledger.Promise{ledger.OnlyOnce}},
		"duplicate: in the map the new owner got":   {tell(inLog("k", "l"), assignedA, begin("a1", "l", false), ended("a1", ledger.OK), committed(0, 1), crash("a"), assignedB, handled("b0"), begin("b1", "l", false), ended("b1", ledger.OK)), []ledger.Promise{ledger.OnlyOnce}},
		"duplicate: without a reason":               {tell(inLog("k"), assignedA, a0, owner(ledger.Released, "a"), assignedB, handled("b0")), []ledger.Promise{ledger.OnlyOnce}},
		"duplicate: by the same owner":              {tell(inLog("k"), assignedA, a0, a0), []ledger.Promise{ledger.OnlyOnce}},
		"duplicate: after a letter":                 {tell(inLog("k"), assignedA, letter("a0"), letterRead(0), a0), []ledger.Promise{ledger.OnlyOnce}},
		"duplicate: a crash before the commit":      {tell(inLog("k"), assignedA, a0, crash("a"), assignedB, handled("b0")), nil},
		"duplicate: a lost session":                 {tell(inLog("k"), assignedA, a0, owner(ledger.Lost, "a"), assignedB, handled("b0")), nil},
		"duplicate: a refused commit":               {tell(inLog("k"), assignedA, a0, add(ledger.Entry{Kind: ledger.Refused, Offset: 1}), owner(ledger.Released, "a"), assignedB, handled("b0")), nil},
		"duplicate: trouble":                        {tell(inLog("k"), assignedA, trouble(ledger.TroubleBegan), a0, owner(ledger.Released, "a"), assignedB, handled("b0"), trouble(ledger.TroubleOver)), nil},
		"duplicate: trouble that was over":          {tell(inLog("k"), assignedA, trouble(ledger.TroubleBegan), trouble(ledger.TroubleOver), a0, owner(ledger.Released, "a"), assignedB, handled("b0")), []ledger.Promise{ledger.OnlyOnce}},
		"duplicate: left behind":                    {tell(inLog("k"), assignedA, begin("a0", "k", true), cancelled("a0"), owner(ledger.Released, "a"), assignedB, handled("b0"), ended("a0", ledger.OK)), nil},

		"letter: twice":                                    {tell(inLog("k"), letter("a0"), letter("a0"), letterRead(0), letterRead(0)), []ledger.Promise{ledger.OneLetter}},
		"letter: twice in the log":                         {tell(inLog("k"), letter("a0"), letterRead(0), letterRead(0)), []ledger.Promise{ledger.OneLetter}},
		"letter: twice, a crash":                           {tell(inLog("k"), letter("a0"), crash("a"), letter("b0"), letterRead(0), letterRead(0)), nil},
		"letter: after the success":                        {tell(inLog("k"), a0, letter("a0"), letterRead(0)), []ledger.Promise{ledger.NoLetterForDone}},
		"letter: late, from before the partition was lost": {tell(inLog("k"), assignedA, failed("a0"), owner(ledger.Lost, "a"), assignedB, handled("b0"), committed(1), owner(ledger.Released, "b"), assignedA, letter("a0"), letterRead(0)), nil},
		"letter: by an owner that could know":              {tell(inLog("k"), assignedA, a0, committed(1), owner(ledger.Lost, "a"), assignedB, failed("b0"), letter("b0"), letterRead(0)), []ledger.Promise{ledger.NoLetterForDone}},
		"letter: after another's success":                  {tell(inLog("k"), a0, crash("a"), failed("b0"), letter("b0"), letterRead(0)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			report := ledger.Check(test.history)
			require.Equal(t, append([]ledger.Promise{}, test.broken...), append([]ledger.Promise{}, report.Broken()...), "%v", report)
			for _, f := range report.Findings {
				require.NotEmpty(t, f.Proof)
			}
		})
	}
}

func TestAFileSaysTheSame(t *testing.T) {
	history := tell(inLog("k", "k"), a1, a0, commit("a", 0, 1), owner(ledger.Assigned, "a"))
	path := filepath.Join(t.TempDir(), "history.jsonl")
	require.NoError(t, ledger.Save(path, history))
	loaded, err := ledger.Load(path)
	require.NoError(t, err)
	require.Equal(t, history, loaded)
	require.Equal(t, ledger.Check(history), ledger.Check(loaded))
	require.Contains(t, ledger.Check(loaded).String(), "order: ")
	_, err = ledger.Load(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "none")
}

func TestAHistoryMayBeWrittenByMany(t *testing.T) {
	var h ledger.History
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 100 {
				h.Add(ledger.Entry{Kind: ledger.Ended, Try: h.Begin(ledger.Entry{Topic: topic, Offset: 0, Key: "k"})})
			}
		})
	}
	writers.Wait()
	entries := h.Entries()
	require.Len(t, entries, 1600)
	require.Equal(t, 1600, entries[1599].Seq)
	require.Equal(t, 800, ledger.Check(entries).Tries)
}
