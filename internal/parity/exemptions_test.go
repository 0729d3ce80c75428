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
	vectorExemptions = []exemption{
		{"B-8", noZeroIDs, func(s subject, _ string) bool {
			return s.topic == "b3_extract" && zeroIDs.Match(s.vector.In)
		}},
	}

	liveExemptions = []exemption{
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
	}
)

// What is still to be built. A case is waiting when these, with the lists above,
// explain each of its differences.
var (
	vectorsNotYet = []exemption{
		{"EG-3", "no names of spans by Envoy's formatters", func(s subject, d string) bool {
			return s.topic == "envoy_gateway_defaults" && begins(d, "operation = ", "upstream_operation = ")
		}},
	}

	liveNotYet = []exemption{}
)

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
