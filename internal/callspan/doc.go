// Package callspan has the recording span of a call, served or made: what the SDK's span
// is to everybody who holds one, in one allocation and at a third of the time.
//
//	source := callspan.NewSource(callspan.Config{Provider: provider, …})
//	s := source.Prepare(ctx, 8, "GET /carts/{id}", trace.SpanKindServer, nil)
//	s.Fill(append(s.Room(), attribute.String("url.scheme", "https")))
//	ctx = s.Start(ctx, nil)
//	defer s.End()
//
// A server and a client span have a dozen attributes each. The SDK's span grows its list
// of them step by step, finds double keys by a map, and copies itself for the processors:
// eight allocations. This one has room for its attributes, looks for double keys only
// where there may be some, and is itself what the processors read, since nobody can
// change it any more.
//
// A Span answers what the SDK's span would, with the differences that follow. A processor
// sees in OnStart the attributes that Fill gave, which the SDK's span would get right
// afterwards. OnEnd gets the Span itself and not a copy, and a span that the sampler dropped
// is a *Span as well: both pass for a ReadWriteSpan, though nobody can change them any more.
// Events and links that a limit of 0 dropped are told in OnEnd; the SDK's copy says 0.
// ChildSpanCount is 0. runtime/trace has a second task, without a name, of a span that has
// events, links, nested values or attributes that are over a limit.
//
// It is for spans of middleware alone, under a provider that middleware made. Every other
// span is the SDK's.
package callspan
