package propagation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

// Config says which formats are read and which are written. The zero value reads
// W3C, B3 and x-ot-span-context and writes traceparent, tracestate and baggage.
type Config struct {
	// Extract are the formats to read, tried in this order; the first that names a
	// span wins. Baggage stands beside the others, its place does not matter. nil is
	// TraceContext, B3, B3Multi, OTSpanContext, Baggage; empty is none. OTTrace and
	// Jaeger are read only where they are listed. Repeated formats count once.
	Extract []Format
	// Inject are the formats to write. nil is TraceContext and Baggage; empty is none.
	// Repeated formats count once.
	Inject []Format
	// Strict reads and writes W3C and B3 as Envoy 1.40 does, where that is not what the
	// specifications say. Each list stands for one of Envoy's tracers:
	//
	//	TraceContext                the OpenTelemetry tracer
	//	B3, B3Multi                 the Zipkin tracer
	//	TraceContext, B3, B3Multi   the Zipkin tracer, USE_B3_WITH_W3C_PROPAGATION
	//
	// in any order. In: the first line of a header counts (O-4); W-1 to W-5, B-1 to
	// B-8, B-10; what is refused makes Extraction.Null (W-6, B-9). Out: a traceparent
	// has the sampled flag alone (W-8); the OpenTelemetry tracer writes a tracestate
	// always, as it came, and an empty one where there is none (W-9); a request with a
	// b3 is answered with b3, every other with x-b3-* (B-13), of which a list without B3
	// makes always x-b3-*, Envoy before 1.40, and one without B3Multi always b3; trace
	// ids whose upper half is zero have 16 digits there (B-14), debug is 1 (B-3), and
	// the parent goes along; with W3C in the list a traceparent stands beside, and
	// tracestate is left alone (B-15). Nothing is removed from a carrier.
	//
	// The other formats are as without Strict, and have their place in the list:
	// OTSpanContext in front of B3 is Envoy's Zipkin tracer up to 1.5 (O-Z4). What named
	// a span, or was refused, ends the reading, so that Extraction.Other stays empty.
	// Ids of zero, with which Envoy goes on (B-8), begin a new trace.
	Strict bool
	// ZipkinText writes x-ot-span-context in the form of Envoy's Zipkin tracer, 1.5
	// (O-Z1), instead of LightStep's. Both forms are read.
	ZipkinText bool
	// Forward are further headers that travel from a request that came in to those
	// that go out, such as a tenant's name. A header that an outgoing request has
	// already stays. At most 64 names, which this Propagator does not read or write
	// itself, and which do not belong to one connection or message. Of a request at
	// most 64 lines and 8,192 bytes of names and values travel.
	Forward []string
	// NoRequestID keeps x-request-id and x-client-trace-id from travelling; without
	// it they do, whatever the two lists hold.
	NoRequestID bool
}

// Propagator reads context from headers and writes it into headers. It is an
// OpenTelemetry TextMapPropagator, is made by New or RequestID, and is safe for
// concurrent use.
type Propagator struct {
	extract []Format      // without Baggage; an envoyFormat for those of envoyIn
	inject  []Format      // likewise
	stale   []staleHeader // of trace formats that are read and not written
	forward []headers.Name
	fields  []string
	values  int // headers that a span context usually takes

	envoyIn, envoyOut envoyTracer // with Config.Strict

	readBaggage, writeBaggage, ids, strict, zipkinText bool

	writeItems bool // a format with baggage of its own is written
}

var _ otelprop.TextMapPropagator = (*Propagator)(nil)

// New returns a Propagator for cfg. The error joins one for each value in the lists
// of formats that is no Format, and for each name in Forward that cannot travel.
func New(cfg Config) (*Propagator, error) {
	errs := []error{checkFormats("Extract", cfg.Extract), checkFormats("Inject", cfg.Inject)}
	if cfg.Extract == nil {
		cfg.Extract = defaultExtract[:]
	}
	if cfg.Inject == nil {
		cfg.Inject = defaultInject[:]
	}
	p := &Propagator{ids: !cfg.NoRequestID, strict: cfg.Strict, zipkinText: cfg.ZipkinText}
	var err error
	p.forward, err = checkForward(cfg.Forward, slices.Concat(cfg.Extract, cfg.Inject), p.ids)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	p.extract, p.envoyIn, p.readBaggage = plan(cfg.Extract, cfg.Strict)
	p.inject, p.envoyOut, p.writeBaggage = plan(cfg.Inject, cfg.Strict)
	for _, f := range p.extract {
		if !cfg.Strict && !slices.Contains(p.inject, f) {
			p.stale = append(p.stale, f.stale()...)
		}
	}
	for _, f := range p.inject {
		p.values += usualHeaders(f, p.envoyOut)
		p.writeItems = p.writeItems || f == OTTrace || f == Jaeger || f == OTSpanContext && !cfg.ZipkinText
	}
	p.fields = p.writes(cfg.Inject)
	return p, nil
}

// usualHeaders returns how many headers a sampled span takes in format f.
func usualHeaders(f Format, tracer envoyTracer) int {
	switch {
	case f == B3Multi || f == OTTrace:
		return 3
	case f != envoyFormat:
		return 1
	case tracer.zipkin() && tracer.w3c:
		return 5
	case tracer.zipkin():
		return 4
	}
	return 2
}

// plan returns the formats of list, each once and without Baggage. With strict one
// envoyFormat stands in the place of the first of those that tracer has.
func plan(list []Format, strict bool) (formats []Format, tracer envoyTracer, bag bool) {
	for _, f := range list {
		if strict && tracer.add(f) {
			f = envoyFormat
		}
		switch {
		case f == Baggage:
			bag = true
		case !slices.Contains(formats, f):
			formats = append(formats, f)
		}
	}
	return formats, tracer, bag
}

