// Package otlpwire turns finished spans into OTLP bytes and back, without a protobuf
// library and, on the way out, without garbage.
//
//	g := otlpwire.NewGroup(
//		otlpwire.AppendResource(nil, s.Resource()), s.Resource().SchemaURL(),
//		otlpwire.AppendScope(nil, s.InstrumentationScope()), s.InstrumentationScope().SchemaURL)
//	body, repaired := otlpwire.AppendSpan(nil, s) // when the span ends
//
//	var b otlpwire.Batch // when it is sent
//	b.Add(g, body, 4<<20)
//	request := b.AppendTo(nil)
//	spans, err := otlpwire.Decode(request) // whoever receives it
//
// A body is the content of a message without the tag and the length that stand before
// it inside another one. A request is an ExportTraceServiceRequest
// (opentelemetry.proto.collector.trace.v1, schema version 1.10), which is what both
// OTLP/HTTP and OTLP/gRPC carry. Field numbers stand beside the code that writes and
// reads them, as in the schema.
//
// What is written has minimal lengths and is UTF-8 throughout. What is read comes from
// strangers: nothing panics, and bytes, parts and depth are bounded.
package otlpwire
