package propagation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

// Config says which formats are read and which are written. The zero value reads
// every format and writes traceparent, tracestate and baggage.
type Config struct {
	// Extract are the formats to read, tried in this order; the first that names a
	// span wins. Baggage stands beside the others, its place does not matter. nil is
	// TraceContext, B3, B3Multi, Baggage; empty is none. Repeated formats count once.
	Extract []Format
	// Inject are the formats to write. nil is TraceContext and Baggage; empty is none.
	// Repeated formats count once.
	Inject []Format
	// NoRequestID keeps x-request-id and x-client-trace-id from travelling; without
	// it they do, whatever the two lists hold.
	NoRequestID bool
}

// Propagator reads context from headers and writes it into headers. It is an
// OpenTelemetry TextMapPropagator, is made by New or RequestID, and is safe for
// concurrent use.
type Propagator struct {
	extract []Format       // without Baggage
	inject  []Format       // without Baggage
	stale   []headers.Name // of trace formats that are read and not written
	fields  []string

	readBaggage, writeBaggage, ids bool
}

var _ otelprop.TextMapPropagator = (*Propagator)(nil)

// New returns a Propagator for cfg. The error joins one for each value in the lists
// that is no Format.
func New(cfg Config) (*Propagator, error) {
	if err := errors.Join(checkFormats("Extract", cfg.Extract), checkFormats("Inject", cfg.Inject)); err != nil {
		return nil, err
	}
	if cfg.Extract == nil {
		cfg.Extract = formats[:]
	}
	if cfg.Inject == nil {
		cfg.Inject = []Format{TraceContext, Baggage}
	}
	p := &Propagator{ids: !cfg.NoRequestID}
	for _, f := range cfg.Extract {
		switch {
		case f == Baggage:
			p.readBaggage = true
		case !slices.Contains(p.extract, f):
			p.extract = append(p.extract, f)
		}
	}
	for _, f := range cfg.Inject {
		switch {
		case f == Baggage:
			p.writeBaggage = true
		case !slices.Contains(p.inject, f):
			p.inject = append(p.inject, f)
		}
	}
	for _, f := range p.extract {
		if !slices.Contains(p.inject, f) {
			p.stale = append(p.stale, f.headers()...)
		}
	}
	p.fields = p.writes()
	return p, nil
}

// RequestID returns a Propagator of the ids alone, x-request-id and
// x-client-trace-id, to put beside other propagators in a composite.
func RequestID() *Propagator {
	p := &Propagator{ids: true}
	p.fields = p.writes()
	return p
}

func checkFormats(field string, list []Format) error {
	var errs []error
	for i, f := range list {
		if !f.valid() {
			errs = append(errs, fmt.Errorf("propagation: Config.%s[%d] is %v: allowed are TraceContext, B3, B3Multi, Baggage", field, i, f))
		}
	}
	return errors.Join(errs...)
}

// writes returns the names of the headers that p may set, in lower case.
func (p *Propagator) writes() []string {
	var names []string
	for _, f := range p.inject {
		for _, h := range f.headers() {
			if h != b3ParentHeader { // read, never written
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
	return names
}

// Fields returns the names of the headers that Inject may set, in lower case. The
// slice is the caller's.
func (p *Propagator) Fields() []string { return slices.Clone(p.fields) }

// Extract returns ctx with what carrier holds: a remote span context, baggage, and
// the request's ids and sampling state, from which Inject and SamplingFromContext
// answer. Headers that are malformed count as absent; Read tells about them. Where
// carrier holds nothing ctx is returned as it is.
//
// The middleware of this module does not use Extract; it is for this Propagator
// inside other instrumentation. Called inside of a request that is served already
// it starts the state of a new one, which has from the old what carrier does not
// say: ids, force-trace and sampling state, but neither decision nor server span.
func (p *Propagator) Extract(ctx context.Context, carrier otelprop.TextMapCarrier) context.Context {
	x := p.Read(carrier)
	if x.Baggage.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, x.Baggage) // below the state, see baggageValue
	}
	if s := p.state(ctx, carrier, &x); s != nil {
		ctx = s
	}
	if x.SpanContext.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, x.SpanContext)
	}
	return ctx
}

// state returns the state that Extract puts around ctx, nil when there is nothing to
// keep in one.
func (p *Propagator) state(ctx context.Context, carrier otelprop.TextMapCarrier, x *Extraction) *reqctx.State {
	var in headers.IDs
	found := x.Sampling != Unstated
	if p.ids {
		src := headers.NewSource(carrier)
		in = readIDs(&src)
		found = found || in != (headers.IDs{}) || x.SpanContext.IsValid()
	}
	if !found {
		return nil
	}
	s := &reqctx.State{
		Context:          ctx,
		RequestID:        in.Request,
		ClientTraceID:    in.ClientTrace,
		HasClientTraceID: in.HasClientTrace,
		ForceTrace:       in.Force,
		Sampling:         uint8(x.Sampling),
		Remote:           x.SpanContext,
		Carrier:          carrier,
	}
	if old := reqctx.From(ctx); old != nil {
		inherit(s, old)
	}
	return s
}

// inherit gives s what its carrier did not say and old, around it, knows.
func inherit(s, old *reqctx.State) {
	if s.RequestID == "" {
		s.RequestID = string(requestid.FromContext(s.Context)) // with the digit of old's decision
	}
	if !s.HasClientTraceID {
		s.ClientTraceID, s.HasClientTraceID = old.ClientTraceID, old.HasClientTraceID
	}
	s.ForceTrace = s.ForceTrace || old.ForceTrace
	if s.Sampling == uint8(Unstated) && !s.Remote.IsValid() {
		s.Sampling, s.Remote = old.Sampling, old.Remote
	}
}
