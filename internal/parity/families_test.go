package parity_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// The recorded answers are a part of all combinations of what they are made of. These
// tests run every combination, with what the rules say of each.

const (
	familyTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	familySpan   = "00f067aa0ba902b7"
	familyParent = "0020000000000001"
	familyID     = "125a4afb-6f55-44ba-ad80-413f09f48a28"
)

// upstreamOf sends c and returns the headers of the one request that reached the
// upstream, and the exported spans by kind.
func upstreamOf(t *testing.T, c parity.Case) (map[string][]string, map[trace.SpanKind]int) {
	t.Helper()
	a, err := send(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.attempts) != 1 {
		t.Fatalf("%d requests reached the upstream, want 1", len(a.attempts))
	}
	return a.attempts[0].headers, kinds(a)
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// W-12 to W-17: every sampler, parent, decision of Envoy's, with and without a child.
func TestFamilySampling(t *testing.T) {
	always := &parity.Sampler{Type: "always_on"}
	never := &parity.Sampler{Type: "trace_id_ratio", Numerator: 0}
	parentBased := func(root *parity.Sampler) *parity.Sampler { return &parity.Sampler{Type: "parent_based", Root: root} }
	constant := func(b bool) func(*bool) bool { return func(*bool) bool { return b } }
	flagOr := func(root bool) func(*bool) bool {
		return func(parent *bool) bool {
			if parent != nil {
				return *parent
			}
			return root
		}
	}
	for _, s := range []struct {
		name    string
		sampler *parity.Sampler
		says    func(parent *bool) bool // nil: there is none
		drops   bool                    // the tracestate
	}{
		{"none", nil, nil, false},
		{"always_on", always, constant(true), false},
		{"parent_based", parentBased(always), flagOr(true), false},
		{"parent_based_off", parentBased(never), flagOr(false), false},
		{"ratio_0", never, constant(false), false},
		{"ratio_100", &parity.Sampler{Type: "trace_id_ratio", Numerator: 100}, constant(true), false},
		{"cel_true", &parity.Sampler{Type: "cel", Answer: true}, constant(true), false},
		{"cel_false", &parity.Sampler{Type: "cel"}, constant(false), true},
	} {
		for _, parent := range []*bool{nil, new(false), new(true)} {
			for _, envoy := range []bool{true, false} {
				for _, spawn := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s/%s/%v/%v", s.name, tri(parent), envoy, spawn), func(t *testing.T) {
						c := parity.Case{
							Config:  parity.Proxy{Tracer: "opentelemetry", SpawnUpstreamSpan: spawn, Sampler: s.sampler},
							Request: parity.Request{Headers: []parity.Field{{"x-request-id", familyID}}},
						}
						if !envoy {
							c.Config.RandomSampling = new(0.0)
						}
						state := ""
						if parent != nil {
							c.Request.Headers = append(c.Request.Headers, parity.Field{"traceparent", "00-" + familyTrace + "-" + familySpan + "-0" + digit(*parent)}, parity.Field{"tracestate", "a=1"})
							state = "a=1"
						}
						server := envoy // W-12
						switch {
						case s.says != nil:
							server = s.says(parent) && envoy // W-14
						case parent != nil:
							server = *parent && envoy // W-13, W-14
						}
						child := server
						if s.says != nil {
							child = s.says(&server) // W-16
						}
						if s.drops {
							state = "" // W-17
						}
						sent := server
						want := map[trace.SpanKind]int{}
						if server {
							want[trace.SpanKindServer] = 1
						}
						if spawn {
							sent = child
							if child {
								want[trace.SpanKindClient] = 1
							}
						}

						h, got := upstreamOf(t, c)
						if fmt.Sprint(got) != fmt.Sprint(want) {
							t.Errorf("exported %v, want %v", got, want)
						}
						tp := h["traceparent"]
						if len(tp) != 1 || len(tp[0]) != 55 || tp[0][54:] != digit(sent) || (tp[0][3:35] == familyTrace) != (parent != nil) || tp[0][36:52] == familySpan {
							t.Errorf("traceparent = %q, want flag %s and a span of its own", tp, digit(sent))
						}
						if ts := h["tracestate"]; !slices.Equal(ts, []string{state}) {
							t.Errorf("tracestate = %q, want %q", ts, state)
						}
						if id := h["x-request-id"]; len(id) != 1 || (id[0][14] == '9') != envoy {
							t.Errorf("x-request-id = %q, want the digit of Envoy's own decision, %v", id, envoy)
						}
					})
				}
			}
		}
	}
}

