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

// A Go gateway in the place of an Envoy with the Zipkin tracer: a request with a b3 is
// answered with b3, and a broken one makes no span.
func ExampleConfig_strict() {
	zipkin := []propagation.Format{propagation.B3, propagation.B3Multi}
	p, err := propagation.New(propagation.Config{Extract: zipkin, Inject: zipkin, Strict: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, b3 := range []string{"463ac35c9f6413ad-a2fb4a1d1a96d312-d", "what?"} {
		in, out := otelprop.MapCarrier{"b3": b3}, otelprop.MapCarrier{}
		p.Inject(p.Extract(context.Background(), in), out)
		fmt.Println(p.Read(in).Null, out)
	}
	// Output:
	// false map[b3:463ac35c9f6413ad-a2fb4a1d1a96d312-1]
	// true map[]
}

// The name of a tenant travels from request to request.
func ExampleConfig_forward() {
	p, err := propagation.New(propagation.Config{Forward: []string{"x-tenant"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	out := otelprop.MapCarrier{}
	p.Inject(p.Extract(context.Background(), otelprop.MapCarrier{"x-tenant": "blue", "cookie": "secret"}), out)
	fmt.Println(out)

	_, err = propagation.New(propagation.Config{Forward: []string{"connection"}})
	fmt.Println(err)
	// Output:
	// map[x-tenant:blue]
	// propagation: Config.Forward[0] is "connection": it belongs to one connection or message and cannot travel on
}

func ExampleParseOTSpanContext() {
	for _, v := range []string{
		"EigJOjioEaYHBgcRNmifUO7/xlgYASISCgdjaGVja2VkEgdiYWdnYWdl", // Envoy 1.6 to 1.23, LightStep
		"25c6f38dd0600e79;56707c7b3e1092af;c49193ea42335d1c;cs",    // Envoy 1.3 to 1.5, Zipkin
	} {
		p, err := propagation.ParseOTSpanContext(v)
		fmt.Println(p.SpanContext.TraceID(), p.SpanContext.IsSampled(), p.Sampling, p.Baggage, p.Parent, p.Annotations, err)
	}
	// Output:
	// 0000000000000000070607a611a8383a true unstated map[checked:baggage] 0000000000000000  <nil>
	// 000000000000000025c6f38dd0600e79 false deferred map[] c49193ea42335d1c cs <nil>
}

// Context that a stranger wrote into a message is checked before it goes anywhere.
func ExampleValidateBaggage() {
	fmt.Println(propagation.ValidateBaggage("tenant=blue;ttl=30, region=eu"))
	fmt.Println(propagation.ValidateBaggage("tenant=blue,,region=eu"))
	fmt.Println(propagation.ValidateTracestate("congo=t61rcWkgMzE,rojo=1,congo=2"))
	// Output:
	// <nil>
	// propagation: baggage "tenant=blue,,region=eu" at byte 12 breaks Baggage, list: members are not empty
	// propagation: tracestate "congo=t61rcWkgMzE,rojo=1,congo=2" at byte 25 breaks Trace Context, tracestate list: each key once
}
