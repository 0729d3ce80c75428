package otlpwire

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Bits of Span.flags and Span.Link.flags above the eight W3C trace flags
// (opentelemetry.proto.trace.v1.SpanFlags).
const (
	flagHasIsRemote = 1 << 8 // bit 9 means something
	flagIsRemote    = 1 << 9 // the parent, or the linked span, is in another process
)

// The schema's numbers, by the SDK's.
var (
	spanKinds = [...]uint64{
		trace.SpanKindUnspecified: 0,
		trace.SpanKindInternal:    1,
		trace.SpanKindServer:      2,
		trace.SpanKindClient:      3,
		trace.SpanKindProducer:    4,
		trace.SpanKindConsumer:    5,
	}
	statusCodes = [...]uint64{
		codes.Unset: 0,
		codes.Error: 2, // the SDK has 1
		codes.Ok:    1, // the SDK has 2
	}
)

// AppendSpan appends the body of an opentelemetry.proto.trace.v1.Span, without tag
// and length, and returns the extended slice. repaired counts the strings that were
// not UTF-8 and were made so.
//
// It keeps nothing of s and may be called concurrently. Where dst has room it
// allocates only for attributes that are slices, of which the attribute package hands
// out copies, and for repairs.
func AppendSpan(dst []byte, s sdktrace.ReadOnlySpan) (out []byte, repaired int) {
	out, repaired, _ = AppendSpanLost(dst, s)
	return out, repaired
}

// AppendSpanLost is AppendSpan, and tells how many attributes, events and links the
// SDK's limits took from s.
func AppendSpanLost(dst []byte, s sdktrace.ReadOnlySpan) (out []byte, repaired, lost int) {
	sc, parent, status := s.SpanContext(), s.Parent(), s.Status()
	traceID, spanID, parentID := sc.TraceID(), sc.SpanID(), parent.SpanID()

	b, ids := reserve(dst, 28) // what follows always has one length
	ids[0], ids[1] = 1<<3|wireBytes, 16
	copy(ids[2:18], traceID[:]) // bytes    trace_id       = 1;
	ids[18], ids[19] = 2<<3|wireBytes, 8
	copy(ids[20:28], spanID[:])                 // bytes    span_id        = 2;
	b = appendTraceState(b, 3, sc.TraceState()) // string   trace_state    = 3;
	if parentID.IsValid() {
		b = appendBytes(b, 4, parentID[:]) // bytes parent_span_id = 4;
	}
	b = appendString(b, 5, s.Name(), &repaired)                 // string   name                 = 5;
	b = appendUint(b, 6, enum(spanKinds[:], int(s.SpanKind()))) // SpanKind kind                 = 6;
	b = appendFixed64(b, 7, unixNano(s.StartTime()))            // fixed64  start_time_unix_nano = 7;
	b = appendFixed64(b, 8, unixNano(s.EndTime()))              // fixed64  end_time_unix_nano   = 8;
	b = appendAttributes(b, 9, s.Attributes(), &repaired)       // repeated KeyValue attributes = 9;
	lostAttributes, lostEvents, lostLinks := count(s.DroppedAttributes()), count(s.DroppedEvents()), count(s.DroppedLinks())
	b = appendUint(b, 10, lostAttributes) // uint32   dropped_attributes_count = 10;
	events := s.Events()
	for i := range events {
		b = appendEvent(b, 11, &events[i], &repaired) // repeated Event events = 11;
	}
	b = appendUint(b, 12, lostEvents) // uint32 dropped_events_count = 12;
	links := s.Links()
	for i := range links {
		b = appendLink(b, 13, &links[i], &repaired) // repeated Link links = 13;
	}
	b = appendUint(b, 14, lostLinks)                  // uint32 dropped_links_count = 14;
	b = appendStatus(b, 15, status, &repaired)        // Status status = 15;
	b = append(b, 16<<3&0x7f|0x80|wireFixed32, 16>>4) // fixed32 flags = 16; a tag of two bytes
	b = binary.LittleEndian.AppendUint32(b, flags(sc, parent))
	return b, repaired, int(lostAttributes + lostEvents + lostLinks)
}

