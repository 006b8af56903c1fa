package itest_test

import (
	"context"
	"time"

	"github.com/dreamscape/eventbus/internal/ledger"
)

// calm hurts nobody: what the others are held against.
func (r *run) calm() time.Duration {
	r.wait(10 * time.Second)
	return 0
}

// coordinator is the broker, from 1, that coordinates the group; it leads a third of the partitions too.
func (r *run) coordinator() int {
	var node int32
	eventually(r.t, time.Minute, "the group has a coordinator", func(ctx context.Context) bool {
		found := r.admin.FindGroupCoordinators(ctx, r.group)[r.group]
		node = found.NodeID
		return found.Err == nil && node > 0
	})
	return int(node)
}

func (r *run) killBroker() time.Duration   { return r.without("kill", 20*time.Second, "start") }
func (r *run) freezeBroker() time.Duration { return r.without("pause", 50*time.Second, "resume") }

// without takes the coordinator away by one command, and brings it back by another.
func (r *run) without(away string, d time.Duration, back string) time.Duration {
	n := r.coordinator()
	r.command(away, n)
	r.wait(d)
	r.command(back, n)
	r.healed(r.t)
	return 0
}

func (r *run) roll() time.Duration {
	for n := 1; n <= len(r.brokers); n++ {
		r.command("stop", n)
		r.command("start", n)
		r.healed(r.t)
	}
	return 0
}

func (r *run) killAll() time.Duration {
	for n := range r.brokers {
		r.command("kill", n+1)
	}
	began := now()
	r.wait(60 * time.Second)
	for n := range r.brokers {
		r.command("start", n+1)
	}
	down := now() - began // the last of them answers only now
	r.healed(r.t)
	return down
}

// killMembers kills one member after the other; another process takes each one's place.
func (r *run) killMembers() time.Duration {
	for i := range r.members {
		m := r.members[i]
		m.kill()
		r.book.add(ledger.Entry{Kind: ledger.Crashed, Member: m.role.Name})
		r.members[i] = r.start(true)
		r.wait(10 * time.Second)
	}
	return 0
}

// churn has a member join and another one leave each second, beside those that stay.
func (r *run) churn() time.Duration {
	guests := []*process{r.start(true), r.start(true)}
	for range 30 {
		guests = append(guests, r.start(true))
		guests[0].tell()
		r.wait(time.Second)
		guests[0].end()
		guests = guests[1:]
	}
	for _, g := range guests {
		g.end()
	}
	return 0
}

const proxyFault = 20 * time.Second

func (r *run) byProxy(m manner, brokers ...*proxy) time.Duration {
	began := now()
	for _, p := range brokers {
		p.set(m)
	}
	r.wait(proxyFault)
	for _, p := range brokers {
		p.set(passes)
	}
	return now() - began
}

func (r *run) cut() time.Duration     { return r.byProxy(cuts, r.via[r.coordinator()-1]) }
func (r *run) swallow() time.Duration { return r.byProxy(swallows, r.via[r.coordinator()-1]) }

// isolate swallows what one member says and hears, while all others are well: the group gives its partitions to them.
func (r *run) isolate() time.Duration {
	var via []*proxy
	for _, b := range r.brokers {
		via = append(via, newProxy(r.t, b))
	}
	m := r.startVia(true, via)
	r.members = append(r.members, m)
	eventually(r.t, time.Minute, "it has partitions", func(context.Context) bool { return r.watch.owns(m.role.Name) })
	r.wait(3 * time.Second)
	r.byProxy(swallows, via...)
	return 0
}

// slow delays everybody; things go on meanwhile.
func (r *run) slow() time.Duration {
	_ = r.byProxy(delays, r.via...)
	return 0
}
