package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a peer that runs beside the check.
type process struct {
	cmd    *exec.Cmd
	name   string
	output *tail
	done   chan struct{} // closed when the peer ended
	err    error         // valid after done
}

// start runs a peer until stop is called or ctx ends. env is added to the
// environment of this process.
func start(ctx context.Context, name string, env []string, path string, args ...string) (*process, error) {
	p := &process{name: name, output: &tail{max: 16 << 10}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 10 * time.Second // then it is killed
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the peer to end and waits until it has.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended by itself: %v\n%s", p.name, p.err, p.output)
		case <-time.After(time.Second):
			return fmt.Errorf("stopping %s: %w", p.name, err)
		}
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w\n%s", p.name, p.err, p.output)
		}
		return nil
	case <-time.After(20 * time.Second):
		killed := p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within 20 s of SIGTERM (killed: %v)\n%s", p.name, killed == nil, p.output)
	}
}

// listening waits until each address takes connections.
func (p *process) listening(ctx context.Context, addrs ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, addr := range addrs {
		for {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
			if err == nil {
				if err := conn.Close(); err != nil {
					return err
				}
				break
			}
			select {
			case <-p.done:
				return fmt.Errorf("%s ended before it listened on %s: %v\n%s", p.name, addr, p.err, p.output)
			case <-ctx.Done():
				return fmt.Errorf("%s does not listen on %s: %w\n%s", p.name, addr, err, p.output)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// freeAddress returns a loopback address on which nothing listened just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// tail is a writer that keeps the last max bytes. It may be used concurrently.
type tail struct {
	max int
	mu  sync.Mutex
	b   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > t.max {
		t.b = append(t.b[:0], t.b[len(t.b)-t.max:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
