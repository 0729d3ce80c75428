package propagation

import (
	"fmt"
	"iter"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// allCarrier is a lowerCarrier whose names can be ranged over.
type allCarrier struct{ lowerCarrier }

func (c allCarrier) All() iter.Seq2[string, []string] { return maps.All(c.lowerCarrier) }

// keysCarrier is one whose names can be collected only.
type keysCarrier struct{ lowerCarrier }

func (c keysCarrier) Keys() []string { return slices.Collect(maps.Keys(c.lowerCarrier)) }

// oneFormat reads what it writes in format f.
func oneFormat(t *testing.T, f Format) *Propagator {
	t.Helper()
	return mustNew(t, Config{Extract: []Format{f}, Inject: []Format{f}, NoRequestID: true})
}

func TestOTTrace(t *testing.T) {
	short := strings.Repeat("0", 16)
	p := oneFormat(t, OTTrace)
	for _, tt := range []struct {
		name     string
		in       http.Header
		want     trace.SpanContext
		sampling Sampling
		baggage  string
		header   string // of the fault; "" wants none
		rule     string
		offset   int
	}{
		{name: "nothing"},
		{name: "a state alone", in: headerSet("ot-tracer-sampled", "true")},
		{name: "P-1 C++", in: headerSet("ot-tracer-traceid", otTrace, "ot-tracer-spanid", otSpan, "ot-tracer-sampled", "true", "ot-baggage-checked", "baggage"),
			want: remote(t, short+otTrace, otSpan, 1, ""), baggage: "checked=baggage"},
		{name: "P-1 Go, unpadded", in: headerSet("ot-tracer-traceid", "1", "ot-tracer-spanid", "2", "ot-tracer-sampled", "false"),
			want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 0, "")},
		{name: "P-1 sampled 1", in: headerSet("ot-tracer-traceid", otTrace, "ot-tracer-spanid", otSpan, "ot-tracer-sampled", "1"), want: remote(t, short+otTrace, otSpan, 1, "")},
		{name: "P-1 sampled 0", in: headerSet("ot-tracer-traceid", otTrace, "ot-tracer-spanid", otSpan, "ot-tracer-sampled", "0"), want: remote(t, short+otTrace, otSpan, 0, "")},
		{name: "P-1 sampled True", in: headerSet("ot-tracer-traceid", otTrace, "ot-tracer-spanid", otSpan, "ot-tracer-sampled", "True"), want: remote(t, short+otTrace, otSpan, 1, "")},
		{name: "P-1 sampled absent", in: headerSet("ot-tracer-traceid", otTrace, "ot-tracer-spanid", otSpan), want: remote(t, short+otTrace, otSpan, 0, ""), sampling: Deferred},
		{name: "P-1 128 bits", in: headerSet("ot-tracer-traceid", traceHex, "ot-tracer-spanid", strings.ToUpper(otSpan), "ot-tracer-sampled", "1"), want: remote(t, traceHex, otSpan, 1, "")},
		{name: "O-4 the first line", in: http.Header{"Ot-Tracer-Traceid": {otTrace, "1"}, "Ot-Tracer-Spanid": {otSpan, "2"}, "Ot-Tracer-Sampled": {"1", "0"}}, want: remote(t, short+otTrace, otSpan, 1, "")},
		{name: "trace id alone", in: headerSet("ot-tracer-traceid", otTrace), header: "ot-tracer-spanid", rule: ruleOTIDs},
		{name: "span id alone", in: headerSet("ot-tracer-spanid", otSpan, "ot-baggage-a", "1"), header: "ot-tracer-traceid", rule: ruleOTIDs},
		{name: "no digit", in: headerSet("ot-tracer-traceid", "12x", "ot-tracer-spanid", otSpan), header: "ot-tracer-traceid", rule: ruleOTTrace, offset: 2},
		{name: "33 digits", in: headerSet("ot-tracer-traceid", traceHex+"0", "ot-tracer-spanid", otSpan), header: "ot-tracer-traceid", rule: ruleOTTrace, offset: 32},
		{name: "zeros", in: headerSet("ot-tracer-traceid", "00", "ot-tracer-spanid", otSpan), header: "ot-tracer-traceid", rule: ruleOTTrace},
		{name: "span id of 17 digits", in: headerSet("ot-tracer-traceid", "1", "ot-tracer-spanid", otSpan+"0"), header: "ot-tracer-spanid", rule: ruleOTSpan, offset: 16},
		{name: "span id of zeros", in: headerSet("ot-tracer-traceid", "1", "ot-tracer-spanid", "0"), header: "ot-tracer-spanid", rule: ruleOTSpan},
		{name: "state", in: headerSet("ot-tracer-traceid", "1", "ot-tracer-spanid", "2", "ot-tracer-sampled", "d"), header: "ot-tracer-sampled", rule: ruleOTSampled},
	} {
		x := p.Read(otelprop.HeaderCarrier(tt.in))
		wantFault(t, tt.name, x.Err, tt.header, tt.rule, tt.offset)
		if !x.SpanContext.Equal(tt.want) || x.Sampling != tt.sampling || x.Baggage.String() != tt.baggage {
			t.Errorf("%s: %v, %v, %q, want %v, %v, %q", tt.name, x.SpanContext, x.Sampling, x.Baggage, tt.want, tt.sampling, tt.baggage)
		}
		if x.SpanContext.IsValid() != (x.Format == OTTrace) {
			t.Errorf("%s: format %v", tt.name, x.Format)
		}
	}

	for _, tt := range []struct {
		sc    trace.SpanContext
		state Sampling
		want  http.Header
	}{
		{sc: remote(t, traceHex, spanHex, 1, ""), want: headerSet("ot-tracer-traceid", traceHex[16:], "ot-tracer-spanid", spanHex, "ot-tracer-sampled", "true")},
		{sc: remote(t, traceHex, spanHex, 0, ""), want: headerSet("ot-tracer-traceid", traceHex[16:], "ot-tracer-spanid", spanHex, "ot-tracer-sampled", "false")},
		{sc: remote(t, traceHex, spanHex, 0, ""), state: Deferred, want: headerSet("ot-tracer-traceid", traceHex[16:], "ot-tracer-spanid", spanHex)},
		{sc: remote(t, traceHex[:16]+short, spanHex, 1, ""), want: headerSet()}, // no reader would take zeros
		{want: headerSet(), state: Deny},
	} {
		got := headerSet()
		p.Inject(trace.ContextWithSpanContext(&reqctx.State{Context: t.Context(), Sampling: uint8(tt.state)}, tt.sc), otelprop.HeaderCarrier(got))
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Inject of %v, %v = %v, want %v", tt.sc, tt.state, got, tt.want)
		}
	}
}

