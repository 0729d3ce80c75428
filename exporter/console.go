package exporter

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"io"
	"math"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

// Bounds of what a console keeps.
const (
	consoleTraces = 512
	consoleBytes  = 4 << 20
)

// Console returns a span processor that writes each trace to w as a tree, once all
// of its spans that this process started have ended. It is for a developer's
// terminal: the span that ends last waits for w.
//
// It keeps at most 512 traces and 4 MiB of ended spans. When there are more, the
// trace that is waiting longest is written unfinished; ForceFlush and Shutdown write
// all that are waiting so. A span larger than 4 MiB is left out, and Shutdown says how
// many there were. Writes to w are serial, one a trace; the first error that w gives
// is Shutdown's.
func Console(w io.Writer) sdktrace.SpanProcessor {
	return &console{w: w, traces: make(map[trace.TraceID]*list.Element)}
}

type console struct {
	w      io.Writer
	groups groups

	mu      sync.Mutex
	traces  map[trace.TraceID]*list.Element // of *consoleTrace
	order   list.List                       // by first start
	bytes   int
	dropped uint64
	closed  bool
	err     error
}

type consoleTrace struct {
	id    trace.TraceID
	live  int // started here and not ended
	spans []consoleSpan
	bytes int
}

type consoleSpan struct {
	group *group
	body  []byte
}

func (c *console) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	sc := s.SpanContext()
	if !sc.IsSampled() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.open(sc.TraceID()).live++
	}
}

// open returns the trace of this id, and makes room for a new one.
func (c *console) open(id trace.TraceID) *consoleTrace {
	if el, ok := c.traces[id]; ok {
		return el.Value.(*consoleTrace)
	}
	if c.order.Len() >= consoleTraces {
		c.forget(c.order.Front())
	}
	t := &consoleTrace{id: id}
	c.traces[id] = c.order.PushBack(t)
	return t
}

func (c *console) OnEnd(s sdktrace.ReadOnlySpan) {
	sc := s.SpanContext()
	if !sc.IsSampled() {
		return
	}
	body, _ := otlpwire.AppendSpan(nil, s)
	g := c.groups.of(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	t := c.open(sc.TraceID())
	t.live-- // below 0 when it was evicted since, or never seen to start
	if len(body) > consoleBytes {
		c.dropped++
	} else {
		t.spans = append(t.spans, consoleSpan{g, body})
		t.bytes += len(body)
		c.bytes += len(body)
	}
	if t.live <= 0 {
		c.forget(c.traces[t.id])
	}
	for el := c.order.Front(); c.bytes > consoleBytes; el = el.Next() {
		c.write(el.Value.(*consoleTrace))
	}
}

func (c *console) forget(el *list.Element) {
	t := c.order.Remove(el).(*consoleTrace)
	delete(c.traces, t.id)
	c.write(t)
}

// write writes what has ended of a trace.
func (c *console) write(t *consoleTrace) {
	if len(t.spans) == 0 {
		return
	}
	var b otlpwire.Batch
	for _, s := range t.spans {
		b.Add(s.group.def, s.body, math.MaxInt)
	}
	c.bytes -= t.bytes
	t.spans, t.bytes = nil, 0
	spans, err := otlpwire.Decode(b.AppendTo(nil))
	if err != nil {
		c.dropped += uint64(b.Len())
		return
	}
	var out bytes.Buffer
	for _, tree := range tracetree.Build(spans) {
		tree.Print(&out) // a Buffer takes everything
	}
	if t.live > 0 {
		fmt.Fprintf(&out, "  … %d %s of this trace had not ended\n", t.live, plural(uint64(t.live), "span", "spans"))
	}
	c.print(out.Bytes())
}

func (c *console) print(b []byte) {
	defer func() {
		if v := recover(); v != nil && c.err == nil {
			c.err = fmt.Errorf("exporter: console: the writer panicked: %s", oneLine(fmt.Sprint(v), 200))
		}
	}()
	if _, err := c.w.Write(b); err != nil && c.err == nil {
		c.err = fmt.Errorf("exporter: console: %w", err)
	}
}

func (c *console) ForceFlush(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for el := c.order.Front(); el != nil; el = el.Next() {
		c.write(el.Value.(*consoleTrace))
	}
	return c.err
}

func (c *console) Shutdown(ctx context.Context) error {
	err := c.ForceFlush(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.dropped > 0 {
		c.print(fmt.Appendf(nil, "%d %s too large to be shown\n", c.dropped, plural(c.dropped, "span was", "spans were")))
	}
	c.closed = true
	return err
}
