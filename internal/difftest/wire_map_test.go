//go:build newest

// With the tag newest alone: OpenTelemetry has maps from 1.47 on, go.mod asks for less.

package difftest

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestMapValues(t *testing.T) {
	text := func(s string) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
	}
	list := func(kvs ...*commonpb.KeyValue) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: &commonpb.KeyValueList{Values: kvs}}}
	}
	stub := tracetest.SpanStub{Attributes: []attribute.KeyValue{
		attribute.Map("m", attribute.String("a", "1"), attribute.Map("deep", attribute.String("b\xff", "2"))),
		attribute.Map("twice", attribute.String("a", "1"), attribute.String("a", "2")),
		attribute.Map("empty"),
	}}
	request, repaired := encode(t, []sdktrace.ReadOnlySpan{stub.Snapshot()})
	got := unmarshal(t, request).ResourceSpans[0].ScopeSpans[0].Spans[0].Attributes
	want := []*commonpb.KeyValue{
		{Key: "m", Value: list(
			&commonpb.KeyValue{Key: "a", Value: text("1")},
			&commonpb.KeyValue{Key: "deep", Value: list(&commonpb.KeyValue{Key: "b\uFFFD", Value: text("2")})})},
		{Key: "twice", Value: list(&commonpb.KeyValue{Key: "a", Value: text("2")})},
		{Key: "empty", Value: list()},
	}
	if diff := gocmp.Diff(want, got, protocmp.Transform()); diff != "" || repaired != 1 {
		t.Errorf("repaired %d strings, want 1; maps differ (-want +got):\n%s", repaired, diff)
	}
}
