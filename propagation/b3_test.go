package propagation

import (
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	b3Trace64  = "463ac35c9f6413ad"
	b3Trace128 = "463ac35c9f6413ad48485a3953bb6124"
	b3Span     = "a2fb4a1d1a96d312"
	b3Parent   = "0020000000000001"
	zero16     = "0000000000000000"
)

func TestParseB3(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		trace    string // 32 digits; "" wants no span context
		parent   string
		sampling Sampling
		rule     string
		offset   int
	}{
		{name: "accept", in: b3Trace128 + "-" + b3Span + "-1", trace: b3Trace128, sampling: Accept},
		{name: "deny", in: b3Trace128 + "-" + b3Span + "-0", trace: b3Trace128, sampling: Deny},
		{name: "debug", in: b3Trace128 + "-" + b3Span + "-d", trace: b3Trace128, sampling: Debug},
		{name: "deferred", in: b3Trace128 + "-" + b3Span, trace: b3Trace128, sampling: Deferred},
		{name: "parent", in: b3Trace128 + "-" + b3Span + "-1-" + b3Parent, trace: b3Trace128, parent: b3Parent, sampling: Accept},
		{name: "zero parent is none", in: b3Trace128 + "-" + b3Span + "-1-" + zero16, trace: b3Trace128, sampling: Accept},
		{name: "64 bit", in: b3Trace64 + "-" + b3Span + "-1", trace: zero16 + b3Trace64, sampling: Accept},
		{name: "64 bit deferred", in: b3Trace64 + "-" + b3Span, trace: zero16 + b3Trace64, sampling: Deferred},
		{name: "64 bit with parent", in: b3Trace64 + "-" + b3Span + "-d-" + b3Parent, trace: zero16 + b3Trace64, parent: b3Parent, sampling: Debug},
		{name: "upper case", in: strings.ToUpper(b3Trace128+"-"+b3Span) + "-1-" + strings.ToUpper("0020abcdef000001"), trace: b3Trace128, parent: "0020abcdef000001", sampling: Accept},
		{name: "zero high half", in: zero16 + b3Trace64 + "-" + b3Span + "-1", trace: zero16 + b3Trace64, sampling: Accept},
		{name: "B-4 deny alone", in: "0", sampling: Deny},
		{name: "accept alone", in: "1", sampling: Accept},
		{name: "debug alone", in: "d", sampling: Debug},

		{name: "B-9 empty", in: "", rule: ruleB3Len},
		{name: "B-9 state c alone", in: "c", rule: ruleB3State},
		{name: "state D alone", in: "D", rule: ruleB3State},
		{name: "B-9 UUID", in: "b970dafd-0d95-40aa-95d8-1d8725aebe40", rule: ruleB3Len, offset: 36},
		{name: "B-7 trace id alone", in: b3Trace64, rule: ruleB3Len, offset: 16},
		{name: "trace id of 128 bit alone", in: b3Trace128, rule: ruleB3Len, offset: 32},
		{name: "span id short", in: b3Trace64 + "-" + b3Span[:15], rule: ruleB3Len, offset: 32},
		{name: "nothing behind the dash", in: b3Trace64 + "-" + b3Span + "-", rule: ruleB3Len, offset: 34},
		{name: "nothing behind the state", in: b3Trace64 + "-" + b3Span + "-1-", rule: ruleB3Len, offset: 36},
		{name: "B-7 parent without state", in: b3Trace64 + "-" + b3Span + "-" + b3Parent, rule: ruleB3Len, offset: 50},
		{name: "parent short", in: b3Trace64 + "-" + b3Span + "-1-" + b3Parent[1:], rule: ruleB3Len, offset: 51},
		{name: "long", in: b3Trace128 + "-" + b3Span + "-1-" + b3Parent + "x", rule: ruleB3Len, offset: 68},
		{name: "1 MB", in: strings.Repeat("0", 1<<20), rule: ruleB3Len, offset: 68},
		{name: "trace id of 17 digits", in: "0" + b3Trace64 + "-" + b3Span[1:] + "-1", rule: ruleB3Sep, offset: 16},
		{name: "B-7 state c", in: b3Trace64 + "-" + b3Span + "-c", rule: ruleB3State, offset: 34},
		{name: "no dash before the state", in: b3Trace64 + "-" + b3Span + "!0", rule: ruleB3Sep, offset: 33},
		{name: "no dash before the parent", in: b3Trace64 + "-" + b3Span + "-d!" + b3Parent, rule: ruleB3Sep, offset: 35},
		{name: "trace id not hex", in: "000000000000000!-" + b3Span, rule: ruleB3Trace, offset: 15},
		{name: "trace id zero", in: zero16 + "-" + b3Span + "-1", rule: ruleB3Trace},
		{name: "span id not hex", in: b3Trace64 + "-" + b3Span[:15] + "x-1", rule: ruleB3Span, offset: 32},
		{name: "span id zero", in: b3Trace128 + "-" + zero16 + "-1", rule: ruleB3Span, offset: 33},
		{name: "parent not hex", in: b3Trace64 + "-" + b3Span + "-d-000000000000000!", rule: ruleB3Parent, offset: 51},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseB3(tt.in)
			wantFault(t, "ParseB3", err, "b3", tt.rule, tt.offset)
			checkParsed(t, p, tt.trace, tt.parent, tt.sampling)
		})
	}
}

