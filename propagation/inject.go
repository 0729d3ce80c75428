package propagation

import (
	"context"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// Inject writes the context in ctx to carrier: the span context in the formats of
// Config.Inject, baggage, and the ids of the request around ctx.
//
// b3 and x-b3-* carry the debug state on while the span is sampled, and a state
// without ids, or a deferred decision, where ctx has neither span nor decision since.
// An x-request-id that carrier has already stays, unless it is the same id with
// the digit of another decision.
//
// Trace headers of formats that are read and not written are removed from a
// HeaderCarrier and a MapCarrier as soon as a span context is written, so that no
// stale one goes on beside it (B-13); so is a tracestate that the span context does
// not have. Nothing with a control byte in it is written, nor more than 8 KiB of
// tracestate, or 64 members and 8,192 bytes of baggage.
func (p *Propagator) Inject(ctx context.Context, carrier otelprop.TextMapCarrier) {
	k, ok := newSink(carrier)
	if !ok {
		return
	}
	s := reqctx.From(ctx)
	if len(p.inject) > 0 {
		p.writeTrace(&k, trace.SpanContextFromContext(ctx), s)
	}
	if p.writeBaggage {
		if b := baggage.FromContext(ctx); b.Len() > 0 {
			if v := baggageValue(b, s); v != "" {
				k.set(&baggageHeader, v)
			}
		}
	}
	if p.ids && s != nil {
		writeIDs(ctx, s, &k)
	}
}

func (p *Propagator) writeTrace(k *sink, sc trace.SpanContext, s *reqctx.State) {
	sampling := outgoing(sc, s)
	if !sc.IsValid() && sampling == Unstated {
		return
	}
	if sc.IsValid() {
		for i := range p.stale {
			k.remove(&p.stale[i])
		}
	}
	for _, f := range p.inject {
		switch f {
		case TraceContext:
			writeTraceContext(k, sc)
		case B3:
			var b [maxB3Len]byte
			k.set(&b3Header, string(AppendB3(b[:0], Parsed{SpanContext: sc, Sampling: sampling})))
		case B3Multi:
			writeB3Multi(k, sc, sampling)
		}
	}
}

// outgoing returns what B3 is to say beside the flag of sc.
func outgoing(sc trace.SpanContext, s *reqctx.State) Sampling {
	if s == nil {
		return Unstated
	}
	sampling := Sampling(s.Sampling)
	if !sc.IsValid() {
		if sampling == Deferred {
			return Unstated
		}
		return sampling
	}
	switch sampling {
	case Debug:
		if sc.IsSampled() {
			return Debug
		}
	case Deferred: // until somebody decided, the caller's ids go on as they came
		if _, decided := s.Decision(); sc.IsRemote() && !decided {
			return Deferred
		}
	}
	return Unstated
}

func writeTraceContext(k *sink, sc trace.SpanContext) {
	if !sc.IsValid() {
		return
	}
	var b [traceparentLen]byte
	k.set(&traceparentHeader, string(AppendTraceparent(b[:0], sc)))
	if sc.TraceState().Len() == 0 {
		k.remove(&tracestateHeader)
	} else if v := tracestateValue(sc.TraceState()); v != "" {
		k.set(&tracestateHeader, v)
	}
}

func writeB3Multi(k *sink, sc trace.SpanContext, sampling Sampling) {
	if sc.IsValid() {
		traceID, spanID := sc.TraceID(), sc.SpanID()
		var b [32 + 16]byte
		ids := string(appendHex(appendHex(b[:0], traceID[:]), spanID[:]))
		k.set(&b3TraceIDHeader, ids[:32])
		k.set(&b3SpanIDHeader, ids[32:])
	} else {
		k.remove(&b3TraceIDHeader)
		k.remove(&b3SpanIDHeader)
	}
	k.remove(&b3ParentHeader)
	switch b3Out(sc, sampling) {
	case 'd': // debug implies accept, so x-b3-sampled is not sent
		k.set(&b3FlagsHeader, "1")
		k.remove(&b3SampledHeader)
		return
	case '1':
		k.set(&b3SampledHeader, "1")
	case '0':
		k.set(&b3SampledHeader, "0")
	default:
		k.remove(&b3SampledHeader)
	}
	k.remove(&b3FlagsHeader)
}
