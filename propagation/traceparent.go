package propagation

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/trace"
)

const (
	traceparentLen    = 2 + 1 + 32 + 1 + 16 + 1 + 2
	maxTraceparentLen = 512 // of a version to come; version 00 has traceparentLen
)

const (
	ruleTraceparentLen     = "Trace Context, versioning of traceparent: at least 55 bytes, in version 00 exactly 55, here at most 512"
	ruleTraceparentVersion = `Trace Context, version: 2 lower-case hex digits, not ff, then "-"`
	ruleTraceparentTrace   = `Trace Context, trace-id: 32 lower-case hex digits, not all zero, then "-"`
	ruleTraceparentParent  = `Trace Context, parent-id: 16 lower-case hex digits, not all zero, then "-"`
	ruleTraceparentFlags   = `Trace Context, trace-flags: 2 lower-case hex digits, then the end or, in a later version, "-"`
	ruleTraceparentLines   = "Trace Context, traceparent: one header, not several"
)

// supportedFlags are the bits that Trace Context Level 2 defines: sampled and
// random. The others are set to zero when a traceparent is written.
const supportedFlags = trace.FlagsSampled | trace.FlagsRandom

// ParseTraceparent reads one traceparent header value by W3C Trace Context Level 2:
// version 00 has exactly 55 bytes, a later version at least those, version ff is
// invalid, hex is lower case, and of the flags sampled and random count.
//
// Parsed.Sampling is Unstated: the flag of the span context is all that the header
// says. An accepted value costs no allocation. The error is a *HeaderError.
func ParseTraceparent(v string) (Parsed, error) {
	var c trace.SpanContextConfig
	if offset, rule := parseTraceparent(v, &c); rule != "" {
		return Parsed{}, fault{traceparentHeader.Lower, v, offset, rule}.err()
	}
	return Parsed{SpanContext: trace.NewSpanContext(c)}, nil
}

// parseTraceparent is ParseTraceparent into c. It returns the rule that v breaks and
// where, "" when it breaks none; c is of no use otherwise.
func parseTraceparent(v string, c *trace.SpanContextConfig) (offset int, rule string) {
	if len(v) < traceparentLen || len(v) > maxTraceparentLen {
		return min(len(v), maxTraceparentLen), ruleTraceparentLen
	}
	hi, hiOK := hex16(v[3:], lowerHex)
	lo, loOK := hex16(v[19:], lowerHex)
	parent, parentOK := hex16(v[36:], lowerHex)
	v0, v1 := hexTable[v[0]], hexTable[v[1]]
	f0, f1 := hexTable[v[53]], hexTable[v[54]]
	switch {
	case v0&v1&lowerHex == 0:
		return notHex(v[:2], lowerHex), ruleTraceparentVersion
	case v[:2] == "ff":
		return 0, ruleTraceparentVersion
	case v[2] != '-':
		return 2, ruleTraceparentVersion
	case v[:2] == "00" && len(v) != traceparentLen:
		return traceparentLen, ruleTraceparentLen
	case !hiOK || !loOK:
		return 3 + notHex(v[3:35], lowerHex), ruleTraceparentTrace
	case hi|lo == 0:
		return 3, ruleTraceparentTrace
	case v[35] != '-':
		return 35, ruleTraceparentTrace
	case !parentOK:
		return 36 + notHex(v[36:52], lowerHex), ruleTraceparentParent
	case parent == 0:
		return 36, ruleTraceparentParent
	case v[52] != '-':
		return 52, ruleTraceparentParent
	case f0&f1&lowerHex == 0:
		return 53 + notHex(v[53:55], lowerHex), ruleTraceparentFlags
	case len(v) > traceparentLen && v[traceparentLen] != '-':
		return traceparentLen, ruleTraceparentFlags
	}
	binary.BigEndian.PutUint64(c.TraceID[:8], hi)
	binary.BigEndian.PutUint64(c.TraceID[8:], lo)
	binary.BigEndian.PutUint64(c.SpanID[:], parent)
	c.TraceFlags = trace.TraceFlags(f0<<4|f1&0xf) & supportedFlags
	c.Remote = true
	return 0, ""
}

// AppendTraceparent appends sc as a traceparent of version 00, 55 bytes, lower case,
// with the flags sampled and random. An invalid sc appends nothing.
func AppendTraceparent(dst []byte, sc trace.SpanContext) []byte {
	s := spanOf(&sc)
	if !s.valid {
		return dst
	}
	var b [traceparentLen]byte
	putTraceparent(&b, &s, supportedFlags)
	return append(dst, b[:]...)
}

// putTraceparent writes the traceparent of sc, which is valid, with those flags of it.
func putTraceparent(b *[traceparentLen]byte, sc *span, flags trace.TraceFlags) {
	b[0], b[1], b[2], b[35], b[52], b[53] = '0', '0', '-', '-', '-', '0'
	putHex(b[3:], sc.TraceID[:8])
	putHex(b[19:], sc.TraceID[8:])
	putHex(b[36:], sc.SpanID[:])
	b[54] = hexDigits[sc.TraceFlags&flags]
}