// RequestID returns a Propagator of the ids alone, x-request-id and
// x-client-trace-id, to put beside other propagators in a composite.
func RequestID() *Propagator {
	p := &Propagator{ids: true}
	p.fields = p.writes(nil)
	return p
}

func checkFormats(field string, list []Format) error {
	var errs []error
	for i, f := range list {
		if !f.valid() {
			errs = append(errs, fmt.Errorf("propagation: Config.%s[%d] is %v: allowed are %s", field, i, f, allowedFormats))
		}
	}
	return errors.Join(errs...)
}

// writes returns the names of the headers that p, which writes formats, may set, in
// lower case.
func (p *Propagator) writes(formats []Format) []string {
	var names []string
	for _, f := range formats {
		for _, h := range f.headers() {
			switch h {
			case b3ParentHeader, b3FlagsHeader: // the one in Strict alone, the other not then
				if p.strict != (h == b3ParentHeader) {
					continue
				}
			case tracestateHeader:
				if p.envoyOut.w3c && p.envoyOut.zipkin() { // B-15
					continue
				}
			case jaegerDebugHeader, jaegerBaggageHeader, baggageHeader: // read, or below
				continue
			}
			if !slices.Contains(names, h.Lower) {
				names = append(names, h.Lower)
			}
		}
	}
	if p.writeBaggage {
		names = append(names, baggageHeader.Lower)
	}
	if p.ids {
		names = append(names, headers.RequestID.Lower, headers.ClientTraceID.Lower)
	}
	for i := range p.forward {
		names = append(names, p.forward[i].Lower)
	}
	return names
}

// Fields returns the names of the headers that Inject may set, in lower case, but
// those of ot-baggage-* and uberctx-*, which depend on the baggage. The slice is the
// caller's.
func (p *Propagator) Fields() []string { return slices.Clone(p.fields) }

// Extract returns ctx with what carrier holds: a remote span context, baggage, and
// the request's ids and sampling state, from which Inject and SamplingFromContext
// answer. Headers that are malformed count as absent; Read tells about them. Where
// carrier holds nothing ctx is returned as it is.
//
// The middleware of this module does not use Extract; it is for this Propagator
// inside other instrumentation. Where the middleware serves the very request that
// carrier is of, ctx has all of it and more, and is returned as it is. Called inside of
// a request that is served already, with other headers, it starts the state of a new
// one, which has from the old what carrier does not say: ids, force-trace and sampling
// state, but neither decision nor server span.
func (p *Propagator) Extract(ctx context.Context, carrier otelprop.TextMapCarrier) context.Context {
	if s := reqctx.From(ctx); s != nil && s.Served && headers.Same(s.Carrier, carrier) {
		return ctx
	}
	var x reading
	var src headers.Source
	src.Reset(carrier)
	p.read(&x, &src, carrier)
	if x.Baggage.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, x.Baggage) // below the state, see baggageValue
	}
	var in headers.IDs
	if p.ids {
		in = readIDs(&src)
	}
	switch {
	case p.needsState(ctx, &x) || in != (headers.IDs{}):
	case x.span.valid:
		return reqctx.WithRemote(ctx, &x.span.SpanContextConfig, uint8(x.Sampling))
	default:
		return ctx
	}
	e := &extracted{State: reqctx.State{
		Context:          ctx,
		RequestID:        in.Request,
		ClientTraceID:    in.ClientTrace,
		HasClientTraceID: in.HasClientTrace,
		ForceTrace:       in.Force,
		Sampling:         uint8(x.Sampling),
		Format:           uint8(x.Format),
		Null:             x.Null,
		Remote:           x.span.context(),
		B3Parent:         x.Parent,
		Tracestate:       x.Tracestate,
		Forward:          x.Forward,
		Carrier:          carrier,
	}}
	e.inherit(ctx)
	if !x.span.valid {
		return &e.State
	}
	e.caller = reqctx.Carrying(&e.Remote)
	return e.WithSpan(&e.caller)
}

// extracted is the state that Extract puts around a context, with the caller's span, in
// one allocation.
type extracted struct {
	reqctx.State
	caller reqctx.Span
}

// needsState reports whether what x says takes more than the caller's span to keep.
func (p *Propagator) needsState(ctx context.Context, x *reading) bool {
	valid := x.span.valid
	switch {
	case x.Tracestate != "" || x.Forward != nil || x.Null || x.Parent.IsValid():
		return true
	case valid && (p.ids || p.strict):
		return true
	case valid && (x.Sampling == Accept || x.Sampling == Deny): // what the flag says as well
		return reqctx.From(ctx) != nil
	}
	return x.Sampling != Unstated
}

// inherit gives e what its carrier did not say and the request around ctx knows.
func (e *extracted) inherit(ctx context.Context) {
	s, old := &e.State, reqctx.From(ctx)
	said := s.Sampling != uint8(Unstated) || s.Remote.IsValid() || s.Null
	if old == nil {
		if !said {
			s.Sampling = reqctx.SamplingFrom(ctx)
		}
		return
	}
	if s.RequestID == "" {
		s.RequestID = string(requestid.FromContext(ctx)) // with the digit of old's decision
	}
	if !s.HasClientTraceID {
		s.ClientTraceID, s.HasClientTraceID = old.ClientTraceID, old.HasClientTraceID
	}
	s.ForceTrace = s.ForceTrace || old.ForceTrace
	if !said {
		s.Sampling, s.Remote, s.Format, s.Null = old.Sampling, old.Remote, old.Format, old.Null
		s.B3Parent, s.Tracestate = old.B3Parent, old.Tracestate
	}
	if s.Forward == nil {
		s.Forward = old.Forward
	}
}
