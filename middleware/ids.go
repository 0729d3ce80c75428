package middleware

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/propagation"
)

// newTraceID returns a random trace id. Ids are no secrets, so they come from the
// fast generator.
func newTraceID() trace.TraceID {
	var id trace.TraceID
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

// newSpanID returns a random span id.
func newSpanID() trace.SpanID {
	var id trace.SpanID
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// Zipkin makes ids as Envoy's Zipkin tracer makes them. The zero value is that
// tracer's default: a server span is the caller's own, and a new trace has an id of
// 64 bits. It says nothing about headers; see WithZipkin.
//
// An id of 64 bits is an OpenTelemetry trace id whose upper half is zero. It goes out
// with 16 digits in b3 and x-b3-* under propagation.Config.Strict (B-14), and with 32
// everywhere else. Samplers of a ratio that look at the last 8 bytes, as the SDK's
// does, sample such ids as they sample others. sampler.EnvoyTraceIDRatio looks at the
// first 8, which are zero: use TraceID128 with it.
type Zipkin struct {
	// NotShared gives a server span an id of its own, below the caller's:
	// shared_span_context: false. Without it a server span takes over the id of the
	// caller's span, and the parent of that (B-11), where the caller's context came in
	// b3 or x-b3-*, or with propagation.Config.Strict in a traceparent (B-15). Client
	// spans always have ids of their own.
	NotShared bool
	// TraceID128 makes trace ids of 128 bits, of which the lower half is the id of the
	// first span: trace_id_128bit (B-12). Without it the trace id is that span id.
	TraceID128 bool
	// TimestampTraceIDs puts the seconds since 1970 into the first 32 bits of a trace
	// id, of 64 or 128 bits: timestamp_trace_ids (B-12). With 64 bits a sampler of a
	// ratio sees little but the time in them, so TraceID128 belongs to it.
	TimestampTraceIDs bool
}

// String says in a few words how z makes ids.
func (z Zipkin) String() string {
	s := "ids of 64 bits"
	if z.TraceID128 {
		s = "ids of 128 bits"
	}
	if z.TimestampTraceIDs {
		s += ", with the time"
	}
	if z.NotShared {
		return s + ", no shared spans"
	}
	return s + ", shared spans"
}

// newIDs returns the ids of a new trace and of its first span (B-12).
func (z *Zipkin) newIDs() (t trace.TraceID, s trace.SpanID) {
	s = newSpanID()
	if z.TimestampTraceIDs && !z.TraceID128 {
		putSeconds(s[:])
	}
	copy(t[8:], s[:])
	if z.TraceID128 {
		high := newSpanID() // not zero, or it would shrink (B-14)
		if z.TimestampTraceIDs {
			putSeconds(high[:])
		}
		copy(t[:8], high[:])
	}
	return t, s
}

func putSeconds(id []byte) { binary.BigEndian.PutUint32(id, uint32(time.Now().Unix())) }

// shares tells whether a server span is the caller's own, whose context came in format
// f (B-11).
func (t *Tracing) shares(f propagation.Format) bool {
	if t.zipkin == nil || t.zipkin.NotShared {
		return false
	}
	switch f {
	case propagation.B3, propagation.B3Multi:
		return true
	case propagation.TraceContext:
		return t.strict // B-15
	}
	return false
}

// newIDs returns the ids of a new trace; a span id of zero is any other than those
// that exist.
func (t *Tracing) newIDs() (trace.TraceID, trace.SpanID) {
	if t.zipkin != nil {
		return t.zipkin.newIDs()
	}
	return newTraceID(), trace.SpanID{}
}

// idGenerator gives the SDK its ids: those that a request was decided by, where there
// are such. zipkin may be nil.
type idGenerator struct{ zipkin *Zipkin }

var _ sdktrace.IDGenerator = idGenerator{}

// NewIDs returns the ids of a root span.
func (g idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	// Once the request has its span, a further root is a trace of its own.
	if s := reqctx.From(ctx); s != nil && s.TraceID.IsValid() && s.Span == nil {
		if s.SpanID.IsValid() {
			return s.TraceID, s.SpanID
		}
		return s.TraceID, newSpanID()
	}
	if g.zipkin != nil {
		return g.zipkin.newIDs()
	}
	return newTraceID(), newSpanID()
}

// NewSpanID returns the id of a child span: for a server span that is the caller's
// own, the caller's (B-11).
func (g idGenerator) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if g.zipkin == nil || g.zipkin.NotShared {
		return newSpanID()
	}
	// What the request's own span is started under tells it from others of the request.
	if c, ok := trace.SpanFromContext(ctx).(*sharedParent); ok {
		return c.spanID
	}
	return newSpanID()
}

// sharedParent stands above a server span that is the caller's own: it has the parent
// of that span, which may be none.
type sharedParent struct {
	untracedSpan
	spanID trace.SpanID // the caller's
}

// untracedChild is the span of an attempt in a request that is not traced.
type untracedChild struct {
	untracedSpan
	parent trace.SpanContext
}

// Parent tells the propagator what B3 says of it.
func (c *untracedChild) Parent() trace.SpanContext { return c.parent }