func TestParseB3Multi(t *testing.T) {
	for _, tt := range []struct {
		name     string
		in       [5]string // trace id, span id, parent id, sampled, flags
		trace    string
		parent   string
		sampling Sampling
		header   string
		rule     string
		offset   int
	}{
		{name: "nothing"},
		{name: "accept", in: [5]string{b3Trace128, b3Span, "", "1", ""}, trace: b3Trace128, sampling: Accept},
		{name: "deny", in: [5]string{b3Trace128, b3Span, "", "0", ""}, trace: b3Trace128, sampling: Deny},
		{name: "deferred", in: [5]string{b3Trace128, b3Span, "", "", ""}, trace: b3Trace128, sampling: Deferred},
		{name: "debug by flags", in: [5]string{b3Trace128, b3Span, "", "", "1"}, trace: b3Trace128, sampling: Debug},
		{name: "flags beat sampled", in: [5]string{b3Trace128, b3Span, "", "0", "1"}, trace: b3Trace128, sampling: Debug},
		{name: "other flags are ignored", in: [5]string{b3Trace128, b3Span, "", "0", "2"}, trace: b3Trace128, sampling: Deny},
		{name: "sampled d", in: [5]string{b3Trace128, b3Span, "", "d", ""}, trace: b3Trace128, sampling: Debug},
		{name: "sampled true", in: [5]string{b3Trace128, b3Span, "", "true", ""}, trace: b3Trace128, sampling: Accept},
		{name: "sampled TRUE", in: [5]string{b3Trace128, b3Span, "", "TRUE", ""}, trace: b3Trace128, sampling: Accept},
		{name: "sampled False", in: [5]string{b3Trace128, b3Span, "", "False", ""}, trace: b3Trace128, sampling: Deny},
		{name: "64 bit with parent", in: [5]string{b3Trace64, b3Span, b3Parent, "1", ""}, trace: zero16 + b3Trace64, parent: b3Parent, sampling: Accept},
		{name: "zero parent is none", in: [5]string{b3Trace64, b3Span, zero16, "1", ""}, trace: zero16 + b3Trace64, sampling: Accept},
		{name: "upper case", in: [5]string{strings.ToUpper(b3Trace128), strings.ToUpper(b3Span), "", "1", ""}, trace: b3Trace128, sampling: Accept},
		{name: "B-4 deny alone", in: [5]string{"", "", "", "0", ""}, sampling: Deny},
		{name: "B-4 accept alone", in: [5]string{"", "", "", "1", ""}, sampling: Accept},
		{name: "B-3 debug alone", in: [5]string{"", "", "", "", "1"}, sampling: Debug},

		{name: "sampled nonsense", in: [5]string{b3Trace128, b3Span, "", "yes", ""}, header: "x-b3-sampled", rule: ruleB3Sampled},
		{name: "sampled nonsense of one byte", in: [5]string{b3Trace128, b3Span, "", "2", ""}, header: "x-b3-sampled", rule: ruleB3Sampled},
		{name: "B-8 no span id", in: [5]string{b3Trace128, "", "", "1", ""}, header: "x-b3-spanid", rule: ruleB3IDs},
		{name: "B-8 no trace id", in: [5]string{"", b3Span, "", "1", ""}, header: "x-b3-traceid", rule: ruleB3IDs},
		{name: "parent alone", in: [5]string{"", "", b3Parent, "1", ""}, header: "x-b3-traceid", rule: ruleB3IDs},
		{name: "B-8 short trace id", in: [5]string{"1", b3Span, "", "", ""}, header: "x-b3-traceid", rule: ruleB3Trace, offset: 1},
		{name: "trace id of 17 digits", in: [5]string{"1" + zero16, b3Span, "", "", ""}, header: "x-b3-traceid", rule: ruleB3Trace, offset: 17},
		{name: "B-10 signed", in: [5]string{"-1", b3Span, "", "", ""}, header: "x-b3-traceid", rule: ruleB3Trace, offset: 2},
		{name: "trace id not hex", in: [5]string{"46xac35c9f6413ad", b3Span, "", "", ""}, header: "x-b3-traceid", rule: ruleB3Trace, offset: 2},
		{name: "B-8 trace id zero", in: [5]string{zero16, b3Span, "", "", ""}, header: "x-b3-traceid", rule: ruleB3Trace},
		{name: "span id short", in: [5]string{b3Trace64, "xyz", "", "", ""}, header: "x-b3-spanid", rule: ruleB3Span, offset: 3},
		{name: "span id not hex", in: [5]string{b3Trace64, b3Span[:15] + "g", "", "", ""}, header: "x-b3-spanid", rule: ruleB3Span, offset: 15},
		{name: "span id zero", in: [5]string{b3Trace64, zero16, "", "", ""}, header: "x-b3-spanid", rule: ruleB3Span},
		{name: "B-9 parent short", in: [5]string{b3Trace64, b3Span, "xyz", "", ""}, header: "x-b3-parentspanid", rule: ruleB3Parent, offset: 3},
		{name: "parent not hex", in: [5]string{b3Trace64, b3Span, "-" + b3Parent[1:], "", ""}, header: "x-b3-parentspanid", rule: ruleB3Parent},
		{name: "1 MB of trace id", in: [5]string{strings.Repeat("0", 1<<20), b3Span, "", "", ""}, header: "x-b3-traceid", rule: ruleB3Trace, offset: 32},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseB3Multi(tt.in[0], tt.in[1], tt.in[2], tt.in[3], tt.in[4])
			wantFault(t, "ParseB3Multi", err, tt.header, tt.rule, tt.offset)
			checkParsed(t, p, tt.trace, tt.parent, tt.sampling)
		})
	}
}

