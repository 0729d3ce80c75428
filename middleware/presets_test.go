package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

func TestPresets(t *testing.T) {
	clientID := http.Header{"X-Client-Trace-Id": {"x"}, "X-Request-Id": {"00001387-6f55-44ba-ad80-413f09f48a28"}} // number 4999
	foreign := http.Header{"X-Request-Id": {"my-request-id"}}
	broken := http.Header{"Traceparent": {"00-zz"}}
	for _, tt := range []struct {
		rule   string
		preset middleware.Config
		random sampler.Fraction // in the preset's place, unless unset
		header http.Header
		spans  int
	}{
		{"D-21 Envoy", middleware.Envoy(), sampler.Fraction{}, nil, 1},
		{"D-3 Envoy", middleware.Envoy(), sampler.Fraction{}, foreign, 0},
		{"W-6 Envoy", middleware.Envoy(), sampler.Fraction{}, broken, 0},
		{"D-7 Envoy", middleware.Envoy(), sampler.Percent(0), clientID, 1},
		{"EG-1", middleware.EnvoyGateway(), sampler.Percent(0), clientID, 0},
		{"GL-1", middleware.Gloo(), sampler.Fraction{}, nil, 1},
		{"IS-3", middleware.Istio(), sampler.Fraction{}, http.Header{"X-Request-Id": {"00001387-6f55-44ba-ad80-413f09f48a28"}}, 0},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			if tt.random != (sampler.Fraction{}) {
				tt.preset.Sampling.Random = tt.random
			}
			if tt.rule == "IS-3" {
				tt.preset.Edge.Inner = true // so that the id stays
			}
			tracing, rec := setup(t, tt.preset)
			r := httptest.NewRequest("GET", "/", nil)
			for k, v := range tt.header {
				r.Header[k] = v
			}
			tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
			if n := len(rec.Ended()); n != tt.spans {
				t.Errorf("%d spans, want %d", n, tt.spans)
			}
		})
	}
	for _, tt := range []struct {
		rule   string
		preset middleware.Config
		target string
		header http.Header
		want   func(*testing.T, sdktrace.ReadOnlySpan, http.Header)
	}{
		{"RID-3 any id", middleware.Envoy(), "/", http.Header{"X-Request-Id": {"125a4afb a"}}, func(t *testing.T, _ sdktrace.ReadOnlySpan, sent http.Header) {
			if got := sent.Get("X-Request-Id"); got != "125a4afb a" {
				t.Errorf("x-request-id = %q", got)
			}
		}},
		{"D-26 no health checks", middleware.Envoy(), "/healthz", nil, func(*testing.T, sdktrace.ReadOnlySpan, http.Header) {}},
		{"IS-2", middleware.Istio(), "/", nil, func(t *testing.T, s sdktrace.ReadOnlySpan, _ http.Header) {
			if s.Name() != "egress example.com" || s.SpanKind() != trace.SpanKindServer {
				t.Errorf("span %q, %v", s.Name(), s.SpanKind())
			}
		}},
		{"IS-5", middleware.WithZipkin(middleware.Istio(), middleware.Zipkin{NotShared: true, TraceID128: true}), "/", nil, func(t *testing.T, s sdktrace.ReadOnlySpan, sent http.Header) {
			if id := sent.Get("X-B3-Traceid"); len(id) != 32 || id != s.SpanContext().TraceID().String() {
				t.Errorf("x-b3-traceid = %q of span %s", id, s.SpanContext().TraceID())
			}
		}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			tt.preset.Sampling.Random = sampler.Fraction{}
			tt.preset.SpawnUpstreamSpan = tt.preset.Direction == middleware.Egress
			tracing, rec := setup(t, tt.preset)
			sent := http.Header{}
			r := httptest.NewRequest("GET", tt.target, nil)
			for k, v := range tt.header {
				r.Header[k] = v
			}
			tracing.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				tracing.Propagator().Inject(r.Context(), otelprop.HeaderCarrier(sent))
			})).ServeHTTP(httptest.NewRecorder(), r)
			if len(rec.Ended()) != 1 {
				t.Fatalf("%d spans, want 1", len(rec.Ended()))
			}
			tt.want(t, rec.Ended()[0], sent)
		})
	}
	if a, b := middleware.Envoy(), middleware.Envoy(); a.Edge == b.Edge {
		t.Error("two presets share their Edge")
	}
}

