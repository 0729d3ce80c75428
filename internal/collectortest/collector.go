package collectortest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// Collector is a running collector. Its methods may be called concurrently; Wait and
// Reopen, which can fail the test, from the goroutine that runs it.
type Collector struct {
	t    testing.TB
	cfg  config
	addr string
	done chan struct{} // closed by Close
	once sync.Once

	mu       sync.Mutex
	srv      *http.Server  // nil while refusing
	serving  chan struct{} // closed when srv has stopped listening
	busy     int           // connections open and requests under way
	idle     *sync.Cond    // busy has become 0
	fault    Fault
	left     int           // requests that fault still meets, 0 all
	healed   chan struct{} // closed when fault is replaced
	changed  chan struct{} // closed when the ledger changes
	ledger   map[spanID]int
	unique   int
	spans    []otlpwire.Span
	requests []Request
	received int
	rejected int
}

type config struct {
	listen   func() (net.Listener, error)
	tls      *tls.Config
	max      int64
	patience time.Duration
	idsOnly  bool
	numbered []uint8
	fault    Fault
}

// Option changes what Start starts.
type Option func(*config)

// OnListener serves on l, which the collector then owns, in place of a free loopback port.
func OnListener(l net.Listener) Option {
	return OnNetwork(func() (net.Listener, error) { return l, nil })
}

// OnNetwork serves on what listen returns, at the start and for each Reopen.
func OnNetwork(listen func() (net.Listener, error)) Option {
	return func(c *config) { c.listen = listen }
}

// WithTLS serves TLS alone. cfg needs a certificate: see SelfSigned.
func WithTLS(cfg *tls.Config) Option { return func(c *config) { c.tls = cfg } }

// MaxBytes bounds a request, which by default may have 4 MiB.
func MaxBytes(n int64) Option { return func(c *config) { c.max = n } }

// Patience is how long Wait waits, by default 10 s.
func Patience(d time.Duration) Option { return func(c *config) { c.patience = d } }

// LedgerOnly keeps ids and no spans or bodies, for millions of spans.
func LedgerOnly() Option { return func(c *config) { c.idsOnly = true } }

// Numbered is LedgerOnly for n spans whose ids end in the numbers 1 to n: a byte each,
// where a ledger of millions of ids would take the processor from what is measured.
func Numbered(n int) Option {
	return func(c *config) { c.idsOnly, c.numbered = true, make([]uint8, n+1) }
}

// Faulty starts with a fault in place.
func Faulty(f Fault) Option { return func(c *config) { c.fault = f } }

// Start starts a collector, which stops when the test and its subtests are over.
func Start(t testing.TB, opts ...Option) *Collector {
	t.Helper()
	cfg := config{patience: 10 * time.Second}
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.listen == nil {
		addr := "127.0.0.1:0"
		cfg.listen = func() (net.Listener, error) {
			l, err := net.Listen("tcp", addr)
			if err == nil {
				addr = l.Addr().String()
			}
			return l, err
		}
	}
	l, err := cfg.listen()
	if err != nil {
		t.Fatalf("collectortest: %v", err)
	}
	c := &Collector{
		t: t, cfg: cfg, addr: l.Addr().String(), done: make(chan struct{}),
		healed: make(chan struct{}), changed: make(chan struct{}), ledger: make(map[spanID]int),
	}
	c.idle = sync.NewCond(&c.mu)
	c.Set(cfg.fault)
	c.serve(l)
	t.Cleanup(c.Close)
	return c
}

// Addr is "127.0.0.1:port".
func (c *Collector) Addr() string { return c.addr }

// URL is the endpoint of either protocol: "http://127.0.0.1:port", https with TLS.
func (c *Collector) URL() string {
	if c.cfg.tls != nil {
		return "https://" + c.addr
	}
	return "http://" + c.addr
}

// TracesURL is the URL that OTLP/HTTP posts to.
func (c *Collector) TracesURL() string { return c.URL() + otlpreceiver.HTTPPath }

func (c *Collector) serve(l net.Listener) {
	if c.cfg.tls != nil {
		cfg := c.cfg.tls.Clone()
		cfg.NextProtos = []string{"h2", "http/1.1"}
		l = tls.NewListener(l, cfg)
	}
	srv := otlpreceiver.NewServer(http.HandlerFunc(c.handle))
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.add(1)
		case http.StateClosed:
			c.add(-1)
		}
	}
	serving := make(chan struct{})
	c.mu.Lock()
	c.srv, c.serving = srv, serving
	c.mu.Unlock()
	go func() {
		defer close(serving)
		_ = srv.Serve(l) // until it is closed
	}()
}

type connKey struct{}

// Refuse closes the port and every connection: connecting is refused until Reopen. It
// returns when the goroutines of these are gone.
func (c *Collector) Refuse() {
	c.mu.Lock()
	srv := c.srv
	c.srv = nil
	c.mu.Unlock()
	if srv == nil {
		return
	}
	_ = srv.Close()
	<-c.serving
	c.mu.Lock()
	for c.busy > 0 {
		c.idle.Wait()
	}
	c.mu.Unlock()
}

// Reopen listens on the same port again.
func (c *Collector) Reopen() {
	c.t.Helper()
	var l net.Listener
	var err error
	for range 50 { // the port may be the local end of somebody's connection for a moment
		if l, err = c.cfg.listen(); err == nil {
			c.serve(l)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("collectortest: reopening: %v", err)
}

// add counts what Refuse waits for.
func (c *Collector) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy += n; c.busy == 0 {
		c.idle.Broadcast()
	}
}

// Close stops the collector at once: requests under way get no answer. It need not be
// called.
func (c *Collector) Close() {
	c.once.Do(func() { close(c.done) })
	c.Refuse()
}

// handle serves one request under the fault in place.
func (c *Collector) handle(w http.ResponseWriter, r *http.Request) {
	c.add(1)
	defer c.add(-1)
	c.mu.Lock()
	goAway := c.fault.GoAway
	c.mu.Unlock()
	if goAway {
		w.Header().Set("Connection", "close") // over HTTP/2 net/http sends GOAWAY for it
	}
	h := otlpreceiver.Handler{
		MaxBytes: c.cfg.max,
		JSON:     true,
		Accept:   func(request []byte) error { return c.accept(r, request) },
	}
	h.ServeHTTP(w, r)
}
