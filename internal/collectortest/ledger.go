package collectortest

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// Request is one export as it came.
type Request struct {
	At     time.Time
	GRPC   bool
	JSON   bool
	Header http.Header
	Body   []byte // the ExportTraceServiceRequest; nil with LedgerOnly
	Spans  int
	Fault  bool // it met a fault
}

type spanID struct {
	trace trace.TraceID
	span  trace.SpanID
}

// arrived notes a request and returns how many spans it has.
func (c *Collector) arrived(r *http.Request, request []byte, f *Fault) (n int, err error) {
	if err := otlpwire.Scan(request, func(trace.TraceID, trace.SpanID) { n++ }); err != nil {
		return 0, err
	}
	req := Request{
		At: time.Now(), Header: r.Header.Clone(),
		GRPC:  strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"),
		JSON:  r.Header.Get("Content-Type") == "application/json",
		Spans: n, Fault: f.failing() || f.Delay > 0 || f.Answer != nil || f.Reject > 0 || f.Why != "",
	}
	if !c.cfg.idsOnly {
		req.Body = request
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, req)
	return n, nil
}

// record enters the first n spans of request into the ledger.
func (c *Collector) record(request []byte, n int) {
	var spans []otlpwire.Span
	if !c.cfg.idsOnly {
		spans, _ = otlpwire.Decode(request) // it was scanned before
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	_ = otlpwire.Scan(request, func(t trace.TraceID, s trace.SpanID) {
		defer func() { i++ }()
		if i >= n {
			c.rejected++
			return
		}
		c.received++
		if c.enter(t, s) == 1 {
			if c.unique++; spans != nil {
				c.spans = append(c.spans, spans[i])
			}
		}
	})
	close(c.changed)
	c.changed = make(chan struct{})
}

// enter counts a span and returns how often it was taken.
func (c *Collector) enter(t trace.TraceID, s trace.SpanID) int {
	if n := binary.BigEndian.Uint64(s[:]); n > 0 && n < uint64(len(c.cfg.numbered)) {
		c.cfg.numbered[n]++
		return int(c.cfg.numbered[n])
	}
	id := spanID{t, s}
	c.ledger[id]++
	return c.ledger[id]
}

// Spans returns the spans taken, each id once, in the order they came. It is nil with
// LedgerOnly. The slice is the caller's, what its spans refer to is shared.
func (c *Collector) Spans() []otlpwire.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Unique is how many different spans were taken.
func (c *Collector) Unique() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unique
}

// Duplicates is how many spans were taken again after they had been taken.
func (c *Collector) Duplicates() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received - c.unique
}

// Rejected is how many spans were refused for good in answers of partial success.
func (c *Collector) Rejected() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rejected
}

// Taken is how often the span was taken.
func (c *Collector) Taken(t trace.TraceID, s trace.SpanID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := binary.BigEndian.Uint64(s[:]); n < uint64(len(c.cfg.numbered)) {
		return int(c.cfg.numbered[n])
	}
	return c.ledger[spanID{t, s}]
}

// Requests returns the well-formed exports, in the order they came, whatever became of
// them.
func (c *Collector) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Wait waits until n different spans were taken, and fails the test when that takes
// longer than Patience.
func (c *Collector) Wait(n int) {
	c.t.Helper()
	timeout := time.After(c.cfg.patience)
	for {
		c.mu.Lock()
		unique, changed := c.unique, c.changed
		c.mu.Unlock()
		if unique >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			c.t.Fatalf("collectortest: %d spans after %v, want %d", unique, c.cfg.patience, n)
		}
	}
}
