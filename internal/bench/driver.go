package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dreamscape/eventbus"
)

// driver has child processes run, one at a time, and keeps what they print.
type driver struct {
	options
	brokers []string
	admin   *kadm.Client
	client  *kgo.Client
	name    string // of this run; topics begin with it
	n       int    // of children
	log     io.Writer
}

func newDriver(o options, brokers []string, log io.Writer) (*driver, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	return &driver{options: o, brokers: brokers, client: client, admin: kadm.NewClient(client), name: fmt.Sprintf("bench-%d", time.Now().Unix()), log: log}, nil
}

// cell is a row of the table.
type cell struct{ work, contender string }

// round is what was measured in one of them, without what failed.
type round map[cell]result

// run runs every work of every contender in each round, a contender's works of a group one after the other, and begins each round with another
// contender. It returns what failed too, and when ctx ends, what there is.
func (d *driver) run(ctx context.Context, chosen []work, all []contender) ([]round, error) {
	rounds := make([]round, d.rounds)
	var failed []error
	for _, group := range groups(chosen) {
		for i := range rounds {
			if rounds[i] == nil {
				rounds[i] = round{}
			}
			for j := range all {
				c := all[(i+j)%len(all)]
				for _, w := range group {
					if !c.runs(w) {
						continue
					}
					r, err := d.measure(ctx, w, c, i)
					if ctx.Err() != nil {
						return rounds, fmt.Errorf("interrupted: %w", ctx.Err())
					}
					if err != nil {
						err = fmt.Errorf("%s, %s: %w", w.name, c.name, err)
						failed = append(failed, err)
						fmt.Fprintln(d.log, "FAILED", err)
						continue
					}
					rounds[i][cell{w.name, c.name}] = r
					fmt.Fprintf(d.log, "%d/%d %-11s %-26s %10s/s %8.2f µs CPU\n", i+1, d.rounds, w.name, c.name, count(r.rate()), r.cpuEach()*1e6)
				}
			}
		}
	}
	return rounds, errors.Join(failed...)
}

// groups keeps the order of works.
func groups(chosen []work) (all [][]work) {
	for i, w := range chosen {
		if i == 0 || chosen[i-1].group != w.group {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], w)
	}
	return all
}

// measure has a child do one work. What it publishes to is made for it, and deleted.
func (d *driver) measure(ctx context.Context, w work, c contender, i int) (result, error) {
	d.n++
	t := task{
		Contender: cmp.Or(c.base, c.name), Work: w.kind, Brokers: d.brokers, Group: fmt.Sprintf("group-%d", d.n), Limit: d.seconds, Goroutines: w.goroutines, Rate: w.rate,
		HandlerMS: int(w.handler.Milliseconds()), Warmup: healthyOf(d.warmup(), w.sick), Events: healthyOf(d.events, w.sick), Settings: c.settings,
		Pretends: d.kfake,
	}
	if d.profiles != "" && c.outside == nil {
		t.Profile = filepath.Join(d.profiles, fmt.Sprintf("%s-%s-%d.pprof", w.name, strings.ReplaceAll(c.name, " ", "-"), i+1))
	}
	if w.kind == consume {
		t.Prefix = d.loadedPrefix(w.sick)
		t.Topic = t.Prefix + topicName
		letters := eventbus.DeadLetterTopic(t.Topic, t.Prefix+t.Group)
		if t.Contender != "eventbus" {
			letters = eventbus.DeadLetterTopic(t.Topic, t.Group)
		}
		if w.sick > 0 {
			if err := d.create(ctx, letters); err != nil {
				return result{}, err
			}
		}
		defer d.drop(letters, eventbus.RetryTopic(t.Topic, t.Prefix+t.Group))
	} else {
		t.Prefix = fmt.Sprintf("%s-%d.", d.name, d.n)
		t.Topic = t.Prefix + topicName
		if err := d.create(ctx, t.Topic); err != nil {
			return result{}, err
		}
		defer d.drop(t.Topic)
	}
	return d.start(ctx, c, t)
}

// start runs the child.
func (d *driver) start(ctx context.Context, c contender, t task) (result, error) {
	argument, err := json.Marshal(t)
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*t.limit()+2*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	command, dir := []string{self, "child"}, ""
	if c.outside != nil {
		command, dir = c.outside.run, c.outside.dir
	}
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], string(argument))...) // #nosec G204 -- a command of ours
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("%w: %s", err, tail(stderr.String()))
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	var r result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		return result{}, fmt.Errorf("its result: %w: %s", err, tail(stdout.String()+stderr.String()))
	}
	if r.Events <= 0 || r.Seconds <= 0 || r.CPU <= 0 {
		return result{}, fmt.Errorf("it measured nothing: %+v", r)
	}
	return r, nil
}

// tail is what a failed child said at last.
func tail(s string) string {
	s = strings.TrimSpace(s)
	return s[max(len(s)-2_000, 0):]
}

func (d *driver) loadedPrefix(sick int) string { return fmt.Sprintf("%s-sick-%d.", d.name, sick) }

// prepareTopic makes the topic that consumers consume, and writes the events for a warm-up and a measurement, and as many as a client may have
// fetched beyond: it pays for them before the end of the topic.
func (d *driver) prepareTopic(ctx context.Context, sick int) error {
	topic := d.loadedPrefix(sick) + topicName
	if err := d.create(ctx, topic); err != nil || d.kfake {
		return err
	}
	var failed error
	for i := range d.warmup() + d.events + d.ahead() {
		key, value, err := encode(paymentOf(i, sick))
		if err != nil {
			return err
		}
		d.client.Produce(ctx, &kgo.Record{Topic: topic, Key: key, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil { // promises run one after the other
				failed = err
			}
		})
	}
	if err := d.client.Flush(ctx); err != nil {
		return err
	}
	return failed
}

// create makes a topic, and returns when each of its partitions has a leader. Its segments go from the disk soon after the topic.
func (d *driver) create(ctx context.Context, topic string) error {
	delay := "1000"
	if _, err := d.admin.CreateTopic(ctx, partitions, 1, map[string]*string{"file.delete.delay.ms": &delay}, topic); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	ready := func() bool {
		found, err := d.admin.ListTopics(ctx, topic)
		if err != nil || len(found[topic].Partitions) < partitions {
			return false
		}
		for _, p := range found[topic].Partitions {
			if p.Leader < 0 || p.Err != nil {
				return false
			}
		}
		return true
	}
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %s: %w", topic, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// drop deletes topics that may be there.
func (d *driver) drop(topics ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	deleted, err := d.admin.DeleteTopics(ctx, topics...)
	for _, t := range deleted {
		if t.Err != nil && !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			err = errors.Join(err, t.Err)
		}
	}
	if err != nil {
		fmt.Fprintln(d.log, "not deleted:", err)
	}
}

// close deletes what was loaded.
func (d *driver) close(chosen []work) {
	for _, sick := range loaded(chosen) {
		d.drop(d.loadedPrefix(sick) + topicName)
	}
	d.client.Close()
}
