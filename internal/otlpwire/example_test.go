package otlpwire_test

import (
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// A span is encoded when it ends, and put into a request when that is sent.
func Example() {
	span := tracetest.SpanStub{
		Name:     "GET /carts/{id}",
		SpanKind: trace.SpanKindServer,
		Resource: resource.NewSchemaless(attribute.String("service.name", "checkout")),
		InstrumentationScope: instrumentation.Scope{
			Name: "github.com/meshtrace/meshtrace/middleware",
		},
	}.Snapshot()

	group := otlpwire.NewGroup(
		otlpwire.AppendResource(nil, span.Resource()), span.Resource().SchemaURL(),
		otlpwire.AppendScope(nil, span.InstrumentationScope()), span.InstrumentationScope().SchemaURL)
	body, _ := otlpwire.AppendSpan(nil, span)

	var batch otlpwire.Batch
	for range 3 {
		if !batch.Add(group, body, 220) {
			fmt.Println("full at", batch.Size(), "bytes")
			break
		}
	}
	spans, err := otlpwire.Decode(batch.AppendTo(nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(spans), "spans of", spans[0].Resource.Attributes[0].Value.AsString())
	// Output:
	// full at 191 bytes
	// 2 spans of checkout
}

func ExampleAppendJSON() {
	body, _ := otlpwire.AppendSpan(nil, tracetest.SpanStub{Name: "cron"}.Snapshot())
	var batch otlpwire.Batch
	batch.Add(otlpwire.NewGroup(nil, "", nil, ""), body, 4<<20)

	line, err := otlpwire.AppendJSON(nil, batch.AppendTo(nil))
	fmt.Println(string(line), err)
	// Output:
	// {"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000000","spanId":"0000000000000000","flags":256,"name":"cron"}]}]}]} <nil>
}