// W-5, W-6, W-9: every shape of tracestate, beside every kind of traceparent.
func TestFamilyTracestate(t *testing.T) {
	for _, lines := range [][]string{nil, {""}, {"a=1"}, {"a=1", "b=2"}, {"", "b=2"}, {"a=1", ""}, {"", ""}, {"a=1", "", "c=3"}, {"no member"}, {"a=1,a=2"}} {
		for _, parent := range []string{"", "bad", "00-" + familyTrace + "-" + familySpan + "-01"} {
			for _, spawn := range []bool{false, true} {
				t.Run(fmt.Sprintf("%q/%.3s/%v", lines, parent, spawn), func(t *testing.T) {
					c := parity.Case{Config: parity.Proxy{Tracer: "opentelemetry", SpawnUpstreamSpan: spawn}}
					if parent != "" {
						c.Request.Headers = append(c.Request.Headers, parity.Field{"traceparent", parent})
					}
					for _, l := range lines {
						c.Request.Headers = append(c.Request.Headers, parity.Field{"tracestate", l})
					}
					want := []string{strings.Join(lines, ",")} // W-5, W-9
					switch parent {
					case "bad":
						want = lines // W-6
					case "":
						want = []string{""} // W-5: ignored, W-9: written
					}
					h, _ := upstreamOf(t, c)
					if got := h["tracestate"]; !slices.Equal(got, want) {
						t.Errorf("tracestate = %q, want %q", got, want)
					}
					if parent == "bad" && !slices.Equal(h["traceparent"], []string{"bad"}) {
						t.Errorf("traceparent = %q, want it as it came", h["traceparent"])
					}
				})
			}
		}
	}
}

