package itest_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus/internal/ledger"
)

// calm hurts nobody: what the others are held against.
func (r *run) calm() { r.wait(10 * time.Second) }

// strike does what takes something away, from a member or, where none is named, from all.
func (r *run) strike(member string, take func()) {
	began := now()
	take()
	r.harm.strikes = append(r.harm.strikes, strike{window{began, now()}, member})
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

// bystander leads a third of the partitions and does not coordinate the group.
func (r *run) bystander() int { return r.coordinator()%len(r.brokers) + 1 }

// ledBy are the partitions that a broker leads.
func (r *run) ledBy(broker int) map[int32]bool {
	led := map[int32]bool{}
	eventually(r.t, time.Minute, "every partition has a leader", func(ctx context.Context) bool {
		topics, err := r.admin.ListTopics(ctx, r.topic)
		if err != nil || topics.Error() != nil {
			return false
		}
		for _, p := range topics[r.topic].Partitions {
			if p.Leader < 0 {
				return false
			}
			led[p.Partition] = int(p.Leader) == broker
		}
		return len(led) == partitions
	})
	return led
}

func (r *run) killBroker()   { r.without("kill", 20*time.Second, "start") }
func (r *run) freezeBroker() { r.without("pause", 50*time.Second, "resume") }

// without takes the coordinator away by one command, and brings it back by another.
func (r *run) without(away string, d time.Duration, back string) {
	n := r.coordinator()
	require.Contains(r.t, slices.Collect(maps.Values(r.ledBy(n))), true, "it leads partitions too")
	r.strike("", func() { r.command(away, n) })
	r.wait(d)
	r.command(back, n)
	r.healed(r.t)
}

func (r *run) roll() {
	for n := 1; n <= len(r.brokers); n++ {
		r.strike("", func() { r.command("stop", n) })
		r.command("start", n)
		r.healed(r.t)
	}
}

// killAll leaves nothing that could work until Kafka has leaders again.
func (r *run) killAll() {
	r.strike("", func() {
		for n := range r.brokers {
			r.command("kill", n+1)
		}
	})
	began := now()
	r.wait(60 * time.Second)
	ctx, stop := context.WithCancel(context.Background())
	found := make(chan []outage, 1)
	go func() { found <- r.untilLed(ctx, began) }()
	for n := range r.brokers {
		r.command("start", n+1)
	}
	r.healed(r.t)
	stop()
	r.harm.outages = append(r.harm.outages, <-found...)
	require.Len(r.t, r.harm.outages, partitions+1, "leaders of the partitions, and a coordinator")
}

// untilLed watches, until ctx ends, for the return of what there has to be: of a leader and two replicas in sync, for each partition, and of the
// group's coordinator. Two brokers that answer need not be enough. The controller takes one after the other for dead and out of the
// replicas in sync; the last one stays, and nobody else may lead what it held.
func (r *run) untilLed(ctx context.Context, began time.Duration) []outage {
	var found []outage
	seen := map[int32]bool{}
	coordinated := false
	for ctx.Err() == nil {
		r.askAnew(ctx, func(ctx context.Context, admin *kadm.Client) {
			if topics, err := admin.ListTopics(ctx, r.topic); err == nil {
				for p, of := range topics[r.topic].Partitions {
					if of.Err == nil && len(of.ISR) > 1 && !seen[p] {
						seen[p] = true
						found = append(found, outage{window: window{began, now()}, of: map[int32]bool{p: true}})
					}
				}
			}
			if c := admin.FindGroupCoordinators(ctx, r.group)[r.group]; !coordinated && c.Err == nil && c.NodeID > 0 {
				coordinated = true
				found = append(found, outage{window: window{began, now()}, handling: true})
			}
		})
		select {
		case <-time.After(sampleEvery):
		case <-ctx.Done():
		}
	}
	return found
}

// askAnew asks by a client of its own: one that has failed for a minute waits before it tries again.
func (r *run) askAnew(ctx context.Context, ask func(context.Context, *kadm.Client)) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
	if err != nil {
		return // it is asked again
	}
	defer client.Close()
	ask(ctx, kadm.NewClient(client))
}

