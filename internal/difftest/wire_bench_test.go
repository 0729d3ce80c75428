package difftest

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// BenchmarkEncode makes a request of 512 spans with 12 attributes each: our encoder
// beside the SDK exporters' transform and protobuf-go.
func BenchmarkEncode(b *testing.B) {
	stub := newGen(7).stub()
	stub.Events, stub.Links = nil, nil
	stub.Attributes = []attribute.KeyValue{
		attribute.String("http.request.method", "GET"), attribute.String("url.path", "/carts/4711"), attribute.String("url.scheme", "https"),
		attribute.String("http.route", "/carts/{id}"), attribute.String("network.protocol.version", "1.1"), attribute.String("server.address", "shop.internal"),
		attribute.String("user_agent.original", "curl/8.5.0"), attribute.String("guid:x-request-id", "0f4d1c2e-7a3b-4c5d-9e8f-001122334455"),
		attribute.Int("http.response.status_code", 503), attribute.Int("server.port", 8443), attribute.Int64("http.response.body.size", 123_456), attribute.Bool("b", true),
	}
	spans := make([]sdktrace.ReadOnlySpan, 512)
	for i := range spans {
		spans[i] = tracetest.SpanStubs{stub}.Snapshots()[0]
	}
	b.Run("meshtrace", func(b *testing.B) {
		g := otlpwire.NewGroup(nil, "", nil, "")
		var batch otlpwire.Batch
		var bodies, request []byte
		b.ReportAllocs()
		for b.Loop() {
			batch.Reset()
			bodies = bodies[:0]
			if cap(bodies) == 0 {
				bodies = make([]byte, 0, 1<<20) // the queue's memory: bodies must not move
			}
			for _, s := range spans {
				from := len(bodies)
				bodies, _ = otlpwire.AppendSpan(bodies, s)
				batch.Add(g, bodies[from:], 4<<20)
			}
			request = batch.AppendTo(request[:0])
		}
		b.ReportMetric(float64(len(request)), "B/request")
	})
	b.Run("otlptrace", func(b *testing.B) {
		client := &marshaller{}
		exp, err := otlptrace.New(context.Background(), client)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := exp.ExportSpans(context.Background(), spans); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(client.size), "B/request")
	})
}

// marshaller is a client of the SDK's exporter that sends nothing.
type marshaller struct{ size int }

func (m *marshaller) Start(context.Context) error { return nil }
func (m *marshaller) Stop(context.Context) error  { return nil }

func (m *marshaller) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	b, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: spans})
	m.size = len(b)
	return err
}
