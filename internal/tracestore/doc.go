// Package tracestore keeps the newest finished spans in a bounded piece of memory,
// as OTLP requests, for whoever shows them.
//
// A Store takes requests that arrived:
//
//	store := tracestore.New(8 << 20)
//	store.Add(request)
//	for request := range store.OTLP() {
//		spans, err := otlpwire.Decode(request)
//		…
//	}
//
// A Recorder takes a program's own spans as they end. It is put into the provider from
// the start and does nothing, at the price of one atomic load a span, until somebody
// wants to look:
//
//	own := tracestore.NewRecorder(4 << 20)
//	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(own))
//	own.Activate()
//
// Both count bytes of OTLP and a fixed share for each request, let go of the oldest
// whole requests first, and are safe for concurrent use.
package tracestore
