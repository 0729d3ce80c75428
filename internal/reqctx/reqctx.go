package reqctx

import (
	"context"
	"net/http"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// State is what is known of one request. It is itself the context node that
// carries it, so a request pays one allocation for all of it.
//
// The creator fills the exported fields before the node is shared and nobody
// writes them afterwards. Decision, route and error are the exceptions: they are
// written through methods, atomically, by whoever holds the context.
//
// A State is not copied; Derive makes another one of the same request.
type State struct {
	context.Context // the parent

	// RequestID is the travelling x-request-id, reason digit included; "" is none.
	RequestID string
	// ClientTraceID is the value of x-client-trace-id. HasClientTraceID tells an
	// empty value from an absent header: presence counts (D-11).
	ClientTraceID    string
	HasClientTraceID bool
	// ForceTrace is the presence of x-envoy-force-trace (D-11).
	ForceTrace bool
	// Sampling is what the trace headers say beyond OpenTelemetry's flag, as a
	// propagation.Sampling; 0 is unstated.
	Sampling uint8

	// Format is where Remote and Sampling came from, as a propagation.Format; 0 is
	// nowhere.
	Format uint8
	// Null is the state of a request whose trace headers were refused the way Envoy
	// refuses them (W-6, B-9): it has no span, and no trace context is written for it.
	Null bool
	// Served is set once middleware serves the request; other instrumentation may have
	// read its headers before.
	Served bool

	// Remote is the caller's span context as extracted; invalid when there is none.
	Remote trace.SpanContext
	// B3Parent is the parent of the caller's span, B3's ParentSpanId; zero when
	// there is none.
	B3Parent trace.SpanID
	// Tracestate is what goes on in the place of Remote's TraceState, which cannot hold
	// all of it, while nobody changes that; "" otherwise.
	Tracestate string
	// Forward are further headers that travel on, in the spelling of http.Header;
	// nil when there are none. Nobody writes it.
	Forward http.Header
	// TraceID is the id that a new trace is to have; zero leaves it to the provider.
	// The decision may rest on it, and is made before the span exists.
	TraceID trace.TraceID
	// SpanID is the id that the request's own span is to have, as TraceID is; zero
	// leaves it to the provider. It is the caller's where they share a span (B-11).
	SpanID trace.SpanID
	// Answer is what the program's own sampler said to the decision; nil when it was
	// not asked. Nobody writes it.
	Answer *Answer
	// Carrier holds the headers as they arrived; nil when there were none.
	Carrier otelprop.TextMapCarrier

	// Span is the server span around the request; nil when the request is not traced.
	Span trace.Span

	current trace.Span // what OpenTelemetry finds here; nil: what it finds in the parent

	// Gateway is what a gateway knows of the request beside this; nil in a service. It
	// belongs to package middleware.
	Gateway any

	origin *State // whose cells are written; nil: own ones
	cells  cells
}

// Answer is what a sampler says beside yes or no.
type Answer struct {
	Attributes []attribute.KeyValue
	TraceState trace.TraceState
}

// Spawn is a context under which a gateway starts the span of a call that it passes
// on.
type Spawn struct{ context.Context }

// cells are written after the node is shared.
type cells struct {
	decision atomic.Uint32
	route    atomic.Pointer[string]
	failure  atomic.Pointer[error]
}

// Derive returns a node over ctx that knows what s knows and is of the same
// request: decision, route and error that are written through one of the two are
// read through the other. The caller may change the exported fields before it
// shares the node. ctx is s or one of its children.
func (s *State) Derive(ctx context.Context) *State {
	origin := s.origin
	if origin == nil {
		origin = s
	}
	return &State{
		Context:          ctx,
		RequestID:        s.RequestID,
		ClientTraceID:    s.ClientTraceID,
		HasClientTraceID: s.HasClientTraceID,
		ForceTrace:       s.ForceTrace,
		Sampling:         s.Sampling,
		Format:           s.Format,
		Null:             s.Null,
		Served:           s.Served,
		Remote:           s.Remote,
		B3Parent:         s.B3Parent,
		Tracestate:       s.Tracestate,
		Forward:          s.Forward,
		TraceID:          s.TraceID,
		SpanID:           s.SpanID,
		Answer:           s.Answer,
		Carrier:          s.Carrier,
		Span:             s.Span,
		Gateway:          s.Gateway,
		origin:           origin,
	}
}

// shared returns the cells of the request.
func (s *State) shared() *cells {
	if s.origin != nil {
		return &s.origin.cells
	}
	return &s.cells
}

// key is the context key of State.
type key struct{}

// Value answers for the node itself without allocating, else asks the parent.
func (s *State) Value(k any) any {
	switch {
	case k == key{}:
		return s
	case s.current != nil && k == spanKey:
		return s.current
	case k == samplingKey{} && (s.Carrier != nil || s.Sampling != 0):
		return &s.Sampling
	}
	return s.Context.Value(k)
}

// From returns the State of the request around ctx, or nil.
func From(ctx context.Context) *State {
	s, _ := ctx.Value(key{}).(*State)
	return s
}

// Decision is a sampling decision in the form that crosses package borders.
// Reason is a requestid.Reason, Why a sampler.Why.
type Decision struct {
	Traced, Write bool
	Reason, Why   uint8
}

const (
	decided = 1 << iota
	traced
	write
)

// SetDecision records d unless the request was decided before, and tells whether
// it did.
func (s *State) SetDecision(d Decision) bool {
	v := uint32(decided) | uint32(d.Reason)<<8 | uint32(d.Why)<<16
	if d.Traced {
		v |= traced
	}
	if d.Write {
		v |= write
	}
	return s.shared().decision.CompareAndSwap(0, v)
}

// Decision returns the decision of the request; false when none was made.
func (s *State) Decision() (Decision, bool) {
	v := s.shared().decision.Load()
	return Decision{
		Traced: v&traced != 0,
		Write:  v&write != 0,
		Reason: uint8(v >> 8),
		Why:    uint8(v >> 16),
	}, v&decided != 0
}

// SetRoute records the route of the request; the last call counts.
func (s *State) SetRoute(route string) { s.shared().route.Store(&route) }

// Route returns the route set by SetRoute, "" when none was.
func (s *State) Route() string {
	if r := s.shared().route.Load(); r != nil {
		return *r
	}
	return ""
}

// SetError marks the request as failed whatever its status says; the last
// error counts.
func (s *State) SetError(err error) { s.shared().failure.Store(&err) }

// Error returns the error set by SetError, nil when none was.
func (s *State) Error() error {
	if e := s.shared().failure.Load(); e != nil {
		return *e
	}
	return nil
}
