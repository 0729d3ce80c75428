package bench

import (
	"context"
	"net/http"
	"testing"

	ddtracer "github.com/DataDog/dd-trace-go/v2/ddtrace/tracer"
	zipkinb3 "github.com/openzipkin/zipkin-go/propagation/b3"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/contrib/propagators/jaeger"
	"go.opentelemetry.io/contrib/propagators/ot"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
)

// plainID carries x-request-id in the plainest way: a context value, unchecked. Nobody
// else has anything for it.
type plainID struct{}

func (plainID) Inject(ctx context.Context, c otelprop.TextMapCarrier) {
	if id, ok := ctx.Value(plainID{}).(string); ok {
		c.Set("x-request-id", id)
	}
}

func (plainID) Extract(ctx context.Context, c otelprop.TextMapCarrier) context.Context {
	if id := c.Get("x-request-id"); id != "" {
		return context.WithValue(ctx, plainID{}, id)
	}
	return ctx
}

func (plainID) Fields() []string { return []string{"x-request-id"} }

// only returns a Propagator of one format.
func only(b *testing.B, f propagation.Format) *propagation.Propagator {
	b.Helper()
	p, err := propagation.New(propagation.Config{Extract: []propagation.Format{f}, Inject: []propagation.Format{f}, NoRequestID: true})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// all returns the default Propagator, which the middleware uses.
func all(b *testing.B) *propagation.Propagator {
	b.Helper()
	p, err := propagation.New(propagation.Config{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

var (
	single = b3.New(b3.WithInjectEncoding(b3.B3SingleHeader))
	multi  = b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader))
	w3c    = otelprop.TraceContext{}
	// four is what reads as many formats as meshtrace does by default.
	four = otelprop.NewCompositeTextMapPropagator(w3c, b3.New(), otelprop.Baggage{}, plainID{})
)

// Headers of the scenarios.
var (
	withTraceparent = usual("traceparent", traceparent(true))
	withState       = usual("traceparent", traceparent(true), "tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
	withID          = usual("traceparent", traceparent(true), "x-request-id", requestID)
	withBaggage     = usual("baggage", "customer=123,session=a%20b,request=7;p=1")
	withB3          = usual("b3", traceHex+"-"+spanHex+"-1")
	withB3Multi     = usual("x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "1")
	withOT          = usual("ot-tracer-traceid", traceHex[16:], "ot-tracer-spanid", spanHex, "ot-tracer-sampled", "true")
	withUber        = usual("uber-trace-id", traceHex+":"+spanHex+":0:1")
)

func extract(p otelprop.TextMapPropagator, h http.Header) func(*testing.B) func() func() {
	return shared(func() { p.Extract(context.Background(), otelprop.HeaderCarrier(h)) })
}

// BenchmarkExtract reads the headers of a request into a context.
func BenchmarkExtract(b *testing.B) {
	for _, s := range []struct {
		name   string
		header http.Header
		ours   otelprop.TextMapPropagator
		peer   string
		theirs otelprop.TextMapPropagator
	}{
		{"nothing", usual(), only(b, propagation.TraceContext), "otel", w3c},
		{"traceparent", withTraceparent, only(b, propagation.TraceContext), "otel", w3c},
		{"tracestate", withState, only(b, propagation.TraceContext), "otel", w3c},
		{"b3", withB3, only(b, propagation.B3), "contrib-b3", single},
		{"x-b3", withB3Multi, only(b, propagation.B3Multi), "contrib-b3", multi},
		{"baggage", withBaggage, only(b, propagation.Baggage), "otel", otelprop.Baggage{}},
		{"ot-tracer", withOT, only(b, propagation.OTTrace), "contrib-ot", ot.OT{}},
		{"uber-trace-id", withUber, only(b, propagation.Jaeger), "contrib-jaeger", jaeger.Jaeger{}},
		{"default", withID, all(b), "otel", four},
		{"default-nothing", usual(), all(b), "otel", four},
	} {
		b.Run(s.name, func(b *testing.B) {
			libraries := []library{
				{"meshtrace", extract(s.ours, s.header)},
				{s.peer, extract(s.theirs, s.header)},
			}
			switch s.name {
			case "traceparent":
				libraries = append(libraries, library{"dd-trace-go", datadogExtract(s.header)})
			case "b3", "x-b3":
				req := &http.Request{Header: s.header}
				read := zipkinb3.ExtractHTTP(req)
				libraries = append(libraries, library{"zipkin-go", shared(func() { read() })})
			}
			compare(b, libraries...)
		})
	}
}

// BenchmarkRead is Extract without the context, which is what the middleware does.
func BenchmarkRead(b *testing.B) {
	for _, s := range []struct {
		name   string
		header http.Header
		ours   *propagation.Propagator
		peer   string
		theirs otelprop.TextMapPropagator
	}{
		{"traceparent", withTraceparent, only(b, propagation.TraceContext), "otel", w3c},
		{"b3", withB3, only(b, propagation.B3), "contrib-b3", single},
		{"x-b3", withB3Multi, only(b, propagation.B3Multi), "contrib-b3", multi},
	} {
		b.Run(s.name, func(b *testing.B) {
			compare(b,
				library{"meshtrace", shared(func() { s.ours.Read(otelprop.HeaderCarrier(s.header)) })},
				library{s.peer, extract(s.theirs, s.header)},
			)
		})
	}
}

// inject writes into headers that have it already, as a retried request does: what is
// measured is what is written, and not the growing of a map.
func inject(p otelprop.TextMapPropagator, ctx context.Context) func(*testing.B) func() func() {
	return func(*testing.B) func() func() {
		return func() func() {
			h := usual()
			return func() { p.Inject(ctx, otelprop.HeaderCarrier(h)) }
		}
	}
}

// injectNew makes the headers as well.
func injectNew(p otelprop.TextMapPropagator, ctx context.Context) func(*testing.B) func() func() {
	accept := []string{"*/*"}
	return shared(func() {
		h := make(http.Header, 6)
		h["Accept"] = accept
		p.Inject(ctx, otelprop.HeaderCarrier(h))
	})
}

// BenchmarkInject writes what a context holds into headers.
func BenchmarkInject(b *testing.B) {
	background := context.Background()
	spanCtx := trace.ContextWithSpanContext(background, trace.SpanContextFromContext(w3c.Extract(background, otelprop.HeaderCarrier(withTraceparent))).WithRemote(false))
	stateCtx := trace.ContextWithSpanContext(background, trace.SpanContextFromContext(w3c.Extract(background, otelprop.HeaderCarrier(withState))).WithRemote(false))
	bagCtx := otelprop.Baggage{}.Extract(background, otelprop.HeaderCarrier(withBaggage))
	if baggage.FromContext(bagCtx).Len() != 3 || trace.SpanContextFromContext(stateCtx).TraceState().Len() != 2 {
		b.Fatal("the scenarios are not what they are meant to be")
	}
	oursID := all(b).Extract(background, otelprop.HeaderCarrier(withID))
	theirsID := four.Extract(background, otelprop.HeaderCarrier(withID))
	stockID := otelprop.NewCompositeTextMapPropagator(w3c, otelprop.Baggage{}, plainID{})
	for _, s := range []struct {
		name           string
		ours           otelprop.TextMapPropagator
		oursCtx        context.Context
		peer           string
		theirs         otelprop.TextMapPropagator
		theirsCtx      context.Context
		intoNewHeaders bool
	}{
		{"traceparent", only(b, propagation.TraceContext), spanCtx, "otel", w3c, spanCtx, false},
		{"tracestate", only(b, propagation.TraceContext), stateCtx, "otel", w3c, stateCtx, false},
		{"b3", only(b, propagation.B3), spanCtx, "contrib-b3", single, spanCtx, false},
		{"x-b3", only(b, propagation.B3Multi), spanCtx, "contrib-b3", multi, spanCtx, false},
		{"baggage", only(b, propagation.Baggage), bagCtx, "otel", otelprop.Baggage{}, bagCtx, false},
		{"ot-tracer", only(b, propagation.OTTrace), spanCtx, "contrib-ot", ot.OT{}, spanCtx, false},
		{"uber-trace-id", only(b, propagation.Jaeger), spanCtx, "contrib-jaeger", jaeger.Jaeger{}, spanCtx, false},
		{"default", all(b), oursID, "otel", stockID, theirsID, false},
		{"new-headers", only(b, propagation.TraceContext), spanCtx, "otel", w3c, spanCtx, true},
	} {
		b.Run(s.name, func(b *testing.B) {
			into := inject
			if s.intoNewHeaders {
				into = injectNew
			}
			libraries := []library{
				{"meshtrace", into(s.ours, s.oursCtx)},
				{s.peer, into(s.theirs, s.theirsCtx)},
			}
			switch s.name {
			case "traceparent":
				libraries = append(libraries, library{"dd-trace-go", datadogInject})
			case "b3", "x-b3":
				libraries = append(libraries, library{"zipkin-go", zipkinInject(s.name == "b3")})
			}
			compare(b, libraries...)
		})
	}
}

// BenchmarkParse reads one header value, for the allocations.
func BenchmarkParse(b *testing.B) {
	for _, s := range []struct {
		name string
		f    func() error
	}{
		{"traceparent", func() error { _, err := propagation.ParseTraceparent(traceparent(true)); return err }},
		{"b3", func() error { _, err := propagation.ParseB3(traceHex + "-" + spanHex + "-1"); return err }},
		{"x-b3", func() error { _, err := propagation.ParseB3Multi(traceHex, spanHex, "", "1", ""); return err }},
	} {
		if err := s.f(); err != nil {
			b.Fatal(err)
		}
		b.Run(s.name, func(b *testing.B) {
			compare(b, library{"meshtrace", shared(func() { _ = s.f() })})
		})
	}
}

// datadogExtract reads h as dd-trace-go does when it is told to read W3C alone.
func datadogExtract(h http.Header) func(*testing.B) func() func() {
	return func(b *testing.B) func() func() {
		datadog(b)
		return func() func() {
			return func() { ddtracer.Extract(ddtracer.HTTPHeadersCarrier(h)) }
		}
	}
}

func datadogInject(b *testing.B) func() func() {
	datadog(b)
	sc, err := ddtracer.Extract(ddtracer.HTTPHeadersCarrier(withTraceparent))
	if err != nil {
		b.Fatal(err)
	}
	return func() func() {
		h := usual()
		return func() { ddtracer.Inject(sc, ddtracer.HTTPHeadersCarrier(h)) }
	}
}

func zipkinInject(oneHeader bool) func(*testing.B) func() func() {
	return func(b *testing.B) func() func() {
		sc, err := zipkinb3.ParseSingleHeader(withB3.Get("b3"))
		if err != nil {
			b.Fatal(err)
		}
		return func() func() {
			req := &http.Request{Header: usual()}
			opts := []zipkinb3.InjectOption{}
			if oneHeader {
				opts = append(opts, zipkinb3.WithSingleHeaderOnly())
			}
			write := zipkinb3.InjectHTTP(req, opts...)
			return func() { write(*sc) }
		}
	}
}
