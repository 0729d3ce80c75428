// Package propagation reads trace context, baggage and request ids from headers and
// writes them to headers.
//
// A [Propagator] joins the formats. It is an OpenTelemetry TextMapPropagator, so it
// works inside any instrumentation; the middleware of this module uses it by itself:
//
//	p, err := propagation.New(propagation.Config{
//		Inject: []propagation.Format{propagation.TraceContext, propagation.B3Multi},
//	})
//	if err != nil {
//		return err
//	}
//	ctx = p.Extract(ctx, otelprop.HeaderCarrier(incoming.Header))
//	p.Inject(ctx, otelprop.HeaderCarrier(outgoing.Header))
//
//	x := p.Read(otelprop.MapCarrier(message.Headers)) // no context: x.SpanContext, x.Err
//
// # Formats
//
// [TraceContext] is W3C Trace Context Level 2, [B3] and [B3Multi] are
// openzipkin/b3-propagation in one header and in several, [Baggage] is W3C Baggage.
// They are read in the order of [Config].Extract. The first that names a span wins;
// another that names another trace is told in [Extraction].Other, never dropped in
// silence. A header that breaks its specification counts as absent, so a new trace
// begins; the Parse functions and [Extraction].Err tell the rule and the byte.
//
// # Sampling
//
// B3 says things about sampling that OpenTelemetry's flag cannot: not to sample a
// trace that has no ids yet, to decide later, to debug. They are a [Sampling], which
// the context carries to the sampler and on to the next hop.
//
// # Request ids
//
// x-request-id and x-client-trace-id travel in every Propagator, by context alone and
// whatever the formats, unless [Config].NoRequestID is set.
//
// # Limits
//
// Every limit holds over all lines of a header together and before any work is done:
// tracestate 32 members and 8 KiB; baggage 64 members, 8,192 bytes and 64 properties;
// traceparent 55 bytes, 512 in versions to come; x-request-id as requestid has it,
// x-client-trace-id 256 bytes. Of baggage whole members go, first the newest; a
// tracestate beyond its limits is dropped. Whatever 1 MB of headers holds, reading it
// takes less than 50 µs on an ordinary machine and 4 KiB of memory, plus what is
// accepted. What is written keeps the same limits and has no control bytes.
//
// Keys of tracestate that Level 2 allows and OpenTelemetry's TraceState cannot hold,
// such as "1st" and "a@b@c", are left out.
package propagation
