package propagation

import (
	"context"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// Inject writes the context in ctx to carrier: the span context in the formats of
// Config.Inject, baggage, the headers of Config.Forward, and the ids of the request
// around ctx.
//
// b3, x-b3-* and uber-trace-id carry the debug state on while the span is sampled;
// b3 and x-b3-* a state without ids, or a deferred decision, where ctx has neither
// span nor decision since. An x-request-id that carrier has already stays, unless it
// is the same id with the digit of another decision; so does a header of
// Config.Forward.
//
// Trace headers of formats that are read and not written are removed from a
// HeaderCarrier and a MapCarrier as soon as a span context is written, so that no
// stale one goes on beside it (B-13); so is a tracestate that the span context does
// not have. Nothing with a control byte in it is written, nor more than 8 KiB of
// tracestate, 1 KiB of x-ot-span-context, or 64 members and 8,192 bytes of baggage.
//
// With Config.Strict nothing is removed, and for a request whose trace headers were
// refused no trace context is written; see there.
func (p *Propagator) Inject(ctx context.Context, carrier otelprop.TextMapCarrier) {
	var k sink
	if !k.reset(carrier) {
		return
	}
	s := reqctx.From(ctx)
	var b baggage.Baggage
	if p.writeBaggage {
		b = baggage.FromContext(ctx)
	}
	k.values = p.foresee(s, b.Len() > 0)
	if len(p.inject) > 0 && (s == nil || !s.Null) { // W-6, B-9
		p.writeTrace(ctx, &k, s)
	}
	if b.Len() > 0 {
		if v := baggageValue(b, s); v != "" {
			k.set(&baggageHeader, v)
		}
	}
	if s != nil {
		if p.ids {
			writeIDs(s, &k)
		}
		writeForward(&k, p.forward, s.Forward)
	}
}

// foresee returns how many headers there are to write for the request whose state is s,
// a tracestate left aside.
func (p *Propagator) foresee(s *reqctx.State, bag bool) int {
	n := p.values
	if bag {
		n++
	}
	if p.ids && s != nil {
		if s.RequestID != "" {
			n++
		}
		if s.HasClientTraceID {
			n++
		}
	}
	return max(n, 1)
}

func (p *Propagator) writeTrace(ctx context.Context, k *sink, s *reqctx.State) {
	current := trace.SpanContextFromContext(ctx)
	sc, sampling := spanOf(&current), Unstated
	if s != nil {
		sampling = outgoing(&sc, s)
	}
	if !sc.valid && sampling == Unstated {
		return
	}
	var items []item
	if sc.valid {
		k.removeStale(p.stale)
		if p.writeItems {
			if b := baggage.FromContext(ctx); b.Len() > 0 {
				items = outgoingItems(b, s)
			}
		}
	}
	for _, f := range p.inject {
		switch f {
		case TraceContext:
			if sc.valid {
				writeTraceContext(k, &sc, s)
			}
		case B3:
			var b [maxB3Len]byte
			k.set(&b3Header, string(appendB3(b[:0], &sc, b3Out(&sc, sampling), trace.SpanID{})))
		case B3Multi:
			writeB3Multi(k, &sc, sampling)
		case OTSpanContext:
			writeOTSpanContext(ctx, k, &sc, s, items, p.zipkinText)
		case OTTrace:
			writeOTTrace(k, &sc, sampling, items)
		case Jaeger:
			writeJaeger(k, &sc, sampling, items)
		case envoyFormat:
			p.envoyOut.write(ctx, k, &sc, sampling, s)
		}
	}
}

// outgoing returns what B3 is to say beside the flag of sc in the request whose state
// is s.
func outgoing(sc *span, s *reqctx.State) Sampling {
	sampling := Sampling(s.Sampling)
	if !sc.valid {
		if sampling == Deferred {
			return Unstated
		}
		return sampling
	}
	switch sampling {
	case Debug:
		if sc.TraceFlags.IsSampled() {
			return Debug
		}
	case Deferred: // until somebody decided, the caller's ids go on as they came
		if _, decided := s.Decision(); sc.Remote && !decided {
			return Deferred
		}
	}
	return Unstated
}

func writeTraceContext(k *sink, sc *span, s *reqctx.State) {
	state, came := arrivedTracestate(sc, s)
	if !came && sc.TraceState.Len() > 0 {
		writeTracestate(k, sc)
		return
	}
	if came {
		k.expect()
	}
	var b [traceparentLen]byte
	putTraceparent(&b, sc, supportedFlags)
	k.set(&traceparentHeader, string(b[:]))
	if came {
		k.set(&tracestateHeader, state)
	} else {
		k.remove(&tracestateHeader)
	}
}

// writeTracestate writes traceparent and tracestate, both in one string.
func writeTracestate(k *sink, sc *span) {
	var usual [256]byte // longer ones grow on the heap
	b := usual[:traceparentLen]
	putTraceparent((*[traceparentLen]byte)(b), sc, supportedFlags)
	all := string(appendTracestate(b, sc.TraceState))
	k.expect()
	k.set(&traceparentHeader, all[:traceparentLen])
	k.set(&tracestateHeader, all[traceparentLen:])
}

// outgoingTracestate returns the tracestate of sc in the request whose state is s.
func outgoingTracestate(sc *span, s *reqctx.State) string {
	if state, came := arrivedTracestate(sc, s); came {
		return state
	}
	var usual [usualTracestate]byte // longer ones grow on the heap
	return string(appendTracestate(usual[:0], sc.TraceState))
}

// arrivedTracestate returns what came with the request whose state is s. It goes on as
// it came, members among them that no TraceState can hold, while sc is of the caller's
// trace and nobody has changed its TraceState, and else is false.
func arrivedTracestate(sc *span, s *reqctx.State) (string, bool) {
	if s == nil || s.Tracestate == "" || sc.TraceID != s.Remote.TraceID() || !sameTracestate(sc.TraceState, s.Remote.TraceState()) {
		return "", false
	}
	return s.Tracestate, true
}

// stateText returns a state of B3 as a string that costs nothing.
func stateText(state byte) string {
	if state == '1' {
		return "1"
	}
	return "0"
}

func writeB3Multi(k *sink, sc *span, sampling Sampling) {
	if sc.valid {
		var b [32 + 16]byte
		putHex(b[:], sc.TraceID[:8])
		putHex(b[16:], sc.TraceID[8:])
		putHex(b[32:], sc.SpanID[:])
		ids := string(b[:])
		k.set(&b3TraceIDHeader, ids[:32])
		k.set(&b3SpanIDHeader, ids[32:])
	} else {
		k.remove(&b3TraceIDHeader)
		k.remove(&b3SpanIDHeader)
	}
	k.remove(&b3ParentHeader)
	switch state := b3Out(sc, sampling); state {
	case 'd': // debug implies accept, so x-b3-sampled is not sent
		k.set(&b3FlagsHeader, "1")
		k.remove(&b3SampledHeader)
		return
	case 0:
		k.remove(&b3SampledHeader)
	default:
		k.set(&b3SampledHeader, stateText(state))
	}
	k.remove(&b3FlagsHeader)
}
