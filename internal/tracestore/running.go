package tracestore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// maxRunning bounds the calls that a Running knows at once: a program whose spans never
// end must not fill the memory for a page.
const maxRunning = 1000

// Running is an sdktrace.SpanProcessor that knows the calls which began and have not
// ended: spans of every kind but INTERNAL, from Activate on. The zero value is ready.
type Running struct {
	active atomic.Bool

	mu    sync.Mutex
	calls map[runningKey]sdktrace.ReadOnlySpan
}

type runningKey struct {
	trace trace.TraceID
	span  trace.SpanID
}

var _ sdktrace.SpanProcessor = (*Running)(nil)

// Activate begins to know the calls that start from now on.
func (r *Running) Activate() { r.active.Store(true) }

// OnStart notes s. Of more than 1,000 calls at once the first ones are known.
func (r *Running) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	if !r.active.Load() || s.SpanKind() == trace.SpanKindInternal {
		return
	}
	sc := s.SpanContext()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = make(map[runningKey]sdktrace.ReadOnlySpan)
	}
	if len(r.calls) < maxRunning {
		r.calls[runningKey{sc.TraceID(), sc.SpanID()}] = s
	}
}

// OnEnd forgets s.
func (r *Running) OnEnd(s sdktrace.ReadOnlySpan) {
	if !r.active.Load() || s.SpanKind() == trace.SpanKindInternal {
		return
	}
	sc := s.SpanContext()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.calls, runningKey{sc.TraceID(), sc.SpanID()})
}

// Oldest returns at most n calls under way, the oldest first, and how many there are.
func (r *Running) Oldest(n int) ([]sdktrace.ReadOnlySpan, int) {
	r.mu.Lock()
	list := make([]sdktrace.ReadOnlySpan, 0, len(r.calls))
	for _, s := range r.calls {
		list = append(list, s)
	}
	r.mu.Unlock() // spans have locks of their own
	slices.SortFunc(list, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return list[:min(n, len(list))], len(list)
}

// Has reports whether a call of the trace is under way.
func (r *Running) Has(id trace.TraceID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.calls {
		if k.trace == id {
			return true
		}
	}
	return false
}

// ForceFlush does nothing.
func (r *Running) ForceFlush(context.Context) error { return nil }

// Shutdown forgets all.
func (r *Running) Shutdown(context.Context) error {
	r.active.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
	return nil
}