func TestJaeger(t *testing.T) {
	short := strings.Repeat("0", 16)
	full := traceHex + ":" + spanHex + ":0020000000000001:1"
	p := oneFormat(t, Jaeger)
	for _, tt := range []struct {
		name, in string
		want     trace.SpanContext
		sampling Sampling
		parent   string
		rule     string
		offset   int
	}{
		{name: "P-2 128 bits", in: full, want: remote(t, traceHex, spanHex, 1, ""), parent: "0020000000000001"},
		{name: "P-2 64 bits", in: otTrace + ":" + otSpan + ":0:1", want: remote(t, short+otTrace, otSpan, 1, "")},
		{name: "P-2 short ids", in: "1:2:0:0", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 0, "")},
		{name: "P-2 debug", in: "1:2:0:3", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 1, ""), sampling: Debug},
		{name: "P-2 debug without sampled", in: "1:2:0:2", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 0, "")},
		{name: "P-2 hex flags", in: "1:2:0:0B", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 1, ""), sampling: Debug},
		{name: "P-2 percent-encoded", in: strings.ReplaceAll(full, ":", "%3A"), want: remote(t, traceHex, spanHex, 1, ""), parent: "0020000000000001"},
		{name: "every byte percent-encoded", in: "%31%3a%32%3A%30%3a%31", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 1, "")},
		{name: "a parent that is none", in: "1:2:what:1", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 1, "")},
		{name: "no parent", in: "1:2::1", want: remote(t, strings.Repeat("0", 31)+"1", strings.Repeat("0", 15)+"2", 1, "")},

		{name: "three parts", in: "1:2:1", rule: ruleJaegerParts, offset: 5},
		{name: "five parts", in: "1:2:0:1:", rule: ruleJaegerParts, offset: 7},
		{name: "malformed escape", in: "1%3g2:0:1", rule: ruleJaegerParts, offset: 9},
		{name: "trace id of zeros", in: "0:2:0:1", rule: ruleJaegerTrace},
		{name: "no trace id", in: ":2:0:1", rule: ruleJaegerTrace},
		{name: "trace id of 33 digits", in: traceHex + "1:2:0:1", rule: ruleJaegerTrace, offset: 32},
		{name: "no digit", in: "1g:2:0:1", rule: ruleJaegerTrace, offset: 1},
		{name: "span id of zeros", in: "1:0:0:1", rule: ruleJaegerSpan, offset: 2},
		{name: "span id of 17 digits", in: "1:1" + spanHex + ":0:1", rule: ruleJaegerSpan, offset: 18},
		{name: "no flags", in: "1:2:0:", rule: ruleJaegerFlags, offset: 6},
		{name: "three flags", in: "1:2:0:001", rule: ruleJaegerFlags, offset: 8},
		{name: "length", in: strings.Repeat("1", 70), rule: ruleJaegerLen, offset: 69},
		{name: "encoded length", in: strings.Repeat("%31", 70), rule: ruleJaegerLen, offset: 207},
	} {
		x := p.Read(otelprop.HeaderCarrier(headerSet("uber-trace-id", tt.in)))
		header := ""
		if tt.rule != "" {
			header = "uber-trace-id"
		}
		wantFault(t, tt.name, x.Err, header, tt.rule, tt.offset)
		if !x.SpanContext.Equal(tt.want) || x.Sampling != tt.sampling {
			t.Errorf("%s: %v, %v, want %v, %v", tt.name, x.SpanContext, x.Sampling, tt.want, tt.sampling)
		}
		if got := x.Parent.String(); got != tt.parent && (tt.parent != "" || x.Parent.IsValid()) {
			t.Errorf("%s: parent %s, want %q", tt.name, got, tt.parent)
		}
	}

	x := p.Read(otelprop.HeaderCarrier(headerSet("jaeger-debug-id", "ticket 17", "jaeger-baggage", "a=1")))
	if x.Format != Jaeger || x.Sampling != Debug || x.SpanContext.IsValid() || x.Baggage.String() != "a=1" {
		t.Errorf("P-2 jaeger-debug-id: %+v", x)
	}
	x = p.Read(otelprop.HeaderCarrier(headerSet("uber-trace-id", "1:2:0:0", "jaeger-debug-id", "x")))
	if x.Sampling != Unstated {
		t.Errorf("P-2 jaeger-debug-id beside uber-trace-id: sampling %v", x.Sampling)
	}

	for _, tt := range []struct {
		sc    trace.SpanContext
		state Sampling
		want  http.Header
	}{
		{sc: remote(t, traceHex, spanHex, 1, ""), want: headerSet("uber-trace-id", traceHex+":"+spanHex+":0:1")},
		{sc: remote(t, traceHex, spanHex, 0, ""), want: headerSet("uber-trace-id", traceHex+":"+spanHex+":0:0")},
		{sc: remote(t, traceHex, spanHex, 1, ""), state: Debug, want: headerSet("uber-trace-id", traceHex+":"+spanHex+":0:3")},
		{sc: remote(t, traceHex, spanHex, 0, ""), state: Debug, want: headerSet("uber-trace-id", traceHex+":"+spanHex+":0:0")},
		{want: headerSet(), state: Debug},
	} {
		got := headerSet()
		p.Inject(trace.ContextWithSpanContext(&reqctx.State{Context: t.Context(), Sampling: uint8(tt.state)}, tt.sc), otelprop.HeaderCarrier(got))
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Inject of %v, %v = %v, want %v", tt.sc, tt.state, got, tt.want)
		}
	}
}

