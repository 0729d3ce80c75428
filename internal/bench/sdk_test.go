package bench

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// sdkSpan is the SDK's part of a served request: a span below a remote parent, with
// those attributes that meshtrace and otelhttp put on it, made beforehand. No
// instrumentation over the SDK takes less.
func sdkSpan(b *testing.B) func() func() {
	tracer := provider(b).Tracer("bench")
	ctx := w3c.Extract(context.Background(), carrierOf(incoming(true)))
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	begin := []attribute.KeyValue{
		attribute.String("http.request.method", "GET"), attribute.String("url.scheme", "https"),
		attribute.String("url.path", "/carts/7"), attribute.String("server.address", "shop.example"),
		attribute.String("network.protocol.version", "1.1"), attribute.String("client.address", "10.0.0.1"),
		attribute.String("network.peer.address", "192.0.2.1"), attribute.Int("network.peer.port", 1234),
		attribute.String("user_agent.original", "curl/8"),
	}
	end := []attribute.KeyValue{attribute.Int("http.response.status_code", 200), attribute.Int("http.response.body.size", 3)}
	return func() func() {
		return func() {
			_, span := tracer.Start(ctx, "GET", options...)
			span.SetAttributes(begin...)
			span.SetAttributes(end...)
			span.End()
		}
	}
}
