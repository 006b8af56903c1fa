package main

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fake is a process that pretends to be a broker until its stdin ends: it forgets what is written, and every partition has events without end.
// It costs little, so that what is left is the client's own cost.
func fake() error {
	batch, err := fakeBatch()
	if err != nil {
		return err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BlackholeProduce(), kfake.SyntheticFetch(kfake.SyntheticBatch{Batch: batch}))
	if err != nil {
		return err
	}
	defer cluster.Close()
	fmt.Println(cluster.ListenAddrs()[0])
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// fakeBatch has an event of every key. A partition of a real topic has the keys of a twelfth.
func fakeBatch() ([]byte, error) {
	b := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: keys - 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: keys}
	for i, p := range payments {
		key, value, err := encode(p)
		if err != nil {
			return nil, err
		}
		r := kmsg.Record{OffsetDelta: int32(i), Key: key, Value: value} // #nosec G115 -- below keys
		r.Length = int32(len(r.AppendTo(nil)) - 1)                      // #nosec G115 -- a few hundred bytes; the length 0 takes one
		b.Records = r.AppendTo(b.Records)
	}
	raw := b.AppendTo(nil)
	b.Length = int32(len(raw) - 12)                                            // #nosec G115 -- some 100 kB; what is behind the length
	b.CRC = int32(crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli))) // #nosec G115 -- Kafka's type for these bits
	return b.AppendTo(nil), nil
}

// startFake starts it, and returns its address.
func startFake(ctx context.Context) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "fake") // #nosec G204 -- this program
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = stdin.Close(); _ = cmd.Wait() }
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("the fake broker did not start: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}
