// Package callspan has the recording span of a call, served or made: what the SDK's span
// is to everybody who holds one, in one allocation and at a third of the time.
//
//	source := callspan.NewSource(callspan.Config{Provider: provider, …})
//	s := callspan.New(8)
//	source.Prepare(ctx, s, "GET /carts/{id}", trace.SpanKindServer, nil)
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
// It is for spans of middleware alone, under a provider that middleware made with the
// specification's default limits. Every other span is the SDK's.
package callspan
