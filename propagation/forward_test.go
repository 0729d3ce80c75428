package propagation

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

func TestForwardConfig(t *testing.T) {
	_, err := New(Config{
		Extract: []Format{TraceContext, OTTrace}, Inject: []Format{Baggage},
		Forward: []string{
			"x-tenant", "", "X Tenant", "x-tenant:", "tén", strings.Repeat("x", 257),
			"Connection", "transfer-encoding", "TE", "Host", "Content-Length", "Proxy-Authorization",
			"Traceparent", "tracestate", "baggage", "ot-tracer-traceid", "Ot-Baggage-Key", "x-request-id", "X-Client-Trace-Id",
		},
	})
	if err == nil {
		t.Fatal("New: no error")
	}
	for i := 1; i < 19; i++ {
		if want := fmt.Sprintf("Config.Forward[%d] is", i); !strings.Contains(err.Error(), want) {
			t.Errorf("New: error %q does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "Forward[0]") || strings.Count(err.Error(), "\n") != 17 {
		t.Errorf("New: %v", err)
	}
	checkSendable(t, "error", strings.ReplaceAll(err.Error(), "\n", " "))

	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("x-%d", i)
	}
	if _, err := New(Config{Forward: many}); err == nil || !strings.Contains(err.Error(), "65 names: allowed are at most 64") {
		t.Errorf("New with 65 names: %v", err)
	}

	// What this Propagator has nothing to do with may travel, and a name counts once.
	p, err := New(Config{Extract: []Format{B3}, Inject: []Format{B3}, NoRequestID: true, Forward: []string{"Tracestate", "tracestate", "x-request-id", "x-envoy-force-trace", "uberctx-a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Fields(), []string{"b3", "tracestate", "x-request-id", "x-envoy-force-trace", "uberctx-a"}; !slices.Equal(got, want) {
		t.Errorf("Fields() = %q, want %q", got, want)
	}
}

func TestForward(t *testing.T) {
	p := mustNew(t, Config{Forward: []string{"x-tenant", "X-Region", "x-other"}})
	for _, tt := range []struct {
		name string
		in   http.Header
		had  http.Header
		want http.Header
		rule string // of the fault, for its header
	}{
		{name: "nothing", in: headerSet("accept", "*/*")},
		{name: "one", in: headerSet("x-tenant", "a", "accept", "*/*"), want: headerSet("x-tenant", "a")},
		{name: "lines", in: headerSet("x-tenant", "a", "x-tenant", "b", "x-region", "é\t1"), want: headerSet("x-tenant", "a", "x-tenant", "b", "x-region", "é\t1")},
		{name: "an empty one", in: headerSet("x-tenant", ""), want: headerSet("x-tenant", "")},
		{name: "what is there stays", in: headerSet("x-tenant", "a", "x-region", "b"), had: headerSet("x-tenant", "mine"), want: headerSet("x-tenant", "mine", "x-region", "b")},
		{name: "a control byte", in: headerSet("x-tenant", "a", "x-region", "b\r\nc"), want: headerSet("x-tenant", "a"), rule: ruleForwardValue},
		{name: "64 lines", in: http.Header{"X-Tenant": slices.Repeat([]string{"a"}, 64)}, want: http.Header{"X-Tenant": slices.Repeat([]string{"a"}, 64)}},
		{name: "65 lines", in: http.Header{"X-Tenant": slices.Repeat([]string{"a"}, 64), "X-Region": {"b"}}, want: http.Header{"X-Tenant": slices.Repeat([]string{"a"}, 64)}, rule: ruleForwardLimits},
		{name: "8,192 bytes", in: headerSet("x-tenant", strings.Repeat("v", 8192-8)), want: headerSet("x-tenant", strings.Repeat("v", 8192-8))},
		{name: "8,193 bytes", in: headerSet("x-tenant", strings.Repeat("v", 8193-8), "x-region", "b"), rule: ruleForwardLimits},
	} {
		x := p.Read(otelprop.HeaderCarrier(tt.in))
		if (x.Err == nil) != (tt.rule == "") || x.Err != nil && !strings.Contains(x.Err.Error(), tt.rule) {
			t.Errorf("%s: error %v, want %q", tt.name, x.Err, tt.rule)
		}
		lower := lowerCarrier{}
		for k, v := range tt.in {
			lower[strings.ToLower(k)] = v
		}
		for _, c := range []otelprop.TextMapCarrier{otelprop.HeaderCarrier(tt.in), lower} {
			ctx := p.Extract(t.Context(), c)
			got := tt.had.Clone()
			if got == nil {
				got = http.Header{}
			}
			want := tt.want
			if want == nil {
				want = http.Header{}
			}
			p.Inject(ctx, otelprop.HeaderCarrier(got))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %T: %v, want %v", tt.name, c, got, want)
			}
			m := otelprop.MapCarrier{}
			p.Inject(ctx, m)
			for k, v := range tt.want {
				if joined := strings.Join(v, ","); tt.had == nil && m[strings.ToLower(k)] != joined {
					t.Errorf("%s: a MapCarrier gets %s: %q, want %q", tt.name, k, m[strings.ToLower(k)], joined)
				}
			}
			if _, ok := m["accept"]; ok {
				t.Errorf("%s: accept travels", tt.name)
			}
		}
	}
}

// TestForwardSharesNothing holds that neither the incoming headers nor those of another
// call change with what is done to an outgoing one.
func TestForwardSharesNothing(t *testing.T) {
	p := mustNew(t, Config{Forward: []string{"x-tenant"}})
	in := headerSet("x-tenant", "a", "x-tenant", "b")
	ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(in))
	in["X-Tenant"][0] = "changed by the handler"
	one, two := http.Header{}, http.Header{}
	p.Inject(ctx, otelprop.HeaderCarrier(one))
	one["X-Tenant"][0] = "changed by a call"
	one.Add("X-Tenant", "c")
	p.Inject(ctx, otelprop.HeaderCarrier(two))
	if want := headerSet("x-tenant", "a", "x-tenant", "b"); !reflect.DeepEqual(two, want) {
		t.Errorf("%v, want %v", two, want)
	}
}

// TestForwardInside holds that a message inside of a request sends its own headers, or
// else those of the request.
func TestForwardInside(t *testing.T) {
	p := mustNew(t, Config{Forward: []string{"x-tenant"}})
	outer := p.Extract(t.Context(), otelprop.HeaderCarrier(headerSet("x-tenant", "outer")))
	for in, want := range map[string]string{"inner": "inner", "": "outer"} {
		h := headerSet("x-request-id", "1")
		if in != "" {
			h.Set("x-tenant", in)
		}
		ctx := p.Extract(outer, otelprop.HeaderCarrier(h))
		if got := reqctx.From(ctx).Forward.Get("x-tenant"); got != want {
			t.Errorf("x-tenant %q, want %q", got, want)
		}
	}
	// Another Propagator, which does not forward it, leaves it.
	out := http.Header{}
	mustNew(t, Config{}).Inject(outer, otelprop.HeaderCarrier(out))
	if len(out) != 0 {
		t.Errorf("a Propagator without Forward sends %v", out)
	}
}
