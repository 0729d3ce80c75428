package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
)

// TestSetupResource: the environment wins over the program, name by name.
func TestSetupResource(t *testing.T) {
	tests := []struct {
		name string
		cfg  middleware.Config
		env  map[string]string
		want map[string]string
	}{
		{"code", middleware.Config{Service: "shop", Version: "1.2"}, nil,
			map[string]string{"service.name": "shop", "service.version": "1.2", "telemetry.sdk.language": "go", "telemetry.distro.name": "meshtrace"}},
		{"OTEL_SERVICE_NAME wins", middleware.Config{Service: "shop"},
			map[string]string{"OTEL_SERVICE_NAME": "env", "OTEL_RESOURCE_ATTRIBUTES": "service.name=attr,k8s.pod.name=p%201"},
			map[string]string{"service.name": "env", "k8s.pod.name": "p 1"}},
		{"service.name of the attributes", middleware.Config{Service: "shop"},
			map[string]string{"OTEL_RESOURCE_ATTRIBUTES": " service.name = attr ,"}, map[string]string{"service.name": "attr"}},
		{"a mistake discards the variable", middleware.Config{Service: "shop"},
			map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "a=1,b"}, map[string]string{"service.name": "shop", "a": "-"}},
		{"a bad escape too", middleware.Config{},
			map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "a=1,b=%zz"}, map[string]string{"a": "-"}},
		{"a resource with a schema", middleware.Config{Resource: resource.NewWithAttributes("https://example.test/schema", attribute.String("service.name", "res"), attribute.String("x", "y"))},
			nil, map[string]string{"service.name": "res", "x": "y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"OTEL_TRACES_EXPORTER": "none"}
			for k, v := range tt.env {
				env[k] = v
			}
			tt.cfg.Getenv = environment(env)
			tracing, rec := setup(t, tt.cfg)
			tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			res := one(t, rec).Resource()
			if res.SchemaURL() != "" {
				t.Errorf("schema URL = %q, want none: it would conflict with others", res.SchemaURL())
			}
			for k, w := range tt.want {
				got := "-"
				if v, ok := res.Set().Value(attribute.Key(k)); ok {
					got = v.String()
				}
				if got != w {
					t.Errorf("resource %s = %q, want %q", k, got, w)
				}
			}
		})
	}
}