// B-1, B-2, B-5, B-11 to B-14: every context, direction and setting of the Zipkin tracer.
func TestFamilyZipkin(t *testing.T) {
	const b3 = familyTrace + "-" + familySpan
	multi := func(sampled, parent string) []parity.Field {
		f := []parity.Field{{"x-b3-traceid", familyTrace}, {"x-b3-spanid", familySpan}}
		if sampled != "" {
			f = append(f, parity.Field{"x-b3-sampled", sampled})
		}
		if parent != "" {
			f = append(f, parity.Field{"x-b3-parentspanid", parent})
		}
		return f
	}
	for _, in := range []struct {
		name    string
		headers []parity.Field
		context bool
		parent  string
		single  bool
		flag    *bool // nil: Envoy's decision counts
	}{
		{"root", nil, false, "", false, nil},
		{"b3 alone 0", []parity.Field{{"b3", "0"}}, false, "", true, new(false)},
		{"b3 alone 1", []parity.Field{{"b3", "1"}}, false, "", true, new(true)},
		{"b3 alone d", []parity.Field{{"b3", "d"}}, false, "", true, new(true)},
		{"sampled alone 0", []parity.Field{{"x-b3-sampled", "0"}}, false, "", false, new(false)},
		{"sampled alone 1", []parity.Field{{"x-b3-sampled", "1"}}, false, "", false, new(true)},
		{"b3 undecided", []parity.Field{{"b3", b3}}, true, "", true, nil},
		{"b3 0", []parity.Field{{"b3", b3 + "-0"}}, true, "", true, new(false)},
		{"b3 with parent", []parity.Field{{"b3", b3 + "-1-" + familyParent}}, true, familyParent, true, new(true)},
		{"b3 debug", []parity.Field{{"b3", b3 + "-d"}}, true, "", true, new(true)},
		{"multi undecided", multi("", ""), true, "", false, nil},
		{"multi 0", multi("0", familyParent), true, familyParent, false, new(false)},
		{"multi 1", multi("1", familyParent), true, familyParent, false, new(true)},
		{"multi other", multi("TRUE", ""), true, "", false, new(false)},
	} {
		for bits := range 32 {
			shared, egress, spawn, envoy, wide := bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0, bits&16 != 0
			t.Run(fmt.Sprintf("%s/%05b", in.name, bits), func(t *testing.T) {
				c := parity.Case{
					Config:  parity.Proxy{Tracer: "zipkin", SpawnUpstreamSpan: spawn, Zipkin: parity.ZipkinTracer{SharedSpanContext: &shared, TraceID128Bit: wide}},
					Request: parity.Request{Headers: append([]parity.Field{{"x-request-id", familyID}}, in.headers...)},
				}
				if egress {
					c.Config.Direction = "egress"
				}
				if !envoy {
					c.Config.RandomSampling = new(0.0)
				}
				sampled := envoy
				if in.flag != nil {
					sampled = *in.flag // B-5
				}
				h, got := upstreamOf(t, c)
				one := func(name string) string {
					if len(h[name]) > 1 {
						t.Fatalf("%s = %q", name, h[name])
					}
					return strings.Join(h[name], "")
				}
				id, span, state, parent := one("x-b3-traceid"), one("x-b3-spanid"), one("x-b3-sampled"), one("x-b3-parentspanid")
				if in.single { // B-13
					if id+span+state+parent != "" {
						t.Errorf("x-b3-* beside b3: %v", h)
					}
					parts := append(strings.Split(one("b3"), "-"), "", "", "")
					id, span, state, parent = parts[0], parts[1], parts[2], parts[3]
				} else if one("b3") != "" {
					t.Errorf("b3 = %q beside x-b3-*", h["b3"])
				}
				if state != digit(sampled) {
					t.Errorf("state %q went out, want %s", state, digit(sampled))
				}
				want := map[trace.SpanKind]int{}
				if sampled {
					want[trace.SpanKindServer] = 1
					if egress && !spawn {
						want = map[trace.SpanKind]int{trace.SpanKindClient: 1}
					}
					if spawn {
						want[trace.SpanKindClient]++
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("exported %v, want %v", got, want)
				}
				client := egress && !spawn
				switch {
				case !in.context: // B-12
					low := id[max(0, len(id)-16):]
					if len(id) != map[bool]int{false: 16, true: 32}[wide] || (span == low) != !spawn || parent != map[bool]string{false: "", true: low}[spawn] {
						t.Errorf("new trace %s, span %s below %q", id, span, parent)
					}
				case id != familyTrace:
					t.Errorf("trace %s, want the caller's", id)
				case shared && !client && !spawn: // B-11
					if span != familySpan || parent != in.parent {
						t.Errorf("span %s below %q, want the caller's", span, parent)
					}
				case shared && !client, !spawn: // one span below the caller's
					if span == familySpan || parent != familySpan {
						t.Errorf("span %s below %q, want a new one below the caller's", span, parent)
					}
				case span == familySpan || parent == familySpan || parent == "" || parent == span:
					t.Errorf("span %s below %q, want one below a new one", span, parent)
				}
			})
		}
	}
}

// B-15: every B3 beside every traceparent.
func TestFamilyDual(t *testing.T) {
	const (
		w3cTrace, w3cSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
		b3Trace, b3Span   = "463ac35c9f6413ad", "a2fb4a1d1a96d312"
	)
	type flag = *bool
	for _, b3 := range []struct {
		name    string
		headers []parity.Field
		context bool // it names a span
		wins    bool // over traceparent
		single  bool
		broken  bool
		flag    flag
	}{
		{"none", nil, false, false, false, false, nil},
		{"b3", []parity.Field{{"b3", b3Trace + "-" + b3Span + "-1"}}, true, true, true, false, new(true)},
		{"b3 0 with ids", []parity.Field{{"b3", b3Trace + "-" + b3Span + "-0"}}, true, true, true, false, new(false)},
		{"b3 0", []parity.Field{{"b3", "0"}}, false, true, true, false, new(false)},
		{"b3 1", []parity.Field{{"b3", "1"}}, false, true, true, false, new(true)},
		{"b3 broken", []parity.Field{{"b3", "x"}}, false, true, true, true, nil},
		{"b3 empty", []parity.Field{{"b3", ""}}, false, true, true, true, nil},
		{"x-b3-*", []parity.Field{{"x-b3-traceid", b3Trace}, {"x-b3-spanid", b3Span}, {"x-b3-sampled", "0"}}, true, true, false, false, new(false)},
		{"x-b3-* broken", []parity.Field{{"x-b3-traceid", "xyz"}, {"x-b3-spanid", b3Span}}, false, true, false, true, nil},
		{"bare x-b3-sampled", []parity.Field{{"x-b3-sampled", "0"}}, false, false, false, false, new(false)},
		{"lone x-b3-traceid", []parity.Field{{"x-b3-traceid", b3Trace}}, false, false, false, false, nil},
	} {
		for _, w3c := range []string{"", "bad", "00-" + w3cTrace + "-" + w3cSpan + "-00", "00-" + w3cTrace + "-" + w3cSpan + "-01"} {
			t.Run(fmt.Sprintf("%s/%.4s%s", b3.name, w3c, w3c[max(0, len(w3c)-2):]), func(t *testing.T) {
				c := parity.Case{
					Config:  parity.Proxy{Tracer: "zipkin", Zipkin: parity.ZipkinTracer{TraceContextOption: "USE_B3_WITH_W3C_PROPAGATION"}},
					Request: parity.Request{Headers: slices.Clone(b3.headers)},
				}
				if w3c != "" {
					c.Request.Headers = append(c.Request.Headers, parity.Field{"traceparent", w3c}, parity.Field{"tracestate", "a=1"})
				}
				h, got := upstreamOf(t, c)
				if w3c != "" && !slices.Equal(h["tracestate"], []string{"a=1"}) {
					t.Errorf("tracestate = %q, want it as it came", h["tracestate"])
				}
				if b3.broken {
					for _, f := range c.Request.Headers {
						if !slices.Equal(h[f[0]], []string{f[1]}) {
							t.Errorf("%s = %q, want it as it came", f[0], h[f[0]])
						}
					}
					if len(got) > 0 {
						t.Errorf("exported %v, want nothing: a null span", got)
					}
					return
				}
				id, span, sampled := "", "", true // of the span; "" is new
				valid := strings.HasPrefix(w3c, "00-")
				switch {
				case b3.context:
					id, span = b3Trace, b3Span
				case !b3.wins && valid:
					id, span, sampled = w3cTrace, w3cSpan, strings.HasSuffix(w3c, "1")
				}
				if b3.flag != nil && (b3.wins || !valid) {
					sampled = *b3.flag
				}
				if (len(got) == 1) != sampled {
					t.Errorf("exported %v, want sampled: %v", got, sampled)
				}
				tp := strings.Join(h["traceparent"], ";")
				if len(tp) != 55 {
					t.Fatalf("traceparent = %q", tp)
				}
				gotID, gotSpan := tp[3:35], tp[36:52]
				if id == "" {
					if strings.Trim(gotID[:16], "0") != "" || gotID[16:] != gotSpan || gotSpan == w3cSpan {
						t.Errorf("traceparent = %q, want a new trace of 64 bits", tp)
					}
				} else if strings.TrimPrefix(gotID, strings.Repeat("0", 32-len(id))) != id || gotSpan != span {
					t.Errorf("traceparent = %q, want %s, %s", tp, id, span)
				}
				if tp[54:] != digit(sampled) {
					t.Errorf("traceparent = %q, want flag %s", tp, digit(sampled))
				}
				short := strings.TrimPrefix(gotID, strings.Repeat("0", 16)) // B-14
				if b3.single {
					if want := []string{short + "-" + gotSpan + "-" + digit(sampled)}; !slices.Equal(h["b3"], want) {
						t.Errorf("b3 = %q, want %q", h["b3"], want)
					}
					return
				}
				for name, want := range map[string]string{"x-b3-traceid": short, "x-b3-spanid": gotSpan, "x-b3-sampled": digit(sampled)} {
					if !slices.Equal(h[name], []string{want}) {
						t.Errorf("%s = %q, want %q", name, h[name], want)
					}
				}
			})
		}
	}
}
