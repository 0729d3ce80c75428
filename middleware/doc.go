// Package middleware joins request ids, trace headers, the sampling decision, spans
// and their export into what a service wraps around its handlers and clients.
//
//	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "checkout"})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer tracing.Shutdown(context.Background())
//
//	client := &http.Client{Transport: tracing.Transport(nil)}
//	http.ListenAndServe(":8080", tracing.Handler(mux))
//
// gRPC servers and clients take their options from middleware/tracegrpc; tests use
// middleware/tracingtest. Handlers need no change: what they call with the
// context of their request carries the request id and the trace on.
//
// # Terms
//
// A request is decided once, where it enters the program: Envoy's rules over the
// x-request-id, the caller's sampled flag and the configured shares say whether it
// is traced, and the reason travels in the id as one digit. A request that is not
// traced costs next to nothing: it never enters the SDK, and its ids travel all the
// same.
//
// The span of a call is meshtrace's own, which answers and does what the SDK's span does
// and costs a third of it; those that the program starts are the SDK's. With a
// Config.TracerProvider calls have the spans of that provider.
//
// A gateway ([Config.Role]) stands in an Envoy's place: its Handler and Transport name
// spans, tag them, settle their status and edit headers as Envoy does, and its router
// tells them what it alone knows: [WithUpstream] for each attempt, [AddResponseFlags],
// [SetMetadata], [ErrPerTryTimeout].
//
// The environment wins over Config; one line at the start, and
// [Tracing.DebugHandler], say what is in force and where each value came from.
//
// With a Config.MeterProvider every call is measured, traced or not. Hooks of Config
// filter requests, name spans and edit attributes; those that are nil cost nothing.
// MIGRATING.md, beside this package's source, has what each option of otelhttp and
// otelgrpc becomes, and what routers and other instrumentation need.
//
// # Limits
//
// What arrives is trusted unless Config.Edge says who is inside: a program that
// strangers reach directly has one, or stands behind a proxy that sanitises headers. Paths, queries and URLs are cut to
// 2 KiB in attributes, user agents to 512 bytes. Query parameters that are known to
// hold signatures are replaced by REDACTED.
package middleware