// AppendResource appends the body of an opentelemetry.proto.resource.v1.Resource.
// A nil resource has an empty body. Strings that are not UTF-8 are made so. The schema
// URL is no part of it: NewGroup takes it.
func AppendResource(dst []byte, r *resource.Resource) []byte {
	var repaired int
	for it := r.Iter(); it.Next(); {
		kv := it.Attribute()
		dst = appendAttribute(dst, 1, &kv, &repaired) // repeated KeyValue attributes = 1;
	}
	return dst
}

// AppendScope appends the body of an opentelemetry.proto.common.v1.InstrumentationScope,
// as AppendResource does.
func AppendScope(dst []byte, s instrumentation.Scope) []byte {
	var repaired int
	dst = appendString(dst, 1, s.Name, &repaired)    // string name    = 1;
	dst = appendString(dst, 2, s.Version, &repaired) // string version = 2;
	for it := s.Attributes.Iter(); it.Next(); {
		kv := it.Attribute()
		dst = appendAttribute(dst, 3, &kv, &repaired) // repeated KeyValue attributes = 3;
	}
	return dst
}

func appendEvent(b []byte, num byte, e *sdktrace.Event, repaired *int) []byte {
	b, mark := open(b, num)
	b = appendFixed64(b, 1, unixNano(e.Time))            // fixed64  time_unix_nano = 1;
	b = appendString(b, 2, e.Name, repaired)             // string   name           = 2;
	b = appendAttributes(b, 3, e.Attributes, repaired)   // repeated KeyValue attributes = 3;
	b = appendUint(b, 4, count(e.DroppedAttributeCount)) // uint32   dropped_attributes_count = 4;
	return closeAt(b, mark)
}

func appendLink(b []byte, num byte, l *sdktrace.Link, repaired *int) []byte {
	traceID, spanID := l.SpanContext.TraceID(), l.SpanContext.SpanID()
	b, mark := open(b, num)
	b = appendBytes(b, 1, traceID[:])                      // bytes    trace_id    = 1;
	b = appendBytes(b, 2, spanID[:])                       // bytes    span_id     = 2;
	b = appendTraceState(b, 3, l.SpanContext.TraceState()) // string   trace_state = 3;
	b = appendAttributes(b, 4, l.Attributes, repaired)     // repeated KeyValue attributes = 4;
	b = appendUint(b, 5, count(l.DroppedAttributeCount))   // uint32   dropped_attributes_count = 5;
	b = append(b, 6<<3|wireFixed32)                        // fixed32  flags       = 6;
	b = binary.LittleEndian.AppendUint32(b, flags(l.SpanContext, l.SpanContext))
	return closeAt(b, mark)
}

// appendStatus leaves an unset status without description out: to the schema an
// absent one is the same.
func appendStatus(b []byte, num byte, s sdktrace.Status, repaired *int) []byte {
	code := enum(statusCodes[:], int(s.Code))
	if code == 0 && s.Description == "" {
		return b
	}
	b, mark := open(b, num)
	b = appendString(b, 2, s.Description, repaired) // string     message = 2;
	b = appendUint(b, 3, code)                      // StatusCode code    = 3;
	return closeAt(b, mark)
}

// appendTraceState writes what TraceState.String returns, without making the string.
// A TraceState has no bytes outside ASCII.
func appendTraceState(b []byte, num byte, ts trace.TraceState) []byte {
	if ts.Len() == 0 {
		return b
	}
	b, mark := open(b, num)
	ts.Walk(func(key, value string) bool {
		if len(b) > mark {
			b = append(b, ',')
		}
		b = append(b, key...)
		b = append(b, '=')
		b = append(b, value...)
		return true
	})
	return closeAt(b, mark)
}

func appendAttributes(b []byte, num byte, kvs []attribute.KeyValue, repaired *int) []byte {
	for i := range kvs {
		b = appendAttribute(b, num, &kvs[i], repaired)
	}
	return b
}

