package otlpwire

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Span is one decoded OTLP span with the resource and scope it came under, for
// readers: the debug page, the console, receivers. The hot path never makes one.
// Numbers are as they came, also those that the schema does not have.
type Span struct {
	TraceID    trace.TraceID
	SpanID     trace.SpanID
	Parent     trace.SpanID // zero: a root
	TraceState string
	Flags      uint32
	Name       string
	Kind       int32  // opentelemetry.proto.trace.v1.Span.SpanKind: 2 SERVER, 3 CLIENT
	Start, End uint64 // Unix nanoseconds
	Attributes []attribute.KeyValue
	Events     []Event
	Links      []Link
	StatusCode int32 // opentelemetry.proto.trace.v1.Status.StatusCode: 0 UNSET, 1 OK, 2 ERROR
	StatusText string

	DroppedAttributes, DroppedEvents, DroppedLinks uint32

	Resource                *Resource // never nil from Decode, shared by the spans of the resource
	ScopeName, ScopeVersion string
	ScopeAttributes         []attribute.KeyValue // shared by the spans of the scope
}

// Resource is a decoded OTLP resource, shared by its spans.
type Resource struct {
	Attributes []attribute.KeyValue
	SchemaURL  string
}

// Event is a decoded span event.
type Event struct {
	Name       string
	Time       uint64 // Unix nanoseconds
	Attributes []attribute.KeyValue
	Dropped    uint32
}

// Link is a decoded span link.
type Link struct {
	TraceID    trace.TraceID
	SpanID     trace.SpanID
	TraceState string
	Flags      uint32
	Attributes []attribute.KeyValue
	Dropped    uint32
}
