package bench

import (
	"io"
	"net/http"
	"strings"
	"testing"

	ddtracer "github.com/DataDog/dd-trace-go/v2/ddtrace/tracer"
)

// agent is a Datadog agent that takes everything and keeps nothing.
type agent struct{}

func (agent) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader("{}")), Request: req,
	}, nil
}

// datadog starts dd-trace-go for the benchmark: W3C headers, all of its extras that a
// variable or an option can switch off off.
func datadog(b *testing.B) {
	b.Helper()
	for name, value := range map[string]string{
		"DD_TRACE_PROPAGATION_STYLE":           "tracecontext",
		"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
		"DD_REMOTE_CONFIGURATION_ENABLED":      "false",
		"DD_TRACE_STARTUP_LOGS":                "false",
		"DD_APPSEC_ENABLED":                    "false",
	} {
		b.Setenv(name, value)
	}
	if err := ddtracer.Start(
		ddtracer.WithHTTPClient(&http.Client{Transport: agent{}}),
		ddtracer.WithService("bench"),
		ddtracer.WithLogger(silent{}),
		ddtracer.WithStatsComputation(false),
	); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(ddtracer.Stop)
}

type silent struct{}

func (silent) Log(string) {}
