package reqctx

import (
	"context"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// spanKey is the key under which OpenTelemetry looks for the current span. It does not
// export it, but asks every context for it, so that a context can learn it and be the
// span's node itself: WithValue's costs an allocation more on each request. nil is
// unknown, and then OpenTelemetry makes its own nodes.
var spanKey = learnSpanKey()

// asked is a context that remembers what it was asked for.
type asked struct {
	context.Context
	keys []any
}

func (a *asked) Value(k any) any {
	a.keys = append(a.keys, k)
	return nil
}

// learnSpanKey returns what trace.SpanFromContext asks for, nil unless that is one
// thing and a span under it is found again.
func learnSpanKey() any {
	a := &asked{Context: context.Background()}
	trace.SpanFromContext(a)
	if len(a.keys) != 1 {
		return nil
	}
	span := trace.Span(&Span{})
	if trace.SpanFromContext(context.WithValue(context.Background(), a.keys[0], span)) != span {
		return nil
	}
	return a.keys[0]
}

// Span is a span that carries ids and records nothing. The zero value has none.
type Span struct {
	silent
	sc *trace.SpanContext
}

// silent does nothing. It holds a pointer and not the noop.Span of 80 bytes, which
// only answers for methods that OpenTelemetry may yet add.
type silent struct{ *noop.Span }

// Carrying returns a Span of *sc, which nobody changes afterwards.
func Carrying(sc *trace.SpanContext) Span { return Span{silence, sc} }

var silence = silent{new(noop.Span)}

// SpanContext returns the ids that travel.
func (s *Span) SpanContext() trace.SpanContext {
	if s.sc == nil {
		return trace.SpanContext{}
	}
	return *s.sc
}

// WithSpan returns a context below s whose current span is span, for OpenTelemetry. It
// is s itself, so it is called before s is shared, and once.
func (s *State) WithSpan(span trace.Span) context.Context {
	if spanKey == nil {
		return trace.ContextWithSpan(s, span)
	}
	s.current = span
	return s
}

// Remote is a context node with a caller's span and the little that is said beside it,
// for who needs no State. It is a quarter of one in size, and is the span as well.
type Remote struct {
	context.Context // the parent
	silent
	traceID    trace.TraceID
	spanID     trace.SpanID
	tracestate trace.TraceState
	flags      trace.TraceFlags
	sampling   uint8
}

// WithRemote returns a context below ctx whose current span is the remote one of sc,
// and for which SamplingFrom answers sampling, a propagation.Sampling.
func WithRemote(ctx context.Context, sc *trace.SpanContextConfig, sampling uint8) context.Context {
	r := &Remote{ctx, silence, sc.TraceID, sc.SpanID, sc.TraceState, sc.TraceFlags, sampling}
	if spanKey == nil {
		return trace.ContextWithSpan(r, r)
	}
	return r
}

// SpanContext returns the caller's ids.
func (r *Remote) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: r.traceID, SpanID: r.spanID, TraceFlags: r.flags, TraceState: r.tracestate, Remote: true,
	})
}

// Value answers for the node itself without allocating, else asks the parent.
func (r *Remote) Value(k any) any {
	switch k {
	case samplingKey{}:
		return &r.sampling
	case spanKey: // never nil: WithValue refuses it
		return r
	}
	return r.Context.Value(k)
}

// samplingKey is the context key of what the innermost headers say beyond
// OpenTelemetry's flag, as a *uint8 that nobody writes.
type samplingKey struct{}

// SamplingFrom returns what the headers of the request around ctx say beyond
// OpenTelemetry's flag, as a propagation.Sampling; 0 is unstated.
func SamplingFrom(ctx context.Context) uint8 {
	if p, ok := ctx.Value(samplingKey{}).(*uint8); ok {
		return *p
	}
	return 0
}
