package propagation

import (
	"context"
	"encoding/binary"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// envoyTracer is which of Envoy's tracers a list of formats stands for with
// Config.Strict: w3c alone is the OpenTelemetry tracer, one or both of the others the
// Zipkin tracer, and w3c with them the Zipkin tracer with W3C beside B3 (B-15).
type envoyTracer struct{ w3c, b3, b3Multi bool }

// envoyFormat stands in Propagator.extract for the formats of an envoyTracer.
const envoyFormat Format = 0xff

func (t *envoyTracer) add(f Format) bool {
	switch f {
	case TraceContext:
		t.w3c = true
	case B3:
		t.b3 = true
	case B3Multi:
		t.b3Multi = true
	default:
		return false
	}
	return true
}

func (t envoyTracer) zipkin() bool { return t.b3 || t.b3Multi }

// What Envoy says when it refuses a header (W-7, B-9), without the value in it.
const (
	ruleEnvoyLen     = "Envoy, Invalid traceparent header length: exactly 55 bytes"
	ruleEnvoyHyphens = "Envoy, Invalid traceparent hyphenation: four parts that are not empty"
	ruleEnvoySizes   = "Envoy, Invalid traceparent field sizes: 2, 32, 16 and 2 digits"
	ruleEnvoyHex     = "Envoy, Invalid header hex: hex digits of either case"
	ruleEnvoyTrace   = "Envoy, Invalid trace id: not all zero"
	ruleEnvoyParent  = "Envoy, Invalid parent id: not all zero"

	ruleEnvoyB3Empty    = "Envoy, Invalid input: empty"
	ruleEnvoyB3Short    = "Envoy, Invalid input: truncated"
	ruleEnvoyB3Long     = "Envoy, Invalid input: too long: at most 68 bytes"
	ruleEnvoyB3Trace    = "Envoy, Invalid input: invalid trace id"
	ruleEnvoyB3NoSpan   = "Envoy, Invalid input: not exists span id"
	ruleEnvoyB3Span     = "Envoy, Invalid input: invalid span id"
	ruleEnvoyB3NoState  = "Envoy, Invalid input: not exists sampling field"
	ruleEnvoyB3State    = "Envoy, Invalid input: invalid sampling flag"
	ruleEnvoyB3Parent   = "Envoy, Invalid input: invalid parent id"
	ruleEnvoyMultiTrace = "Envoy, Invalid trace_id: 32 hex digits, or a hex number of 64 bits"
	ruleEnvoyMultiSpan  = "Envoy, Invalid span id: a hex number of 64 bits"
	ruleEnvoyMultiUp    = "Envoy, Invalid parent span id: a hex number of 64 bits"

	ruleEnvoyZero       = "OpenTelemetry, SpanContext: ids are not all zero"
	ruleEnvoyTracestate = "Trace Context, tracestate limits: here at most 8192 bytes over all lines, no control bytes but tab"
	ruleEnvoyLines      = "Envoy, max_headers_count: at most 100 lines"
)

// maxEnvoyLines is how many header lines Envoy takes of a request where nothing else is
// set (core.v3.HttpProtocolOptions.max_headers_count). To join thousands costs more than
// the request they came with.
const maxEnvoyLines = 100

// readEnvoy reads what t reads.
func (x *reading) readEnvoy(src *headers.Source, t envoyTracer) {
	if t.b3 {
		if v, ok := firstLine(src, &b3Header); ok {
			x.readEnvoySingle(v) // B-6: x-b3-* are not looked at
			return
		}
	}
	flag := Unstated
	if t.b3Multi {
		flag = envoySampled(src)
		if x.readEnvoyMulti(src, flag) {
			return
		}
	}
	if t.w3c {
		if v, ok := firstLine(src, &traceparentHeader); ok && x.readEnvoyTraceparent(src, v, t.zipkin()) {
			return
		}
	}
	if flag != Unstated {
		x.take(B3Multi, &span{}, flag, trace.SpanID{}) // B-4
	}
}

// firstLine returns the first line of h, which may be empty, and whether there is one.
func firstLine(src *headers.Source, h *headers.Name) (string, bool) {
	if lines := src.Lines(h); len(lines) > 0 {
		return lines[0], true
	}
	return "", false
}

// readEnvoyTraceparent reads a traceparent and tracestate; false when v is refused and
// the Zipkin tracer goes on to a new trace.
func (x *reading) readEnvoyTraceparent(src *headers.Source, v string, zipkin bool) bool {
	var sc span
	if offset, rule := parseEnvoyTraceparent(v, &sc.SpanContextConfig); rule != "" {
		x.refuse(fault{traceparentHeader.Lower, v, offset, rule})
		x.Null = !zipkin // W-6, B-15
		return x.Null
	}
	if lines := src.Lines(&tracestateHeader); len(lines) > 0 {
		var f fault
		sc.TraceState, x.Tracestate, f = rawTracestate(lines)
		x.refuse(f)
	}
	sc.valid = true
	x.take(TraceContext, &sc, Unstated, trace.SpanID{})
	return true
}

// parseEnvoyTraceparent reads v into c in the order of W-7. It returns the rule that v
// breaks and where, "" when it breaks none; c is of no use otherwise.
func parseEnvoyTraceparent(v string, c *trace.SpanContextConfig) (offset int, rule string) {
	if len(v) != traceparentLen { // W-1
		return min(len(v), traceparentLen), ruleEnvoyLen
	}
	parts, at := 0, 0
	for i := range len(v) {
		if v[i] != '-' && (i == 0 || v[i-1] == '-') { // W-2: empty parts do not count
			parts++
		}
	}
	if parts != 4 {
		return 0, ruleEnvoyHyphens
	}
	for _, size := range [...]int{2, 32, 16} {
		at += size
		if v[at] != '-' || strings.IndexByte(v[at-size:at], '-') >= 0 {
			return at - size, ruleEnvoySizes
		}
		at++
	}
	if strings.IndexByte(v[at:], '-') >= 0 {
		return at, ruleEnvoySizes
	}
	// W-4: the version is not looked at.
	f0, f1 := hexTable[v[53]], hexTable[v[54]]
	switch {
	case hexTable[v[0]]&hexTable[v[1]]&anyHex == 0:
		return notHex(v[:2], anyHex), ruleEnvoyHex
	case !decodeTraceID(&c.TraceID, v[3:], anyHex):
		return 3 + notHex(v[3:35], anyHex), ruleEnvoyHex
	case !decodeHex((*[8]byte)(&c.SpanID), v[36:], anyHex):
		return 36 + notHex(v[36:52], anyHex), ruleEnvoyHex
	case f0&f1&anyHex == 0:
		return 53 + notHex(v[53:], anyHex), ruleEnvoyHex
	case !c.TraceID.IsValid(): // W-3
		return 3, ruleEnvoyTrace
	case !c.SpanID.IsValid():
		return 36, ruleEnvoyParent
	}
	c.TraceFlags = trace.TraceFlags(f1) & trace.FlagsSampled // W-5
	c.Remote = true
	return 0, ""
}

// rawTracestate returns what OpenTelemetry can hold of lines, and all of them as they
// came, joined with commas, empty ones included (W-5). Limits of size and what no
// header may hold are ours; Envoy has them for requests as a whole.
func rawTracestate(lines []string) (ts trace.TraceState, raw string, f fault) {
	if len(lines) > maxEnvoyLines {
		return ts, "", fault{tracestateHeader.Lower, lines[maxEnvoyLines], 0, ruleEnvoyLines}
	}
	size := len(lines) - 1
	for _, l := range lines {
		if size += len(l); size > maxTracestateBytes || !fieldValue(l) {
			return ts, "", fault{tracestateHeader.Lower, l, 0, ruleEnvoyTracestate}
		}
	}
	raw = lines[0]
	if len(lines) > 1 {
		raw = strings.Join(lines, ",")
	}
	ts, _, _ = parseTracestate(lines)
	return ts, raw, fault{}
}

// readEnvoySingle reads a b3.
func (x *reading) readEnvoySingle(v string) {
	p := b3Parts{ids: new(span)}
	if offset, rule := p.parseEnvoySingle(v); rule != "" {
		x.refuse(fault{b3Header.Lower, v, offset, rule})
		x.Null = true // B-9
		return
	}
	if len(v) == 1 {
		x.take(B3, &span{}, p.sampling, p.parent)
		return
	}
	x.takeEnvoy(B3, &b3Header, v, &p)
}

// readEnvoyMulti reads x-b3-*; false when they name no span and a new trace begins
// (B-8).
func (x *reading) readEnvoyMulti(src *headers.Source, flag Sampling) bool {
	traceID, hasTrace := firstLine(src, &b3TraceIDHeader)
	spanID, hasSpan := firstLine(src, &b3SpanIDHeader)
	if !hasTrace || !hasSpan {
		return false
	}
	p := b3Parts{ids: new(span), sampling: flag}
	if flag == Unstated {
		p.sampling = Deferred
	}
	parent := src.First(&b3ParentHeader)
	switch {
	case !p.envoyTrace(traceID):
		x.refuse(fault{b3TraceIDHeader.Lower, traceID, 0, ruleEnvoyMultiTrace})
		x.Null = true // B-9
	case !envoyID(&p.ids.SpanID, spanID):
		x.refuse(fault{b3SpanIDHeader.Lower, spanID, 0, ruleEnvoyMultiSpan})
		x.Null = true
	case parent != "" && !envoyID(&p.parent, parent):
		x.refuse(fault{b3ParentHeader.Lower, parent, 0, ruleEnvoyMultiUp})
		x.Null = true
	default:
		x.takeEnvoy(B3Multi, &b3TraceIDHeader, traceID, &p)
	}
	return true
}

// takeEnvoy records what a B3 encoding says. Envoy goes on with ids of zero too (B-8);
// no SpanContext holds these, so that a new trace begins, with the same state.
func (x *reading) takeEnvoy(f Format, h *headers.Name, v string, p *b3Parts) {
	sc := p.span()
	if !sc.valid {
		x.refuse(fault{h.Lower, v, 0, ruleEnvoyZero})
		if p.sampling == Deferred {
			return
		}
	}
	x.take(f, sc, p.sampling, p.parent)
}

// envoySampled reads x-b3-sampled: 1 and true are yes, everything else no (B-2).
// x-b3-flags is not looked at (B-3).
func envoySampled(src *headers.Source) Sampling {
	switch v, ok := firstLine(src, &b3SampledHeader); {
	case !ok:
		return Unstated
	case v == "1" || v == "true":
		return Accept
	}
	return Deny
}

// parseEnvoySingle reads a b3 value by B-1 and B-7. It returns the rule that v breaks
// and where, "" when it breaks none.
func (p *b3Parts) parseEnvoySingle(v string) (offset int, rule string) {
	switch {
	case v == "":
		return 0, ruleEnvoyB3Empty
	case len(v) == 1:
		return 0, p.envoyState(v[0])
	case len(v) < 16+1+16:
		return len(v), ruleEnvoyB3Short
	case len(v) > maxB3Len:
		return maxB3Len, ruleEnvoyB3Long
	}
	at := 16
	if v[32] == '-' {
		at = 32
	}
	switch {
	case !p.envoyTrace(v[:at]):
		return 0, ruleEnvoyB3Trace
	case v[at] != '-':
		return at, ruleEnvoyB3NoSpan
	case len(v) < at+1+16:
		return len(v), ruleEnvoyB3Short
	case !envoyID(&p.ids.SpanID, v[at+1:at+1+16]):
		return at + 1, ruleEnvoyB3Span
	}
	p.sampling = Deferred
	if at += 1 + 16; len(v) == at {
		return 0, ""
	}
	switch {
	case len(v) == at+1:
		return at, ruleEnvoyB3Short
	case v[at] != '-':
		return at, ruleEnvoyB3NoState
	case len(v) > at+2 && v[at+2] != '-': // a parent without a state among them
		return at + 2, ruleEnvoyB3Short
	}
	if rule := p.envoyState(v[at+1]); rule != "" {
		return at + 1, rule
	}
	if at += 2; len(v) == at {
		return 0, ""
	}
	if len(v) != at+1+16 {
		return len(v), ruleEnvoyB3Short
	}
	if !envoyID(&p.parent, v[at+1:]) {
		return at + 1, ruleEnvoyB3Parent
	}
	return 0, ""
}

// envoyState reads a state; debug is not told from accept (B-3).
func (p *b3Parts) envoyState(c byte) (rule string) {
	state, ok := b3State(c)
	if !ok {
		return ruleEnvoyB3State
	}
	if state == Debug {
		state = Accept
	}
	p.sampling = state
	return ""
}

// envoyTrace reads a trace id: of 32 bytes as two numbers, else as one (B-8).
func (p *b3Parts) envoyTrace(v string) bool {
	low := v
	if len(v) == 32 {
		if !envoyNumber(p.ids.TraceID[:8], v[:16]) {
			return false
		}
		low = v[16:]
	}
	return envoyNumber(p.ids.TraceID[8:], low)
}

func envoyID(id *trace.SpanID, v string) bool { return envoyNumber(id[:], v) }

// envoyNumber reads v as C's strtoull does with base 16, but without signs (B-10).
func envoyNumber(dst []byte, v string) bool {
	if len(v) > 2 && v[0] == '0' && v[1]|0x20 == 'x' {
		v = v[2:]
	}
	n, ok := hexNumber(v)
	binary.BigEndian.PutUint64(dst, n)
	return ok
}

// write writes what t writes. It removes nothing: what stands beside goes on, as
// through a proxy (B-13).
func (t envoyTracer) write(ctx context.Context, k *sink, sc *span, sampling Sampling, s *reqctx.State) {
	if t.zipkin() {
		state := b3Out(sc, sampling)
		if state == 'd' {
			state = '1' // B-3
		}
		// B-13: b3 is answered with b3, everything else with x-b3-*.
		if t.b3 && (!t.b3Multi || s != nil && Format(s.Format) == B3) {
			writeEnvoySingle(k, sc, state, parentOf(ctx, sc, s))
		} else {
			writeEnvoyMulti(k, sc, state, parentOf(ctx, sc, s))
		}
	}
	if !t.w3c || !sc.valid {
		return
	}
	var b [traceparentLen]byte
	putTraceparent(&b, sc, trace.FlagsSampled) // W-8
	k.set(&traceparentHeader, string(b[:]))
	if !t.zipkin() { // B-15
		k.set(&tracestateHeader, outgoingTracestate(sc, s)) // W-9: also an empty one
	}
}

func writeEnvoySingle(k *sink, sc *span, state byte, parent trace.SpanID) {
	var buf [maxB3Len]byte
	b := buf[:0]
	if sc.valid {
		b = append(appendEnvoyTrace(b, sc), '-')
		b = appendHex(b, sc.SpanID[:])
	}
	if state != 0 {
		if len(b) > 0 {
			b = append(b, '-')
		}
		b = append(b, state)
		if sc.valid && parent.IsValid() {
			b = append(b, '-')
			b = appendHex(b, parent[:])
		}
	}
	if len(b) > 0 {
		k.set(&b3Header, string(b))
	}
}

func writeEnvoyMulti(k *sink, sc *span, state byte, parent trace.SpanID) {
	if sc.valid {
		var b [32 + 16 + 16]byte
		ids := appendEnvoyTrace(b[:0], sc)
		n := len(ids)
		ids = appendHex(ids, sc.SpanID[:])
		if parent.IsValid() {
			ids = appendHex(ids, parent[:])
		}
		all := string(ids)
		k.set(&b3TraceIDHeader, all[:n])
		k.set(&b3SpanIDHeader, all[n:n+16])
		if parent.IsValid() {
			k.set(&b3ParentHeader, all[n+16:])
		}
	}
	if state != 0 {
		k.set(&b3SampledHeader, stateText(state))
	}
}

// appendEnvoyTrace appends 16 digits where the upper half is zero (B-14), else 32.
func appendEnvoyTrace(dst []byte, sc *span) []byte {
	if [8]byte(sc.TraceID[:8]) == ([8]byte{}) {
		return appendHex(dst, sc.TraceID[8:])
	}
	return appendHex(dst, sc.TraceID[:])
}

// parentOf returns the parent of the span that sc names, zero where it has none or it
// cannot be told.
func parentOf(ctx context.Context, sc *span, s *reqctx.State) trace.SpanID {
	if s != nil && sc.SpanID == s.Remote.SpanID() && sc.TraceID == s.Remote.TraceID() {
		return s.B3Parent // B-11: the caller's own span
	}
	if span, ok := trace.SpanFromContext(ctx).(interface{ Parent() trace.SpanContext }); ok {
		return span.Parent().SpanID() // the SDK's, or of internal/callspan
	}
	if s == nil {
		return trace.SpanID{}
	}
	if s.Span != nil { // sc is not recorded, and below it
		if server := s.Span.SpanContext(); server.TraceID() == sc.TraceID && server.SpanID() != sc.SpanID {
			return server.SpanID()
		}
	}
	if s.Remote.TraceID() == sc.TraceID {
		return s.Remote.SpanID()
	}
	return trace.SpanID{}
}