// TestSetupMistakes: all mistakes of the code at once, each with its field.
func TestSetupMistakes(t *testing.T) {
	_, err := middleware.Setup(context.Background(), middleware.Config{
		Service:      strings.Repeat("x", 256),
		Version:      "\xff",
		HealthChecks: []string{"healthz", "/a*b"},
		Processors:   []sdktrace.SpanProcessor{nil},
		Sampling:     sampler.Config{PerSecond: -1},
		Getenv:       noExport,
	})
	if err == nil {
		t.Fatal("Setup: want an error")
	}
	for _, want := range []string{"Config.Service", "Config.Version", "HealthChecks[0]", "HealthChecks[1]", "Processors[0]", "PerSecond"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

// TestSetupBadVariables: each is reported by name, value and what is allowed, and
// counts as unset.
func TestSetupBadVariables(t *testing.T) {
	tests := []struct{ name, value, allowed string }{
		{"OTEL_SDK_DISABLED", "yes", "true or false"},
		{"OTEL_PROPAGATORS", "tracecontxt", "tracecontext"},
		{"OTEL_TRACES_SAMPLER", "always-off", "always_off"},
		{"OTEL_TRACES_EXPORTER", "zipkin", "console"},
		{"OTEL_TRACES_EXPORTER", "none,otlp", "none stands alone"},
		{"OTEL_RESOURCE_ATTRIBUTES", "nonsense", "key=value"},
		{"OTEL_SERVICE_NAME", strings.Repeat("n", 300), "255"},
		{"OTEL_SPAN_EVENT_COUNT_LIMIT", "-1", "whole number"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon", "grpc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log lockedBuffer
			env := map[string]string{tt.name: tt.value, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
			tracing, err := middleware.Setup(context.Background(), middleware.Config{
				Getenv: environment(env),
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatalf("Setup: %v: a bad variable counts as unset", err)
			}
			defer tracing.Shutdown(context.Background())
			value := tt.value
			if len(value) > 20 {
				value = value[:20]
			}
			for _, want := range []string{tt.name, value, tt.allowed} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("log %q lacks %q", log.String(), want)
				}
			}
		})
	}
}

// TestSetupUnreadableSampler: never everything, never nothing.
func TestSetupUnreadableSampler(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Getenv: environment(map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always-off"})})
	h := tracing.Handler(http.NotFoundHandler())
	for range 200 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if n := len(rec.Ended()); n == 0 || n > 20 {
		t.Errorf("%d of 200 requests traced, want 1 to 20", n)
	}
}

// TestSetupSamplerVariable: the variable wins over what the code says.
func TestSetupSamplerVariable(t *testing.T) {
	for _, tt := range []struct {
		value, parent string
		cfg           sampler.Config
		spans         int
	}{
		{"always_off", traceparent, sampler.Config{}, 0},
		{"parentbased_always_off", traceparent, sampler.Config{}, 1},
		{"parentbased_always_off", "", sampler.Config{}, 0},
		{"always_on", "", sampler.Config{}, 1},
		{"always_on", "", sampler.Config{Random: sampler.Percent(0)}, 1},
		{"parentbased_always_off", traceparent, sampler.Config{Random: sampler.Percent(0)}, 1},
		{"always_on", "", sampler.Config{Base: sdktrace.NeverSample()}, 1},
	} {
		tracing, rec := setup(t, middleware.Config{Sampling: tt.cfg, Getenv: environment(map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": tt.value})})
		r := httptest.NewRequest("GET", "/", nil)
		if tt.parent != "" {
			r.Header.Set("Traceparent", tt.parent)
		}
		tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
		if got := len(rec.Ended()); got != tt.spans {
			t.Errorf("OTEL_TRACES_SAMPLER=%s, parent %q: %d spans, want %d", tt.value, tt.parent, got, tt.spans)
		}
	}
}

func TestSetupPropagatorsVariable(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  []string
	}{
		{"", []string{"Traceparent"}},
		{"b3", []string{"B3"}},
		{"b3multi,tracecontext", []string{"Traceparent", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled"}},
		{"none", nil},
	} {
		tracing, _ := setup(t, middleware.Config{Getenv: environment(map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_PROPAGATORS": tt.value})})
		var got http.Header
		url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
		get(t, traced(tracing, client), url)
		for _, name := range []string{"Traceparent", "B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled"} {
			want := false
			for _, w := range tt.want {
				want = want || w == name
			}
			if _, ok := got[name]; ok != want {
				t.Errorf("OTEL_PROPAGATORS=%s: %s sent: %v, want %v", tt.value, name, ok, want)
			}
		}
	}
}

// TestSetupDisabled: no spans, and what came goes on unchanged.
func TestSetupDisabled(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Getenv: environment(map[string]string{"OTEL_SDK_DISABLED": "TRUE"})})
	var got http.Header
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
	front := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", url, nil)
		if resp, err := traced(tracing, client).Do(req); err == nil {
			resp.Body.Close()
		}
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Traceparent", traceparent)
	r.Header.Set("X-Request-Id", plainID)
	front.ServeHTTP(httptest.NewRecorder(), r)
	if len(rec.Ended()) != 0 {
		t.Errorf("%d spans, want none", len(rec.Ended()))
	}
	if got.Get("Traceparent") != traceparent || got.Get("X-Request-Id") != plainID {
		t.Errorf("upstream got %q and %q, want both as they came", got.Get("Traceparent"), got.Get("X-Request-Id"))
	}
}

// TestSetupDisabledShutdown: processors of the program's are ended all the same.
func TestSetupDisabledShutdown(t *testing.T) {
	e, err := exporter.New(exporter.Config{Sender: acceptAll{}, Getenv: environment(nil)})
	if err != nil {
		t.Fatal(err)
	}
	tracing, _ := setup(t, middleware.Config{
		Processors: []sdktrace.SpanProcessor{e},
		Getenv:     environment(map[string]string{"OTEL_SDK_DISABLED": "true"}),
	})
	if err := tracing.Shutdown(context.Background()); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	if err := e.ForceFlush(context.Background()); !errors.Is(err, exporter.ErrShutdown) {
		t.Errorf("ForceFlush of the exporter after Shutdown = %v, want %v", err, exporter.ErrShutdown)
	}
}

// TestSetupOwnProvider: the caller's provider has the spans, and stays alive.
func TestSetupOwnProvider(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	tracing, _ := setup(t, middleware.Config{TracerProvider: provider})
	h := tracing.Handler(http.NotFoundHandler())
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if err := tracing.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if n := len(rec.Ended()); n != 2 {
		t.Errorf("%d spans, want 2: Shutdown leaves a caller's provider alone", n)
	}
}

func TestSetupGlobals(t *testing.T) {
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	defer func() { otel.SetTracerProvider(provider); otel.SetTextMapPropagator(propagator) }()
	tracing, _ := setup(t, middleware.Config{SetGlobals: true})
	if otel.GetTracerProvider() != tracing.TracerProvider() || otel.GetTextMapPropagator() != tracing.Propagator() {
		t.Error("SetGlobals: provider and propagator are not the global ones")
	}
	_, err := middleware.Setup(context.Background(), middleware.Config{SetGlobals: true, Getenv: noExport})
	if err == nil || !strings.Contains(err.Error(), "Config.TracerProvider") {
		t.Errorf("second Setup with SetGlobals = %v, want an error that names Config.TracerProvider", err)
	}
}

func TestShutdownTwice(t *testing.T) {
	tracing, _ := setup(t, middleware.Config{})
	for range 2 {
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}