// appendAttribute appends an opentelemetry.proto.common.v1.KeyValue. The value is
// always there: an empty one says that the attribute has no value.
func appendAttribute(b []byte, num byte, kv *attribute.KeyValue, repaired *int) []byte {
	if out, ok := appendShort(b, num, kv); ok {
		return out
	}
	b, mark := open(b, num)
	b = appendString(b, 1, string(kv.Key), repaired) // string   key   = 1;
	b = appendAnyValue(b, 2, &kv.Value, 0, repaired) // AnyValue value = 2;
	return closeAt(b, mark)
}

// appendShort does so for what most attributes are: a key and a text or a number in
// less than 128 bytes together, so that every length is one byte and known beforehand.
func appendShort(b []byte, num byte, kv *attribute.KeyValue) (out []byte, ok bool) {
	key := string(kv.Key)
	n := len(key)
	if uint(n-1) >= 100 || !isASCII(key) {
		return b, false
	}
	switch kv.Value.Type() {
	case attribute.STRING:
		v := kv.Value.AsString()
		if n+len(v) > 119 || !isASCII(v) { // 8 bytes of tags and lengths
			return b, false
		}
		b, p := reserve(b, n+len(v)+8)
		p[0], p[1], p[2], p[3] = num<<3|wireBytes, byte(n+len(v)+6), 1<<3|wireBytes, byte(n)
		copy(p[4:], key)
		p = p[4+n:]
		p[0], p[1], p[2], p[3] = 2<<3|wireBytes, byte(len(v)+2), 1<<3|wireBytes, byte(len(v))
		copy(p[4:], v)
		return b, true
	case attribute.INT64:
		v := uint64(kv.Value.AsInt64())
		size := sizeVarint(v)
		b, p := reserve(b, n+size+7)
		p[0], p[1], p[2], p[3] = num<<3|wireBytes, byte(n+size+5), 1<<3|wireBytes, byte(n)
		copy(p[4:], key)
		p = p[4+n:]
		p[0], p[1], p[2] = 2<<3|wireBytes, byte(size+1), 3<<3|wireVarint
		binary.PutUvarint(p[3:], v)
		return b, true
	case attribute.BOOL:
		b = append(b, num<<3|wireBytes, byte(n+6), 1<<3|wireBytes, byte(n))
		b = append(b, key...)
		var v byte
		if kv.Value.AsBool() {
			v = 1
		}
		return append(b, 2<<3|wireBytes, 2, 2<<3|wireVarint, v), true
	}
	return b, false
}

// reserve appends n bytes and returns them apart as well, to be written.
func reserve(b []byte, n int) (out, room []byte) {
	at := len(b)
	if cap(b)-at < n {
		b = slices.Grow(b, n)
	}
	b = b[:at+n]
	return b, b[at:]
}

// maxNesting bounds arrays in arrays. Each takes two levels of messages and common
// decoders give up at 100, with the whole request; beyond it a value travels as its
// text.
const maxNesting = 32

// appendAnyValue appends an opentelemetry.proto.common.v1.AnyValue.
func appendAnyValue(b []byte, num byte, v *attribute.Value, depth int, repaired *int) []byte {
	if v.Type() == attribute.STRING { // most values; their length is known beforehand
		s := valid(v.AsString(), repaired)
		b = appendVarint(append(b, num<<3|wireBytes), uint64(sizeField(len(s))))
		b = appendVarint(append(b, 1<<3|wireBytes), uint64(len(s))) // string string_value = 1;
		return append(b, s...)
	}
	b, mark := open(b, num)
	switch v.Type() {
	case attribute.BOOL:
		b = appendBool(b, v.AsBool())
	case attribute.INT64:
		b = appendInt(b, v.AsInt64())
	case attribute.FLOAT64:
		b = appendDouble(b, v.AsFloat64())
	case attribute.BYTESLICE:
		b = appendBytes(b, 7, v.AsByteSlice()) // bytes bytes_value = 7;
	case attribute.EMPTY:
	default:
		b = appendArray(b, v, depth, repaired)
	}
	return closeAt(b, mark)
}

// The scalar members of AnyValue's oneof: a member is written even when it is zero.

func appendBool(b []byte, v bool) []byte { // bool bool_value = 2;
	if v {
		return append(b, 2<<3|wireVarint, 1)
	}
	return append(b, 2<<3|wireVarint, 0)
}

