// Package sim writes scripts for a consumer group's life: what is published, how handlers behave, and what befalls brokers, connections and
// members meanwhile. A script is a pure function of its seed and its mix. It knows neither Kafka's client nor the engine; the root's sim_test.go plays it.
package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Script is a life to be played. Times are since its beginning.
type Script struct {
	Seed       uint64
	Brokers    int
	Partitions int32
	ServerSide bool          // the broker shares the partitions out (KIP-848)
	Static     bool          // members have instance ids: see Step.Instance; not with ServerSide
	Free       bool          // the route needs no order
	Events     []Event       // by their time
	Steps      []Step        // by their time; the first one joins member 0
	Heal       time.Duration // when every fault ends; later than everything else
	Limits     Limits
}

// Limits are the subscription's.
type Limits struct {
	Handler, Drain, Rebalance, Session time.Duration
	Attempts                           int
	Hold                               time.Duration // how long an event is held back that may be an outage's; negative: not at all
	Concurrency, InFlight, Span        int           // 0: the default
}

// Event is a record to be published, and what its handler does with it.
type Event struct {
	At   time.Duration
	ID   string // unique in the script
	Key  string // "" for an Unkeyed one whose payload has none either
	N    int    // its place among those of its key, from 0
	Form Form
	Deed Deed
}

// Sound says whether the event's handler fails in an outage only, so that it must never be dead-lettered where those are held back.
func (e Event) Sound() bool {
	return e.Form != Garbage && e.Deed.Fails == 0 && !e.Deed.Stubborn && !e.Deed.Overdue
}

// Form is what an event is as a record.
type Form int

const (
	// Keyed is an event with a key.
	Keyed Form = iota
	// Unkeyed is an event without one. Its payload may have one all the same.
	Unkeyed
	// Garbage is a keyed record that nobody can decode.
	Garbage
)

// Deed is how a handler behaves. Every try takes Takes; the first Fails of them fail, over all members.
type Deed struct {
	Takes    time.Duration
	Fails    int
	Manner   Manner
	Overdue  bool // it takes more than it has
	Stubborn bool // it ignores its ctx
}

// Manner is how a try fails.
type Manner int

const (
	// Errs returns an error that another try may mend.
	Errs Manner = iota
	// GivesUp returns a permanent error.
	GivesUp
	// Panics panics.
	Panics
	// Exits ends its goroutine.
	Exits
)

// Step is something that befalls the group or its brokers. Which fields count says Do.
type Step struct {
	At        time.Duration
	Do        Action
	Member    int           // of Join, Leave, Retire, Crash, Drop, Cut, Pause: its number; each joins once
	Instance  int           // of Join: its place, which one that ended or crashed before may have had
	For       time.Duration // of Fault, Cut, Break, Swallow, Outage, Pause: until then at the latest
	Request   int16         // of Fault, Break, Swallow: Kafka's key of the request
	Code      int16         // of Fault: Kafka's error code
	Letters   bool          // of Fault: only for the dead-letter topic
	Top       bool          // of Fault: for the request as a whole
	Count     int           // of Fault, Break, Swallow: so many requests
	Partition int32         // of Move
	Node      int32         // of Move
}

// Action is what a Step does.
type Action string

const (
	// Join starts a new member.
	Join Action = "join"
	// Leave shuts a member down. One that is static stays in the group until its session is over, or another one takes its place.
	Leave Action = "leave"
	// Retire shuts a member down for good: a static one leaves the group too.
	Retire Action = "retire"
	// Crash ends a member without a goodbye: nothing of it reaches the world any more.
	Crash Action = "crash"
	// Cut keeps a member from every broker for a time; it does not know.
	Cut Action = "cut"
	// Drop closes a member's connections, once.
	Drop Action = "drop"
	// Pause has a member start nothing and fetch nothing for a time.
	Pause Action = "pause"
	// Outage has every handler fail for a time.
	Outage Action = "outage"
	// Fault has brokers answer requests with an error code. Some codes come after the work is done.
	Fault Action = "fault"
	// Break closes the connection that a request comes by, before anything is done.
	Break Action = "break"
	// Swallow leaves a request without an answer, and undone.
	Swallow Action = "swallow"
	// Move gives one partition another leader.
	Move Action = "move"
	// Shuffle gives every partition another leader.
	Shuffle Action = "shuffle"
	// Rehash moves the group's coordinator.
	Rehash Action = "rehash"
)

// New returns the script of a seed, by one of the package's mixes: the seed's remainder by their number.
func New(seed uint64) Script { return With(seed, Mixes()[seed%uint64(len(Mixes()))]) }

// With returns the script of a seed and a mix. The same arguments give the same script.
func With(seed uint64, mix Mix) Script {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 0)), mix: mix} // #nosec G404 -- a script is to be played again
	w.script = Script{
		Seed: seed, Brokers: 2 + w.IntN(2), Partitions: 1 + w.Int32N(4), Heal: w.between(20*time.Second, 50*time.Second),
		Free: w.IntN(10) == 0, Limits: w.limits(),
	}
	switch w.IntN(4) {
	case 0:
		w.script.ServerSide = true
	case 1:
		w.script.Static = true
	}
	w.events()
	w.steps()
	return w.script
}

// writer writes one script.
type writer struct {
	*rand.Rand
	mix    Mix
	script Script
	alive  []place // of members
	joined int
}

// place is a member and the instance that it is.
type place struct{ member, instance int }

// between is a random duration, in whole milliseconds.
func (w *writer) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.Int64N(int64((to-from)/time.Millisecond)+1))*time.Millisecond
}

