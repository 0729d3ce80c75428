package propagation

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/requestid"

	"github.com/meshtrace/meshtrace/internal/headers"
)

func TestParseFormats(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []Format
		err  string // must be part of the error; "" wants none
	}{
		{"", nil, ""},
		{" , ,", nil, ""},
		{"tracecontext,baggage", []Format{TraceContext, Baggage}, ""},
		{"baggage,b3multi,b3,tracecontext", []Format{Baggage, B3Multi, B3, TraceContext}, ""},
		{" TraceContext ,\tB3 , b3", []Format{TraceContext, B3}, ""},
		{"b3,b3,B3,b3multi,b3", []Format{B3, B3Multi}, ""},
		{"none", []Format{}, ""},
		{"None", []Format{}, ""},
		{"requestid", []Format{}, ""},
		{"requestid,b3", []Format{B3}, ""},
		{"none,requestid", []Format{}, ""},
		{"none,b3", []Format{B3}, `"none" beside other`},
		{"jaeger,OTTrace,xotspancontext", []Format{Jaeger, OTTrace, OTSpanContext}, ""},
		{"b3,xray", []Format{B3}, `"xray": allowed are tracecontext, baggage, b3, b3multi, jaeger, ottrace, xotspancontext, requestid, none`},
		{"datadog,b3,sw8,xray", []Format{B3}, `"datadog", "sw8", "xray"`},
		{"xray", nil, `"xray"`},
		{"requestid,xray", nil, `"xray"`},
		{"none,xray", []Format{}, `"xray"`},
		{"\x1b[31mré\r\n", nil, `"\x1b[31mr\u00e9"`},
		{"b3," + strings.Repeat("x", 200), []Format{B3}, `"` + strings.Repeat("x", maxQuoted) + `"`},
		{strings.Repeat("a,", 10) + "b3", []Format{B3}, `"a", "a" and 2 more: allowed`},
		{strings.Repeat("b3,", 400), nil, "1200 bytes"},
	} {
		got, err := ParseFormats(tt.in)
		if !slices.Equal(got, tt.want) || (got == nil) != (tt.want == nil) {
			t.Errorf("ParseFormats(%.80q) = %#v, want %#v", tt.in, got, tt.want)
		}
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("ParseFormats(%.80q): %v, want no error", tt.in, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("ParseFormats(%.80q): error %v, want one with %q", tt.in, err, tt.err)
		}
	}
}

func TestFormatNames(t *testing.T) {
	for f := TraceContext; f <= Baggage; f++ {
		if got, err := ParseFormats(f.String()); err != nil || !slices.Equal(got, []Format{f}) {
			t.Errorf("ParseFormats(%q) = %v, %v, want the format", f.String(), got, err)
		}
	}
	if got, want := Format(9).String(), "Format(9)"; got != want {
		t.Errorf("Format(9).String() = %q, want %q", got, want)
	}
	for s, want := range map[Sampling]string{Unstated: "unstated", Deny: "deny", Deferred: "deferred", Accept: "accept", Debug: "debug", 9: "Sampling(9)"} {
		if got := s.String(); got != want {
			t.Errorf("Sampling(%d).String() = %q, want %q", uint8(s), got, want)
		}
	}
}

// TestHeaderNames holds both spellings of every header: a key that is not canonical
// would never be found in an http.Header.
func TestHeaderNames(t *testing.T) {
	all := []headers.Name{headers.RequestID, headers.ClientTraceID, headers.ForceTrace}
	for i, want := range []string{requestid.Header, requestid.HeaderClientTraceID, requestid.HeaderForceTrace} {
		if all[i].Canonical != want {
			t.Errorf("header %q, package requestid has %q", all[i].Canonical, want)
		}
	}
	for f := TraceContext; f <= Baggage; f++ {
		all = append(all, f.headers()...)
	}
	for _, prefix := range []headers.Name{otBaggagePrefix, uberBaggagePrefix} { // in front of a key
		all = append(all, headers.Name{Canonical: prefix.Canonical + "Key", Lower: prefix.Lower + "key"})
	}
	for _, h := range all {
		if got := http.CanonicalHeaderKey(h.Lower); got != h.Canonical {
			t.Errorf("canonical form of %q is %q, not %q", h.Lower, got, h.Canonical)
		}
		if got := strings.ToLower(h.Canonical); got != h.Lower {
			t.Errorf("lower case of %q is %q, not %q", h.Canonical, got, h.Lower)
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		in   []Format
		want string
	}{
		{nil, "[]"},
		{[]Format{TraceContext}, "[Traceparent Tracestate]"},
		{[]Format{B3Multi, B3}, "[X-B3-Traceid X-B3-Spanid X-B3-Parentspanid X-B3-Sampled X-B3-Flags B3]"},
		{[]Format{OTSpanContext, OTTrace}, "[X-Ot-Span-Context Ot-Tracer-Traceid Ot-Tracer-Spanid Ot-Tracer-Sampled]"},
		{[]Format{Jaeger}, "[Uber-Trace-Id Jaeger-Debug-Id Jaeger-Baggage]"},
		{[]Format{Baggage, 9}, "[Baggage]"},
	} {
		if got := fmt.Sprint(Headers(tt.in...)); got != tt.want {
			t.Errorf("Headers(%v) = %s, want %s", tt.in, got, tt.want)
		}
	}
}