// TestLegacyBaggage reads the baggage that three formats have of their own, from every
// kind of carrier.
func TestLegacyBaggage(t *testing.T) {
	ot := []string{"ot-tracer-traceid", "1", "ot-tracer-spanid", "2", "ot-tracer-sampled", "1"}
	uber := []string{"uber-trace-id", "1:2:0:1"}
	many := func(prefix string, n int) []string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("%sk%03d", prefix, i), "v")
		}
		return pairs
	}
	for _, tt := range []struct {
		name string
		in   []string
		want string // members in order of their keys
		err  string
	}{
		{name: "ot", in: append(ot, "ot-baggage-a", "1", "Ot-Baggage-User-Id", "x y"), want: "a=1,user-id=x%20y"},
		{name: "ot percent-encoded", in: append(ot, "ot-baggage-a", "%C3%A9+%2B", "ot-baggage-b", "50%"), want: "a=%C3%A9++,b=50%25"},
		{name: "ot, a prefix alone", in: append(ot, "ot-baggage-", "1")},
		{name: "ot not UTF-8", in: append(ot, "ot-baggage-a", "\xff", "ot-baggage-b", "1"), want: "b=1", err: "UTF-8"},
		{name: "ot without ids", in: []string{"ot-baggage-a", "1"}},
		{name: "ot of a context that is refused", in: []string{"ot-tracer-traceid", "x", "ot-tracer-spanid", "2", "ot-baggage-a", "1"}, err: ruleOTTrace},
		{name: "64 entries, the first by key", in: append(ot, many("ot-baggage-", 70)...), want: "k000=v…k063=v", err: ruleLegacyBaggage},
		{name: "64 entries", in: append(ot, many("ot-baggage-", 64)...), want: "k000=v…k063=v"},
		{name: "8,192 bytes", in: append(ot, "ot-baggage-a", strings.Repeat("v", 8000), "ot-baggage-b", strings.Repeat("v", 200)), want: "a=" + strings.Repeat("v", 8000), err: ruleLegacyBaggage},
		{name: "8,192 bytes as they are written again", in: append(ot, "ot-baggage-a", strings.Repeat(" ", 3000)), err: ruleLegacyBaggage},
		{name: "jaeger", in: append(uber, "uberctx-a", "1+2%2B", "uberctx-b", "%"), want: "a=1%202+,b=%25"},
		{name: "jaeger-baggage", in: append(uber, "jaeger-baggage", "a = 1, b=x+y,c,=d,e=", "uberctx-a", "0"), want: "a=1,b=x%20y,e="},
		{name: "jaeger-baggage of 8,193 bytes", in: append(uber, "jaeger-baggage", "a="+strings.Repeat("v", 8191)), err: ruleLegacyBaggage},
		{name: "x-ot-span-context", in: []string{"x-ot-span-context", lightStepD}, want: "checked=baggage"},
		{name: "of equal keys that of baggage counts", in: append(ot, "ot-baggage-a", "ot", "ot-baggage-b", "ot", "baggage", "a=w3c;p"), want: "a=w3c;p,b=ot"},
		{name: "one budget for all", in: append(append(ot, "baggage", numbered(60, "v")), many("ot-baggage-x", 10)...), want: "k000=v…xk003=v", err: ruleLegacyBaggage},
		{name: "of the trace that counts", in: append(ot, "traceparent", traceparent, "ot-baggage-a", "1")},
		{name: "of another format that names the same trace", in: append(ot, "traceparent", "00-"+strings.Repeat("0", 31)+"1-00f067aa0ba902b7-01", "ot-baggage-a", "1"), want: "a=1"},
	} {
		p := mustNew(t, Config{Extract: []Format{TraceContext, OTSpanContext, OTTrace, Jaeger, Baggage}})
		h := headerSet(tt.in...)
		lower, single := lowerCarrier{}, otelprop.MapCarrier{}
		for k, v := range h {
			lower[strings.ToLower(k)] = v
			single[strings.ToLower(k)] = v[0]
		}
		for _, c := range []otelprop.TextMapCarrier{otelprop.HeaderCarrier(h), single, allCarrier{lower}, keysCarrier{lower}} {
			x := p.Read(c)
			members := sortedMembers(nil, x.Baggage.Members())
			got, _ := appendMembers(nil, members)
			want := tt.want
			if first, last, ok := strings.Cut(want, "…"); ok {
				want = string(got)
				if len(members) != 64 || !strings.HasPrefix(want, first+",") || !strings.HasSuffix(want, ","+last) {
					t.Errorf("%s, %T: %d members %s, want 64 from %s to %s", tt.name, c, len(members), got, first, last)
				}
			}
			if string(got) != want {
				t.Errorf("%s, %T: %s, want %s", tt.name, c, got, want)
			}
			if (x.Err == nil) != (tt.err == "") || x.Err != nil && !strings.Contains(x.Err.Error(), tt.err) {
				t.Errorf("%s, %T: error %v, want %q", tt.name, c, x.Err, tt.err)
			}
		}
	}
}

