package parity_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// vectorTopics are the topics that are held against the public packages.
var vectorTopics = map[string]func(parity.Vector) error{
	"request_id_to_integer":     checkNumber,
	"request_id_set":            checkRequestIDSet,
	"trace_reason_nibble":       checkReasonDigit,
	"response_request_id":       checkResponseRequestID,
	"edge_and_internal":         checkEdge,
	"header_sanitisation":       checkSanitising,
	"trace_decision":            checkDecision,
	"stable_sampling":           checkStableSampling,
	"percent_conversion":        checkPercent,
	"traceparent_extract":       checkTraceparentExtract,
	"traceparent_inject":        checkTraceparentInject,
	"w3c_strict_validation":     checkStrictValidation,
	"otel_sampling":             checkOTelSampling,
	"trace_id_ratio":            checkTraceIDRatio,
	"b3_extract":                checkB3Extract,
	"zipkin_span_and_inject":    checkZipkinInject,
	"ot_span_context_lightstep": checkLightStep,
	"ot_span_context_zipkin":    checkZipkinText,
	"ot_tracer_headers":         checkOTTracer,
	"uber_trace_id":             checkUberTraceID,
	"envoy_gateway_defaults":    checkEnvoyGateway,
	"decorator":                 checkDecorator,
	"span_name_default":         checkDefaultName,
	"http_url_tag":              checkURLTag,
	"downstream_span_tags":      checkDownstreamTags,
	"upstream_span_tags":        checkUpstreamTags,
	"reset_reason_text":         checkResetText,
	"custom_tags":               checkCustomTag,
	"response_flags":            checkResponseFlags,
	"grpc_status":               checkGRPCStatus,
	"otel_status":               checkOTelStatus,
	"otel_method_tag":           checkMethodTag,
	"otel_span_kind":            checkSpanKind,
	"istio_operation":           checkIstioOperation,
	"gloo_span_name":            checkGlooName,
	"otel_batching":             checkBatching,
	"otel_resource":             checkResource,
	"otlp_partial_success":      checkPartialSuccess,
}

// TestVectors holds the public packages against a file of single questions:
// testdata/envoy.json, or the one that MESHTRACE_VECTORS names.
func TestVectors(t *testing.T) {
	path, own := dataFile("MESHTRACE_VECTORS", "envoy.json")
	vectors, err := parity.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	n := newTally("vectors", vectorExemptions, vectorsNotYet)
	total := 0
	for _, topic := range slices.Sorted(maps.Keys(vectors.Topics)) {
		check, ok := vectorTopics[topic]
		for _, v := range vectors.Topics[topic] {
			total++
			n.run(t, subject{topic: topic, name: v.Name, vector: &v}, func() error {
				if !ok {
					return fmt.Errorf("topic %q is none that this runner knows", topic)
				}
				return check(v)
			})
		}
	}
	n.report(own && n.passed+n.failed+n.notApplicable+n.waiting == total)
}