func appendInt(b []byte, v int64) []byte { // int64 int_value = 3;
	return appendVarint(append(b, 3<<3|wireVarint), uint64(v))
}

func appendDouble(b []byte, v float64) []byte { // double double_value = 4;
	return binary.LittleEndian.AppendUint64(append(b, 4<<3|wireFixed64), math.Float64bits(v))
}

// appendArray appends ArrayValue array_value = 5, or what a map is. A kind of value that
// is not known here travels as its text.
func appendArray(b []byte, v *attribute.Value, depth int, repaired *int) []byte {
	start := len(b)
	b, mark := open(b, 5)
	var elem int
	switch v.Type() { // each element: repeated AnyValue values = 1;
	case attribute.STRINGSLICE:
		for _, e := range v.AsStringSlice() {
			b, elem = open(b, 1)
			b = closeAt(appendText(b, 1, e, repaired), elem)
		}
	case attribute.BOOLSLICE:
		for _, e := range v.AsBoolSlice() {
			b, elem = open(b, 1)
			b = closeAt(appendBool(b, e), elem)
		}
	case attribute.INT64SLICE:
		for _, e := range v.AsInt64Slice() {
			b, elem = open(b, 1)
			b = closeAt(appendInt(b, e), elem)
		}
	case attribute.FLOAT64SLICE:
		for _, e := range v.AsFloat64Slice() {
			b, elem = open(b, 1)
			b = closeAt(appendDouble(b, e), elem)
		}
	case attribute.SLICE:
		if depth == maxNesting {
			return appendText(b[:start], 1, v.String(), repaired)
		}
		elems := v.AsSlice()
		for i := range elems {
			b = appendAnyValue(b, 1, &elems[i], depth+1, repaired)
		}
	default:
		if m, ok := any(*v).(mapper); ok && v.Type().String() == "MAP" && depth < maxNesting {
			return appendMap(b[:start], m.AsMap(), depth, repaired)
		}
		return appendText(b[:start], 1, v.String(), repaired)
	}
	return closeAt(b, mark)
}

// mapper is an attribute.Value from OpenTelemetry 1.47 on, where values may be maps:
// go.mod's floor is older, and a program may be ahead of it.
type mapper interface{ AsMap() []attribute.KeyValue }

// appendMap appends KeyValueList kvlist_value = 6. Of a key that stands twice, which
// the schema forbids, the last value counts.
func appendMap(b []byte, kvs []attribute.KeyValue, depth int, repaired *int) []byte {
	var last map[attribute.Key]int
	if len(kvs) > 1 {
		last = make(map[attribute.Key]int, len(kvs))
		for i := range kvs {
			last[kvs[i].Key] = i
		}
	}
	b, mark := open(b, 6)
	for i := range kvs {
		if last != nil && last[kvs[i].Key] != i {
			continue
		}
		var pair int
		b, pair = open(b, 1)                                       // repeated KeyValue values = 1;
		b = appendString(b, 1, string(kvs[i].Key), repaired)       // string   key   = 1;
		b = appendAnyValue(b, 2, &kvs[i].Value, depth+1, repaired) // AnyValue value = 2;
		b = closeAt(b, pair)
	}
	return closeAt(b, mark)
}

// flags returns the W3C flags of sc, and whether from is in another process.
func flags(sc, from trace.SpanContext) uint32 {
	f := uint32(sc.TraceFlags()) | flagHasIsRemote
	if from.IsRemote() {
		f |= flagIsRemote
	}
	return f
}

// enum translates an SDK number; one that the schema does not know is 0, unspecified.
func enum(numbers []uint64, v int) uint64 {
	if uint(v) >= uint(len(numbers)) {
		return 0
	}
	return numbers[v]
}

// count clamps a count of dropped parts to the schema's uint32.
func count(n int) uint64 {
	return uint64(min(max(int64(n), 0), math.MaxUint32))
}

// unixNano returns t for the schema, where 0 is unknown: a time before 1970 is, and
// the zero time.
func unixNano(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }
