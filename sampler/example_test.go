package sampler_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

func ExampleNew() {
	s, err := sampler.New(sampler.Config{
		Random:    sampler.Percent(1), // of what nobody decided before
		PerSecond: 50,                 // and no more than that
		Rules: []sampler.Rule{
			{Route: "/livez", Drop: true},
			{Route: "/checkout*", Shares: sampler.Shares{Random: sampler.Percent(100)}},
		},
	})
	if err != nil {
		panic(err)
	}
	for _, route := range []string{"/", "/livez", "/checkout/{id}"} {
		d := s.Decide(sampler.Request{ID: "125a4afb-6f55-44ba-ad80-413f09f48a28", Route: route})
		fmt.Println(route, d.Traced, d.Why)
	}
	// Output:
	// / false D-9: outside the random share
	// /livez false D-25: health check
	// /checkout/{id} true D-9: within the random share
}

func ExampleNew_mistakes() {
	_, err := sampler.New(sampler.Config{
		Random: sampler.Percent(150),
		Rules:  []sampler.Rule{{Method: "GET /", PerSecond: -1}},
	})
	fmt.Println(err)
	// Output:
	// sampler: Random is Percent(150), allowed is 0 to 100
	// sampler: Rules[0].PerSecond is -1, allowed is 0 for no limit or a number from 1e-06 up
	// sampler: Rules[0].Method is "GET /", allowed is an HTTP method
}

func ExampleNew_base() {
	s, err := sampler.New(sampler.Config{Base: sdktrace.ParentBased(sdktrace.NeverSample())})
	if err != nil {
		panic(err)
	}
	d := s.Decide(sampler.Request{ID: "125a4afb-6f55-44ba-ad80-413f09f48a28"})
	fmt.Println(d.Traced, d.Why)
	// Output: false W-14: Base does not trace
}

func ExampleDecide() {
	id := requestid.ID("125a4afb-6f55-44ba-ad80-413f09f48a28")
	d := sampler.Decide(sampler.Request{ID: id, Force: true}, sampler.Config{Random: sampler.Percent(0)})
	if d.Write {
		id = id.WithReason(d.Reason)
	}
	fmt.Println(d.Traced, d.Reason, id)

	// The next hop takes it over.
	d = sampler.Decide(sampler.Request{ID: id}, sampler.Config{Random: sampler.Percent(0)})
	fmt.Println(d.Traced, d.Reason, d.Why)
	// Output:
	// true ServiceForced 125a4afb-6f55-a4ba-ad80-413f09f48a28
	// true ServiceForced D-6: an earlier hop decided
}

func ExampleSampler_SetShares() {
	s, err := sampler.New(sampler.Config{Random: sampler.Percent(1)})
	if err != nil {
		panic(err)
	}
	r := sampler.Request{ID: "125a4afb-6f55-44ba-ad80-413f09f48a28"}
	fmt.Println(s.Decide(r).Traced)
	if err := s.SetShares(sampler.Shares{Random: sampler.Of(100, sampler.Hundred)}); err != nil {
		panic(err)
	}
	fmt.Println(s.Decide(r).Traced)
	fmt.Println(s.Counts()["random_sampling"], s.Counts()["not_traceable"])
	// Output:
	// false
	// true
	// 1 1
}

func ExamplePercent() {
	for _, p := range []float64{1, 0.29, 57} {
		fmt.Println(sampler.Percent(p)) // as a listener of Envoy cuts it
	}
	// Output:
	// 1% (100/10000)
	// 0.28% (28/10000)
	// 56.99% (5699/10000)
}

func ExampleSampler_ShouldSample() {
	s, err := sampler.New(sampler.Config{Random: sampler.Percent(0)})
	if err != nil {
		panic(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(s))
	ctx := requestid.NewContext(context.Background(), "125a4afb-6f55-a4ba-ad80-413f09f48a28") // forced by an earlier hop
	_, span := provider.Tracer("example").Start(ctx, "job")
	fmt.Println(span.SpanContext().IsSampled())

	_, span = provider.Tracer("example").Start(context.Background(), "job")
	fmt.Println(span.SpanContext().IsSampled())
	// Output:
	// true
	// false
}

// An access log that keeps the same tenth of the requests as an Envoy's, whose
// runtime_filter looks at the request id, too (RID-17).
func ExampleFraction_Hit() {
	logged := sampler.Of(10, sampler.Hundred)
	for _, id := range []requestid.ID{"00000009-6f55-44ba-ad80-413f09f48a28", "0000000a-6f55-44ba-ad80-413f09f48a28"} {
		n, ok := id.Number()
		fmt.Println(n, ok && logged.Hit(n))
	}
	// Output:
	// 9 true
	// 10 false
}