// TestInjectLegacyBaggage holds that what is written can stand in a header, keeps the
// limits, and is read back.
func TestInjectLegacyBaggage(t *testing.T) {
	values := map[string]string{"a": "1", "b": " x ", "c": "50% + é", "d": "\r\n", "e": ""}
	var members []baggage.Member
	for k, v := range values {
		m, err := baggage.NewMemberRaw(k, v)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
	}
	b, err := baggage.New(members...)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Format{OTSpanContext, OTTrace, Jaeger} {
		p := oneFormat(t, f)
		ctx := trace.ContextWithSpanContext(baggage.ContextWithBaggage(t.Context(), b), remote(t, traceHex, spanHex, 1, ""))
		out, m := http.Header{}, otelprop.MapCarrier{}
		p.Inject(ctx, otelprop.HeaderCarrier(out))
		p.Inject(ctx, m)
		for k, v := range out {
			checkSendable(t, k, v[0])
			if m[strings.ToLower(k)] != v[0] {
				t.Errorf("%v: %s is %q in a MapCarrier, %q in a HeaderCarrier", f, k, m[strings.ToLower(k)], v[0])
			}
		}
		for _, c := range []otelprop.TextMapCarrier{otelprop.HeaderCarrier(out), m} {
			x := p.Read(c)
			if x.Baggage.Len() != len(values) || x.Err != nil {
				t.Errorf("%v: %d members are read back, %v", f, x.Baggage.Len(), x.Err)
			}
			for k, v := range values {
				if got := x.Baggage.Member(k).Value(); got != v {
					t.Errorf("%v: %s=%q is read back as %q", f, k, v, got)
				}
			}
		}
	}

	big := bag(t, "a", strings.Repeat("v", 5000), "b", strings.Repeat("v", 5000), "c", "3")
	for i := range 80 {
		m, _ := baggage.NewMemberRaw(fmt.Sprintf("k%02d", i), "v")
		big, _ = big.SetMember(m)
	}
	for _, f := range []Format{OTSpanContext, OTTrace, Jaeger} {
		out := http.Header{}
		arrived := &reqctx.State{Context: baggage.ContextWithBaggage(t.Context(), bag(t, "k79", "v"))}
		ctx := trace.ContextWithSpanContext(baggage.ContextWithBaggage(arrived, big), remote(t, traceHex, spanHex, 1, ""))
		oneFormat(t, f).Inject(ctx, otelprop.HeaderCarrier(out))
		x := oneFormat(t, f).Read(otelprop.HeaderCarrier(out))
		if n := x.Baggage.Len(); n > 64 || n < 40 || x.Err != nil || x.Baggage.Member("k79").Key() == "" {
			t.Errorf("%v: %d members of too many go out, k79, which arrived, among them: %v; %v", f, n, x.Baggage.Member("k79").Key() != "", x.Err)
		}
	}
}

