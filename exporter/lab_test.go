package exporter

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// long says whether tests run in full, over all the seeds and spans that a goal names.
var long = os.Getenv("MESHTRACE_LONG") != ""

// inFull is a number of a goal: all of it in the long form, a quarter of the short one
// under the race detector, which is ten times as slow.
func inFull(short, full int) int {
	switch {
	case long:
		return full
	case raceEnabled:
		return max(1, short/4)
	}
	return short
}

// network is the way between an Exporter and a collector, in memory, so that both live in
// virtual time: a ten-minute outage takes milliseconds, and limits are exact.
type network struct {
	mu       sync.Mutex
	listener *pipeListener
	conns    map[*pipeConn]bool           // the collector's ends
	dials    []time.Time                  // attempts
	hole     atomic.Bool                  // what is sent vanishes, connecting takes for ever
	silent   atomic.Bool                  // connections that exist are dead; new ones live
	drip     atomic.Bool                  // the collector's bytes come one a second
	fails    atomic.Pointer[net.DNSError] // every attempt
}

// onNetwork starts a collector in memory; the returned Config lacks what the test is about.
func onNetwork(t *testing.T, p Protocol, opts ...collectortest.Option) (*network, *collectortest.Collector, Config) {
	t.Helper()
	n := &network{conns: make(map[*pipeConn]bool)}
	c := collectortest.Start(t, append([]collectortest.Option{
		collectortest.OnNetwork(n.listen), collectortest.LedgerOnly(), collectortest.Patience(20 * time.Minute),
	}, opts...)...)
	return n, c, Config{Endpoint: "http://collector:4317", Protocol: p, dial: n.dial}
}

type pipeListener struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (n *network) listen() (net.Listener, error) {
	l := &pipeListener{accept: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	n.listener = l
	n.mu.Unlock()
	return l, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string         { return "tcp" }
func (pipeAddr) String() string          { return "collector:4317" }
func (l *pipeListener) Addr() net.Addr   { return pipeAddr{} }
func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listener
	n.dials = append(n.dials, time.Now())
	n.mu.Unlock()
	if err := n.fails.Load(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	if n.hole.Load() {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	ours, theirs := net.Pipe()
	dead := new(atomic.Bool)
	server := &pipeConn{Conn: theirs, n: n, dead: dead, drips: true}
	client := &pipeConn{Conn: ours, n: n, dead: dead}
	select {
	case l.accept <- server:
	case <-l.closed:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	n.conns[server] = true
	n.mu.Unlock()
	return client, nil
}

// reset breaks every connection.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Conn.Close()
	}
	clear(n.conns)
}

// pipeConn is one end of a connection.
type pipeConn struct {
	net.Conn
	n     *network
	dead  *atomic.Bool // for good
	drips bool
}

// lost reports whether bytes vanish. A connection that lost some is dead for good.
func (c *pipeConn) lost() bool {
	if c.n.hole.Load() || c.n.silent.Load() {
		c.dead.Store(true)
	}
	return c.dead.Load()
}

func (c *pipeConn) Write(b []byte) (int, error) {
	if c.lost() {
		return len(b), nil
	}
	if !c.drips {
		return c.Conn.Write(b)
	}
	for i := range b {
		if !c.n.drip.Load() {
			n, err := c.Conn.Write(b[i:])
			return i + n, err
		}
		time.Sleep(time.Second)
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (c *pipeConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.ErrClosedPipe) {
		err = net.ErrClosed
	}
	return n, err
}

// produce ends n spans, rate a second, in steps of 10 ms. In virtual time it costs none:
// OnEnd waits for nothing.
func produce(t *testing.T, e *Exporter, from, n, rate int) {
	t.Helper()
	step := max(1, rate/100)
	for k := 0; k < n; k += step {
		began := time.Now()
		end(e, from+k, from+min(n, k+step))
		if d := time.Since(began); d != 0 {
			t.Errorf("ending %d spans takes %v of virtual time", step, d)
		}
		time.Sleep(time.Duration(step) * time.Second / time.Duration(rate))
	}
}

// inLab runs a test in virtual time over every protocol, once a seed.
func inLab(t *testing.T, seeds int, test func(t *testing.T, p Protocol, seed int)) {
	overAll(t, func(t *testing.T, p Protocol) {
		for seed := range seeds {
			synctest.Test(t, func(t *testing.T) { test(t, p, seed) })
		}
	})
}
