// Package envoymodel answers, for one request on one listener, what Envoy
// 1.40.0 does with its ids, its address headers and its trace decision.
//
// It is a second opinion: written from the rules alone, sharing no code with
// the packages that apply them, and simple rather than fast, so that tests can
// hold the two against each other on any input. Recorded answers of a running
// Envoy hold it to the truth.
//
//	listener := envoymodel.Listener{
//		UseRemoteAddress: true,
//		InternalCIDRs:    []netip.Prefix{}, // the private ranges, ED-5
//		Tracing:          &envoymodel.Tracing{Random: new(1.0)},
//	}
//	answer := listener.Answer(envoymodel.Request{
//		Peer:        netip.MustParseAddr("203.0.113.9"),
//		Lines:       []envoymodel.Line{{Name: "x-client-trace-id", Value: "c-1"}},
//		GeneratedID: "125a4afb-6f55-44ba-ad80-413f09f48a28",
//	})
//	// answer.Reason is ClientForced, answer.Upstream holds x-request-id 125a4afb-6f55-b4ba-…
//
// Terms are Envoy's. A request is internal when its client address is in the
// configured ranges and the listener may believe that address; it is at the
// edge when it is not internal and the listener uses the remote address. The
// digit is the character of x-request-id that carries the reason (RID-9), the
// number is what its first eight characters read as (RID-14).
//
// The model covers what happens to a request from its arrival to the router,
// and x-request-id in the response. Left out are: spans and the headers that a
// tracer writes (traceparent, tracestate, b3, x-b3-*), x-forwarded-proto,
// what the router writes (x-envoy-expected-rq-timeout-ms and, after an internal
// redirect, x-envoy-original-url), x-envoy-decorator-operation in the response,
// sampling of access logs (RID-17), peers on Unix sockets, and releases before
// 1.40.
//
// The package imports the standard library alone and is used by tests alone.
package envoymodel
