package middleware_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
)

// fixed is a sampler that always says the same.
type fixed sdktrace.SamplingResult

func (f fixed) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult(f)
}

func (f fixed) Description() string { return "fixed" }

func state(t testing.TB, v string) trace.TraceState {
	t.Helper()
	ts, err := trace.ParseTraceState(v)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// What the program's own sampler says beside yes or no is on the span and goes on,
// whatever became of the request.
func TestBasesAnswer(t *testing.T) {
	in := http.Header{"Traceparent": {"00-" + callersTrace + "-" + callersSpan + "-01"}, "Tracestate": {"a=1"}}
	yes := fixed{Decision: sdktrace.RecordAndSample, Tracestate: state(t, "own=1,a=1"), Attributes: []attribute.KeyValue{attribute.Int("rate", 7)}}
	never := sampler.Percent(0)
	for _, tt := range []struct {
		rule       string
		base       fixed
		random     sampler.Fraction
		spawn      bool
		spans      int
		tracestate string
	}{
		{"the answer's tracestate", yes, sampler.Fraction{}, false, 1, "own=1,a=1"},
		{"W-17 no", fixed{}, sampler.Fraction{}, false, 0, ""},
		{"W-17 no, with a tracestate", fixed{Tracestate: state(t, "own=1")}, sampler.Fraction{}, false, 0, "own=1"},
		{"W-17 held back by the shares", yes, never, false, 0, "own=1,a=1"},
		{"W-16 the child alone", yes, never, true, 1, "own=1,a=1"},
		{"W-16 both", yes, sampler.Fraction{}, true, 2, "own=1,a=1"},
		{"W-16 no", fixed{}, sampler.Fraction{}, true, 0, ""},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			cfg := middleware.Envoy()
			cfg.Sampling.Base, cfg.Sampling.Random = tt.base, tt.random
			cfg.SpawnUpstreamSpan = tt.spawn
			spans, sent := relay(t, cfg, in)
			if got := sent["Tracestate"]; len(spans) != tt.spans || len(got) != 1 || got[0] != tt.tracestate {
				t.Errorf("%d spans, tracestate %q, want %d, %q", len(spans), got, tt.spans, tt.tracestate)
			}
			for _, s := range spans {
				if !has(s, attribute.Int("rate", 7)) {
					t.Errorf("attributes of %s = %v, want Base's among them", s.Name(), s.Attributes())
				}
				if s.SpanKind() == trace.SpanKindClient && s.Parent().TraceID().String() != callersTrace {
					t.Errorf("the child is of trace %s, want the caller's", s.Parent().TraceID())
				}
			}
		})
	}
	t.Run("a service's spans inside follow the request", func(t *testing.T) {
		spans, sent := relay(t, middleware.Config{Sampling: sampler.Config{Base: fixed{}, AskAlways: true}}, in)
		if len(spans) != 0 || sent.Get("Traceparent")[53:] != "00" {
			t.Errorf("%d spans, traceparent %q, want none", len(spans), sent.Get("Traceparent"))
		}
	})
}

// A sampler of the environment's exports no call without the request that it is of.
func TestSamplerOfTheEnvironment(t *testing.T) {
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan, cfg.Sampling.Overall = true, sampler.Percent(0)
	cfg.Getenv = environment(map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always_on"})
	if spans, _ := relay(t, cfg, nil); len(spans) != 0 {
		t.Errorf("%d spans, want none: the shares hold the request back", len(spans))
	}
}

func has(s sdktrace.ReadOnlySpan, kv attribute.KeyValue) bool {
	for _, a := range s.Attributes() {
		if a == kv {
			return true
		}
	}
	return false
}

// D-27: a gateway's decision counts once the caller has response headers.
func TestCounted(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	ask := func(ctx context.Context, method, target string) *http.Request {
		r := httptest.NewRequestWithContext(ctx, method, target, nil)
		r.RequestURI = target
		return r
	}
	checked := middleware.Envoy()
	checked.HealthChecks = nil
	for _, tt := range []struct {
		name    string
		cfg     middleware.Config
		request *http.Request
		handler http.HandlerFunc
		want    map[string]uint64
	}{
		{"headers", middleware.Envoy(), ask(t.Context(), "GET", "/"), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, map[string]uint64{"random_sampling": 1}},
		{"implicit headers", middleware.Envoy(), ask(t.Context(), "GET", "/"), func(http.ResponseWriter, *http.Request) {}, map[string]uint64{"random_sampling": 1}},
		{"an answer in two parts", middleware.Envoy(), ask(t.Context(), "GET", "/"), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.Write([]byte("a"))
			w.Write([]byte("b"))
		}, map[string]uint64{"random_sampling": 1}},
		{"the caller has gone", middleware.Envoy(), ask(gone, "GET", "/"), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, nil},
		{"the caller has gone, and nothing was written", middleware.Envoy(), ask(gone, "GET", "/"), func(http.ResponseWriter, *http.Request) {}, nil},
		{"the answer is cut off before it began", middleware.Envoy(), ask(t.Context(), "GET", "/"), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil},
		{"and after", middleware.Envoy(), ask(t.Context(), "GET", "/"), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			panic(http.ErrAbortHandler)
		}, map[string]uint64{"random_sampling": 1}},
		{"a connection taken over", middleware.Envoy(), ask(t.Context(), "GET", "/"), func(w http.ResponseWriter, _ *http.Request) {
			http.NewResponseController(w).Hijack()
		}, map[string]uint64{"random_sampling": 1}},
		{"health check", checked, ask(t.Context(), "GET", "/healthz"), func(http.ResponseWriter, *http.Request) {}, map[string]uint64{"not_traceable": 1, "health_check": 1}},
		{"O-5 OPTIONS *", middleware.Envoy(), ask(t.Context(), "OPTIONS", "*"), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, map[string]uint64{"not_traceable": 1}},
		{"a service counts when it decides", middleware.Config{}, ask(gone, "GET", "/"), func(http.ResponseWriter, *http.Request) {}, map[string]uint64{"random_sampling": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, rec := setup(t, tt.cfg)
			func() {
				defer func() { recover() }()
				tracing.Handler(tt.handler).ServeHTTP(hijackable{httptest.NewRecorder()}, tt.request)
			}()
			counts := tracing.Sampler().Counts()
			for _, name := range []string{"client_enabled", "random_sampling", "service_forced", "not_traceable", "health_check"} {
				if counts[name] != tt.want[name] {
					t.Errorf("%s = %d, want %d", name, counts[name], tt.want[name])
				}
			}
			if tt.request.RequestURI == "*" && len(rec.Ended()) > 0 {
				t.Error("a refused request has a span")
			}
		})
	}
}

type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }

// D-27 for a transport of the program's own: its answer is what End is told of.
func TestCountedByEnd(t *testing.T) {
	for _, tt := range []struct {
		outcome middleware.Outcome
		want    uint64
	}{
		{middleware.Outcome{HTTPStatus: 200}, 1},
		{middleware.Outcome{GRPCStatus: "5"}, 1},
		{middleware.Outcome{Err: context.Canceled}, 0},
	} {
		tracing, _ := setup(t, middleware.Envoy())
		_, call := tracing.StartServer(t.Context(), middleware.Incoming{Method: "GET", Carrier: otelprop.HeaderCarrier{}})
		call.End(tt.outcome)
		call.End(tt.outcome)
		if got := tracing.Sampler().Counts()["random_sampling"]; got != tt.want {
			t.Errorf("End(%+v) counted %d, want %d", tt.outcome, got, tt.want)
		}
	}
}
