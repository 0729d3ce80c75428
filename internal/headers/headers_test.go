package headers

import (
	"net/http"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
)

// values is a carrier that has several lines and lower-case keys, as metadata has.
type values map[string][]string

func (v values) Get(k string) string      { return strings.Join(v[k], "") }
func (v values) Set(k, s string)          { v[k] = []string{s} }
func (v values) Keys() []string           { return nil }
func (v values) Values(k string) []string { return v[k] }

func TestIDs(t *testing.T) {
	tests := []struct {
		name string
		c    otelprop.TextMapCarrier
		want IDs
	}{
		{"nil", nil, IDs{}},
		{"http", otelprop.HeaderCarrier(http.Header{"X-Request-Id": {"a"}, "X-Client-Trace-Id": {"b"}, "X-Envoy-Force-Trace": {"false"}}), IDs{"a", "b", true, true}},
		{"metadata", values{"x-request-id": {"a"}, "x-client-trace-id": {"b"}, "x-envoy-force-trace": {""}}, IDs{"a", "b", true, true}},
		{"map", otelprop.MapCarrier{"x-request-id": "a", "x-client-trace-id": "b", "x-envoy-force-trace": "1"}, IDs{"a", "b", true, true}},
		{"D-11 present and empty", otelprop.HeaderCarrier(http.Header{"X-Client-Trace-Id": {""}}), IDs{HasClientTrace: true}},
		{"control byte", otelprop.HeaderCarrier(http.Header{"X-Client-Trace-Id": {"a\nb"}}), IDs{HasClientTrace: true}},
		{"too long", otelprop.HeaderCarrier(http.Header{"X-Client-Trace-Id": {strings.Repeat("x", 257)}}), IDs{HasClientTrace: true}},
		{"O-4 joined", values{"x-request-id": {"a", "", "b"}}, IDs{Request: "a,b"}},
		{"O-4 empty lines dropped", values{"x-request-id": {"", "a", ""}}, IDs{Request: "a"}},
	}
	for _, tt := range tests {
		src := NewSource(tt.c)
		if got := src.IDs(); got != tt.want {
			t.Errorf("%s: IDs = %+v, want %+v", tt.name, got, tt.want)
		}
	}
	long := make([]string, maxLines)
	for i := range long {
		long[i] = strings.Repeat("x", 100)
	}
	src := NewSource(values{"x-request-id": long, "x-client-trace-id": make([]string, maxLines+1)})
	if got := src.IDs(); len(got.Request) <= maxJoined || len(got.Request) > 2*maxJoined {
		t.Errorf("%d lines joined to %d bytes, want a little over %d", maxLines, len(got.Request), maxJoined)
	}
	src = NewSource(values{"x-request-id": append(long, "x")})
	if got := src.IDs(); got.Request != "" {
		t.Errorf("%d lines are %q, want none", maxLines+1, got.Request)
	}
}

func TestAllocs(t *testing.T) {
	h := otelprop.HeaderCarrier(http.Header{"X-Request-Id": {"a"}, "X-Client-Trace-Id": {"b"}})
	if n := testing.AllocsPerRun(100, func() {
		src := NewSource(h)
		src.IDs()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
