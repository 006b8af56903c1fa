package itest_test

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// roleVariable has a child's role as JSON.
const roleVariable = "EVENTBUS_ITEST_ROLE"

// process is a publisher or a member of the group: this binary, once more.
type process struct {
	t     *testing.T
	role  role
	cmd   *exec.Cmd
	stdin io.Closer // the child ends in good order when it is closed, by us or by our own end
	ended chan struct{}
	err   error // once ended
}

// startProcess starts a child that ends with the test at the latest.
func startProcess(t *testing.T, r role) *process {
	text, err := json.Marshal(r)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	output, err := os.Create(r.Ledger + ".log")
	require.NoError(t, err)
	p := &process{t: t, role: r, cmd: exec.Command(exe), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
		_ = output.Close()
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process at once and waits for that.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// tell has the process end in good order.
func (p *process) tell() { _ = p.stdin.Close() }

// end waits for that, and fails the test where it does not come or is not in good order.
func (p *process) end() {
	p.tell()
	select {
	case <-p.ended:
	case <-time.After(2 * time.Minute):
		require.Fail(p.t, "a process does not end", "%s: %s", p.role.Name, p.output())
	}
	require.NoError(p.t, p.err, "%s: %s", p.role.Name, p.output())
}

func (p *process) output() string {
	text, _ := os.ReadFile(p.role.Ledger + ".log")
	return string(text[max(0, len(text)-4000):])
}

// script runs one of the repository's scripts.
func script(t *testing.T, name string, args ...string) {
	path, err := filepath.Abs(filepath.Join("..", "..", "scripts", name))
	require.NoError(t, err)
	output, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(t, err, "scripts/%s %v: %s", name, args, output)
}
