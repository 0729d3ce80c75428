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
// [OTSpanContext], [OTTrace] and [Jaeger] are what Envoy, LightStep, basictracer and
// Jaeger's clients sent before: x-ot-span-context, ot-tracer-* and uber-trace-id, with
// their baggage. They are read in the order of [Config].Extract. The first that names
// a span wins; another that names another trace is told in [Extraction].Other, never
// dropped in silence. A header that breaks its specification counts as absent, so a
// new trace begins; the Parse functions and [Extraction].Err tell the rule and the
// byte.
//
// The baggage of the older formats is part of them: it is read where they are, if they
// name the trace that counts, and written where they are. Keep a format off the list
// to keep its baggage in.
//
// # Envoy to the letter
//
// [Config].Strict reads and writes W3C and B3 as an Envoy does, for a program that
// takes the place of one: see there what the lists of formats then stand for. Without
// it the specifications hold.
//
// [ValidateTraceparent], [ValidateTracestate] and [ValidateBaggage] are the checker that
// Envoy has beside these, for context in a message's body.
//
// # Sampling
//
// B3 says things about sampling that OpenTelemetry's flag cannot: not to sample a
// trace that has no ids yet, to decide later, to debug. They are a [Sampling], which
// the context carries to the sampler and on to the next hop.
//
// # Request ids and other headers
//
// x-request-id and x-client-trace-id travel in every Propagator, by context alone and
// whatever the formats, unless [Config].NoRequestID is set. [Config].Forward names
// further headers that travel likewise.
//
// # Limits
//
// Every limit holds over all lines of a header together and before any work is done:
// tracestate 32 members and 8 KiB; baggage 64 members, 8,192 bytes and 64 properties,
// that of all formats together; x-ot-span-context 1,024 bytes; uber-trace-id 69 bytes,
// percent-encoded 207; traceparent 55 bytes, 512 in versions to come; forwarded headers
// 64 lines and 8,192 bytes; x-request-id as requestid has it, x-client-trace-id 256
// bytes. Of baggage whole members go, first the newest, of headers that are one member
// each the last by key; a tracestate beyond its limits is dropped. Whatever 1 MB of
// headers holds, reading it takes less than 50 µs on an ordinary machine and 4 KiB of
// memory, plus what is accepted; where ot-baggage-* or uberctx-* are read, and their
// trace ids are there, 30 ns more for each header name. What is written keeps the same
// limits and has no control bytes.
//
// Members of tracestate that Level 2 allows and OpenTelemetry's TraceState cannot hold,
// such as "1st=1" and "a@b@c=1", go on as long as the program leaves the TraceState as
// it is. Header names are all lower or upper case to HTTP: baggage in ot-baggage-* and
// uberctx-* loses the case of its keys.
package propagation
