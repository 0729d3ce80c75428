package propagation

import "go.opentelemetry.io/otel/trace"

// span is a SpanContext in parts. The methods of SpanContext copy all of it each time
// that they are asked.
type span struct {
	trace.SpanContextConfig
	valid bool // has both ids
}

// spanOf returns the parts of sc.
func spanOf(sc *trace.SpanContext) (s span) {
	s.TraceID, s.SpanID = sc.TraceID(), sc.SpanID()
	s.TraceFlags, s.TraceState, s.Remote = sc.TraceFlags(), sc.TraceState(), sc.IsRemote()
	s.valid = s.TraceID.IsValid() && s.SpanID.IsValid()
	return s
}

// context returns s as a SpanContext, an empty one when it is not valid.
func (s *span) context() trace.SpanContext {
	if !s.valid {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(s.SpanContextConfig)
}
