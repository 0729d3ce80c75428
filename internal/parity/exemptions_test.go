package parity_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// What a Go program cannot do, or has no counterpart of. Everything else is held to
// Envoy's answer.
var (
	vectorExemptions = append([]exemption{
		{"B-8", noZeroIDs, func(s subject, _ string) bool {
			return s.topic == "b3_extract" && zeroIDs.Match(s.vector.In)
		}},
		{"X-2", "batches are cut by bytes and after a time, and not by the number of spans", func(s subject, d string) bool {
			return s.topic == "otel_batching" && begins(d, "exports = ", "min_flush_spans = ", "flush_interval_ms = ")
		}},
		{"X-3", "the queue is bounded in bytes", func(s subject, d string) bool {
			return s.topic == "otel_batching" && begins(d, "max_cache_size = ")
		}},
		{"X-4", "no timer runs on an empty queue, so nothing counts it", func(s subject, d string) bool {
			return s.topic == "otel_batching" && begins(d, "timer_flushed = ")
		}},
		{"X-6", "partial success is told in the exporter's own words", func(s subject, d string) bool {
			return s.topic == "otlp_partial_success" && begins(d, "log = ")
		}},
	}, exportExemptions...)

	liveExemptions = append([]exemption{
		{"D-23", "a Go handler follows no internal redirect", func(s subject, _ string) bool {
			return s.live.Config.Route.InternalRedirect && s.live.Upstream.Status == http.StatusFound
		}},
		{"D-24", "the route of a Go handler does not change", func(s subject, _ string) bool {
			return s.live.Config.RouteAfterRefresh != nil
		}},
		{"B-8", noZeroIDs, func(s subject, d string) bool {
			if s.live.Config.Tracer != "zipkin" || !begins(d, "upstream x-b3-", "upstream b3 = ", "upstream traceparent = ", "span 1 trace id = ", "span 1 span id = ", "span 1 parent = ") {
				return false
			}
			return slices.ContainsFunc(s.live.Request.Headers, func(f parity.Field) bool { return zeroIDs.MatchString(f[0] + `": "` + f[1] + `"`) })
		}},
		{"W-5", validState, func(_ subject, d string) bool {
			_, want, ok := strings.Cut(d, " tracestate = ")
			_, want, _ = strings.Cut(want, ", want ")
			state, err := trace.ParseTraceState(want)
			return ok && begins(d, "span ") && (err != nil || state.String() != want)
		}},
		{"O-5", ownParser, func(s subject, d string) bool {
			refused := s.live.Expect.Response != nil && s.live.Expect.Response.Status == http.StatusBadRequest
			return refused && d == "decision = none, want NotTraceable"
		}},
		{"O-5", ownParser, func(s subject, _ string) bool {
			return s.live.Request.Proto == "HTTP/1.0"
		}},
		{"B-16", "spans leave as OTLP, whatever ids they have", func(s subject, d string) bool {
			return s.live.Config.Tracer == "zipkin" && begins(d, "export content-type = ")
		}},
		{"X-7", "an export names the program that sends it", func(_ subject, d string) bool { return begins(d, "export user-agent = ") }},
		{"X-8", "the scope is the instrumentation's", func(_ subject, d string) bool { return holds(d, " scope = ") }},
	}, exportExemptions...)

	// What a resource has of its own, in vectors and in recorded answers.
	exportExemptions = []exemption{
		{"X-9", "a service without a name is unknown_service: and the program's, as OpenTelemetry asks", func(_ subject, d string) bool {
			return holds(d, `resource "service.name" = "unknown_service:`) && strings.HasSuffix(d, `want "unknown_service:envoy"`)
		}},
		{"X-10", "the environment wins over the program, and a resource has no schema URL", func(s subject, d string) bool {
			both := s.live != nil && s.live.Config.OTel != nil && s.live.Config.OTel.EnvironmentDetector && len(s.live.Config.OTel.StaticResource) > 0
			return both && holds(d, "resource ") || begins(d, "schema_url = ")
		}},
		{"X-11", "OTEL_RESOURCE_ATTRIBUTES is read as OpenTelemetry specifies", func(s subject, d string) bool {
			asked := s.live != nil && s.live.Config.OTel != nil && s.live.Config.OTel.EnvironmentDetector ||
				s.vector != nil && s.topic == "otel_resource" && holds(string(s.vector.In), "OTEL_RESOURCE_ATTRIBUTES")
			return asked && holds(d, "resource ")
		}},
	}
)

// What is still to be built. A case is waiting when these, with the lists above,
// explain each of its differences.
var vectorsNotYet, liveNotYet []exemption

// One reason a rule; the README has the same.
const (
	noZeroIDs  = "a span context of OpenTelemetry with an id of zeros is none"
	validState = "the TraceState of an OpenTelemetry span holds valid members alone; what goes upstream is as it came"
	ownParser  = "net/http itself refuses such a request before any handler runs, and serves HTTP/1.0"
)

// zeroIDs finds a trace or span id of zeros in a B3 header.
var zeroIDs = regexp.MustCompile(`x-b3-(traceid|spanid)": ?"0+"|b3": ?"(0+-[0-9a-f]|[0-9a-f]+-0{16})`)

func begins(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func holds(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}
