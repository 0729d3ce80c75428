package otlpwire

import (
	"math"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// maxArray is the longest array that stays one. The attribute package makes a Go type
// for each length of array that it sees, and keeps it for ever.
const maxArray = 1024

// Decode returns the spans of an ExportTraceServiceRequest in the order they come,
// with nothing of request kept. What it refuses, and how, is as for Scan.
//
// A key-value list, and an array of more than 1,024 elements, are no values that the
// attribute package has: they become a string with their JSON form.
func Decode(request []byte) ([]Span, error) {
	n := 0
	m, err := scan(request, exportRequest, MaxRequest, func(trace.TraceID, trace.SpanID) { n++ })
	if err != nil {
		return nil, err
	}
	spans := slices.Grow([]Span(nil), n)
	var f field
	for m.next(&f) {
		if f.num == 1 { // repeated ResourceSpans resource_spans = 1;
			spans = decodeResourceSpans(m.sub(&f), spans)
		}
	}
	return spans, nil
}

// The resource and scope may stand behind the spans they belong to, and are given to
// these at the end.

func decodeResourceSpans(m message, spans []Span) []Span {
	first, res := len(spans), &Resource{}
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // Resource resource = 1;
			decodeResource(m.sub(&f), res)
		case 2: // repeated ScopeSpans scope_spans = 2;
			spans = decodeScopeSpans(m.sub(&f), spans)
		case 3: // string schema_url = 3;
			res.SchemaURL = m.text(&f)
		}
	}
	for i := first; i < len(spans); i++ {
		spans[i].Resource = res
	}
	return spans
}

func decodeResource(m message, res *Resource) {
	var f field
	for m.next(&f) {
		if f.num == 1 { // repeated KeyValue attributes = 1;
			res.Attributes = decodeAttribute(m.sub(&f), res.Attributes)
		}
	}
}

func decodeScopeSpans(m message, spans []Span) []Span {
	first := len(spans)
	var scope Span // the scope's fields alone
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // InstrumentationScope scope = 1;
			decodeScope(m.sub(&f), &scope)
		case 2: // repeated Span spans = 2;
			spans = append(spans, Span{})
			decodeSpan(m.sub(&f), &spans[len(spans)-1])
		}
	}
	for i := first; i < len(spans); i++ {
		s := &spans[i]
		s.ScopeName, s.ScopeVersion, s.ScopeAttributes = scope.ScopeName, scope.ScopeVersion, scope.ScopeAttributes
	}
	return spans
}

func decodeScope(m message, s *Span) {
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // string name = 1;
			s.ScopeName = m.text(&f)
		case 2: // string version = 2;
			s.ScopeVersion = m.text(&f)
		case 3: // repeated KeyValue attributes = 3;
			s.ScopeAttributes = decodeAttribute(m.sub(&f), s.ScopeAttributes)
		}
	}
}

func decodeSpan(m message, s *Span) {
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // bytes trace_id = 1;
			setID(s.TraceID[:], m.bytes(&f))
		case 2: // bytes span_id = 2;
			setID(s.SpanID[:], m.bytes(&f))
		case 3: // string trace_state = 3;
			s.TraceState = m.text(&f)
		case 4: // bytes parent_span_id = 4;
			setID(s.Parent[:], m.bytes(&f))
		case 5: // string name = 5;
			s.Name = m.text(&f)
		case 6: // SpanKind kind = 6;
			s.Kind = int32(f.v)
		case 7: // fixed64 start_time_unix_nano = 7;
			s.Start = f.v
		case 8: // fixed64 end_time_unix_nano = 8;
			s.End = f.v
		case 9: // repeated KeyValue attributes = 9;
			s.Attributes = decodeAttribute(m.sub(&f), s.Attributes)
		case 10: // uint32 dropped_attributes_count = 10;
			s.DroppedAttributes = uint32(f.v)
		case 11: // repeated Event events = 11;
			s.Events = append(s.Events, Event{})
			decodeEvent(m.sub(&f), &s.Events[len(s.Events)-1])
		case 12: // uint32 dropped_events_count = 12;
			s.DroppedEvents = uint32(f.v)
		case 13: // repeated Link links = 13;
			s.Links = append(s.Links, Link{})
			decodeLink(m.sub(&f), &s.Links[len(s.Links)-1])
		case 14: // uint32 dropped_links_count = 14;
			s.DroppedLinks = uint32(f.v)
		case 15: // Status status = 15;
			decodeStatus(m.sub(&f), s)
		case 16: // fixed32 flags = 16;
			s.Flags = uint32(f.v)
		}
	}
}

