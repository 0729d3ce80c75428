package propagation

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// members returns n list-members, "m0=0,m1=1,…".
func members(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "m%d=%d", i, i)
	}
	return b.String()
}

func TestParseTracestate(t *testing.T) {
	const keyChars = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
	var valueChars strings.Builder
	for c := byte(' '); c <= '~'; c++ {
		if c != ',' && c != '=' {
			valueChars.WriteByte(c)
		}
	}
	long := func(key string, n int) string { return key + "=" + strings.Repeat("v", n) }
	for _, tt := range []struct {
		name   string
		in     []string
		want   string
		rule   string
		offset int
	}{
		{name: "none"},
		{name: "empty", in: []string{""}},
		{name: "one", in: []string{"foo=1"}, want: "foo=1"},
		{name: "several", in: []string{"foo=1,bar=2"}, want: "foo=1,bar=2"},
		{name: "W-5 several lines in order", in: []string{"foo=1,bar=2", "rojo=1,congo=2", "baz=3"}, want: "foo=1,bar=2,rojo=1,congo=2,baz=3"},
		{name: "W-5 empty lines", in: []string{"", "foo=1", ""}, want: "foo=1"},
		{name: "empty members", in: []string{"foo=1,,bar=2,"}, want: "foo=1,bar=2"},
		{name: "members of white space", in: []string{"foo=1, \t,bar=2, "}, want: "foo=1,bar=2"},
		{name: "white space around", in: []string{"\t foo=1 \t , \t bar=2, \t baz=3 "}, want: "foo=1,bar=2,baz=3"},
		{name: "leading space of a value stays", in: []string{"foo=  1 ,bar=2"}, want: "foo=  1,bar=2"},
		{name: "all characters", in: []string{keyChars + "=" + valueChars.String()}, want: keyChars + "=" + valueChars.String()},
		{name: "key with vendor", in: []string{keyChars + "@a-z0-9_-*/=1"}, want: keyChars + "@a-z0-9_-*/=1"},
		{name: "key with digit and vendor", in: []string{"1tenant@sys=1"}, want: "1tenant@sys=1"},
		{name: "key of 256", in: []string{"foo=1", strings.Repeat("z", 256) + "=1"}, want: "foo=1," + strings.Repeat("z", 256) + "=1"},
		{name: "value of 256", in: []string{long("foo", 256)}, want: long("foo", 256)},
		{name: "32 members", in: []string{members(32)}, want: members(32)},
		{name: "32 members over lines", in: []string{members(32)[:4], members(32)[5:]}, want: members(32)},
		{name: "duplicate keys: the first stays", in: []string{"foo=1,bar=2,foo=3"}, want: "foo=1,bar=2"},
		{name: "duplicate keys over lines", in: []string{"foo=1", "foo=2"}, want: "foo=1"},
		{name: "8192 bytes", in: []string{strings.Repeat(",", 8192-5) + "foo=1"}, want: "foo=1"},
		{name: "8192 bytes over lines", in: []string{strings.Repeat(",", 8186), "foo=1"}, want: "foo=1"},

		// Level 2 has these keys, trace.TraceState does not.
		{name: "key with digit in front", in: []string{"1a=x,foo=1"}, want: "foo=1"},
		{name: "key with empty system", in: []string{"foo@=1,bar=2"}, want: "bar=2"},
		{name: "key with two @", in: []string{"bar=2,foo@bar@baz=1"}, want: "bar=2"},
		{name: "key with long tenant", in: []string{strings.Repeat("t", 242) + "@v=1,bar=2"}, want: "bar=2"},
		{name: "key with long system", in: []string{"t@" + strings.Repeat("v", 15) + "=1,bar=2"}, want: "bar=2"},
		{name: "key with system of a digit", in: []string{"t@1=1"}},

		{name: "no =", in: []string{"sample-tracestate"}, rule: ruleTracestateMember, offset: 17},
		{name: "no = in the second line", in: []string{"a=1", "b"}, rule: ruleTracestateMember, offset: 1},
		{name: "no key", in: []string{"a=1,=1"}, rule: ruleTracestateKey, offset: 4},
		{name: "key upper case", in: []string{"FOO=1"}, rule: ruleTracestateKey, offset: 0},
		{name: "key with a dot", in: []string{"bar=1, foo.bar=1"}, rule: ruleTracestateKey, offset: 10},
		{name: "key with space behind", in: []string{"foo =1"}, rule: ruleTracestateKey, offset: 3},
		{name: "key with @ in front", in: []string{"@foo=1,bar=2"}, rule: ruleTracestateKey, offset: 0},
		{name: "key of 257", in: []string{"foo=1", strings.Repeat("z", 257) + "=1"}, rule: ruleTracestateKey, offset: 256},
		{name: "two =", in: []string{"foo=bar=baz"}, rule: ruleTracestateValue, offset: 7},
		{name: "no value", in: []string{"foo=,bar=3"}, rule: ruleTracestateValue, offset: 4},
		{name: "value of spaces", in: []string{"foo=  "}, rule: ruleTracestateValue, offset: 4},
		{name: "value of 257", in: []string{long("foo", 257)}, rule: ruleTracestateValue, offset: 260},
		{name: "value with a tab", in: []string{"foo=a\tb"}, rule: ruleTracestateValue, offset: 5},
		{name: "value not ASCII", in: []string{"foo=é"}, rule: ruleTracestateValue, offset: 4},
		{name: "33 members", in: []string{members(33)}, rule: ruleTracestateMembers, offset: len(members(32)) + 1},
		{name: "33 members over lines", in: []string{members(32), "x=1"}, rule: ruleTracestateMembers, offset: 0},
		{name: "33 members of one key", in: []string{strings.Repeat("a=1,", 33)}, rule: ruleTracestateMembers, offset: 32 * 4},
		{name: "8193 bytes", in: []string{strings.Repeat(",", 8193-5) + "foo=1"}, rule: ruleTracestateLen, offset: 8192},
		{name: "8193 bytes over lines", in: []string{strings.Repeat(",", 8187), "foo=1"}, rule: ruleTracestateLen, offset: 4},
		{name: "8193 empty lines", in: make([]string, 8194), rule: ruleTracestateLen, offset: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts, err := ParseTracestate(tt.in...)
			wantFault(t, "ParseTracestate", err, "tracestate", tt.rule, tt.offset)
			if got := ts.String(); got != tt.want {
				t.Errorf("ParseTracestate(%.200q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// TestTracestateTooLong holds the order in which members go: whole ones, those of
// more than 128 bytes, from the end.
func TestTracestateTooLong(t *testing.T) {
	var ts trace.TraceState
	var err error
	value := strings.Repeat("v", 256)
	for i := 31; i >= 0; i-- { // Insert puts in front
		v := value
		if i%8 == 7 {
			v = "short"
		}
		if ts, err = ts.Insert(fmt.Sprintf("k%d", i), strings.Clone(v)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(ts.String()); n > maxTracestateBytes {
		t.Fatalf("the list has %d bytes, of which nothing must go", n)
	}
	if got, want := string(appendTracestate(nil, ts)), ts.String(); got != want {
		t.Errorf("appendTracestate of %d bytes = %d bytes, want all", len(want), len(got))
	}

	ts = trace.TraceState{}
	for i := 31; i >= 0; i-- {
		key := fmt.Sprintf("k%d", i) + strings.Repeat("k", 100)
		v := value
		if i%8 == 7 {
			key, v = fmt.Sprintf("k%d", i), "short"
		}
		if ts, err = ts.Insert(key, v); err != nil {
			t.Fatal(err)
		}
	}
	got := string(appendTracestate(nil, ts))
	if len(got) > maxTracestateBytes || len(got) < maxTracestateBytes-400 {
		t.Errorf("appendTracestate has %d bytes, want as many as fit into %d", len(got), maxTracestateBytes)
	}
	if _, err := ParseTracestate(got); err != nil {
		t.Errorf("appendTracestate cannot be read again: %v", err)
	}
	for _, key := range []string{"k7", "k15", "k23", "k31"} {
		if !strings.Contains(got, ","+key+"=short") {
			t.Errorf("appendTracestate lost the short member %s", key)
		}
	}
	if !strings.HasPrefix(got, "k0"+strings.Repeat("k", 100)) || strings.Contains(got, "k30k") {
		t.Errorf("appendTracestate = %.40q…, want the first long members and not the last", got)
	}
}

// TestTracestateLevel2 sends members on that no TraceState can hold, while nobody
// changes the TraceState that stands for them.
func TestTracestateLevel2(t *testing.T) {
	const came = "1st=1 ,foo=2,\tfoo@=3,, a@b@c=4,foo=5"
	const whole = "1st=1,foo=2,foo@=3,a@b@c=4"
	p := mustNew(t, Config{Inject: []Format{TraceContext}, NoRequestID: true})
	ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(headerSet("traceparent", traceparent, "tracestate", came)))
	x := p.Read(otelprop.HeaderCarrier(headerSet("traceparent", traceparent, "tracestate", came)))
	if x.Tracestate != whole || x.SpanContext.TraceState().String() != "foo=2" || x.Err != nil {
		t.Errorf("Read: tracestate %q, TraceState %q, %v, want %q, foo=2", x.Tracestate, x.SpanContext.TraceState(), x.Err, whole)
	}
	for _, tt := range []struct {
		name string
		sc   trace.SpanContext
		want string // "" wants no header
	}{
		{"the caller's span", remote(t, traceHex, spanHex, 1, "foo=2"), whole},
		{"a child", remote(t, traceHex, b3Span, 1, "foo=2").WithRemote(false), whole},
		{"a child with a member of its own", remote(t, traceHex, b3Span, 1, "own=0,foo=2"), "own=0,foo=2"},
		{"a child with another value", remote(t, traceHex, b3Span, 1, "foo=3"), "foo=3"},
		{"a child without", remote(t, traceHex, b3Span, 1, ""), ""},
		{"a new trace", remote(t, b3Trace128, b3Span, 1, "foo=2"), "foo=2"},
	} {
		out := headerSet("tracestate", "stale=1")
		p.Inject(trace.ContextWithSpanContext(ctx, tt.sc), otelprop.HeaderCarrier(out))
		if got := out.Get("tracestate"); got != tt.want {
			t.Errorf("%s: tracestate %q, want %q", tt.name, got, tt.want)
		}
	}

	// Nothing that a TraceState could hold.
	ctx = p.Extract(t.Context(), otelprop.HeaderCarrier(headerSet("traceparent", traceparent, "tracestate", "foo@=1")))
	out := http.Header{}
	p.Inject(ctx, otelprop.HeaderCarrier(out))
	if got := out.Get("tracestate"); got != "foo@=1" {
		t.Errorf("tracestate %q, want foo@=1", got)
	}
	p.Inject(trace.ContextWithSpanContext(ctx, remote(t, b3Trace128, b3Span, 1, "")), otelprop.HeaderCarrier(out))
	if got, ok := out["Tracestate"]; ok {
		t.Errorf("a new trace has tracestate %q", got)
	}

	// A traceparent that loses has no say.
	x = mustNew(t, Config{Extract: []Format{B3, TraceContext}}).Read(otelprop.HeaderCarrier(headerSet("b3", b3, "traceparent", traceparent, "tracestate", came)))
	if x.Tracestate != "" || x.Format != B3 {
		t.Errorf("behind b3: %+v", x)
	}
}

// TestInsertTracestate: what is inserted one by one is what OpenTelemetry's parser makes
// of the whole.
func TestInsertTracestate(t *testing.T) {
	for _, list := range []string{
		"", "a=1", "a=1,b=2", "a=1,b=2,c=3", "t@s=1,b=2", " a=1 ,\tb=2\t", ",", "a=1,", ",a=1", "a=1,,b=2", "a= 1", "a=1 2",
		"a=1,a=2", "a=1,b=2,a=3", "a", "a=1,b", "=1", "a=", "a= ", "a =1", "a=1=2", "a=1,b==", "1a=1", "A=1", "a@b@c=1", " ", "a=1, ,b=2", "a=\t1",
	} {
		want, err := trace.ParseTraceState(list)
		if got, ok := insertTracestate(list); ok != (err == nil) || got.String() != want.String() {
			t.Errorf("insertTracestate(%q) = %q, %v, want %q, %v", list, got, ok, want, err)
		}
	}
}
