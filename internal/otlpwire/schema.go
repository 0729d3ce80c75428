package otlpwire

import (
	"fmt"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// What is taken on from strangers. The counts bound memory, which a hostile request
// would otherwise multiply: an empty span is two bytes on the wire and four hundred in
// memory.
const (
	MaxRequest = 16 << 20 // bytes of a request
	MaxSpans   = 1 << 17  // spans of a request
	MaxDepth   = 64       // values in each other
	maxParts   = 1 << 20  // elements of all lists together: spans, attributes, events, links, values
	maxAnswer  = 4 << 20  // bytes of a collector's answer
)

// form is the type of a field, and how OTLP/JSON writes it.
type form uint8

const (
	formMessage form = iota
	formText         // string
	formID           // bytes: hex, of length entry.size or empty
	formBytes        // bytes: base64
	formUint32
	formEnum
	formInt64
	formBool
	formDouble
	formFixed32
	formFixed64
)

var wireTypes = [...]byte{
	formMessage: wireBytes, formText: wireBytes, formID: wireBytes, formBytes: wireBytes,
	formUint32: wireVarint, formEnum: wireVarint, formInt64: wireVarint, formBool: wireVarint,
	formDouble: wireFixed64, formFixed32: wireFixed32, formFixed64: wireFixed64,
}

// entry is one field of the schema.
type entry struct {
	num      uint32
	name     string // in OTLP/JSON
	form     form
	of       int // the message of formMessage
	size     int // the length of formID
	repeated bool
}

type schema struct {
	name   string
	fields []entry
}

// The messages, as indices of schemas.
const (
	exportRequest = iota
	resourceSpansMessage
	resourceMessage
	entityRef
	scopeSpansMessage
	scopeMessage
	spanMessage
	eventMessage
	linkMessage
	statusMessage
	keyValue
	anyValue
	arrayValue
	keyValueList
	exportResponse
	partialSuccess
	rpcStatus
	anyMessage
	rpcRetryInfo
	durationMessage
)

// schemas is what a trace export reaches of OTLP's schema, version 1.10, and of
// google.rpc. Fields that are not here are passed over.
var schemas = [...]schema{
	exportRequest: {"ExportTraceServiceRequest", []entry{
		{num: 1, name: "resourceSpans", of: resourceSpansMessage, repeated: true},
	}},
	resourceSpansMessage: {"ResourceSpans", []entry{
		{num: 1, name: "resource", of: resourceMessage},
		{num: 2, name: "scopeSpans", of: scopeSpansMessage, repeated: true},
		{num: 3, name: "schemaUrl", form: formText},
	}},
	resourceMessage: {"Resource", []entry{
		{num: 1, name: "attributes", of: keyValue, repeated: true},
		{num: 2, name: "droppedAttributesCount", form: formUint32},
		{num: 3, name: "entityRefs", of: entityRef, repeated: true},
	}},
	entityRef: {"EntityRef", []entry{
		{num: 1, name: "schemaUrl", form: formText},
		{num: 2, name: "type", form: formText},
		{num: 3, name: "idKeys", form: formText, repeated: true},
		{num: 4, name: "descriptionKeys", form: formText, repeated: true},
	}},
	scopeSpansMessage: {"ScopeSpans", []entry{
		{num: 1, name: "scope", of: scopeMessage},
		{num: 2, name: "spans", of: spanMessage, repeated: true},
		{num: 3, name: "schemaUrl", form: formText},
	}},
	scopeMessage: {"InstrumentationScope", []entry{
		{num: 1, name: "name", form: formText},
		{num: 2, name: "version", form: formText},
		{num: 3, name: "attributes", of: keyValue, repeated: true},
		{num: 4, name: "droppedAttributesCount", form: formUint32},
	}},
	spanMessage: {"Span", []entry{
		{num: 1, name: "traceId", form: formID, size: 16},
		{num: 2, name: "spanId", form: formID, size: 8},
		{num: 3, name: "traceState", form: formText},
		{num: 4, name: "parentSpanId", form: formID, size: 8},
		{num: 16, name: "flags", form: formFixed32},
		{num: 5, name: "name", form: formText},
		{num: 6, name: "kind", form: formEnum},
		{num: 7, name: "startTimeUnixNano", form: formFixed64},
		{num: 8, name: "endTimeUnixNano", form: formFixed64},
		{num: 9, name: "attributes", of: keyValue, repeated: true},
		{num: 10, name: "droppedAttributesCount", form: formUint32},
		{num: 11, name: "events", of: eventMessage, repeated: true},
		{num: 12, name: "droppedEventsCount", form: formUint32},
		{num: 13, name: "links", of: linkMessage, repeated: true},
		{num: 14, name: "droppedLinksCount", form: formUint32},
		{num: 15, name: "status", of: statusMessage},
	}},
	eventMessage: {"Span.Event", []entry{
		{num: 1, name: "timeUnixNano", form: formFixed64},
		{num: 2, name: "name", form: formText},
		{num: 3, name: "attributes", of: keyValue, repeated: true},
		{num: 4, name: "droppedAttributesCount", form: formUint32},
	}},
	linkMessage: {"Span.Link", []entry{
		{num: 1, name: "traceId", form: formID, size: 16},
		{num: 2, name: "spanId", form: formID, size: 8},
		{num: 3, name: "traceState", form: formText},
		{num: 4, name: "attributes", of: keyValue, repeated: true},
		{num: 5, name: "droppedAttributesCount", form: formUint32},
		{num: 6, name: "flags", form: formFixed32},
	}},
	statusMessage: {"Status", []entry{
		{num: 2, name: "message", form: formText},
		{num: 3, name: "code", form: formEnum},
	}},
	keyValue: {"KeyValue", []entry{
		{num: 1, name: "key", form: formText},
		{num: 2, name: "value", of: anyValue},
	}},
	anyValue: {"AnyValue", []entry{ // a oneof
		{num: 1, name: "stringValue", form: formText},
		{num: 2, name: "boolValue", form: formBool},
		{num: 3, name: "intValue", form: formInt64},
		{num: 4, name: "doubleValue", form: formDouble},
		{num: 5, name: "arrayValue", of: arrayValue},
		{num: 6, name: "kvlistValue", of: keyValueList},
		{num: 7, name: "bytesValue", form: formBytes},
	}},
	arrayValue: {"ArrayValue", []entry{
		{num: 1, name: "values", of: anyValue, repeated: true},
	}},
	keyValueList: {"KeyValueList", []entry{
		{num: 1, name: "values", of: keyValue, repeated: true},
	}},

	// Answers. Their texts are bytes here: a collector that cannot spell is still heard.
	exportResponse: {"ExportTraceServiceResponse", []entry{
		{num: 1, name: "partialSuccess", of: partialSuccess},
	}},
	partialSuccess: {"ExportTracePartialSuccess", []entry{
		{num: 1, name: "rejectedSpans", form: formInt64},
		{num: 2, name: "errorMessage", form: formBytes},
	}},
	rpcStatus: {"google.rpc.Status", []entry{
		{num: 1, name: "code", form: formEnum},
		{num: 2, name: "message", form: formBytes},
		{num: 3, name: "details", of: anyMessage, repeated: true},
	}},
	anyMessage: {"google.protobuf.Any", []entry{
		{num: 1, name: "typeUrl", form: formBytes},
		{num: 2, name: "value", form: formBytes},
	}},
	rpcRetryInfo: {"google.rpc.RetryInfo", []entry{
		{num: 1, name: "retryDelay", of: durationMessage},
	}},
	durationMessage: {"google.protobuf.Duration", []entry{
		{num: 1, name: "seconds", form: formInt64},
		{num: 2, name: "nanos", form: formEnum},
	}},
}

// lookup returns the entry of a field, nil for one that is not in the schema.
func (s *schema) lookup(num uint32) *entry {
	for i := range s.fields {
		if s.fields[i].num == num {
			return &s.fields[i]
		}
	}
	return nil
}

// Scan checks an ExportTraceServiceRequest without making anything of it, and calls
// span, which may be nil, with the ids of each span in the order they come. It never
// panics: bytes that are not such a message, ids of a wrong length, strings that are
// not UTF-8 and what exceeds the limits above are a *WireError, before which span may
// have been called. Unknown fields are passed over.
func Scan(request []byte, span func(trace.TraceID, trace.SpanID)) error {
	_, err := scan(request, exportRequest, MaxRequest, span)
	return err
}

// scan checks the message in b and returns it for those who read it without checking.
func scan(b []byte, of, limit int, span func(trace.TraceID, trace.SpanID)) (message, error) {
	m := read(b)
	if len(b) > limit {
		m.fail(limit, "", fmt.Sprintf("more than %d bytes", limit))
		return m, m.err
	}
	s := scanner{span: span}
	s.message(m, of, 0)
	return m, m.err
}

type scanner struct {
	span         func(trace.TraceID, trace.SpanID)
	spans, parts int
}

// message checks m; depth counts the values that it lies in.
func (s *scanner) message(m message, id, depth int) {
	var traceID trace.TraceID
	var spanID trace.SpanID
	var f field
	for m.next(&f) {
		e := schemas[id].lookup(f.num)
		if e == nil {
			continue
		}
		if reason := s.check(m, &f, e, depth); reason != "" {
			m.fail(f.at, schemas[id].name+"."+e.name, reason)
			return
		}
		switch {
		case e.form == formMessage && e.of == anyValue:
			s.message(m.sub(&f), e.of, depth+1)
		case e.form == formMessage:
			s.message(m.sub(&f), e.of, depth)
		case id == spanMessage && e.num == 1:
			copy(traceID[:], m.bytes(&f))
		case id == spanMessage && e.num == 2:
			copy(spanID[:], m.bytes(&f))
		}
	}
	if id == spanMessage && m.err == nil && s.span != nil {
		s.span(traceID, spanID)
	}
}

// check says what is wrong with f alone.
func (s *scanner) check(m message, f *field, e *entry, depth int) string {
	if want := wireTypes[e.form]; f.typ != want {
		return fmt.Sprintf("wire type %d in place of %d", f.typ, want)
	}
	if e.repeated {
		if s.parts++; s.parts > maxParts {
			return fmt.Sprintf("more than %d parts", maxParts)
		}
	}
	switch n := f.hi - f.lo; {
	case e.form == formText && !utf8.Valid(m.bytes(f)):
		return "not UTF-8"
	case e.form == formID && n != 0 && n != e.size:
		return fmt.Sprintf("%d bytes in place of %d", n, e.size)
	case e.form == formMessage && e.of == anyValue && depth == MaxDepth:
		return fmt.Sprintf("more than %d values in each other", MaxDepth)
	case e.form == formMessage && e.of == spanMessage:
		if s.spans++; s.spans > MaxSpans {
			return fmt.Sprintf("more than %d spans", MaxSpans)
		}
	}
	return ""
}
