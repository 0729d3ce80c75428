package tracetree_test

import (
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

func Example() {
	shop := &otlpwire.Resource{Attributes: []attribute.KeyValue{semconv.ServiceName.String("shop")}}
	stock := &otlpwire.Resource{Attributes: []attribute.KeyValue{semconv.ServiceName.String("stock")}}
	id := trace.TraceID{15: 7}
	second := uint64(time.Second)
	spans := []otlpwire.Span{ // in any order
		{TraceID: id, SpanID: trace.SpanID{3}, Parent: trace.SpanID{2}, Name: "GET /items", Kind: 2,
			Start: 2 * second, End: 3 * second, StatusCode: 2, StatusText: "empty", Resource: stock},
		{TraceID: id, SpanID: trace.SpanID{1}, Name: "POST /carts", Kind: 2, End: 4 * second, Resource: shop,
			Attributes: []attribute.KeyValue{semconv.EnvoyRequestID.String("3f0d1c1e-8a53-9b4e-a1f5-6f1e2d3c4b5a")}},
		{TraceID: id, SpanID: trace.SpanID{2}, Parent: trace.SpanID{1}, Name: "GET", Kind: 3,
			Start: second, End: 3 * second, Resource: shop},
	}
	for _, t := range tracetree.Build(spans) {
		t.Print(os.Stdout)
	}
	// Output:
	// trace 00000000000000000000000000000007 · 4.00s · 3 spans · 2 services · depth 3 · 1 error
	// request id 3f0d1c1e-8a53-9b4e-a1f5-6f1e2d3c4b5a · 9 sampled at random
	// shop         server    POST /carts     4.00s
	// └─ shop      client    GET             2.00s
	//    └─ stock  server    GET /items      1.00s  error: empty
}
