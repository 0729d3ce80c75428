package propagation

import (
	"encoding/binary"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// maxB3Len is the length of the longest b3: trace, span, state and parent.
const maxB3Len = 32 + 1 + 16 + 1 + 1 + 1 + 16

const (
	ruleB3Len     = "B3, single header: a state alone, or 16 or 32 digits of TraceId, 16 of SpanId, then a state, then 16 of ParentSpanId"
	ruleB3Trace   = "B3, TraceId: 16 or 32 hex digits, not all zero"
	ruleB3Span    = "B3, SpanId: 16 hex digits, not all zero"
	ruleB3Parent  = "B3, ParentSpanId: 16 hex digits"
	ruleB3State   = "B3, Sampling State: 0, 1 or d"
	ruleB3Sampled = "B3, X-B3-Sampled: 0, 1, d, true or false"
	ruleB3Sep     = `B3, single header: fields separated by "-"`
	ruleB3IDs     = "B3, identifiers: X-B3-TraceId and X-B3-SpanId together"
)

// Parsed is the meaning of one header, or of the x-b3-* headers together.
type Parsed struct {
	// SpanContext is the caller's, remote; invalid where the header states a
	// sampling decision alone.
	SpanContext trace.SpanContext
	// Sampling is what the header states beside the flag of SpanContext.
	Sampling Sampling
	// Parent is the parent of the caller's span, B3's ParentSpanId; zero when there
	// is none.
	Parent trace.SpanID
	// Baggage is what an x-ot-span-context carries along; nil when there is none.
	Baggage map[string]string
	// Annotations are those of x-ot-span-context in Envoy's Zipkin text, in the order
	// cr, cs, sr, ss with ";" between them: who of client and server had the span.
	Annotations string
}

// ParseB3 reads one b3 header value by openzipkin/b3-propagation, "Single Header":
// TraceId-SpanId, optionally -State, optionally -ParentSpanId, or a state alone.
// Trace ids of 16 digits are padded with zeros on the left, hex of either case is
// read, a ParentSpanId of zeros is none.
//
// Sampling is Accept, Deny or Debug as stated, Deferred for ids without a state. An
// accepted value costs no allocation. The error is a *HeaderError.
func ParseB3(v string) (Parsed, error) {
	var ids span
	p := b3Parts{ids: &ids}
	if offset, rule := p.parseSingle(v); rule != "" {
		return Parsed{}, fault{b3Header.Lower, v, offset, rule}.err()
	}
	return p.parsed(), nil
}

// ParseB3Multi reads the values of x-b3-traceid, x-b3-spanid, x-b3-parentspanid,
// x-b3-sampled and x-b3-flags by openzipkin/b3-propagation, "Multiple Headers"; ""
// is an absent header. x-b3-sampled may be 0, 1, d, or true and false in any case;
// flags other than 1, which is Debug, are ignored. Otherwise it is as ParseB3.
func ParseB3Multi(traceID, spanID, parentID, sampled, flags string) (Parsed, error) {
	var ids span
	p := b3Parts{ids: &ids}
	if f := p.parseMulti(traceID, spanID, parentID, sampled, flags); f.rule != "" {
		return Parsed{}, f.err()
	}
	return p.parsed(), nil
}

// b3Parts is what a B3 encoding says; ids of zero are none. After a parser refused
// its input the parts are of no use.
type b3Parts struct {
	ids      *span // TraceID and SpanID; the rest is span's
	parent   trace.SpanID
	sampling Sampling
}

func (p *b3Parts) parsed() Parsed {
	return Parsed{SpanContext: p.span().context(), Sampling: p.sampling, Parent: p.parent}
}

// span completes the ids with what the state says; without ids it is invalid.
func (p *b3Parts) span() *span {
	if p.ids.SpanID == (trace.SpanID{}) || p.ids.TraceID == (trace.TraceID{}) {
		return p.ids
	}
	if p.sampling == Accept || p.sampling == Debug { // debug implies accept
		p.ids.TraceFlags = trace.FlagsSampled
	}
	p.ids.Remote, p.ids.valid = true, true
	return p.ids
}

// parseSingle reads a b3 value. It returns the rule that v breaks and where, "" when
// it breaks none.
func (p *b3Parts) parseSingle(v string) (offset int, rule string) {
	if len(v) == 1 {
		var ok bool
		if p.sampling, ok = b3State(v[0]); !ok {
			return 0, ruleB3State
		}
		return 0, ""
	}

	digits := 16
	if len(v) > 32 && v[32] == '-' {
		digits = 32
	}
	span := digits + 1  // where the SpanId starts,
	state := span + 17  // the state,
	parent := state + 2 // and the ParentSpanId
	switch len(v) {
	case state - 1, state + 1, parent + 16:
	default:
		return min(len(v), maxB3Len), ruleB3Len
	}
	if v[digits] != '-' {
		return digits, ruleB3Sep
	}
	if at, ok := p.decodeTrace(v[:digits]); !ok {
		return at, ruleB3Trace
	}
	if at, ok := decodeB3(&p.ids.SpanID, v[span:]); !ok || !p.ids.SpanID.IsValid() {
		return span + at, ruleB3Span
	}
	p.sampling = Deferred
	if len(v) > state {
		if v[state-1] != '-' {
			return state - 1, ruleB3Sep
		}
		var ok bool
		if p.sampling, ok = b3State(v[state]); !ok {
			return state, ruleB3State
		}
	}
	if len(v) > parent {
		if v[parent-1] != '-' {
			return parent - 1, ruleB3Sep
		}
		if at, ok := decodeB3(&p.parent, v[parent:]); !ok {
			return parent + at, ruleB3Parent
		}
	}
	return 0, ""
}

// parseMulti reads the values of the x-b3-* headers.
func (p *b3Parts) parseMulti(traceID, spanID, parentID, sampled, flags string) fault {
	if !p.decodeSampled(sampled) {
		return fault{b3SampledHeader.Lower, sampled, 0, ruleB3Sampled}
	}
	if flags == "1" {
		p.sampling = Debug
	}
	switch {
	case traceID == "" && spanID == "" && parentID == "":
		return fault{}
	case traceID == "":
		return fault{b3TraceIDHeader.Lower, "", 0, ruleB3IDs}
	case spanID == "":
		return fault{b3SpanIDHeader.Lower, "", 0, ruleB3IDs}
	case len(traceID) != 16 && len(traceID) != 32:
		return fault{b3TraceIDHeader.Lower, traceID, min(len(traceID), 32), ruleB3Trace}
	case len(spanID) != 16:
		return fault{b3SpanIDHeader.Lower, spanID, min(len(spanID), 16), ruleB3Span}
	case parentID != "" && len(parentID) != 16:
		return fault{b3ParentHeader.Lower, parentID, min(len(parentID), 16), ruleB3Parent}
	}
	if at, ok := p.decodeTrace(traceID); !ok {
		return fault{b3TraceIDHeader.Lower, traceID, at, ruleB3Trace}
	}
	if at, ok := decodeB3(&p.ids.SpanID, spanID); !ok || !p.ids.SpanID.IsValid() {
		return fault{b3SpanIDHeader.Lower, spanID, at, ruleB3Span}
	}
	if parentID != "" {
		if at, ok := decodeB3(&p.parent, parentID); !ok {
			return fault{b3ParentHeader.Lower, parentID, at, ruleB3Parent}
		}
	}
	if p.sampling == Unstated {
		p.sampling = Deferred
	}
	return fault{}
}

// decodeTrace decodes 16 or 32 digits of either case; false, and where, when they are
// no trace id.
func (p *b3Parts) decodeTrace(s string) (at int, ok bool) {
	var hi uint64 // B-15: 64 bit are padded on the left
	lo, ok := hex16(s[len(s)-16:], anyHex)
	if len(s) == 32 {
		var hiOK bool
		hi, hiOK = hex16(s, anyHex)
		ok = ok && hiOK
	}
	if !ok {
		return notHex(s, anyHex), false
	}
	binary.BigEndian.PutUint64(p.ids.TraceID[:8], hi)
	binary.BigEndian.PutUint64(p.ids.TraceID[8:], lo)
	return 0, hi|lo != 0
}

// decodeB3 decodes 16 digits of either case; false, and where, when they are none.
func decodeB3(id *trace.SpanID, s string) (at int, ok bool) {
	if !decodeHex((*[8]byte)(id), s, anyHex) {
		return notHex(s, anyHex), false
	}
	return 0, true
}

// decodeSampled reads x-b3-sampled, "" when it is absent.
func (p *b3Parts) decodeSampled(v string) bool {
	switch {
	case v == "":
		return true
	case len(v) == 1:
		var ok bool
		p.sampling, ok = b3State(v[0])
		return ok
	case strings.EqualFold(v, "true"): // before the specification was written
		p.sampling = Accept
		return true
	case strings.EqualFold(v, "false"):
		p.sampling = Deny
		return true
	}
	return false
}

func b3State(c byte) (Sampling, bool) {
	switch c {
	case '0':
		return Deny, true
	case '1':
		return Accept, true
	case 'd':
		return Debug, true
	}
	return Unstated, false
}

// AppendB3 appends p as the value of a b3 header: the ids where p.SpanContext is
// valid, 32 and 16 lower-case digits, then the state, then p.Parent where it is set
// and a state is. The state is d for Debug, none for Deferred; else, with ids, the
// sampled flag of the span context. Without ids Accept is 1, Deny is 0, and
// Unstated and Deferred append nothing.
func AppendB3(dst []byte, p Parsed) []byte {
	sc := spanOf(&p.SpanContext)
	return appendB3(dst, &sc, b3Out(&sc, p.Sampling), p.Parent)
}

func appendB3(dst []byte, sc *span, state byte, parent trace.SpanID) []byte {
	if !sc.valid {
		if state != 0 {
			dst = append(dst, state)
		}
		return dst
	}
	const ids, withState = 32 + 1 + 16, 32 + 1 + 16 + 1 + 1
	n := ids
	if state != 0 {
		n = withState
		if parent.IsValid() {
			n = maxB3Len
		}
	}
	dst = append(dst, b3Form[:n]...)
	b := dst[len(dst)-n:]
	putHex(b, sc.TraceID[:8])
	putHex(b[16:], sc.TraceID[8:])
	putHex(b[33:], sc.SpanID[:])
	if n > ids {
		b[withState-1] = state
	}
	if n > withState {
		putHex(b[withState+1:], parent[:])
	}
	return dst
}

// b3Form is a b3 to be filled in.
const b3Form = "################################-################-#-################"

// b3Out returns the state to write for sc, 0 when none is to be written.
func b3Out(sc *span, s Sampling) byte {
	switch {
	case s == Debug:
		return 'd'
	case s == Deferred || s == Unstated && !sc.valid:
		return 0
	case sc.valid && sc.TraceFlags.IsSampled() || !sc.valid && s == Accept:
		return '1'
	}
	return '0'
}
