package propagation

import (
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
)

const (
	ruleOTTrace   = "basictracer, ot-tracer-traceid: 1 to 32 hex digits, not all zero"
	ruleOTSpan    = "basictracer, ot-tracer-spanid: 1 to 16 hex digits, not all zero"
	ruleOTSampled = "basictracer, ot-tracer-sampled: true, false, 1 or 0"
	ruleOTIDs     = "basictracer, identifiers: ot-tracer-traceid and ot-tracer-spanid together"
)

// readOTTrace reads ot-tracer-* with the tolerance of all libraries that write them
// (P-1): ids without the zeros in front, an absent ot-tracer-sampled, which then
// leaves the decision to this hop. An ot-tracer-sampled alone says nothing.
func (x *reading) readOTTrace(src *headers.Source, carrier otelprop.TextMapCarrier, bag *legacyBaggage) {
	traceID, spanID := src.First(&otTraceIDHeader), src.First(&otSpanIDHeader)
	if traceID == "" && spanID == "" {
		return
	}
	c := trace.SpanContextConfig{Remote: true}
	sampling := Unstated
	sampled := src.First(&otSampledHeader)
	switch {
	case sampled == "":
		sampling = Deferred
	case sampled == "1" || strings.EqualFold(sampled, "true"):
		c.TraceFlags = trace.FlagsSampled
	case sampled != "0" && !strings.EqualFold(sampled, "false"):
		x.refuse(fault{otSampledHeader.Lower, sampled, 0, ruleOTSampled})
		return
	}
	switch {
	case traceID == "":
		x.refuse(fault{otTraceIDHeader.Lower, "", 0, ruleOTIDs})
		return
	case spanID == "":
		x.refuse(fault{otSpanIDHeader.Lower, "", 0, ruleOTIDs})
		return
	}
	if at, ok := decodePadded(c.TraceID[:], traceID); !ok || !c.TraceID.IsValid() {
		x.refuse(fault{otTraceIDHeader.Lower, traceID, at, ruleOTTrace})
		return
	}
	if at, ok := decodePadded(c.SpanID[:], spanID); !ok || !c.SpanID.IsValid() {
		x.refuse(fault{otSpanIDHeader.Lower, spanID, at, ruleOTSpan})
		return
	}
	if sc := (span{c, true}); x.take(OTTrace, &sc, sampling, trace.SpanID{}) {
		bag.readPrefixed(carrier, &otBaggagePrefix, false)
	}
}

// writeOTTrace writes sc with the last 64 bits of its trace id, all that the readers
// of this format can have in common, and baggage.
func writeOTTrace(k *sink, sc *span, sampling Sampling, items []item) {
	if [8]byte(sc.TraceID[8:]) == ([8]byte{}) || !sc.valid {
		return
	}
	var b [16 + 16]byte
	ids := string(appendHex(appendHex(b[:0], sc.TraceID[8:]), sc.SpanID[:]))
	k.set(&otTraceIDHeader, ids[:16])
	k.set(&otSpanIDHeader, ids[16:])
	switch {
	case sampling == Deferred:
		k.remove(&otSampledHeader)
	case sc.TraceFlags.IsSampled():
		k.set(&otSampledHeader, "true")
	default:
		k.set(&otSampledHeader, "false")
	}
	k.setPrefixed(&otBaggagePrefix, items, false)
}
