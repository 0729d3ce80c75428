package propagation

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
)

func TestRead(t *testing.T) {
	const (
		trace2 = "0af7651916cd43dd8448eb211c80319c"
		span2  = "b7ad6b7169203331"
		tp2    = "00-" + trace2 + "-" + span2 + "-01"
		trace3 = "11111111111111111111111111111111"
	)
	first := remote(t, traceHex, spanHex, 1, "")
	second := remote(t, trace2, span2, 1, "")
	for _, tt := range []struct {
		name  string
		cfg   Config
		in    http.Header
		want  Extraction
		rules []string // of Err, in order
	}{
		{name: "nothing", in: headerSet("Accept", "*/*")},
		{name: "nil header"},
		{name: "traceparent", in: headerSet("traceparent", traceparent), want: Extraction{SpanContext: first, Format: TraceContext}},
		{name: "tracestate", in: headerSet("traceparent", traceparent, "tracestate", "a=1", "tracestate", "b=2"),
			want: Extraction{SpanContext: remote(t, traceHex, spanHex, 1, "a=1,b=2"), Format: TraceContext}},
		{name: "W-5 tracestate alone", in: headerSet("tracestate", "a=1")},
		{name: "unusable tracestate", in: headerSet("traceparent", traceparent, "tracestate", "sample-tracestate"),
			want: Extraction{SpanContext: first, Format: TraceContext}, rules: []string{ruleTracestateMember}},
		{name: "tracestate of a bad traceparent is not read", in: headerSet("traceparent", "x", "tracestate", "sample-tracestate"),
			rules: []string{ruleTraceparentLen}},
		{name: "W-1 two traceparents", in: headerSet("traceparent", traceparent, "traceparent", tp2), rules: []string{ruleTraceparentLines}},
		{name: "the same traceparent twice", in: headerSet("traceparent", traceparent, "traceparent", traceparent), rules: []string{ruleTraceparentLines}},
		{name: "an empty traceparent beside", in: headerSet("traceparent", "", "traceparent", traceparent), rules: []string{ruleTraceparentLines}},
		{name: "empty traceparent", in: headerSet("traceparent", "")},

		{name: "b3", in: headerSet("b3", b3), want: Extraction{SpanContext: first, Format: B3, Sampling: Accept}},
		{name: "O-4 the first b3", in: headerSet("b3", b3, "b3", trace2+"-"+span2+"-1"), want: Extraction{SpanContext: first, Format: B3, Sampling: Accept}},
		{name: "O-4 the first b3, also when empty", in: headerSet("b3", "", "b3", b3)},
		{name: "b3 deferred", in: headerSet("b3", traceHex+"-"+spanHex),
			want: Extraction{SpanContext: remote(t, traceHex, spanHex, 0, ""), Format: B3, Sampling: Deferred}},
		{name: "B-4 deny without ids", in: headerSet("b3", "0"), want: Extraction{Format: B3, Sampling: Deny}},
		{name: "x-b3-*", in: headerSet("X-B3-TraceId", traceHex, "X-B3-SpanId", spanHex, "X-B3-Sampled", "1"),
			want: Extraction{SpanContext: first, Format: B3Multi, Sampling: Accept}},
		{name: "B-4 x-b3-sampled alone", in: headerSet("X-B3-Sampled", "0"), want: Extraction{Format: B3Multi, Sampling: Deny}},
		{name: "x-b3-flags alone", in: headerSet("X-B3-Flags", "1"), want: Extraction{Format: B3Multi, Sampling: Debug}},
		{name: "x-b3-flags 0 alone", in: headerSet("X-B3-Flags", "0")},
		{name: "a lone span id says nothing", in: headerSet("X-B3-SpanId", spanHex, "X-B3-ParentSpanId", "bad")},
		{name: "bad x-b3-sampled", in: headerSet("X-B3-Sampled", "yes"), rules: []string{ruleB3Sampled}},

		{name: "the first format wins", in: headerSet("traceparent", traceparent, "b3", traceHex+"-"+span2+"-d"), want: Extraction{SpanContext: first, Format: TraceContext}},
		{name: "a b3 of the same span adds its state", in: headerSet("traceparent", traceparent, "b3", b3[:49]+"-d"),
			want: Extraction{SpanContext: first, Format: TraceContext, Sampling: Debug}},
		{name: "not when the flags differ", in: headerSet("traceparent", traceparent, "b3", b3[:49]+"-0"), want: Extraction{SpanContext: first, Format: TraceContext}},
		{name: "deferred of the same span", in: headerSet("traceparent", traceparent[:53]+"00", "b3", b3[:49]),
			want: Extraction{SpanContext: remote(t, traceHex, spanHex, 0, ""), Format: TraceContext, Sampling: Deferred}},
		{name: "another trace", in: headerSet("traceparent", traceparent, "b3", trace2+"-"+span2+"-1"),
			want: Extraction{SpanContext: first, Format: TraceContext, Other: second}},
		{name: "the first other trace", in: headerSet("traceparent", traceparent, "b3", trace2+"-"+span2+"-1", "X-B3-TraceId", trace3, "X-B3-SpanId", span2),
			want: Extraction{SpanContext: first, Format: TraceContext, Other: second}},
		{name: "other order", cfg: Config{Extract: []Format{B3, TraceContext}}, in: headerSet("traceparent", traceparent, "b3", trace2+"-"+span2+"-1"),
			want: Extraction{SpanContext: second, Format: B3, Sampling: Accept, Other: first}},
		{name: "only b3", cfg: Config{Extract: []Format{B3}}, in: headerSet("traceparent", traceparent, "b3", trace2+"-"+span2+"-1", "baggage", "a=1"),
			want: Extraction{SpanContext: second, Format: B3, Sampling: Accept}},
		{name: "no format", cfg: Config{Extract: []Format{}}, in: headerSet("traceparent", traceparent, "b3", b3, "baggage", "a=1")},
		{name: "B-6 a bad format and a good one", in: headerSet("traceparent", "x", "b3", "y", "X-B3-TraceId", traceHex, "X-B3-SpanId", spanHex, "X-B3-Sampled", "1"),
			want: Extraction{SpanContext: first, Format: B3Multi, Sampling: Accept}, rules: []string{ruleTraceparentLen, ruleB3State}},
		{name: "a span beats a state in front of it", cfg: Config{Extract: []Format{B3, TraceContext}}, in: headerSet("traceparent", traceparent, "b3", "0"),
			want: Extraction{SpanContext: first, Format: TraceContext}},
		{name: "a span beats a state behind it", in: headerSet("traceparent", traceparent, "b3", "0"), want: Extraction{SpanContext: first, Format: TraceContext}},
		{name: "the first state", in: headerSet("b3", "d", "X-B3-Sampled", "0"), want: Extraction{Format: B3, Sampling: Debug}},

		{name: "baggage", in: headerSet("baggage", "a=1", "baggage", "b=2"), want: Extraction{Baggage: bag(t, "a", "1", "b", "2")}},
		{name: "bad baggage", in: headerSet("baggage", "a=1,b"), want: Extraction{Baggage: bag(t, "a", "1")}, rules: []string{ruleBaggageMember}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := mustNew(t, tt.cfg)
			carriers := map[string]otelprop.TextMapCarrier{"HeaderCarrier": otelprop.HeaderCarrier(tt.in)}
			lower, one := lowerCarrier{}, getCarrier{}
			single := true
			for k, v := range tt.in {
				lower[strings.ToLower(k)] = v
				one[strings.ToLower(k)] = v[0]
				single = single && len(v) == 1
			}
			carriers["ValuesGetter"] = lower
			if single {
				carriers["TextMapCarrier"] = one
				carriers["MapCarrier"] = otelprop.MapCarrier(one)
			}
			for kind, carrier := range carriers {
				got := p.Read(carrier)
				if !got.SpanContext.Equal(tt.want.SpanContext) || got.Format != tt.want.Format || got.Sampling != tt.want.Sampling || !got.Other.Equal(tt.want.Other) {
					t.Errorf("Read(%s) = %+v, want %+v", kind, got, tt.want)
				}
				if g, w := entries(got.Baggage), entries(tt.want.Baggage); !slices.Equal(g, w) {
					t.Errorf("Read(%s).Baggage = %q, want %q", kind, g, w)
				}
				if g := rules(got.Err); !slices.Equal(g, tt.rules) {
					t.Errorf("Read(%s).Err has %q, want %q", kind, g, tt.rules)
				}
			}
		})
	}
}

// rules returns the rules of all HeaderErrors that err joins, in order.
func rules(err error) []string {
	switch e := err.(type) {
	case nil:
		return nil
	case *HeaderError:
		return []string{e.Rule}
	case interface{ Unwrap() []error }:
		var all []string
		for _, e := range e.Unwrap() {
			all = append(all, rules(e)...)
		}
		return all
	}
	return []string{err.Error()}
}

func TestReadNilCarrier(t *testing.T) {
	if got := mustNew(t, Config{}).Read(nil); !reflect.DeepEqual(got, Extraction{}) {
		t.Errorf("Read(nil) = %+v, want nothing", got)
	}
}
