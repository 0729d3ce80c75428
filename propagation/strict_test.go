package propagation

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// The lists of formats that stand for Envoy's tracers.
var (
	otelTracer   = []Format{TraceContext}
	zipkinTracer = []Format{B3, B3Multi}
	dualTracer   = []Format{B3Multi, TraceContext, B3}
)

func strict(t testing.TB, in, out []Format) *Propagator {
	t.Helper()
	return mustNew(t, Config{Extract: in, Inject: out, Strict: true, NoRequestID: true})
}

const (
	zeros16 = "0000000000000000"
	w3cIn   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

func TestStrictRead(t *testing.T) {
	short := zeros16 + b3Trace64
	for _, tt := range []struct {
		name     string
		formats  []Format
		in       http.Header
		want     trace.SpanContext
		sampling Sampling
		format   Format
		null     bool
		parent   string
		raw      string // tracestate
		header   string // of the fault; "" wants none
		rule     string
		offset   int
	}{
		{name: "nothing", formats: otelTracer},
		{name: "W-5 tracestate alone", formats: otelTracer, in: headerSet("tracestate", "a=1")},
		{name: "W-1 the first line", formats: otelTracer, in: headerSet("traceparent", traceparent, "traceparent", "bad"), want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext},
		{name: "W-1 an empty first line", formats: otelTracer, in: headerSet("traceparent", "", "traceparent", traceparent), null: true, header: "traceparent", rule: ruleEnvoyLen},
		{name: "W-1 length", formats: otelTracer, in: headerSet("traceparent", traceparent+"-"), null: true, header: "traceparent", rule: ruleEnvoyLen, offset: 55},
		{name: "W-2 upper case", formats: otelTracer, in: headerSet("traceparent", strings.ToUpper(traceparent)), want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext},
		{name: "W-2 hyphens", formats: otelTracer, in: headerSet("traceparent", "0--"+traceHex+"-"+spanHex+"--1"), null: true, header: "traceparent", rule: ruleEnvoySizes},
		{name: "W-2 three parts", formats: otelTracer, in: headerSet("traceparent", "00-"+traceHex+"0"+spanHex+"-01"), null: true, header: "traceparent", rule: ruleEnvoyHyphens},
		{name: "W-2 sizes", formats: otelTracer, in: headerSet("traceparent", "0-0"+traceHex+"-"+spanHex+"-01"), null: true, header: "traceparent", rule: ruleEnvoySizes},
		{name: "W-2 size of the flags", formats: otelTracer, in: headerSet("traceparent", "00-"+traceHex+"-"+spanHex+"-1-"), null: true, header: "traceparent", rule: ruleEnvoySizes, offset: 53},
		{name: "W-2 hex of the version", formats: otelTracer, in: headerSet("traceparent", "0x"+traceparent[2:]), null: true, header: "traceparent", rule: ruleEnvoyHex, offset: 1},
		{name: "W-2 hex of the trace id", formats: otelTracer, in: headerSet("traceparent", strings.Replace(traceparent, "4bf", "4bg", 1)), null: true, header: "traceparent", rule: ruleEnvoyHex, offset: 5},
		{name: "W-2 hex of the parent id", formats: otelTracer, in: headerSet("traceparent", strings.Replace(traceparent, "2b7", "2g7", 1)), null: true, header: "traceparent", rule: ruleEnvoyHex, offset: 50},
		{name: "W-2 hex of the flags", formats: otelTracer, in: headerSet("traceparent", traceparent[:53]+"0g"), null: true, header: "traceparent", rule: ruleEnvoyHex, offset: 54},
		{name: "W-3 trace id", formats: otelTracer, in: headerSet("traceparent", "00-"+zeros16+zeros16+"-"+spanHex+"-01"), null: true, header: "traceparent", rule: ruleEnvoyTrace, offset: 3},
		{name: "W-3 parent id", formats: otelTracer, in: headerSet("traceparent", "00-"+traceHex+"-"+zeros16+"-01"), null: true, header: "traceparent", rule: ruleEnvoyParent, offset: 36},
		{name: "W-7 hex before zeros", formats: otelTracer, in: headerSet("traceparent", "00-"+zeros16+zeros16+"-"+spanHex+"-0x"), null: true, header: "traceparent", rule: ruleEnvoyHex, offset: 54},
		{name: "W-4 version ff", formats: otelTracer, in: headerSet("traceparent", "ff"+traceparent[2:]), want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext},
		{name: "W-5 flags", formats: otelTracer, in: headerSet("traceparent", traceparent[:53]+"FE"), want: remote(t, traceHex, spanHex, 0, ""), format: TraceContext},
		{name: "W-5 tracestate lines", formats: otelTracer, in: headerSet("traceparent", traceparent, "tracestate", "", "tracestate", "b=2", "tracestate", "no member"),
			want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext, raw: ",b=2,no member"},
		{name: "W-5 tracestate that can be held", formats: otelTracer, in: headerSet("traceparent", traceparent, "tracestate", "a=1,", "tracestate", "b=2"),
			want: remote(t, traceHex, spanHex, 1, "a=1,b=2"), format: TraceContext, raw: "a=1,,b=2"},
		{name: "tracestate of 8,193 bytes", formats: otelTracer, in: headerSet("traceparent", traceparent, "tracestate", strings.Repeat("x", 8193)),
			want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext, header: "tracestate", rule: ruleEnvoyTracestate},
		{name: "tracestate of 101 lines", formats: otelTracer, in: http.Header{"Traceparent": {traceparent}, "Tracestate": slices.Repeat([]string{"a=1"}, 101)},
			want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext, header: "tracestate", rule: ruleEnvoyLines},
		{name: "tracestate of 100 lines", formats: otelTracer, in: http.Header{"Traceparent": {traceparent}, "Tracestate": slices.Repeat([]string{""}, 100)},
			want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext, raw: strings.Repeat(",", 99)},
		{name: "tracestate with a control byte", formats: otelTracer, in: headerSet("traceparent", traceparent, "tracestate", "a=\x7f"),
			want: remote(t, traceHex, spanHex, 1, ""), format: TraceContext, header: "tracestate", rule: ruleEnvoyTracestate},
		{name: "b3 is not the OpenTelemetry tracer's", formats: otelTracer, in: headerSet("b3", b3)},

		{name: "B-1 accept", formats: zipkinTracer, in: headerSet("b3", b3), want: remote(t, traceHex, spanHex, 1, ""), sampling: Accept, format: B3},
		{name: "B-1 deny", formats: zipkinTracer, in: headerSet("b3", b3[:49]+"-0-"+b3Parent), want: remote(t, traceHex, spanHex, 0, ""), sampling: Deny, format: B3, parent: b3Parent},
		{name: "B-1 undecided", formats: zipkinTracer, in: headerSet("b3", b3[:49]), want: remote(t, traceHex, spanHex, 0, ""), sampling: Deferred, format: B3},
		{name: "B-3 debug", formats: zipkinTracer, in: headerSet("b3", b3Trace64+"-"+b3Span+"-d"), want: remote(t, short, b3Span, 1, ""), sampling: Accept, format: B3},
		{name: "B-4 b3: 0", formats: zipkinTracer, in: headerSet("b3", "0"), sampling: Deny, format: B3},
		{name: "B-4 b3: d", formats: zipkinTracer, in: headerSet("b3", "d"), sampling: Accept, format: B3},
		{name: "B-2 true", formats: zipkinTracer, in: headerSet("x-b3-sampled", "true"), sampling: Accept, format: B3Multi},
		{name: "B-2 True", formats: zipkinTracer, in: headerSet("x-b3-sampled", "True"), sampling: Deny, format: B3Multi},
		{name: "B-2 d", formats: zipkinTracer, in: headerSet("x-b3-sampled", "d"), sampling: Deny, format: B3Multi},
		{name: "B-2 empty", formats: zipkinTracer, in: headerSet("x-b3-sampled", ""), sampling: Deny, format: B3Multi},
		{name: "B-3 flags", formats: zipkinTracer, in: headerSet("x-b3-flags", "1")},
		{name: "B-6 b3 alone counts", formats: zipkinTracer, in: headerSet("b3", "1", "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "0"), sampling: Accept, format: B3},
		{name: "B-6 a broken b3", formats: zipkinTracer, in: headerSet("b3", "x", "x-b3-traceid", traceHex, "x-b3-spanid", spanHex), null: true, header: "b3", rule: ruleEnvoyB3State},
		{name: "B-9 empty b3", formats: zipkinTracer, in: headerSet("b3", ""), null: true, header: "b3", rule: ruleEnvoyB3Empty},
		{name: "O-4 the first b3, empty", formats: zipkinTracer, in: headerSet("b3", "", "b3", b3), null: true, header: "b3", rule: ruleEnvoyB3Empty},
		{name: "B-7 upper case", formats: zipkinTracer, in: headerSet("b3", strings.ToUpper(b3Trace128)+"-"+spanHex+"-1"), want: remote(t, b3Trace128, spanHex, 1, ""), sampling: Accept, format: B3},
		{name: "B-7 32 bytes", formats: zipkinTracer, in: headerSet("b3", traceHex), null: true, header: "b3", rule: ruleEnvoyB3Short, offset: 32},
		{name: "B-7 69 bytes", formats: zipkinTracer, in: headerSet("b3", b3+"-"+b3Parent+"0"), null: true, header: "b3", rule: ruleEnvoyB3Long, offset: 68},
		{name: "B-7 trace id", formats: zipkinTracer, in: headerSet("b3", "b970dafd-0d95-40aa-95d8-1d8725aebe40"), null: true, header: "b3", rule: ruleEnvoyB3Trace},
		{name: "B-7 no span id", formats: zipkinTracer, in: headerSet("b3", b3Trace64+"0"+b3Span), null: true, header: "b3", rule: ruleEnvoyB3NoSpan, offset: 16},
		{name: "B-7 a span id too short", formats: zipkinTracer, in: headerSet("b3", traceHex+"-"+spanHex[:15]), null: true, header: "b3", rule: ruleEnvoyB3Short, offset: 48},
		{name: "B-7 span id", formats: zipkinTracer, in: headerSet("b3", traceHex+"-"+spanHex[:15]+"x-1"), null: true, header: "b3", rule: ruleEnvoyB3Span, offset: 33},
		{name: "B-7 hyphen at the end", formats: zipkinTracer, in: headerSet("b3", b3[:50]), null: true, header: "b3", rule: ruleEnvoyB3Short, offset: 49},
		{name: "B-7 no state", formats: zipkinTracer, in: headerSet("b3", b3[:49]+"!1"), null: true, header: "b3", rule: ruleEnvoyB3NoState, offset: 49},
		{name: "B-7 state c", formats: zipkinTracer, in: headerSet("b3", b3[:49]+"-c"), null: true, header: "b3", rule: ruleEnvoyB3State, offset: 50},
		{name: "B-7 a parent without state", formats: zipkinTracer, in: headerSet("b3", b3[:49]+"-"+b3Parent), null: true, header: "b3", rule: ruleEnvoyB3Short, offset: 51},
		{name: "B-7 a short parent", formats: zipkinTracer, in: headerSet("b3", b3+"-"+b3Parent[:15]), null: true, header: "b3", rule: ruleEnvoyB3Short, offset: 67},
		{name: "B-7 parent", formats: zipkinTracer, in: headerSet("b3", b3+"-"+b3Parent[:15]+"x"), null: true, header: "b3", rule: ruleEnvoyB3Parent, offset: 52},
		{name: "B-8 any length", formats: zipkinTracer, in: headerSet("x-b3-traceid", "1", "x-b3-spanid", "3", "x-b3-parentspanid", "2"),
			want: remote(t, strings.Repeat("0", 31)+"1", "0000000000000003", 0, ""), sampling: Deferred, format: B3Multi, parent: "0000000000000002"},
		{name: "B-8 17 digits, the first zero", formats: zipkinTracer, in: headerSet("x-b3-traceid", "0"+b3Trace64, "x-b3-spanid", b3Span, "x-b3-sampled", "1"),
			want: remote(t, short, b3Span, 1, ""), sampling: Accept, format: B3Multi},
		{name: "B-8 17 digits", formats: zipkinTracer, in: headerSet("x-b3-traceid", "1"+b3Trace64, "x-b3-spanid", b3Span), null: true, header: "x-b3-traceid", rule: ruleEnvoyMultiTrace},
		{name: "B-8 0x in front", formats: zipkinTracer, in: headerSet("x-b3-traceid", "0x1", "x-b3-spanid", "0X2", "x-b3-sampled", "0"),
			want: remote(t, strings.Repeat("0", 31)+"1", "0000000000000002", 0, ""), sampling: Deny, format: B3Multi},
		{name: "B-8 0x alone", formats: zipkinTracer, in: headerSet("x-b3-traceid", "0x", "x-b3-spanid", "2"), null: true, header: "x-b3-traceid", rule: ruleEnvoyMultiTrace},
		{name: "B-8 trace id alone", formats: zipkinTracer, in: headerSet("x-b3-traceid", traceHex, "x-b3-sampled", "1"), sampling: Accept, format: B3Multi},
		{name: "B-8 span id alone", formats: zipkinTracer, in: headerSet("x-b3-spanid", spanHex)},
		{name: "B-8 an empty parent", formats: zipkinTracer, in: headerSet("x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-parentspanid", ""), want: remote(t, traceHex, spanHex, 0, ""), sampling: Deferred, format: B3Multi},
		{name: "B-8 zeros", formats: zipkinTracer, in: headerSet("x-b3-traceid", "0", "x-b3-spanid", "0", "x-b3-sampled", "1"), sampling: Accept, format: B3Multi, header: "x-b3-traceid", rule: ruleEnvoyZero},
		{name: "B-8 zeros, undecided", formats: zipkinTracer, in: headerSet("b3", zeros16+"-"+spanHex), header: "b3", rule: ruleEnvoyZero},
		{name: "B-9 empty trace id", formats: zipkinTracer, in: headerSet("x-b3-traceid", "", "x-b3-spanid", spanHex), null: true, header: "x-b3-traceid", rule: ruleEnvoyMultiTrace},
		{name: "B-9 span id", formats: zipkinTracer, in: headerSet("x-b3-traceid", traceHex, "x-b3-spanid", "zz"), null: true, header: "x-b3-spanid", rule: ruleEnvoyMultiSpan},
		{name: "B-9 parent", formats: zipkinTracer, in: headerSet("x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-parentspanid", "xyz"), null: true, header: "x-b3-parentspanid", rule: ruleEnvoyMultiUp},
		{name: "B-10 a sign", formats: zipkinTracer, in: headerSet("x-b3-traceid", "+1", "x-b3-spanid", "2"), null: true, header: "x-b3-traceid", rule: ruleEnvoyMultiTrace},
		{name: "B-10 a sign in b3", formats: zipkinTracer, in: headerSet("b3", "-00000000000000f-"+spanHex+"-1"), null: true, header: "b3", rule: ruleEnvoyB3Trace},
		{name: "traceparent is not the Zipkin tracer's", formats: zipkinTracer, in: headerSet("traceparent", "bad")},

		{name: "B-15 W3C", formats: dualTracer, in: headerSet("traceparent", w3cIn), want: remote(t, w3cIn[3:35], w3cIn[36:52], 1, ""), format: TraceContext},
		{name: "B-15 B3 first", formats: dualTracer, in: headerSet("traceparent", w3cIn, "b3", b3), want: remote(t, traceHex, spanHex, 1, ""), sampling: Accept, format: B3},
		{name: "B-15 x-b3-* first", formats: dualTracer, in: headerSet("traceparent", w3cIn, "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "0"), want: remote(t, traceHex, spanHex, 0, ""), sampling: Deny, format: B3Multi},
		{name: "B-15 a lone b3 flag", formats: dualTracer, in: headerSet("traceparent", w3cIn, "b3", "0"), sampling: Deny, format: B3},
		{name: "B-15 a bare x-b3-sampled", formats: dualTracer, in: headerSet("traceparent", w3cIn, "x-b3-sampled", "0"), want: remote(t, w3cIn[3:35], w3cIn[36:52], 1, ""), format: TraceContext},
		{name: "B-15 a lone id", formats: dualTracer, in: headerSet("traceparent", w3cIn, "x-b3-traceid", traceHex), want: remote(t, w3cIn[3:35], w3cIn[36:52], 1, ""), format: TraceContext},
		{name: "B-15 a broken b3", formats: dualTracer, in: headerSet("traceparent", w3cIn, "b3", "x"), null: true, header: "b3", rule: ruleEnvoyB3State},
		{name: "B-15 a broken traceparent", formats: dualTracer, in: headerSet("traceparent", "bad", "x-b3-sampled", "1"), sampling: Accept, format: B3Multi, header: "traceparent", rule: ruleEnvoyLen, offset: 3},

		{name: "O-Z4 x-ot-span-context in front", formats: []Format{OTSpanContext, B3, B3Multi}, in: headerSet("x-ot-span-context", lightStepPlain, "b3", "broken"), want: remote(t, zeros16+otTrace, otSpan, 1, ""), format: OTSpanContext},
		{name: "O-L6 ot-tracer-* behind", formats: []Format{OTSpanContext, OTTrace}, in: headerSet("ot-tracer-traceid", otTrace, "ot-tracer-spanid", otSpan, "ot-tracer-sampled", "1"), want: remote(t, zeros16+otTrace, otSpan, 1, ""), format: OTTrace},
		{name: "a null span ends the reading", formats: []Format{TraceContext, OTSpanContext}, in: headerSet("traceparent", "bad", "x-ot-span-context", lightStepPlain), null: true, header: "traceparent", rule: ruleEnvoyLen, offset: 3},
	} {
		x := mustNew(t, Config{Extract: tt.formats, Strict: true}).Read(otelprop.HeaderCarrier(tt.in))
		wantFault(t, tt.name, x.Err, tt.header, tt.rule, tt.offset)
		if !x.SpanContext.Equal(tt.want) || x.Sampling != tt.sampling || x.Format != tt.format || x.Null != tt.null || x.Tracestate != tt.raw || x.Other.IsValid() {
			t.Errorf("%s: %+v, want %+v", tt.name, x, tt)
		}
		if got := x.Parent.String(); got != tt.parent && (tt.parent != "" || x.Parent.IsValid()) {
			t.Errorf("%s: parent %s, want %q", tt.name, got, tt.parent)
		}
	}
}

// spanStub is a span that is nothing but its context.
type spanStub struct {
	noop.Span
	sc trace.SpanContext
}

func (s spanStub) SpanContext() trace.SpanContext { return s.sc }

// childStub is one that tells its parent, as the SDK's do.
type childStub struct {
	spanStub
	parent trace.SpanContext
}

func (s childStub) Parent() trace.SpanContext { return s.parent }

func TestStrictInject(t *testing.T) {
	const server, client = "1111111111111111", "2222222222222222"
	in := headerSet
	short := zeros16 + b3Trace64
	multi := in("x-b3-traceid", b3Trace64, "x-b3-spanid", b3Span, "x-b3-parentspanid", b3Parent, "x-b3-sampled", "1")
	for _, tt := range []struct {
		name    string
		formats []Format // out
		in      http.Header
		span    trace.SpanContext // in the context; invalid leaves what was extracted
		server  trace.SpanContext // the span of the request
		want    http.Header       // what stands in a copy of in afterwards
	}{
		{name: "W-8 flags", formats: otelTracer, in: in("traceparent", "cc"+traceparent[2:53]+"03"), want: in("traceparent", traceparent, "tracestate", "")},
		{name: "W-9 a new trace", formats: otelTracer, in: in("tracestate", "old=1"), span: remote(t, traceHex, server, 0, ""), want: in("traceparent", "00-"+traceHex+"-"+server+"-00", "tracestate", "")},
		{name: "W-9 one line of several", formats: otelTracer, in: in("traceparent", traceparent, "tracestate", "a=1", "tracestate", "b=é"), span: remote(t, traceHex, server, 1, ""),
			want: in("traceparent", "00-"+traceHex+"-"+server+"-01", "tracestate", "a=1,b=é")},
		{name: "W-17 a tracestate that was dropped", formats: otelTracer, in: in("traceparent", traceparent, "tracestate", "a=1"), span: remote(t, traceHex, server, 1, ""), want: in("traceparent", "00-"+traceHex+"-"+server+"-01", "tracestate", "")},
		{name: "a tracestate that was changed", formats: otelTracer, in: in("traceparent", traceparent, "tracestate", "a=1"), span: remote(t, traceHex, server, 1, "new=1,a=1"),
			want: in("traceparent", "00-"+traceHex+"-"+server+"-01", "tracestate", "new=1,a=1")},
		{name: "W-6", formats: otelTracer, in: in("traceparent", "bad", "tracestate", "a=1"), span: remote(t, traceHex, server, 1, ""), want: in("traceparent", "bad", "tracestate", "a=1")},
		{name: "nothing is removed", formats: otelTracer, in: in("traceparent", traceparent, "b3", "0", "x-b3-traceid", "1"), want: in("traceparent", traceparent, "tracestate", "", "b3", "0", "x-b3-traceid", "1")},

		{name: "B-11 the caller's span", formats: zipkinTracer, in: multi, want: multi},
		{name: "B-13 its child", formats: zipkinTracer, in: multi, span: remote(t, short, client, 1, ""),
			want: in("x-b3-traceid", b3Trace64, "x-b3-spanid", client, "x-b3-parentspanid", b3Span, "x-b3-sampled", "1")},
		{name: "B-13 the child of its server span", formats: zipkinTracer, in: multi, span: remote(t, short, client, 0, ""), server: remote(t, short, server, 1, ""),
			want: in("x-b3-traceid", b3Trace64, "x-b3-spanid", client, "x-b3-parentspanid", server, "x-b3-sampled", "0")},
		{name: "B-13 a new root keeps a stale parent", formats: zipkinTracer, in: in("x-b3-parentspanid", b3Parent, "x-b3-flags", "1"), span: remote(t, traceHex, server, 1, ""),
			want: in("x-b3-traceid", traceHex, "x-b3-spanid", server, "x-b3-sampled", "1", "x-b3-parentspanid", b3Parent, "x-b3-flags", "1")},
		{name: "B-13 b3 is answered with b3", formats: zipkinTracer, in: in("b3", b3+"-"+b3Parent, "x-b3-traceid", "1"), span: remote(t, traceHex, client, 1, ""), want: in("b3", traceHex+"-"+client+"-1-"+spanHex, "x-b3-traceid", "1")},
		{name: "B-13 also a flag", formats: zipkinTracer, in: in("b3", "0"), span: remote(t, traceHex, server, 0, ""), want: in("b3", traceHex+"-"+server+"-0")},
		{name: "B-3 debug goes out as 1", formats: zipkinTracer, in: in("b3", b3[:49]+"-d"), want: in("b3", b3)},
		{name: "B-14", formats: zipkinTracer, in: in("b3", short+"-"+b3Span+"-1"), want: in("b3", b3Trace64+"-"+b3Span+"-1")},
		{name: "B-13 before 1.40", formats: []Format{B3Multi}, in: in("b3", b3+"-"+b3Parent), want: in("b3", b3+"-"+b3Parent, "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-parentspanid", b3Parent, "x-b3-sampled", "1")},
		{name: "b3 for all", formats: []Format{B3}, in: multi, want: in("b3", b3Trace64+"-"+b3Span+"-1-"+b3Parent, "x-b3-traceid", b3Trace64, "x-b3-spanid", b3Span, "x-b3-parentspanid", b3Parent, "x-b3-sampled", "1")},
		{name: "B-9", formats: zipkinTracer, in: in("x-b3-traceid", "xyz", "x-b3-spanid", spanHex), span: remote(t, traceHex, server, 1, ""), want: in("x-b3-traceid", "xyz", "x-b3-spanid", spanHex)},
		{name: "undecided and nobody decides", formats: zipkinTracer, in: in("b3", b3[:49]), want: in("b3", b3[:49])},
		{name: "undecided without b3", formats: zipkinTracer, in: in("x-b3-traceid", traceHex, "x-b3-spanid", spanHex), want: in("x-b3-traceid", traceHex, "x-b3-spanid", spanHex)},
		{name: "a state without a span", formats: zipkinTracer, in: in("b3", "d"), want: in("b3", "1")},
		{name: "a state without a span in x-b3-*", formats: zipkinTracer, in: in("x-b3-sampled", "no"), want: in("x-b3-sampled", "0")},

		{name: "B-15 W3C in", formats: dualTracer, in: in("traceparent", w3cIn, "tracestate", "a=1"), span: remote(t, w3cIn[3:35], server, 1, "a=1"),
			want: in("traceparent", w3cIn[:36]+server+"-01", "tracestate", "a=1", "x-b3-traceid", w3cIn[3:35], "x-b3-spanid", server, "x-b3-parentspanid", w3cIn[36:52], "x-b3-sampled", "1")},
		{name: "B-15 b3 in, padded", formats: dualTracer, in: in("b3", b3Trace64+"-"+b3Span+"-0"), want: in("b3", b3Trace64+"-"+b3Span+"-0", "traceparent", "00-"+short+"-"+b3Span+"-00")},
		{name: "W-11", formats: []Format{}, in: multi, span: remote(t, traceHex, server, 1, ""), want: multi},
	} {
		extract := dualTracer
		if len(tt.formats) == 1 && tt.formats[0] == TraceContext {
			extract = otelTracer
		}
		p := strict(t, extract, tt.formats)
		ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(tt.in))
		if tt.span.IsValid() {
			if s := reqctx.From(ctx); s != nil && tt.server.IsValid() {
				s.Span = spanStub{sc: tt.server}
			}
			ctx = trace.ContextWithSpan(ctx, spanStub{sc: tt.span.WithRemote(false)})
		}
		got := tt.in.Clone()
		p.Inject(ctx, otelprop.HeaderCarrier(got))
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestParentOf holds which parent goes out where more than one way tells it.
func TestParentOf(t *testing.T) {
	sc := remote(t, traceHex, "1111111111111111", 1, "").WithRemote(false)
	told := remote(t, traceHex, "2222222222222222", 1, "")
	caller := remote(t, traceHex, spanHex, 1, "")
	other := remote(t, b3Trace128, spanHex, 1, "")
	for _, tt := range []struct {
		name  string
		span  trace.Span
		state *reqctx.State
		want  trace.SpanID
	}{
		{"outside of a request", spanStub{sc: sc}, nil, trace.SpanID{}},
		{"the span tells it", childStub{spanStub{sc: sc}, told}, &reqctx.State{Remote: caller}, told.SpanID()},
		{"outside of a request the span tells it", childStub{spanStub{sc: sc}, told}, nil, told.SpanID()},
		{"a root that tells so", childStub{spanStub: spanStub{sc: sc}}, &reqctx.State{Remote: caller}, trace.SpanID{}},
		{"the request's span", spanStub{sc: sc}, &reqctx.State{Remote: caller, Span: spanStub{sc: told}}, told.SpanID()},
		{"it is the request's span", spanStub{sc: sc}, &reqctx.State{Remote: caller, Span: spanStub{sc: sc}}, caller.SpanID()},
		{"the caller's span", spanStub{sc: sc}, &reqctx.State{Remote: caller}, caller.SpanID()},
		{"another trace", spanStub{sc: sc}, &reqctx.State{Remote: other, Span: spanStub{sc: other}}, trace.SpanID{}},
		{"B-11 it is the caller's span", childStub{spanStub{sc: caller}, caller}, &reqctx.State{Remote: caller, B3Parent: trace.SpanID{7}}, trace.SpanID{7}},
	} {
		sc := tt.span.SpanContext()
		own := spanOf(&sc)
		if got := parentOf(trace.ContextWithSpan(context.Background(), tt.span), &own, tt.state); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestStrictInside holds that a message inside of a request whose headers were refused
// has a state of its own, and that the request's ids travel all the same.
func TestStrictInside(t *testing.T) {
	p := mustNew(t, Config{Extract: otelTracer, Inject: otelTracer, Strict: true})
	refused := p.Extract(t.Context(), otelprop.HeaderCarrier(headerSet("traceparent", "bad", "x-request-id", requestUUID)))
	out := http.Header{}
	p.Inject(refused, otelprop.HeaderCarrier(out))
	if want := headerSet("x-request-id", requestUUID); !reflect.DeepEqual(out, want) {
		t.Errorf("W-6: %v, want %v", out, want)
	}
	inner := p.Extract(refused, otelprop.HeaderCarrier(headerSet("traceparent", traceparent)))
	p.Inject(inner, otelprop.HeaderCarrier(out))
	if got := out.Get("traceparent"); got != traceparent {
		t.Errorf("a message inside sends traceparent %q, want %q", got, traceparent)
	}
}

func TestStrictFields(t *testing.T) {
	for _, tt := range []struct {
		formats []Format
		want    string
	}{
		{otelTracer, "traceparent tracestate"},
		{zipkinTracer, "b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled"},
		{dualTracer, "x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled traceparent b3"},
	} {
		if got := strings.Join(strict(t, tt.formats, tt.formats).Fields(), " "); got != tt.want {
			t.Errorf("%v: Fields() = %s, want %s", tt.formats, got, tt.want)
		}
	}
}

func TestStrictAllocs(t *testing.T) {
	for _, tt := range []struct {
		formats []Format
		in      http.Header
	}{
		{otelTracer, headerSet("traceparent", traceparent)},
		{zipkinTracer, headerSet("b3", b3+"-"+b3Parent)},
		{dualTracer, headerSet("x-b3-traceid", "1", "x-b3-spanid", "2", "x-b3-sampled", "true")},
	} {
		p := strict(t, tt.formats, tt.formats)
		noAllocs(t, "Read in Strict", func() { p.Read(otelprop.HeaderCarrier(tt.in)) })
	}
}
