package propagation

import (
	"net/url"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
)

const (
	maxUberTraceID        = 32 + 1 + 16 + 1 + 16 + 1 + 2
	maxEncodedUberTraceID = 3 * maxUberTraceID
)

const (
	ruleJaegerLen   = "Jaeger, uber-trace-id: here at most 69 bytes, percent-encoded 207"
	ruleJaegerParts = `Jaeger, uber-trace-id: trace-id ":" span-id ":" parent-span-id ":" flags`
	ruleJaegerTrace = "Jaeger, trace-id: 1 to 32 hex digits, not all zero"
	ruleJaegerSpan  = "Jaeger, span-id: 1 to 16 hex digits, not all zero"
	ruleJaegerFlags = "Jaeger, flags: 1 or 2 hex digits"
)

// Bits of the flags. The others, such as firehose, have no counterpart.
const (
	jaegerSampled = 1
	jaegerDebug   = 2
)

// readJaeger reads uber-trace-id (P-2). Debug counts beside sampled alone, as the
// format has it. A jaeger-debug-id without uber-trace-id asks for a debug trace;
// jaeger-baggage is read with uber-trace-id and without.
func (x *reading) readJaeger(src *headers.Source, carrier otelprop.TextMapCarrier, bag *legacyBaggage) {
	v := src.First(&uberTraceIDHeader)
	if v == "" {
		if src.First(&jaegerDebugHeader) != "" {
			x.take(Jaeger, &span{}, Debug, trace.SpanID{})
		}
		bag.readList(src.First(&jaegerBaggageHeader))
		return
	}
	var p Parsed
	if offset, rule := p.parseJaeger(v); rule != "" {
		x.refuse(fault{uberTraceIDHeader.Lower, v, offset, rule})
		return
	}
	if sc := spanOf(&p.SpanContext); x.take(Jaeger, &sc, p.Sampling, p.Parent) {
		bag.readPrefixed(carrier, &uberBaggagePrefix, true)
		bag.readList(src.First(&jaegerBaggageHeader))
	}
}

// parseJaeger reads an uber-trace-id, percent-encoded or not. It returns the rule that
// v breaks and where, "" when it breaks none; p is of no use otherwise. A
// parent-span-id that is none is left out: the format calls it deprecated.
func (p *Parsed) parseJaeger(v string) (offset int, rule string) {
	if len(v) > maxEncodedUberTraceID {
		return maxEncodedUberTraceID, ruleJaegerLen
	}
	if strings.IndexByte(v, '%') >= 0 {
		if plain, err := url.PathUnescape(v); err == nil {
			v = plain
		}
	}
	if len(v) > maxUberTraceID {
		return maxUberTraceID, ruleJaegerLen
	}
	var ends [3]int // of the parts but the last
	n := 0
	for i := range len(v) {
		if v[i] == ':' {
			if n == len(ends) {
				return i, ruleJaegerParts
			}
			ends[n] = i
			n++
		}
	}
	if n < len(ends) {
		return len(v), ruleJaegerParts
	}
	c := trace.SpanContextConfig{Remote: true}
	if at, ok := decodePadded(c.TraceID[:], v[:ends[0]]); !ok || !c.TraceID.IsValid() {
		return at, ruleJaegerTrace
	}
	if at, ok := decodePadded(c.SpanID[:], v[ends[0]+1:ends[1]]); !ok || !c.SpanID.IsValid() {
		return ends[0] + 1 + at, ruleJaegerSpan
	}
	if _, ok := decodePadded(p.Parent[:], v[ends[1]+1:ends[2]]); !ok {
		p.Parent = trace.SpanID{}
	}
	var flags [1]byte
	if at, ok := decodePadded(flags[:], v[ends[2]+1:]); !ok {
		return ends[2] + 1 + at, ruleJaegerFlags
	}
	if flags[0]&jaegerSampled != 0 {
		c.TraceFlags = trace.FlagsSampled
		if flags[0]&jaegerDebug != 0 {
			p.Sampling = Debug
		}
	}
	p.SpanContext = trace.NewSpanContext(c)
	return 0, ""
}

// writeJaeger writes sc with 128 bits of trace id and no parent, as OpenTelemetry has
// it, and baggage.
func writeJaeger(k *sink, sc *span, sampling Sampling, items []item) {
	if !sc.valid {
		return
	}
	var buf [maxUberTraceID]byte
	b := appendHex(buf[:0], sc.TraceID[:])
	b = append(b, ':')
	b = appendHex(b, sc.SpanID[:])
	b = append(b, ":0:"...)
	switch {
	case sampling == Debug:
		b = append(b, '0'+jaegerSampled+jaegerDebug)
	case sc.TraceFlags.IsSampled():
		b = append(b, '0'+jaegerSampled)
	default:
		b = append(b, '0')
	}
	k.set(&uberTraceIDHeader, string(b))
	k.setPrefixed(&uberBaggagePrefix, items, true)
}
