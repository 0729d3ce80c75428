package propagation

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
)

const (
	// maxOTSpanContext bounds the header before anything of it is decoded. LightStep's
	// tracers had no limit; without baggage they wrote 240 bytes at most.
	maxOTSpanContext = 1 << 10

	maxLightStep  = maxOTSpanContext / 4 * 3 // bytes of the message in it
	zipkinTextLen = 16 + 1 + 16 + 1 + 16     // without annotations
)

const (
	ruleOTLen        = "x-ot-span-context: here 1 to 1024 bytes"
	ruleLightStep64  = "LightStep, x-ot-span-context: base64 of the standard alphabet, padded to a multiple of 4"
	ruleLightStepMsg = "LightStep, BinaryCarrier: a protobuf message, its strings UTF-8"
	ruleLightStepIDs = "LightStep, BasicTracerCarrier: trace_id and span_id, not zero; else ot-tracer-traceid, ot-tracer-spanid and ot-tracer-sampled as pairs"
	ruleZipkinText   = `Envoy's Zipkin text: trace, span and parent id of 16 lower-case hex digits, separated by ";", trace and span id not zero`
	ruleZipkinCodes  = `Envoy's Zipkin text, annotations: ";" and one of cs, cr, ss, sr, any number of times`
)

// ParseOTSpanContext reads one x-ot-span-context header value in each form that Envoy
// wrote: base64 of LightStep's protobuf messages (CarrierStruct of Envoy 1.2,
// BinaryCarrier of 1.3 to 1.5 and of 1.6 to 1.23: O-L1, O-L2) and the text of the
// Zipkin tracer of 1.3 to 1.5 (O-Z1), which a ";" tells apart (O-Z6).
//
// Trace ids have 64 bits and are padded with zeros on the left. LightStep states the
// sampled flag, which in the two older messages is always set (O-L3); the text states
// none, so Sampling is Deferred. At most 1,024 bytes are read and 64 entries of
// baggage kept, the first ones. A value without baggage costs no allocation. The
// error is a *HeaderError.
func ParseOTSpanContext(v string) (Parsed, error) {
	var p Parsed
	if offset, rule := p.parseOTSpanContext(v); rule != "" {
		return Parsed{}, fault{otSpanContextHeader.Lower, v, offset, rule}.err()
	}
	return p, nil
}

// parseOTSpanContext is ParseOTSpanContext into p. It returns the rule that v breaks
// and where, "" when it breaks none; p is of no use otherwise.
func (p *Parsed) parseOTSpanContext(v string) (offset int, rule string) {
	if v == "" || len(v) > maxOTSpanContext {
		return min(len(v), maxOTSpanContext), ruleOTLen
	}
	if strings.IndexByte(v, ';') >= 0 { // O-Z6
		return p.parseZipkinText(v)
	}
	var buf [maxLightStep]byte
	n, offset, ok := decodeBase64(&buf, v)
	if !ok {
		return offset, ruleLightStep64
	}
	return p.parseLightStep(buf[:n])
}

// parseZipkinText reads the text of Envoy's Zipkin tracer. O-Z2: Envoy's expression
// lets other letters and commas through, on which its number parser then fails.
func (p *Parsed) parseZipkinText(v string) (offset int, rule string) {
	var traceID, spanID, parentID [8]byte
	for i, id := range [...]*[8]byte{&traceID, &spanID, &parentID} {
		at := i * (16 + 1)
		switch {
		case len(v) < at+16:
			return len(v), ruleZipkinText
		case !decodeHex(id, v[at:], lowerHex):
			return at + notHex(v[at:at+16], lowerHex), ruleZipkinText
		case i < 2 && *id == [8]byte{}:
			return at, ruleZipkinText
		case i < 2 && (len(v) == at+16 || v[at+16] != ';'):
			return at + 16, ruleZipkinText
		}
	}
	var codes uint8
	for at := zipkinTextLen; at < len(v); at += 3 {
		code := uint8(0)
		if len(v)-at >= 3 && v[at] == ';' {
			code = zipkinCode(v[at+1 : at+3])
		}
		if code == 0 {
			return at, ruleZipkinCodes
		}
		codes |= code
	}
	p.SpanContext = shortContext(traceID, spanID, 0)
	p.Sampling = Deferred
	p.Parent = parentID // zeros are none, O-Z5
	p.Annotations = zipkinCodes[codes]
	return 0, ""
}

// zipkinCode returns the bit of an annotation in the index of zipkinCodes, 0 when
// code is none.
func zipkinCode(code string) uint8 {
	switch code {
	case "cr":
		return 1
	case "cs":
		return 2
	case "sr":
		return 4
	case "ss":
		return 8
	}
	return 0
}