// moveCoordinator has each broker coordinate the group in turn, as they do after a restart, with nobody dead or out of reach. A new one may know
// less for a moment of what was committed than the one before.
func (r *run) moveCoordinator() {
	topic, all := "__consumer_offsets", kadm.TopicsSet{}
	for range 2 * len(r.brokers) {
		before := r.coordinator()
		r.strike("", func() {
			var led kadm.AlterPartitionAssignmentsReq
			for _, p := range r.offsetsPartitions(topic) {
				next := slices.Index(p.Replicas, p.Leader) + 1 // who leads need not be the first, such as after all were down
				led.Assign(topic, p.Partition, slices.Concat(p.Replicas[next:], p.Replicas[:next]))
				all.Add(topic, p.Partition)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			assigned, err := r.admin.AlterPartitionAssignments(ctx, led)
			require.NoError(r.t, cmp.Or(err, assigned.Error()))
			eventually(r.t, time.Minute, "another broker coordinates", func(ctx context.Context) bool {
				_, err := r.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, all) // not the one that has not caught up yet: it is asked again
				return err == nil && r.coordinator() != before
			})
		})
		r.wait(3 * time.Second)
	}
}

func (r *run) offsetsPartitions(topic string) (parts []kadm.PartitionDetail) {
	eventually(r.t, time.Minute, "the committed offsets have leaders", func(ctx context.Context) bool {
		topics, err := r.admin.ListTopics(ctx, topic)
		parts = topics[topic].Partitions.Sorted()
		return err == nil && topics.Error() == nil && len(parts) > 0
	})
	return parts
}

// killMembers kills one member after the other; another process takes each one's place.
func (r *run) killMembers() {
	for i := range r.members {
		m := r.members[i]
		m.kill()
		r.book.add(ledger.Entry{Kind: ledger.Crashed, Member: m.role.Name})
		r.members[i] = r.start(true)
		r.wait(10 * time.Second)
	}
}

// churn has a member join and another one leave each second, beside those that stay.
func (r *run) churn() {
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
}

const proxyFault = 20 * time.Second

// byProxy has proxies do that for a while, and returns when.
func (r *run) byProxy(m manner, via ...*proxy) window {
	began := now()
	for _, p := range via {
		p.set(m)
	}
	r.wait(proxyFault)
	for _, p := range via {
		p.set(passes)
	}
	return window{began, now()}
}

func (r *run) cut()                { r.unreached(cuts, r.bystander()) }
func (r *run) cutCoordinator()     { r.unreached(cuts, r.coordinator()) }
func (r *run) swallow()            { r.unreached(swallows, r.bystander()) }
func (r *run) swallowCoordinator() { r.unreached(swallows, r.coordinator()) }

// unreached has nobody reach a broker that is well, so that nobody takes its place: what it leads waits for it. Where it coordinates the group,
// nobody may handle anything either, once SessionTimeout has passed: for all that a member knows, others have its partitions.
func (r *run) unreached(m manner, broker int) {
	led, coordinates := r.ledBy(broker), r.coordinator() == broker
	r.strike("", func() {})
	w := r.byProxy(m, r.via[broker-1])
	r.harm.outages = append(r.harm.outages, outage{window: w, of: led})
	if coordinates {
		r.harm.outages = append(r.harm.outages, outage{window: window{w.from + sessionTimeout, w.to}, handling: true})
	}
	require.Equal(r.t, led, r.ledBy(broker), "nobody has taken its place")
}

// isolate swallows what one member says and hears, while all others are well: the group gives its partitions to them.
func (r *run) isolate() {
	var via []*proxy
	for _, b := range r.brokers {
		via = append(via, newProxy(r.t, b))
	}
	m := r.startVia(true, via)
	r.members = append(r.members, m)
	eventually(r.t, time.Minute, "it has partitions", func(context.Context) bool { return r.watch.owns(m.role.Name) })
	r.wait(3 * time.Second)
	r.strike(m.role.Name, func() {})
	r.byProxy(swallows, via...)
}

// slow delays everybody; things go on meanwhile, and commits lag behind all the time.
func (r *run) slow() {
	r.strike("", func() { r.byProxy(delays, r.via...) })
}
