// Package meshtrace is the root of a module that traces Go services behind Envoy
// (Istio, Envoy Gateway, Gloo), and on their own, with OpenTelemetry: the proxy's
// ids and its sampling decision are continued, spans are named and closed right,
// and an exporter accounts for every one of them. Nothing is exported here; a
// program imports middleware:
//
//	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "checkout"}) // honours OTEL_*
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer tracing.Shutdown(context.Background())
//
//	client := &http.Client{Transport: tracing.Transport(nil)}     // calls carry the trace and x-request-id
//	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)    // gRPC, by middleware/tracegrpc
//	slog.SetDefault(slog.New(span.LogHandler(handler)))           // trace_id, span_id, request_id on each line
//	http.ListenAndServe(":8080", tracing.Handler(mux))
//
// The packages, each with a page of its own:
//
//   - middleware: the other five joined, for net/http; middleware/tracegrpc for gRPC
//   - requestid: x-request-id and the reason digit that Envoy keeps in it
//   - propagation: trace context in headers
//   - sampler: is this request traced?
//   - span: names, status, log lines
//   - exporter: finished spans to a collector, by OTLP; exporter/otlpgrpc for a gRPC connection
//     that the program has already
//
// Comments name rules such as D-7 or W-5. They say what Envoy does in which case
// and stand in internal/parity/RULES.md.
package meshtrace
