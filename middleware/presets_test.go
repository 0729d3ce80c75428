package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
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
