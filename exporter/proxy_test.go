package exporter

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy is a TCP proxy that can turn into a black hole: what comes in on a connection is read
// and goes nowhere. A connection that was swallowed once stays dead.
type proxy struct {
	l    net.Listener
	to   string
	dead atomic.Bool
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string      { return p.l.Addr().String() }
func (p *proxy) swallow(dead bool) { p.dead.Store(dead) }

func (p *proxy) serve() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		var lost atomic.Bool
		p.wg.Go(func() { p.pipe(out, in, &lost) })
		p.wg.Go(func() { p.pipe(in, out, &lost) })
	}
}

func (p *proxy) pipe(dst io.WriteCloser, src io.Reader, lost *atomic.Bool) {
	defer dst.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if p.dead.Load() {
			lost.Store(true)
		}
		if n > 0 && !lost.Load() {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