// zipkinCodes are all sets of annotations in the order in which Envoy wrote them (O-Z1).
var zipkinCodes = [...]string{
	"", "cr", "cs", "cr;cs", "sr", "cr;sr", "cs;sr", "cr;cs;sr",
	"ss", "cr;ss", "cs;ss", "cr;cs;ss", "sr;ss", "cr;sr;ss", "cs;sr;ss", "cr;cs;sr;ss",
}

// shortContext returns the remote span context of ids of 64 bits (O-L4).
func shortContext(traceID, spanID [8]byte, flags trace.TraceFlags) trace.SpanContext {
	c := trace.SpanContextConfig{SpanID: spanID, TraceFlags: flags, Remote: true}
	*(*[8]byte)(c.TraceID[8:]) = traceID
	return trace.NewSpanContext(c)
}

// decodeBase64 decodes v, of at most maxOTSpanContext bytes, into dst: padded, without
// line breaks and with zeros in the bits that are left over, as Envoy's decoder has
// it. Otherwise it is false, and where.
func decodeBase64(dst *[maxLightStep]byte, v string) (n, offset int, ok bool) {
	if len(v)%4 != 0 {
		return 0, len(v), false
	}
	pad := 0
	for pad < 2 && pad < len(v) && v[len(v)-1-pad] == '=' {
		pad++
	}
	var bits uint32
	for i := range len(v) - pad {
		d := base64Digit(v[i])
		if d < 0 {
			return 0, i, false
		}
		bits = bits<<6 | uint32(d)
		if i%4 == 3 {
			dst[n], dst[n+1], dst[n+2] = byte(bits>>16), byte(bits>>8), byte(bits)
			n += 3
		}
	}
	switch pad {
	case 1:
		if bits&3 != 0 {
			return 0, len(v) - 2, false
		}
		dst[n], dst[n+1] = byte(bits>>10), byte(bits>>2)
		n += 2
	case 2:
		if bits&0xf != 0 {
			return 0, len(v) - 3, false
		}
		dst[n] = byte(bits >> 4)
		n++
	}
	return n, 0, true
}

