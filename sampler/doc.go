// Package sampler decides whether a request is traced, as Envoy does.
//
//	s, err := sampler.New(sampler.Config{
//		Random:    sampler.Percent(1),  // of what nobody decided before
//		PerSecond: 50,                  // and no more than that
//		Rules: []sampler.Rule{
//			{Route: "/livez", Drop: true},
//			{Route: "/checkout*", Shares: sampler.Shares{Random: sampler.Percent(100)}},
//		},
//	})
//	d := s.Decide(sampler.Request{ID: "125a4afb-6f55-44ba-ad80-413f09f48a28"})
//	fmt.Println(d.Traced, d.Why)
//
// [Decide] is the decision alone, a pure function. A [Sampler] adds limits, a
// sampler to ask as well and counters, and is an sdktrace.Sampler.
//
// # Terms
//
// The sampling number is made of the first 8 hex digits of the x-request-id.
// Every hop finds the same one, so hops with the same shares agree without
// talking to each other (D-4).
//
// A share is a [Fraction] of requests. The client share is of those with
// x-client-trace-id, drawn anew for each (D-7, D-13); the random share is of
// those that nobody asked for (D-9); the overall share is of all, and what is
// outside of it is not traced whoever asked (D-10). Random and overall look at the
// same number, so the smaller counts, they do not multiply (D-15).
//
// The reason of a decision travels in the id, see package requestid. The hops
// behind take it over (D-6).
//
// With a sampled or unsampled caller the caller's flag counts, and this hop's no
// is final (W-13, W-14). A caller's B3 words that have no flag are obeyed: deny is
// not traced, deferred is decided here, debug is traced whatever the shares.
//
// # Limits
//
// The sampler finds the x-request-id in the context, where the middleware or
// the Propagator of package propagation has put it. Without them it decides by
// trace id: the same shares, but not the same requests as Envoy.
//
// A request whose id has no number, such as my-request-id, is never traced by
// Envoy (D-3). Here it is decided by trace id if [Request].Trace is set, as it is
// in a service.
package sampler
