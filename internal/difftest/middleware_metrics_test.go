package difftest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// measuring returns a Tracing measured by OpenTelemetry's own SDK.
func measuring(t *testing.T) (*middleware.Tracing, *sdkmetric.ManualReader, *tracetest.SpanRecorder) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	spans := tracetest.NewSpanRecorder()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		MeterProvider: provider,
		Processors:    []sdktrace.SpanProcessor{spans},
		Logger:        slog.New(slog.DiscardHandler),
		Getenv: func(name string) string {
			return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tracing, reader, spans
}

// histogram returns what the SDK aggregated of one instrument.
func histogram(t *testing.T, reader *sdkmetric.ManualReader, name string) metricdata.Histogram[float64] {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Name != name {
				continue
			}
			if m.Unit != "s" {
				t.Errorf("%s is in %q, want s", name, m.Unit)
			}
			h, ok := m.Data.(metricdata.Histogram[float64])
			if !ok {
				t.Fatalf("%s is a %T, want a histogram", name, m.Data)
			}
			return h
		}
	}
	t.Fatalf("the SDK has no %s", name)
	return metricdata.Histogram[float64]{}
}

// TestMetricExemplars: a measurement leads to its span.
func TestMetricExemplars(t *testing.T) {
	tracing, reader, spans := measuring(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/u/{id}", func(http.ResponseWriter, *http.Request) {})
	srv := httptest.NewServer(tracing.Handler(mux))
	defer srv.Close()
	client := srv.Client()
	client.Transport = tracing.Transport(client.Transport)
	resp, err := client.Get(srv.URL + "/u/7")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	srv.Close() // waits for the handler
	for _, s := range spans.Ended() {
		h := histogram(t, reader, "http."+s.SpanKind().String()+".request.duration")
		if len(h.DataPoints) != 1 || h.DataPoints[0].Count != 1 || len(h.DataPoints[0].Bounds) != 14 {
			t.Fatalf("%v: %+v, want one measurement in 15 buckets", s.SpanKind(), h.DataPoints)
		}
		exemplars := h.DataPoints[0].Exemplars
		id, trace := s.SpanContext().SpanID(), s.SpanContext().TraceID()
		if len(exemplars) != 1 || string(exemplars[0].SpanID) != string(id[:]) || string(exemplars[0].TraceID) != string(trace[:]) {
			t.Errorf("%v: exemplars %+v, want one of span %v", s.SpanKind(), exemplars, id)
		}
		// The measurement is the span's own time, but for the moments around it.
		if took, sum := s.EndTime().Sub(s.StartTime()).Seconds(), h.DataPoints[0].Sum; sum <= 0 || sum > took {
			t.Errorf("%v: %v s measured, the span took %v s", s.SpanKind(), sum, took)
		}
	}
}

// TestMetricCardinality: the SDK's series stay few whatever strangers send, so that
// its overflow series, in which all further ones are lost, never begins.
func TestMetricCardinality(t *testing.T) {
	tracing, reader, spans := measuring(t)
	h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span.SetRoute(r.Context(), r.URL.Path) // the mistake of a program
	}))
	for i := range 20_000 {
		r := httptest.NewRequest("GET", fmt.Sprintf("/p%d", i), nil)
		r.Method, r.Host = fmt.Sprint("M", i), fmt.Sprintf("h%d.example", i)
		r.Header.Set("X-Request-Id", fmt.Sprint("id-", i))
		h.ServeHTTP(httptest.NewRecorder(), r)
		if i%1000 == 0 {
			spans.Reset()
		}
	}
	points := histogram(t, reader, "http.server.request.duration").DataPoints
	var count uint64
	for _, p := range points {
		count += p.Count
		if p.Attributes.HasValue("otel.metric.overflow") {
			t.Error("the SDK's overflow series began")
		}
	}
	if len(points) > 1001 || count != 20_000 {
		t.Errorf("%d series of %d measurements, want at most 1001 of 20,000", len(points), count)
	}
}