func (w *writer) limits() Limits {
	l := Limits{
		Handler: w.between(2*time.Second, 5*time.Second), Drain: w.between(time.Second, 4*time.Second), Rebalance: 20 * time.Second,
		Session: w.between(6*time.Second, 12*time.Second), Attempts: 1 + w.IntN(4), Hold: longestOutage + 15*time.Second,
	}
	if w.IntN(3) == 0 {
		l.Hold = -1
	}
	if w.IntN(2) == 0 {
		l.Concurrency = 1 + w.IntN(6)
	}
	if w.IntN(2) == 0 {
		l.InFlight, l.Span = 1+w.IntN(20), 1+w.IntN(60)
	}
	return l
}

func (w *writer) events() {
	keys, n := 1+w.IntN(40), map[string]int{}
	for i := range 50 + w.IntN(201) {
		e := Event{ID: fmt.Sprintf("e-%d", i), Key: fmt.Sprintf("k-%d", w.IntN(keys)), At: w.between(0, w.script.Heal), Deed: w.deed()}
		switch draw := w.IntN(100); {
		case draw < w.mix.Unkeyed:
			e.Form = Unkeyed
			if w.IntN(2) == 0 {
				e.Key = ""
			}
		case draw < w.mix.Unkeyed+w.mix.Garbage:
			e.Form = Garbage
		}
		w.script.Events = append(w.script.Events, e)
	}
	slices.SortStableFunc(w.script.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	for i := range w.script.Events {
		e := &w.script.Events[i]
		e.N = n[e.Key]
		n[e.Key]++
	}
}

func (w *writer) deed() Deed {
	d := Deed{Takes: w.between(0, 20*time.Millisecond)}
	if w.IntN(100) < w.mix.Slow {
		d.Takes = w.between(200*time.Millisecond, w.script.Limits.Handler-200*time.Millisecond)
	}
	if w.IntN(100) < w.mix.Overdue { // its ctx ends first
		d.Takes, d.Overdue = w.script.Limits.Handler+w.between(500*time.Millisecond, 3*time.Second), true
	}
	if w.IntN(1000) < w.mix.Stubborn {
		d.Takes = w.script.Limits.Handler + w.script.Limits.Drain + w.between(0, 12*time.Second)
		d.Stubborn = true
	}
	if w.IntN(100) < w.mix.Failing {
		d.Manner = Manner(w.IntN(4))
		d.Fails = 1 + w.IntN(w.script.Limits.Attempts+1) // as many as there are tries, or more: a dead letter
	}
	return d
}

// steps joins a member at once, has something happen every few seconds, and joins another one at the end, where none is left. The outage, if
// there is one, is the only one: after two, an event may well have failed beside others that succeeded.
func (w *writer) steps() {
	w.join(0)
	outage := w.script.Heal
	if w.IntN(100) < w.mix.Outage {
		outage = w.between(0, w.script.Heal)
	}
	for at := w.between(0, 3*time.Second); at < w.script.Heal; at += w.between(w.mix.Pause/4, w.mix.Pause) {
		if at > outage {
			w.add(Step{At: at, Do: Outage, For: w.between(time.Second, longestOutage)})
			outage = w.script.Heal
			continue
		}
		w.step(at)
	}
	if len(w.alive) == 0 || w.IntN(2) == 0 {
		w.join(w.script.Heal)
	}
}

const (
	maxMembers    = 4
	longestOutage = 15 * time.Second
)

func (w *writer) step(at time.Duration) {
	action := w.mix.draw(w.Rand)
	switch action {
	case Join:
		if len(w.alive) < maxMembers {
			w.join(at)
		}
	case Leave, Retire, Crash:
		if len(w.alive) > 0 {
			i := w.IntN(len(w.alive))
			w.add(Step{At: at, Do: action, Member: w.alive[i].member})
			w.alive = slices.Delete(w.alive, i, i+1)
		}
	case Cut, Drop, Pause:
		if len(w.alive) > 0 {
			w.add(Step{At: at, Do: action, Member: w.alive[w.IntN(len(w.alive))].member, For: w.between(time.Second, 2*w.script.Limits.Session)})
		}
	case Fault, Break, Swallow:
		w.add(w.fault(at, action))
	case Move:
		brokers := int32(w.script.Brokers) // #nosec G115 -- 3 at most
		w.add(Step{At: at, Do: action, Partition: w.Int32N(w.script.Partitions), Node: w.Int32N(brokers)})
	case Shuffle, Rehash:
		w.add(Step{At: at, Do: action})
	}
}

func (w *writer) join(at time.Duration) {
	instance := 0
	for slices.ContainsFunc(w.alive, func(p place) bool { return p.instance == instance }) {
		instance++
	}
	w.add(Step{At: at, Do: Join, Member: w.joined, Instance: instance})
	w.alive = append(w.alive, place{w.joined, instance})
	w.joined++
}

func (w *writer) add(s Step) { w.script.Steps = append(w.script.Steps, s) }

func (w *writer) fault(at time.Duration, action Action) Step {
	faults := w.mix.Faults
	if len(faults) == 0 {
		faults = allFaults()
	}
	f := faults[w.IntN(len(faults))]
	return Step{
		At: at, Do: action, For: w.between(time.Second, 10*time.Second), Request: f.Request, Code: f.Codes[w.IntN(len(f.Codes))],
		Letters: f.Letters, Top: f.Top, Count: 1 + w.IntN(8),
	}
}
