package sampler

import (
	"encoding/binary"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// EnvoyTraceIDRatio returns the sampler that Envoy calls trace_id_ratio_based, for
// Config.Base: it traces what f hits of the trace id's first 8 bytes, read as a
// little-endian number. The SDK's TraceIDRatioBased of the same ratio picks
// other traces. A share of nothing never hits; one that is not set always does. It
// keeps the parent's tracestate and is safe for concurrent use.
func EnvoyTraceIDRatio(f Fraction) sdktrace.Sampler { return envoyRatio{f} }

type envoyRatio struct{ share Fraction }

func (s envoyRatio) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	r := sdktrace.SamplingResult{
		Decision:   sdktrace.Drop,
		Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
	if s.share.hit(binary.LittleEndian.Uint64(p.TraceID[:8])) {
		r.Decision = sdktrace.RecordAndSample
	}
	return r
}

func (s envoyRatio) Description() string { return "EnvoyTraceIDRatio{" + s.share.String() + "}" }
