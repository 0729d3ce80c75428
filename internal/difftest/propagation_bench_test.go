package difftest

import (
	"context"
	"math"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/contrib/propagators/jaeger"
	"go.opentelemetry.io/contrib/propagators/ot"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
)

// usual are headers that a request has besides those of tracing.
func usual(pairs ...string) otelprop.HeaderCarrier {
	h := http.Header{
		"Accept": {"*/*"}, "User-Agent": {"curl/8"}, "X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Proto": {"https"},
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return otelprop.HeaderCarrier(h)
}

const (
	benchTrace       = "4bf92f3577b34da6a3ce929d0e0e4736"
	benchSpan        = "00f067aa0ba902b7"
	benchTraceparent = "00-" + benchTrace + "-" + benchSpan + "-01"
)

// plainID carries x-request-id in the plainest way: a context value, unchecked.
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

// BenchmarkPropagation measures package propagation beside what it stands in for:
//
//	go test ./internal/difftest -run '^$' -bench Propagation
//
// A line is one scenario: nanoseconds and allocations of each side, and the ratio of
// the times. A time is the least of many short batches that the sides take in turn, so
// that a busy machine slows both or neither. "and id" of the reference has the id by
// plainID, since OpenTelemetry has nothing for it.
func BenchmarkPropagation(b *testing.B) {
	single, multi := b3.New(b3.WithInjectEncoding(b3.B3SingleHeader)), b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader))
	w3c := otelprop.TraceContext{}
	stock := otelprop.NewCompositeTextMapPropagator(w3c, otelprop.Baggage{})
	stockID := otelprop.NewCompositeTextMapPropagator(w3c, otelprop.Baggage{}, plainID{})
	fourID := otelprop.NewCompositeTextMapPropagator(w3c, b3.New(), otelprop.Baggage{}, plainID{})
	four := otelprop.NewCompositeTextMapPropagator(w3c, b3.New(), otelprop.Baggage{})
	all, err := propagation.New(propagation.Config{})
	if err != nil {
		b.Fatal(err)
	}
	ours := func(f ...propagation.Format) *propagation.Propagator { return newPropagator(b, f...) }

	empty := usual()
	traceparent := usual("traceparent", benchTraceparent)
	withID := usual("traceparent", benchTraceparent, "x-request-id", "a121e9e1-feae-4136-9e0e-6fac343d56c9")
	withState := usual("traceparent", benchTraceparent, "tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
	withBaggage := usual("baggage", "customer=123,session=a%20b,request=7;p=1")
	b3Single := usual("b3", benchTrace+"-"+benchSpan+"-1")
	b3Multi := usual("x-b3-traceid", benchTrace, "x-b3-spanid", benchSpan, "x-b3-sampled", "1")
	otTrace := usual("ot-tracer-traceid", benchTrace[16:], "ot-tracer-spanid", benchSpan, "ot-tracer-sampled", "true")
	uber := usual("uber-trace-id", benchTrace+":"+benchSpan+":0:1")

	extract := func(p otelprop.TextMapPropagator, h otelprop.HeaderCarrier) func() {
		return func() { p.Extract(context.Background(), h) }
	}
	read := func(p *propagation.Propagator, h otelprop.HeaderCarrier) func() {
		return func() { p.Read(h) }
	}
	// inject writes into headers that have none of p's yet, as an outgoing request has.
	inject := func(p otelprop.TextMapPropagator, ctx context.Context) func() {
		h := usual()
		p.Inject(ctx, h)
		var written []string
		for k := range h {
			if usual().Get(k) == "" {
				written = append(written, k)
			}
		}
		return func() {
			for _, f := range written {
				delete(h, f)
			}
			p.Inject(ctx, h)
		}
	}
	idCtx := all.Extract(context.Background(), withID)
	stockIDCtx := stockID.Extract(context.Background(), withID)
	spanCtx := w3c.Extract(context.Background(), traceparent)
	bagCtx := otelprop.Baggage{}.Extract(context.Background(), withBaggage)
	if !trace.SpanContextFromContext(spanCtx).IsValid() || baggage.FromContext(bagCtx).Len() != 3 {
		b.Fatal("the scenarios are not what they are meant to be")
	}

	for _, s := range []struct {
		name         string
		ours, theirs func()
	}{
		{"Read/nothing/all formats", read(all, empty), extract(four, empty)},
		{"Read/traceparent/all formats", read(all, traceparent), extract(four, traceparent)},
		{"Read/traceparent/TraceContext", read(ours(propagation.TraceContext), traceparent), extract(w3c, traceparent)},
		{"Extract/traceparent/TraceContext", extract(ours(propagation.TraceContext), traceparent), extract(w3c, traceparent)},
		{"Extract/traceparent and id/all formats", extract(all, withID), extract(fourID, withID)},
		{"Extract/tracestate/TraceContext", extract(ours(propagation.TraceContext), withState), extract(w3c, withState)},
		{"Extract/b3/B3", extract(ours(propagation.B3), b3Single), extract(single, b3Single)},
		{"Read/b3/B3", read(ours(propagation.B3), b3Single), extract(single, b3Single)},
		{"Extract/x-b3/B3Multi", extract(ours(propagation.B3Multi), b3Multi), extract(multi, b3Multi)},
		{"Read/x-b3/B3Multi", read(ours(propagation.B3Multi), b3Multi), extract(multi, b3Multi)},
		{"Extract/baggage/Baggage", extract(ours(propagation.Baggage), withBaggage), extract(otelprop.Baggage{}, withBaggage)},
		{"Inject/traceparent/TraceContext", inject(ours(propagation.TraceContext), spanCtx), inject(w3c, spanCtx)},
		{"Extract/ot-tracer/OTTrace", extract(ours(propagation.OTTrace), otTrace), extract(ot.OT{}, otTrace)},
		{"Extract/uber-trace-id/Jaeger", extract(ours(propagation.Jaeger), uber), extract(jaeger.Jaeger{}, uber)},
		{"Inject/traceparent/default", inject(all, spanCtx), inject(stock, spanCtx)},
		{"Inject/traceparent and id/default", inject(all, idCtx), inject(stockID, stockIDCtx)},
		{"Inject/b3/B3", inject(ours(propagation.B3), spanCtx), inject(single, spanCtx)},
		{"Inject/x-b3/B3Multi", inject(ours(propagation.B3Multi), spanCtx), inject(multi, spanCtx)},
		{"Inject/ot-tracer/OTTrace", inject(ours(propagation.OTTrace), spanCtx), inject(ot.OT{}, spanCtx)},
		{"Inject/uber-trace-id/Jaeger", inject(ours(propagation.Jaeger), spanCtx), inject(jaeger.Jaeger{}, spanCtx)},
		{"Inject/baggage/Baggage", inject(ours(propagation.Baggage), bagCtx), inject(otelprop.Baggage{}, bagCtx)},
	} {
		b.Run(s.name, func(b *testing.B) {
			const batch = 200
			least := [2]time.Duration{math.MaxInt64, math.MaxInt64}
			for b.Loop() {
				for i, f := range [2]func(){s.ours, s.theirs} {
					start := time.Now()
					for range batch {
						f()
					}
					least[i] = min(least[i], time.Since(start))
				}
			}
			o, t := float64(least[0])/batch, float64(least[1])/batch
			b.ReportMetric(o, "ours-ns")
			b.ReportMetric(t, "theirs-ns")
			b.ReportMetric(o/t, "ratio")
			b.ReportMetric(testing.AllocsPerRun(100, s.ours), "ours-allocs")
			b.ReportMetric(testing.AllocsPerRun(100, s.theirs), "theirs-allocs")
			b.ReportMetric(0, "ns/op")
		})
	}
}