// TestOTSpanContextBesideB3 holds the two orders in which Envoy's old Zipkin tracer
// and the others have it.
func TestOTSpanContextBesideB3(t *testing.T) {
	in := otelprop.HeaderCarrier(headerSet("x-ot-span-context", zipkinText, "x-b3-traceid", zipkinText[:16], "x-b3-spanid", zipkinText[17:33], "x-b3-sampled", "1"))
	for _, list := range [][]Format{nil, {OTSpanContext, B3, B3Multi}} {
		x := mustNew(t, Config{Extract: list}).Read(in)
		want := remote(t, strings.Repeat("0", 16)+zipkinText[:16], zipkinText[17:33], 1, "")
		if !x.SpanContext.Equal(want) || x.Sampling != Accept || x.Err != nil {
			t.Errorf("O-Z5, %v: %v, %v, %v, want %v, accept", list, x.SpanContext, x.Sampling, x.Err, want)
		}
	}
	in["X-B3-Traceid"] = []string{traceHex}
	x := mustNew(t, Config{Extract: []Format{OTSpanContext, B3Multi}}).Read(in)
	if x.Format != OTSpanContext || x.Other.TraceID().String() != traceHex || x.Sampling != Deferred {
		t.Errorf("O-Z4: %+v", x)
	}
	in["X-Ot-Span-Context"] = []string{"bad"}
	x = mustNew(t, Config{Extract: []Format{OTSpanContext, B3Multi}}).Read(in)
	if x.Format != B3Multi {
		t.Errorf("O-L5: %+v", x)
	}
	wantFault(t, "O-L5", x.Err, "x-ot-span-context", ruleLightStep64, 3)
}

func TestZipkinText(t *testing.T) {
	p := mustNew(t, Config{Extract: []Format{OTSpanContext}, Inject: []Format{OTSpanContext}, ZipkinText: true})
	in := headerSet("x-ot-span-context", zipkinText+";cs", "x-request-id", requestUUID)
	out := http.Header{}
	ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(in))
	p.Inject(ctx, otelprop.HeaderCarrier(out))
	if got := out.Get("x-ot-span-context"); got != zipkinText {
		t.Errorf("O-Z1: the caller's span goes on as %q, want %q", got, zipkinText)
	}
	child := remote(t, strings.Repeat("0", 16)+zipkinText[:16], spanHex, 1, "").WithRemote(false)
	p.Inject(trace.ContextWithSpanContext(ctx, child), otelprop.HeaderCarrier(out))
	if got, want := out.Get("x-ot-span-context"), zipkinText[:17]+spanHex+";"+zipkinText[17:33]; got != want {
		t.Errorf("O-Z1: its child goes on as %q, want %q", got, want)
	}
}