// EG-9: what a request id serves for is one setting, wherever it stands.
func TestOneUse(t *testing.T) {
	for _, tt := range []struct {
		id, sampling requestid.Use
		digit        byte // of the id that goes on, which came with a 7
		err          bool
	}{
		{requestid.PackAndSample, requestid.PackAndSample, '9', false},
		{requestid.Sample, requestid.PackAndSample, '7', false},
		{requestid.PackAndSample, requestid.Sample, '7', false},
		{requestid.Ignore, requestid.Ignore, '7', false},
		{requestid.Pack, requestid.Sample, 0, true},
	} {
		cfg := middleware.Config{RequestID: requestid.Policy{Use: tt.id}, Sampling: sampler.Config{Use: tt.sampling}, Getenv: noExport}
		if _, err := middleware.Setup(t.Context(), cfg); (err != nil) != tt.err || tt.err && !strings.Contains(err.Error(), "Sampling.Use") {
			t.Errorf("Setup with %v and %v = %v, want an error: %v", tt.id, tt.sampling, err, tt.err)
		}
		if tt.err {
			continue
		}
		tracing, _ := setup(t, cfg)
		_, call := tracing.StartServer(t.Context(), middleware.Incoming{Carrier: otelprop.MapCarrier{"x-request-id": "01890a5d-ac96-774b-bcce-b302099a8057"}})
		if got := call.RequestID()[14]; got != tt.digit {
			t.Errorf("digit with %v and %v = %c, want %c", tt.id, tt.sampling, got, tt.digit)
		}
	}
}

// EG-2, IS-4: two spans a request, where GL-1 and a sidecar have one.
func TestPresetSpans(t *testing.T) {
	sidecar := middleware.Istio()
	sidecar.SpawnUpstreamSpan, sidecar.Direction = false, middleware.Ingress
	for _, tt := range []struct {
		rule   string
		preset middleware.Config
		kinds  []trace.SpanKind
	}{
		{"EG-2", middleware.EnvoyGateway(), []trace.SpanKind{trace.SpanKindClient, trace.SpanKindServer}},
		{"IS-4", middleware.Istio(), []trace.SpanKind{trace.SpanKindClient, trace.SpanKindServer}},
		{"IS-4 sidecar", sidecar, []trace.SpanKind{trace.SpanKindServer}},
		{"GL-1", middleware.Gloo(), []trace.SpanKind{trace.SpanKindServer}},
	} {
		tt.preset.Sampling.Random = sampler.Fraction{}
		spans, sent := relay(t, tt.preset, nil)
		var kinds []trace.SpanKind
		for _, s := range spans {
			kinds = append(kinds, s.SpanKind())
		}
		if !slices.Equal(kinds, tt.kinds) {
			t.Errorf("%s: spans %v, want %v", tt.rule, kinds, tt.kinds)
		} else if sc := spans[0].SpanContext(); !strings.Contains(sent.Get("Traceparent"), sc.SpanID().String()) {
			t.Errorf("%s: traceparent %q, want the first span's, %s (T-21)", tt.rule, sent.Get("Traceparent"), sc.SpanID())
		}
	}
}