func decodeStatus(m message, s *Span) {
	var f field
	for m.next(&f) {
		switch f.num {
		case 2: // string message = 2;
			s.StatusText = m.text(&f)
		case 3: // StatusCode code = 3;
			s.StatusCode = int32(f.v)
		}
	}
}

func decodeEvent(m message, e *Event) {
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // fixed64 time_unix_nano = 1;
			e.Time = f.v
		case 2: // string name = 2;
			e.Name = m.text(&f)
		case 3: // repeated KeyValue attributes = 3;
			e.Attributes = decodeAttribute(m.sub(&f), e.Attributes)
		case 4: // uint32 dropped_attributes_count = 4;
			e.Dropped = uint32(f.v)
		}
	}
}

func decodeLink(m message, l *Link) {
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // bytes trace_id = 1;
			setID(l.TraceID[:], m.bytes(&f))
		case 2: // bytes span_id = 2;
			setID(l.SpanID[:], m.bytes(&f))
		case 3: // string trace_state = 3;
			l.TraceState = m.text(&f)
		case 4: // repeated KeyValue attributes = 4;
			l.Attributes = decodeAttribute(m.sub(&f), l.Attributes)
		case 5: // uint32 dropped_attributes_count = 5;
			l.Dropped = uint32(f.v)
		case 6: // fixed32 flags = 6;
			l.Flags = uint32(f.v)
		}
	}
}

// setID sets an id, whose length was checked; an empty one is zero.
func setID(dst, b []byte) {
	clear(dst)
	copy(dst, b)
}

// decodeAttribute appends the KeyValue in m.
func decodeAttribute(m message, kvs []attribute.KeyValue) []attribute.KeyValue {
	var kv attribute.KeyValue
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // string key = 1;
			kv.Key = attribute.Key(m.text(&f))
		case 2: // AnyValue value = 2;
			kv.Value = decodeValue(m.sub(&f))
		}
	}
	return append(kvs, kv)
}

// decodeValue reads an AnyValue, a oneof: the last member counts.
func decodeValue(m message) (v attribute.Value) {
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // string string_value = 1;
			v = attribute.StringValue(m.text(&f))
		case 2: // bool bool_value = 2;
			v = attribute.BoolValue(f.v != 0)
		case 3: // int64 int_value = 3;
			v = attribute.Int64Value(int64(f.v))
		case 4: // double double_value = 4;
			v = attribute.Float64Value(math.Float64frombits(f.v))
		case 5: // ArrayValue array_value = 5;
			v = decodeArray(m, &f)
		case 6: // KeyValueList kvlist_value = 6;
			v = attribute.StringValue(string(appendPlainMember(nil, m, &f)))
		case 7: // bytes bytes_value = 7;
			v = attribute.ByteSliceValue(m.bytes(&f))
		}
	}
	return v
}

// decodeArray reads an ArrayValue into the narrowest type that holds its elements.
func decodeArray(m message, f *field) attribute.Value {
	var g field
	n := 0
	for array := m.sub(f); array.next(&g); {
		if g.num == 1 {
			n++
		}
	}
	if n > maxArray {
		return attribute.StringValue(string(appendPlainMember(nil, m, f)))
	}
	elems := make([]attribute.Value, 0, n)
	for array := m.sub(f); array.next(&g); {
		if g.num == 1 { // repeated AnyValue values = 1;
			elems = append(elems, decodeValue(m.sub(&g)))
		}
	}
	return arrayOf(elems)
}

func arrayOf(elems []attribute.Value) attribute.Value {
	if len(elems) == 0 {
		return attribute.SliceValue()
	}
	for _, e := range elems[1:] {
		if e.Type() != elems[0].Type() {
			return attribute.SliceValue(elems...)
		}
	}
	switch elems[0].Type() {
	case attribute.STRING:
		return attribute.StringSliceValue(all(elems, attribute.Value.AsString))
	case attribute.BOOL:
		return attribute.BoolSliceValue(all(elems, attribute.Value.AsBool))
	case attribute.INT64:
		return attribute.Int64SliceValue(all(elems, attribute.Value.AsInt64))
	case attribute.FLOAT64:
		return attribute.Float64SliceValue(all(elems, attribute.Value.AsFloat64))
	}
	return attribute.SliceValue(elems...)
}

func all[T any](elems []attribute.Value, as func(attribute.Value) T) []T {
	out := make([]T, len(elems))
	for i, e := range elems {
		out[i] = as(e)
	}
	return out
}