// checkParsed compares p with ids in hex; b3Span is the span id of all rows.
func checkParsed(t *testing.T, p Parsed, traceID, parent string, sampling Sampling) {
	t.Helper()
	if p.Sampling != sampling {
		t.Errorf("Sampling = %v, want %v", p.Sampling, sampling)
	}
	var flags trace.TraceFlags
	if sampling == Accept || sampling == Debug {
		flags = trace.FlagsSampled
	}
	var want trace.SpanContext
	if traceID != "" {
		want = remote(t, traceID, b3Span, flags, "")
	}
	if !p.SpanContext.Equal(want) {
		t.Errorf("SpanContext = %v, want %v", p.SpanContext, want)
	}
	if parent == "" {
		parent = zero16
	}
	if got := p.Parent.String(); got != parent {
		t.Errorf("Parent = %s, want %s", got, parent)
	}
}

func TestAppendB3(t *testing.T) {
	parent, err := trace.SpanIDFromHex(b3Parent)
	if err != nil {
		t.Fatal(err)
	}
	yes, no := remote(t, b3Trace128, b3Span, 1, ""), remote(t, b3Trace128, b3Span, 0, "")
	const ids = b3Trace128 + "-" + b3Span
	for _, tt := range []struct {
		name string
		in   Parsed
		want string
	}{
		{"sampled", Parsed{SpanContext: yes}, ids + "-1"},
		{"not sampled", Parsed{SpanContext: no}, ids + "-0"},
		{"the flag beats Deny", Parsed{SpanContext: yes, Sampling: Deny}, ids + "-1"},
		{"the flag beats Accept", Parsed{SpanContext: no, Sampling: Accept}, ids + "-0"},
		{"debug", Parsed{SpanContext: yes, Sampling: Debug}, ids + "-d"},
		{"deferred", Parsed{SpanContext: no, Sampling: Deferred}, ids},
		{"parent", Parsed{SpanContext: yes, Parent: parent}, ids + "-1-" + b3Parent},
		{"no parent without a state", Parsed{SpanContext: no, Sampling: Deferred, Parent: parent}, ids},
		{"deny alone", Parsed{Sampling: Deny, Parent: parent}, "0"},
		{"accept alone", Parsed{Sampling: Accept}, "1"},
		{"debug alone", Parsed{Sampling: Debug}, "d"},
		{"deferred alone", Parsed{Sampling: Deferred}, ""},
		{"nothing", Parsed{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(AppendB3([]byte("x"), tt.in)); got != "x"+tt.want {
				t.Errorf("AppendB3(x, %+v) = %q, want %q", tt.in, got, "x"+tt.want)
			}
		})
	}
}

func TestB3NoAllocs(t *testing.T) {
	p, err := ParseB3(b3)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, maxB3Len)
	noAllocs(t, "ParseB3", func() { ParseB3(b3) })
	noAllocs(t, "ParseB3Multi", func() { ParseB3Multi(b3Trace128, b3Span, b3Parent, "true", "1") })
	noAllocs(t, "AppendB3", func() { AppendB3(buf, p) })
}

// TestLoneSampled: a sampling state of x-b3-* without ids says nothing beside a span that
// another header named before, not even that it is malformed; alone it counts.
func TestLoneSampled(t *testing.T) {
	p := mustNew(t, Config{})
	for _, header := range []string{"x-b3-sampled", "x-b3-flags"} {
		for _, v := range []string{"1", "0", "malformed"} {
			beside := p.Read(otelprop.HeaderCarrier(headerSet("traceparent", traceparent, header, v)))
			want := p.Read(otelprop.HeaderCarrier(headerSet("traceparent", traceparent)))
			if !beside.SpanContext.Equal(want.SpanContext) || beside.Format != TraceContext || beside.Sampling != Unstated || beside.Err != nil {
				t.Errorf("traceparent and %s: %s: %+v, want the traceparent alone", header, v, beside)
			}
			alone := p.Read(otelprop.HeaderCarrier(headerSet(header, v)))
			if refused := header == "x-b3-sampled" && v == "malformed"; refused != (alone.Err != nil) || header == "x-b3-sampled" && !refused && alone.Format != B3Multi {
				t.Errorf("%s: %s alone: %+v", header, v, alone)
			}
		}
	}
}
