package itest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// neighbour is a TypeScript service as a process. It does what it is told on stdin, a line a command, and ends when that is closed: also
// when the test is killed.
type neighbour struct {
	t      *testing.T
	street *street
	in     io.WriteCloser
	said   *bytes.Buffer // on stderr; read it when the process has ended
	over   chan struct{} // closed then
	result error

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

// neighbour starts a service; it is stopped at the end.
func (s *street) neighbour() *neighbour {
	cmd := exec.Command("node", neighbourProgram)
	cmd.Env = append(os.Environ(), "KAFKA_BROKERS="+strings.Join(s.brokers, ","), "KAFKA_TOPIC_PREFIX="+s.prefix, "SERVICE=typescript-service")
	n := &neighbour{t: s.t, street: s, said: &bytes.Buffer{}, over: make(chan struct{}), waiting: map[int]chan reply{}}
	cmd.Stderr = n.said
	out, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	n.in, err = cmd.StdinPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	go func() {
		defer close(n.over)
		n.listen(out)
		n.result = cmd.Wait()
	}()
	s.t.Cleanup(func() {
		n.stop()
		if s.t.Failed() {
			s.t.Logf("the TypeScript service said:\n%s", n.said)
		}
		require.NoError(s.t, n.result, "the TypeScript service's end")
	})
	return n
}

func (n *neighbour) listen(out io.Reader) {
	for lines := json.NewDecoder(out); ; {
		var r reply
		if lines.Decode(&r) != nil {
			return
		}
		n.mu.Lock()
		n.waiting[r.ID] <- r
		delete(n.waiting, r.ID)
		n.mu.Unlock()
	}
}

// stop ends the process as the end of the test does, and waits for it.
func (n *neighbour) stop() {
	_ = n.in.Close()
	select {
	case <-n.over:
	case <-time.After(time.Minute): // it gives itself 20 s
		n.t.Fatal("the TypeScript service does not end when its stdin does")
	}
}

// command is what the service is told, with the fields of its main.ts.
type command map[string]any

// try tells the service to do something and waits for the answer, which is put into result.
func (n *neighbour) try(do string, c command, result any) error {
	answer := make(chan reply, 1)
	n.mu.Lock()
	n.last++
	line := command{"id": n.last, "do": do}
	n.waiting[n.last] = answer
	n.mu.Unlock()
	for name, value := range c {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := n.in.Write(append(text, '\n')); err != nil {
		return err
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return fmt.Errorf("%s: %s", do, r.Error)
		}
		return json.Unmarshal(r.Result, result)
	case <-n.over:
		return fmt.Errorf("%s: the service has ended: %w", do, n.result)
	case <-n.street.ctx.Done():
		return fmt.Errorf("%s: no answer: %w", do, n.street.ctx.Err())
	}
}

func (n *neighbour) do(do string, c command, result any) {
	n.t.Helper()
	require.NoError(n.t, n.try(do, c, result))
}

// subscribe starts a member of a group.
func (n *neighbour) subscribe(group string, more command, topics ...string) {
	n.t.Helper()
	c := command{"group": group, "topics": topics}
	for name, value := range more {
		c[name] = value
	}
	n.do("subscribe", c, new(any))
}

// unsubscribe ends the member: it has committed what it has handled, and has left.
func (n *neighbour) unsubscribe(group string) {
	n.t.Helper()
	n.do("unsubscribe", command{"group": group}, new(any))
}

// seen is an event that the service's handler got.
type seen struct {
	Topic      string   `json:"topic"`
	Partition  int32    `json:"partition"`
	Offset     int64    `json:"offset"`
	Key        []byte   `json:"key"`
	EventID    string   `json:"eventId"`
	RetryCount int      `json:"retryCount"`
	Problems   []string `json:"problems"`
	Failed     bool     `json:"failed"`
	Value      []byte   `json:"value"`
}

// handled are the events that the group's member here got, from one on.
func (n *neighbour) handled(group string, from int) []seen {
	n.t.Helper()
	var all []seen
	n.do("handled", command{"group": group, "from": from}, &all)
	return all
}

type tally struct {
	Handled int      `json:"handled"`
	Crashes []string `json:"crashes"` // of its consumers
}

func (n *neighbour) count(group string) tally {
	n.t.Helper()
	var c tally
	n.do("count", command{"group": group}, &c)
	return c
}

// await waits until the group's member here got so many events.
func (n *neighbour) await(group string, events int) {
	n.t.Helper()
	n.street.eventually("the TypeScript service's events", func() (bool, string) {
		c := n.count(group)
		require.Empty(n.t, c.Crashes, "its consumer crashed")
		return c.Handled >= events, fmt.Sprintf("%d of %d", c.Handled, events)
	})
}
