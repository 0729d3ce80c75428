package callspan

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

// served is what a served request's span has at its start, and at its end.
var served, answered = []attribute.KeyValue{
	semconv.EnvoyRequestID.String("9b2f5f3c-1b7b-9b2f-8d3c-1b7b9b2f5f3c"), semconv.HTTPRequestMethod.String("GET"), semconv.URLScheme.String("http"),
	semconv.URLPath.String("/carts/7"), semconv.ServerAddress.String("shop.test"), semconv.ServerPort.Int(8080), semconv.ClientAddress.String("10.0.0.7"),
	semconv.NetworkPeerAddress.String("10.0.0.7"), semconv.NetworkPeerPort.Int(40000), semconv.NetworkProtocolVersion.String("1.1"),
	semconv.UserAgentOriginal.String("test/1"),
}, []attribute.KeyValue{semconv.HTTPRoute.String("/carts/{id}"), semconv.HTTPResponseStatusCode.Int(200)}

// BenchmarkSpan is the life of a served request's span, beside the SDK's.
func BenchmarkSpan(b *testing.B) {
	b.Run("meshtrace", func(b *testing.B) {
		f := newSource(usual, &calls{})
		ctx := context.Background()
		b.ReportAllocs()
		for b.Loop() {
			s := f.Prepare(ctx, 16, "GET", trace.SpanKindServer, nil)
			s.Fill(append(s.Room(), served...))
			s.Start(ctx, new(reqctx.Node))
			s.SetAttributes(answered...)
			s.SetName("GET /carts/{id}")
			s.End()
		}
	})
	b.Run("sdk", func(b *testing.B) {
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(fixedIDs{}), sdktrace.WithSpanProcessor(&calls{})).Tracer("")
		ctx := context.Background()
		kind := trace.WithSpanKind(trace.SpanKindServer)
		b.ReportAllocs()
		for b.Loop() {
			_, s := tracer.Start(ctx, "GET", kind)
			s.SetAttributes(served...)
			s.SetAttributes(answered...)
			s.SetName("GET /carts/{id}")
			s.End()
		}
	})
}
