package propagation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
)

// A service behind an old proxy reads b3 and calls services that speak traceparent.
func Example() {
	p, err := propagation.New(propagation.Config{}) // reads all, writes traceparent and baggage
	if err != nil {
		fmt.Println(err)
		return
	}
	incoming := http.Header{
		"B3":           {"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"},
		"X-Request-Id": {"a121e9e1-feae-4136-9e0e-6fac343d56c9"},
	}
	ctx := p.Extract(context.Background(), otelprop.HeaderCarrier(incoming))

	outgoing := http.Header{}
	p.Inject(ctx, otelprop.HeaderCarrier(outgoing))
	fmt.Println(outgoing.Get("traceparent"))
	fmt.Println(outgoing.Get("x-request-id"))
	// Output:
	// 00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01
	// a121e9e1-feae-4136-9e0e-6fac343d56c9
}

func ExamplePropagator_Read() {
	p, err := propagation.New(propagation.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	x := p.Read(otelprop.MapCarrier{
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"b3":          "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-d",
		"baggage":     "customer=Am%C3%A9lie,session",
	})
	fmt.Println(x.Format, x.SpanContext.TraceID())
	fmt.Println("link to", x.Other.TraceID())
	fmt.Println(x.Baggage.Member("customer").Value())
	fmt.Println(x.Err)
	// Output:
	// tracecontext 4bf92f3577b34da6a3ce929d0e0e4736
	// link to 463ac35c9f6413ad48485a3953bb6124
	// Amélie
	// propagation: baggage "customer=Am%C3%A9lie,session" at byte 28 breaks Baggage, list-member: key "=" value
}

func ExampleParseTraceparent() {
	_, err := propagation.ParseTraceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")
	var bad *propagation.HeaderError
	if errors.As(err, &bad) {
		fmt.Println(bad.Header, bad.Offset)
		fmt.Println(bad.Rule)
	}
	// Output:
	// traceparent 4
	// Trace Context, trace-id: 32 lower-case hex digits, not all zero, then "-"
}

func ExampleParseB3() {
	for _, v := range []string{"0", "463ac35c9f6413ad-a2fb4a1d1a96d312", "463ac35c9f6413ad-a2fb4a1d1a96d312-d"} {
		p, err := propagation.ParseB3(v)
		fmt.Println(p.Sampling, p.SpanContext.IsValid(), p.SpanContext.IsSampled(), err)
	}
	// Output:
	// deny false false <nil>
	// deferred true false <nil>
	// debug true true <nil>
}

func ExampleParseFormats() {
	formats, err := propagation.ParseFormats("b3,tracecontext,xray") // OTEL_PROPAGATORS
	fmt.Println(formats)
	fmt.Println(err)
	// Output:
	// [b3 tracecontext]
	// propagation: unknown propagators "xray": allowed are tracecontext, baggage, b3, b3multi, jaeger, ottrace, xotspancontext, requestid, none
}

// RequestID beside OpenTelemetry's own propagators, for programs that keep those.
func ExampleRequestID() {
	p := otelprop.NewCompositeTextMapPropagator(otelprop.TraceContext{}, propagation.RequestID())
	ctx := p.Extract(context.Background(), otelprop.MapCarrier{"x-request-id": "job-17"})
	out := otelprop.MapCarrier{}
	p.Inject(ctx, out)
	fmt.Println(out)
	// Output:
	// map[x-request-id:job-17]
}

func ExampleAppendTraceparent() {
	p, err := propagation.ParseB3("463ac35c9f6413ad-a2fb4a1d1a96d312-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", propagation.AppendTraceparent(nil, p.SpanContext))
	fmt.Printf("%q\n", propagation.AppendTraceparent(nil, trace.SpanContext{}))
	// Output:
	// 00-0000000000000000463ac35c9f6413ad-a2fb4a1d1a96d312-01
	// ""
}
