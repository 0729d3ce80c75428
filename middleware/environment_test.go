package middleware_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/middleware"
)

// limited is a span that has three of everything there is a limit for, and why it is
// sampled as its first attribute, as it ends under
// the environment given.
func limited(t *testing.T, name, value string) (sdktrace.ReadOnlySpan, string) {
	t.Helper()
	var log strings.Builder
	rec := tracetest.NewSpanRecorder()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		Processors: []sdktrace.SpanProcessor{rec}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Getenv: environment(map[string]string{"OTEL_TRACES_EXPORTER": "none", name: value}),
	})
	if err != nil {
		t.Fatal(err)
	}
	three := []attribute.KeyValue{attribute.String("a", "abcdef"), attribute.String("b", "b"), attribute.String("c", "c")}
	link := trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}), Attributes: three}
	_, s := tracing.TracerProvider().Tracer("t").Start(t.Context(), "s", trace.WithAttributes(three...), trace.WithLinks(link, link, link))
	for range 3 {
		s.AddEvent("e", trace.WithAttributes(three...))
	}
	s.End()
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	return rec.Ended()[0], log.String()
}

// The limits of spans, variable by variable and value by value: what a span has left,
// and that a value which cannot be used is reported and counts as unset.
func TestEnvironmentLimits(t *testing.T) {
	count := map[string]func(s sdktrace.ReadOnlySpan) int{
		"attributes":          func(s sdktrace.ReadOnlySpan) int { return len(s.Attributes()) },
		"bytes of a value":    func(s sdktrace.ReadOnlySpan) int { return len(s.Attributes()[1].Value.AsString()) },
		"events":              func(s sdktrace.ReadOnlySpan) int { return len(s.Events()) },
		"links":               func(s sdktrace.ReadOnlySpan) int { return len(s.Links()) },
		"attributes of event": func(s sdktrace.ReadOnlySpan) int { return len(s.Events()[0].Attributes) },
		"attributes of link":  func(s sdktrace.ReadOnlySpan) int { return len(s.Links()[0].Attributes) },
	}
	for _, tt := range []struct {
		name, counts string
		unset        int
	}{
		{"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "bytes of a value", 6},
		{"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "bytes of a value", 6},
		{"OTEL_ATTRIBUTE_COUNT_LIMIT", "attributes", 4},
		{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "attributes", 4},
		{"OTEL_SPAN_EVENT_COUNT_LIMIT", "events", 3},
		{"OTEL_SPAN_LINK_COUNT_LIMIT", "links", 3},
		{"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "attributes of event", 3},
		{"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "attributes of link", 3},
	} {
		for _, v := range []struct {
			value  string
			want   int
			report bool
		}{
			{"2", 2, false}, {" 2 ", 2, false}, {"128", tt.unset, false}, {"", tt.unset, false},
			{"-1", tt.unset, true}, {"two", tt.unset, true}, {"1e1", tt.unset, true}, {"99999999999", tt.unset, true},
		} {
			s, log := limited(t, tt.name, v.value)
			if got := count[tt.counts](s); got != v.want {
				t.Errorf("%s=%q: %d %s, want %d", tt.name, v.value, got, tt.counts, v.want)
			}
			if told := strings.Contains(log, tt.name); told != v.report {
				t.Errorf("%s=%q: reported %v, want %v: %s", tt.name, v.value, told, v.report, log)
			}
		}
	}
}

// The spans of calls and those of the program have the same limits, which are read once.
func TestEnvironmentLimitReportedOnce(t *testing.T) {
	const name = "OTEL_SPAN_LINK_COUNT_LIMIT"
	if _, log := limited(t, name, "-1"); strings.Count(log, name) != 1 {
		t.Errorf("%s=-1 is reported %d times, want once: %s", name, strings.Count(log, name), log)
	}
}

// OTEL_TRACES_EXPORTER, value by value: which exporters are set up.
func TestEnvironmentExporters(t *testing.T) {
	for _, tt := range []struct{ value, want string }{
		{"", "otlp (default)"}, {"otlp", "otlp (OTEL_TRACES_EXPORTER)"}, {"OTLP", "otlp (OTEL_TRACES_EXPORTER)"},
		{"console", "console (OTEL_TRACES_EXPORTER)"}, {"none", "none (OTEL_TRACES_EXPORTER)"}, {"otlp/stdout", "otlp/stdout (OTEL_TRACES_EXPORTER)"},
		{"console, otlp ,", "console,otlp (OTEL_TRACES_EXPORTER)"}, {"otlp,otlp/stdout,otlp", "otlp,otlp/stdout (OTEL_TRACES_EXPORTER)"},
		{"zipkin", "otlp (default)"}, {"none,otlp", "otlp (default)"}, {",", "otlp (default)"}, {"otlp,jaeger", "otlp (default)"},
	} {
		var log strings.Builder
		tracing, err := middleware.Setup(t.Context(), middleware.Config{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Export: exporter.Config{Endpoint: "http://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)},
			Getenv: environment(map[string]string{"OTEL_TRACES_EXPORTER": tt.value}),
		})
		if err != nil {
			t.Fatalf("OTEL_TRACES_EXPORTER=%q: %v", tt.value, err)
		}
		if want := fmt.Sprintf("Exporters=%q", tt.want); !strings.Contains(log.String(), want) {
			t.Errorf("OTEL_TRACES_EXPORTER=%q: the log lacks %s: %s", tt.value, want, &log)
		}
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Errorf("OTEL_TRACES_EXPORTER=%q: Shutdown: %v", tt.value, err)
		}
	}
}

// setupVariables are those that Setup reads besides the exporter's.
var setupVariables = []string{
	"OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_LOG_LEVEL", "OTEL_PROPAGATORS", "OTEL_TRACES_SAMPLER",
	"OTEL_TRACES_SAMPLER_ARG", "OTEL_TRACES_EXPORTER", "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "OTEL_SEMCONV_STABILITY_OPT_IN",
	"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
	"OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_BSP_MAX_QUEUE_SIZE",
}

// FuzzEnvironment: whatever stands in whichever variable, Setup neither panics nor fails,
// and a sampler that cannot be read never means "sample everything".
func FuzzEnvironment(f *testing.F) {
	for i := range setupVariables {
		for _, v := range []string{"", "x", "-1", "0", "true", "always-off", "always_off", "traceidratio", "a=b", "a=%zz", "none", "b3,b3", "\x00", "\xff"} {
			f.Add(uint8(i), v, uint8(i+1), "0.5")
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, v string, j uint8, w string) {
		a, b := setupVariables[int(i)%len(setupVariables)], setupVariables[int(j)%len(setupVariables)]
		env := map[string]string{a: v, b: w}
		if _, set := env["OTEL_TRACES_EXPORTER"]; !set {
			env["OTEL_TRACES_EXPORTER"] = "none"
		}
		if strings.Contains(strings.ToLower(env["OTEL_TRACES_EXPORTER"]), "stdout") || strings.Contains(strings.ToLower(env["OTEL_TRACES_EXPORTER"]), "console") {
			return // the terminal's
		}
		rec := tracetest.NewSpanRecorder()
		tracing, err := middleware.Setup(context.Background(), middleware.Config{
			Processors: []sdktrace.SpanProcessor{rec}, Logger: slog.New(slog.DiscardHandler),
			Export: exporter.Config{Endpoint: "http://127.0.0.1:1"}, Getenv: environment(env),
		})
		if err != nil {
			t.Fatalf("%q: %v", env, err)
		}
		const traces = 50
		for range traces {
			_, s := tracing.TracerProvider().Tracer("t").Start(context.Background(), "s")
			s.End()
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = tracing.Shutdown(ctx) // in no time: nobody listens there
		value := strings.TrimSpace(env["OTEL_TRACES_SAMPLER"])
		known := map[string]bool{"": true, "always_on": true, "traceidratio": true, "parentbased_always_on": true, "parentbased_traceidratio": true}
		if n := len(rec.Ended()); n == traces && !known[strings.ToLower(value)] {
			t.Fatalf("OTEL_TRACES_SAMPLER=%q samples everything", value)
		}
	})
}