// base64Digit returns the value of c in the standard alphabet, -1 when it is not in it.
func base64Digit(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// lightStep is what a message says: its pairs, which are field 1, and its
// BasicTracerCarrier, which is field 2. Ids are little-endian numbers.
type lightStep struct {
	basic, pairs struct{ trace, span uint64 }

	sampled   bool // of basic
	hasPairs  bool
	pairsFlag bool // the pairs have ot-tracer-sampled

	collect int               // the field whose baggage is wanted, 0 for none
	baggage map[string]string // nil until there is some
}

func (p *Parsed) parseLightStep(msg []byte) (offset int, rule string) {
	var m lightStep
	if at, ok := m.read(msg); !ok {
		return at / 3 * 4, ruleLightStepMsg
	}
	ids, flags := m.basic, trace.TraceFlags(0)
	m.collect = 2
	if m.basic.trace == 0 && m.basic.span == 0 && m.pairsFlag { // O-L1, O-L2
		ids, m.collect = m.pairs, 1
	}
	if ids.trace == 0 || ids.span == 0 {
		return 0, ruleLightStepIDs
	}
	if m.sampled || m.hasPairs { // O-L3
		flags = trace.FlagsSampled
	}
	m.read(msg) // now for the baggage, which costs memory
	var traceID, spanID [8]byte
	binary.BigEndian.PutUint64(traceID[:], ids.trace)
	binary.BigEndian.PutUint64(spanID[:], ids.span)
	p.SpanContext = shortContext(traceID, spanID, flags)
	p.Baggage = m.baggage
	return 0, ""
}

// read reads a CarrierStruct or BinaryCarrier; false, and where, when it is none.
func (m *lightStep) read(msg []byte) (at int, ok bool) {
	r := wireReader{buf: msg}
	for !r.end() {
		field := r.field()
		start := r.at
		part := r.part()
		switch field {
		case 1<<3 | wireBytes: // repeated pair
			ok = m.readPair(part)
		case 2<<3 | wireBytes: // BasicTracerCarrier basic_ctx
			ok = m.readBasic(part)
		default:
			ok = true // another version's
		}
		if r.bad || !ok {
			return start, false
		}
	}
	return 0, true
}

func (m *lightStep) readPair(msg []byte) (ok bool) {
	key, value, ok := readEntry(msg)
	if !ok {
		return false
	}
	m.hasPairs = true
	switch name := string(key); name {
	case otTraceIDHeader.Lower:
		m.pairs.trace, _ = hexNumber(string(value))
	case otSpanIDHeader.Lower:
		m.pairs.span, _ = hexNumber(string(value))
	case otSampledHeader.Lower:
		m.pairsFlag = true
	default:
		if m.collect == 1 && strings.HasPrefix(name, otBaggagePrefix.Lower) {
			m.add(key[len(otBaggagePrefix.Lower):], value)
		}
	}
	return true
}

func (m *lightStep) readBasic(msg []byte) (ok bool) {
	r := wireReader{buf: msg}
	for !r.end() {
		switch r.field() {
		case 1<<3 | wireFixed64: // fixed64 trace_id = 1;
			m.basic.trace = r.fixed64()
		case 2<<3 | wireFixed64: // fixed64 span_id = 2;
			m.basic.span = r.fixed64()
		case 3<<3 | wireVarint: // bool sampled = 3;
			m.sampled = r.varint() != 0
		case 4<<3 | wireBytes: // map<string, string> baggage_items = 4;
			key, value, ok := readEntry(r.part())
			if !ok {
				return false
			}
			if m.collect == 2 {
				m.add(key, value)
			}
		default:
			r.part()
		}
	}
	return !r.bad
}

// readEntry reads a pair or map entry: string key = 1; string value = 2;
func readEntry(msg []byte) (key, value []byte, ok bool) {
	r := wireReader{buf: msg}
	for !r.end() {
		switch field := r.field(); field {
		case 1<<3 | wireBytes:
			key = r.part()
		case 2<<3 | wireBytes:
			value = r.part()
		default:
			r.part()
		}
	}
	return key, value, !r.bad && utf8.Valid(key) && utf8.Valid(value)
}

// add adds an entry of baggage. 64 are kept; their size is bounded by the header's.
func (m *lightStep) add(key, value []byte) {
	if len(key) == 0 {
		return
	}
	if _, known := m.baggage[string(key)]; !known && len(m.baggage) == maxBaggageMembers {
		return
	}
	if m.baggage == nil {
		m.baggage = make(map[string]string)
	}
	m.baggage[string(key)] = string(value)
}

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// wireReader reads a protobuf message. What it reads after something malformed is of
// no use: it is bad then, and at its end.
type wireReader struct {
	buf  []byte
	at   int
	wire uint64 // wire type of the field that is next
	bad  bool
}

func (r *wireReader) end() bool { return r.at == len(r.buf) }

func (r *wireReader) fail() {
	r.bad, r.at = true, len(r.buf)
}

// field reads a tag: number and wire type, as they stand in it.
func (r *wireReader) field() uint64 {
	tag := r.varint()
	if tag>>3 == 0 || tag>>32 != 0 {
		r.fail()
	}
	r.wire = tag & 7
	return tag
}

func (r *wireReader) varint() uint64 {
	v, n := binary.Uvarint(r.buf[r.at:])
	if n <= 0 {
		r.fail()
		return 0
	}
	r.at += n
	return v
}

func (r *wireReader) fixed64() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// part reads over a field of any type and returns its bytes if it has a length.
// Groups, which no such message has, are malformed.
func (r *wireReader) part() []byte {
	switch r.wire {
	case wireVarint:
		r.varint()
	case wireFixed64:
		r.take(8)
	case wireFixed32:
		r.take(4)
	case wireBytes:
		return r.take(r.varint())
	default:
		r.fail()
	}
	return nil
}

// take reads n bytes.
func (r *wireReader) take(n uint64) []byte {
	if n > uint64(len(r.buf)-r.at) || r.bad {
		r.fail()
		return nil
	}
	from := r.at
	r.at += int(n)
	return r.buf[from:r.at]
}

// AppendOTSpanContext appends p as LightStep's tracer in Envoy 1.6 to 1.23 wrote it:
// base64 of a BinaryCarrier with ids, sampled flag and baggage, keys in order. Only
// the last 64 bits of the trace id have a place (O-L4); an invalid span context, or
// one where these are zero, appends nothing. Baggage goes along while the whole has
// at most 1,024 bytes; keys and values that are not UTF-8 stay behind.
func AppendOTSpanContext(dst []byte, p Parsed) []byte {
	var items []item
	if len(p.Baggage) > 0 {
		items = make([]item, 0, len(p.Baggage))
		for _, k := range slices.Sorted(maps.Keys(p.Baggage)) {
			items = append(items, item{k, p.Baggage[k]})
		}
	}
	sc := spanOf(&p.SpanContext)
	return appendLightStep(dst, &sc, items)
}

func appendLightStep(dst []byte, sc *span, items []item) []byte {
	low := binary.BigEndian.Uint64(sc.TraceID[8:])
	if low == 0 || !sc.valid {
		return dst
	}
	var buf [maxLightStep]byte
	const head = 1 + 2 // tag and length of basic_ctx
	b := append(buf[head:head], 1<<3|wireFixed64)
	b = binary.LittleEndian.AppendUint64(b, low)
	b = append(b, 2<<3|wireFixed64)
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(sc.SpanID[:]))
	if sc.TraceFlags.IsSampled() {
		b = append(b, 3<<3|wireVarint, 1)
	}
	for i, n := 0, 0; i < len(items) && n < maxBaggageMembers; i++ {
		if !utf8.ValidString(items[i].key) || !utf8.ValidString(items[i].value) {
			continue
		}
		size := textLen(items[i].key) + textLen(items[i].value)
		if head+len(b)+1+lenOfLen(size)+size > len(buf) {
			continue
		}
		b = append(b, 4<<3|wireBytes)
		b = binary.AppendUvarint(b, uint64(size))
		b = appendText(b, 1, items[i].key)
		b = appendText(b, 2, items[i].value)
		n++
	}
	msg := buf[head-1-lenOfLen(len(b)) : head+len(b)]
	msg[0] = 2<<3 | wireBytes
	binary.PutUvarint(msg[1:], uint64(len(b)))
	return base64.StdEncoding.AppendEncode(dst, msg)
}

