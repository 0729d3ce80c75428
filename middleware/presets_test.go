package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/meshtrace/meshtrace/middleware"
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
	if a, b := middleware.Envoy(), middleware.Envoy(); a.Edge == b.Edge {
		t.Error("two presets share their Edge")
	}
}
