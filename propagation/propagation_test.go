package propagation

import (
	"errors"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

const (
	traceHex    = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanHex     = "00f067aa0ba902b7"
	traceparent = "00-" + traceHex + "-" + spanHex + "-01"
	b3          = traceHex + "-" + spanHex + "-1"
	lightStepD  = "EigJOjioEaYHBgcRNmifUO7/xlgYASISCgdjaGVja2VkEgdiYWdnYWdl"
	zipkinText  = "25c6f38dd0600e79;56707c7b3e1092af;c49193ea42335d1c"
	requestUUID = "a121e9e1-feae-4136-9e0e-6fac343d56c9"
)

// remote returns the remote span context of the given ids, flags and tracestate.
func remote(t testing.TB, traceID, spanID string, flags trace.TraceFlags, tracestate string) trace.SpanContext {
	t.Helper()
	tid, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		t.Fatal(err)
	}
	sid, err := trace.SpanIDFromHex(spanID)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := trace.ParseTraceState(tracestate)
	if err != nil {
		t.Fatal(err)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: tid, SpanID: sid, TraceFlags: flags, TraceState: ts, Remote: true,
	})
}

// wantFault fails unless err is a *HeaderError for header with that rule and offset.
// An empty rule wants no error.
func wantFault(t *testing.T, call string, err error, header, rule string, offset int) {
	t.Helper()
	if rule == "" {
		if err != nil {
			t.Errorf("%s: %v, want no error", call, err)
		}
		return
	}
	var he *HeaderError
	if !errors.As(err, &he) {
		t.Errorf("%s: error %v, want a HeaderError for %q", call, err, rule)
		return
	}
	if he.Header != header || he.Rule != rule || he.Offset != offset {
		t.Errorf("%s: error for %s at byte %d: %q, want %s at byte %d: %q",
			call, he.Header, he.Offset, he.Rule, header, offset, rule)
	}
	if len(he.Value) > maxQuoted {
		t.Errorf("%s: error keeps %d bytes of the header, want at most %d", call, len(he.Value), maxQuoted)
	}
}

// noAllocs fails if f allocates.
func noAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(100, f); n != 0 {
		t.Errorf("%s: %v allocations, want 0", what, n)
	}
}