// textLen is the length of what appendText appends.
func textLen(s string) int {
	if s == "" {
		return 0
	}
	return 1 + lenOfLen(len(s)) + len(s)
}

// appendText appends a string field, nothing for "", as proto3 has it (O-L3).
func appendText(dst []byte, field byte, s string) []byte {
	if s == "" {
		return dst
	}
	dst = append(dst, field<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// lenOfLen is the length of n as a varint, for n of a header.
func lenOfLen(n int) int {
	if n < 1<<7 {
		return 1
	}
	if n < 1<<14 {
		return 2
	}
	return 3
}

// AppendOTSpanContextText appends p as Envoy's Zipkin tracer wrote it (O-Z1): the last
// 64 bits of the trace id, the span id and p.Parent in 16 lower-case digits each,
// separated by ";", then p.Annotations, of which what is no annotation is left out.
// Without a valid span context the ids are zeros, which is none (O-Z4).
func AppendOTSpanContextText(dst []byte, p Parsed) []byte {
	var traceID trace.TraceID
	var spanID, parent trace.SpanID
	if p.SpanContext.IsValid() {
		traceID, spanID, parent = p.SpanContext.TraceID(), p.SpanContext.SpanID(), p.Parent
	}
	dst = appendHex(dst, traceID[8:])
	dst = append(dst, ';')
	dst = appendHex(dst, spanID[:])
	dst = append(dst, ';')
	dst = appendHex(dst, parent[:])
	var codes uint8
	for code := range strings.SplitSeq(p.Annotations, ";") {
		codes |= zipkinCode(code)
	}
	if codes != 0 {
		dst = append(dst, ';')
		dst = append(dst, zipkinCodes[codes]...)
	}
	return dst
}

// readOTSpanContext reads x-ot-span-context.
func (x *reading) readOTSpanContext(src *headers.Source, bag *legacyBaggage) {
	v := src.First(&otSpanContextHeader)
	if v == "" {
		return
	}
	var p Parsed
	if offset, rule := p.parseOTSpanContext(v); rule != "" {
		x.refuse(fault{otSpanContextHeader.Lower, v, offset, rule}) // O-L5, O-Z4: a new trace
		return
	}
	if sc := spanOf(&p.SpanContext); x.take(OTSpanContext, &sc, p.Sampling, p.Parent) && len(p.Baggage) > 0 {
		bag.readMap(p.Baggage)
	}
}

// writeOTSpanContext writes LightStep's form or, with text, that of Envoy's Zipkin
// tracer.
func writeOTSpanContext(ctx context.Context, k *sink, sc *span, s *reqctx.State, items []item, text bool) {
	if [8]byte(sc.TraceID[8:]) == ([8]byte{}) || !sc.valid {
		return
	}
	if text {
		var b [zipkinTextLen]byte
		k.set(&otSpanContextHeader, string(AppendOTSpanContextText(b[:0], Parsed{SpanContext: sc.context(), Parent: parentOf(ctx, sc, s)})))
		return
	}
	var b [maxOTSpanContext]byte
	k.set(&otSpanContextHeader, string(appendLightStep(b[:0], sc, items)))
}
