package sampler

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

// ShouldSample answers the SDK: RecordAndSample for what is traced, Drop for what
// is not, with the tracestate of the parent.
//
// A span with a parent in this process follows its flag. Else the decision that
// was already made for the request around p.ParentContext holds. Else it is made
// here: from the request id and headers that a Propagator left in the context,
// and is left there in turn, so that the id goes out with the right digit; without
// those from p.TraceID. A decision made here adds its Why to the span.
//
// Where Base is asked, its RecordOnly, attributes and tracestate are kept. It
// does not allocate unless there is a Base or a Rule with a header.
func (s *Sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.ParentContext == nil {
		p.ParentContext = context.Background()
	}
	parent := trace.SpanContextFromContext(p.ParentContext)
	if parent.IsValid() && !parent.IsRemote() {
		if s.cfg.AskAlways && s.cfg.Base != nil && spawned(p.ParentContext, reqctx.From(p.ParentContext)) { // W-16
			return s.cfg.Base.ShouldSample(p)
		}
		return result(parent.IsSampled(), parent)
	}
	state := reqctx.From(p.ParentContext)
	if state != nil {
		if d, ok := state.Decision(); ok {
			res := result(d.Traced, parent)
			if a := state.Answer; a != nil && state.Span == nil { // the request's own span
				res.Attributes, res.Tracestate = a.Attributes, a.TraceState
			}
			return res
		}
	}
	return s.shouldSample(&p, parent, state)
}

// shouldSample decides about a span for which nobody did. It is apart because it takes
// room on the stack, and most spans have a decision.
func (s *Sampler) shouldSample(p *sdktrace.SamplingParameters, parent trace.SpanContext, state *reqctx.State) sdktrace.SamplingResult {
	r := Request{Parent: parent, Trace: p.TraceID}
	s.describe(&r, p, state)
	v := s.decide(&r, p)
	s.Count(v.Decision)
	d := v.Decision
	if state != nil && !state.SetDecision(reqctx.Decision{
		Traced: d.Traced, Write: d.Write, Reason: uint8(d.Reason), Why: uint8(d.Why),
	}) {
		d, _ := state.Decision() // another span of the request was first
		return result(d.Traced, parent)
	}
	res := result(d.Traced, parent)
	switch d.Why {
	case BaseTraces, BaseDoesNot:
		res = v.Base
		res.Attributes = append(v.Base.Attributes[:len(v.Base.Attributes):len(v.Base.Attributes)], s.attributes[d.Why]...)
	default:
		res.Attributes = s.attributes[d.Why]
		if v.Asked {
			res.Tracestate = v.Base.Tracestate // W-17
		}
	}
	return res
}

// spawned tells whether the span to start is that of a gateway's upstream call, and
// not held back by a limit, which Envoy does not have.
func spawned(ctx context.Context, state *reqctx.State) bool {
	if _, ok := ctx.(*reqctx.Spawn); !ok {
		return false
	}
	if state == nil {
		return true
	}
	d, _ := state.Decision()
	return Why(d.Why) != Limited
}

// describe puts into r what state knows, and what rules are matched with.
func (s *Sampler) describe(r *Request, p *sdktrace.SamplingParameters, state *reqctx.State) {
	if len(s.cfg.Rules) > 0 {
		r.Method, r.Route = routing(p.Attributes)
	}
	if state == nil {
		return
	}
	r.ID = requestid.ID(state.RequestID)
	r.Client, r.Force = state.HasClientTraceID, state.ForceTrace
	r.Sampling = propagation.Sampling(state.Sampling)
	if route := state.Route(); route != "" {
		r.Route = route
	}
	if s.headerRule && state.Carrier != nil {
		r.Header = state.Carrier.Get
	}
}

// routing finds what a Rule is matched with among the attributes of a new span.
func routing(attributes []attribute.KeyValue) (method, route string) {
	for i := range attributes {
		switch a := &attributes[i]; a.Key {
		case semconv.HTTPRequestMethod:
			method = a.Value.AsString()
		case semconv.HTTPRoute:
			route = a.Value.AsString()
		case semconv.RPCMethod: // package.Service/Method
			if v := a.Value.AsString(); strings.Contains(v, "/") {
				route = "/" + strings.TrimPrefix(v, "/")
			}
		}
	}
	return method, route
}

func result(traced bool, parent trace.SpanContext) sdktrace.SamplingResult {
	r := sdktrace.SamplingResult{Tracestate: parent.TraceState()}
	if traced {
		r.Decision = sdktrace.RecordAndSample
	}
	return r
}
