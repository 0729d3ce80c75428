// Package span is what a program says about its spans: a child span, the route, an
// attribute, an error, and log lines that join the trace.
//
//	func handle(w http.ResponseWriter, r *http.Request) {
//		ctx, sp := span.Start(r.Context(), "price")
//		defer sp.End()
//		span.SetAttributes(ctx, attribute.Int("cart.items", 3)) // on the server span
//		if err := charge(ctx); err != nil {
//			span.SetError(ctx, err) // the server span is an error, whatever the status
//		}
//		logger.InfoContext(ctx, "charged") // trace_id, span_id, request_id
//	}
//
// It also holds the rules by which middleware names and closes spans: [HTTPName],
// [RPCName] and [StatusMap]; and what a gateway's operator configures: [Decorator],
// [Template] and [Tag].
//
// # Terms
//
// The server span is the span of the request around a context, as middleware
// started it. Spans started below it do not replace it: [SetRoute],
// [SetAttributes] and [SetError] reach it from anywhere in the request. Outside a
// request they do nothing.
//
// A status is the outcome of a span in OpenTelemetry's words: Unset or Error. Ok is
// never written here; it is the program's own last word, and stays where the
// program wrote it.
//
// # Limits
//
// What comes from outside is bounded before it becomes a name or an attribute:
// names to 256 bytes, error types to 128, descriptions to 512.
package span