// EG-7, GL-3: a route with a tracing block of its own is traced whole, whatever the
// listener says; its client share is Envoy Gateway's 0, or Gloo's 100 %.
func TestPresetRoutes(t *testing.T) {
	shares := middleware.EnvoyGatewayRoute()
	for _, tt := range []struct {
		rule   string
		preset middleware.Config
		route  sampler.Shares
		reason requestid.Reason
	}{
		{"EG-7", middleware.EnvoyGateway(), shares, requestid.Sampling},
		{"GL-3", middleware.Gloo(), sampler.Shares{}, requestid.ClientForced},
	} {
		tt.preset.Sampling.Random = sampler.Percent(0)
		d := sampler.Decide(sampler.Request{ID: "00001387-6f55-44ba-ad80-413f09f48a28", Client: true, Shares: &tt.route}, tt.preset.Sampling)
		if !d.Traced || d.Reason != tt.reason {
			t.Errorf("%s: %+v, want traced for %v", tt.rule, d, tt.reason)
		}
	}
}

// IS-7, W-11: disableContextPropagation is an empty list; what came goes on.
func TestNoContextPropagation(t *testing.T) {
	cfg := middleware.Istio()
	cfg.Sampling.Random = sampler.Fraction{}
	cfg.Propagation.Inject = []propagation.Format{}
	in := http.Header{"Traceparent": {"00-" + callersTrace + "-" + callersSpan + "-01"}, "Tracestate": {"a=1"}}
	spans, sent := relay(t, cfg, in)
	if len(spans) != 2 || !slices.Equal(sent["Traceparent"], in["Traceparent"]) || !slices.Equal(sent["Tracestate"], in["Tracestate"]) {
		t.Errorf("%d spans, traceparent %q, tracestate %q, want two and what came", len(spans), sent["Traceparent"], sent["Tracestate"])
	}
	if _, sent := relay(t, cfg, nil); sent["Traceparent"] != nil {
		t.Errorf("traceparent %q, want none", sent["Traceparent"])
	}
}

// P-3, P-4: what no tracer here reads passes through a gateway as it came.
func TestOtherVendorsPass(t *testing.T) {
	in := http.Header{
		"X-Datadog-Trace-Id": {"1"}, "X-Datadog-Parent-Id": {"2"}, "X-Datadog-Sampling-Priority": {"1"}, "Sw8": {"1-x"},
		"X-Amzn-Trace-Id": {"Root=1-5759e988-bd862e3fe1be46a994272793"}, "Baggage": {"a=1", "not a member"}, "Uber-Trace-Id": {"1:2:0:1"},
		"X-Ot-Span-Context": {"a"}, "Ot-Tracer-Traceid": {"1"}, "Jaeger-Debug-Id": {"x"},
	}
	for name, cfg := range map[string]middleware.Config{"OpenTelemetry": middleware.Envoy(), "Zipkin": middleware.EnvoyZipkin()} {
		_, sent := relay(t, cfg, in)
		for h, lines := range in {
			if !slices.Equal(sent[h], lines) {
				t.Errorf("%s: %s = %q, want %q", name, h, sent[h], lines)
			}
		}
	}
}

// ED-12: since nobody is internal by default, x-envoy-force-trace does nothing until
// somebody is.
func TestForceTraceNeedsInternal(t *testing.T) {
	for _, internal := range []bool{false, true} {
		cfg := middleware.EnvoyGateway()
		cfg.Sampling.Random = sampler.Percent(0)
		if internal {
			cfg.Edge.Internal = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // httptest's peer
		}
		spans, sent := relay(t, cfg, http.Header{"X-Envoy-Force-Trace": {"true"}})
		if (len(spans) > 0) != internal || (sent.Get("X-Envoy-Force-Trace") != "") != internal {
			t.Errorf("internal %v: %d spans, x-envoy-force-trace %q upstream", internal, len(spans), sent.Get("X-Envoy-Force-Trace"))
		}
	}
}

// W-10: ids of new traces are random, and none is zero or comes twice.
func TestNewIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		spans, _ := relay(t, middleware.Envoy(), nil)
		sc := spans[0].SpanContext()
		id, span := sc.TraceID(), sc.SpanID()
		if !sc.IsValid() || [8]byte(id[:8]) == [8]byte{} || [8]byte(id[8:]) == span || seen[id.String()] || seen[span.String()] {
			t.Fatalf("ids %s and %s: want three random numbers", id, span)
		}
		seen[id.String()], seen[span.String()] = true, true
	}
}
