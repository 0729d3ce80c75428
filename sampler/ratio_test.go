package sampler

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestEnvoyTraceIDRatio(t *testing.T) {
	id, err := trace.TraceIDFromHex("4bf92f3577b34da6a3ce929d0e0e4736") // ...574475
	if err != nil {
		t.Fatal(err)
	}
	ts, err := trace.ParseTraceState("a=b")
	if err != nil {
		t.Fatal(err)
	}
	parent := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}, TraceState: ts}))
	for _, tt := range []struct {
		share Fraction
		want  sdktrace.SamplingDecision
	}{
		{Of(574475, Million), sdktrace.Drop},
		{Of(574476, Million), sdktrace.RecordAndSample},
		{Of(4475, TenThousand), sdktrace.Drop},
		{Of(4476, TenThousand), sdktrace.RecordAndSample},
		{Of(0, Hundred), sdktrace.Drop},
		{Of(101, Hundred), sdktrace.RecordAndSample},
	} {
		s := EnvoyTraceIDRatio(tt.share)
		got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: parent, TraceID: id})
		if got.Decision != tt.want || got.Tracestate.String() != "a=b" {
			t.Errorf("%s of %v = %v, tracestate %q, want %v and the parent's", s.Description(), id, got.Decision, got.Tracestate.String(), tt.want)
		}
	}
}
