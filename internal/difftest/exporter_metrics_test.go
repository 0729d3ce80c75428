package difftest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/semconv/v1.41.0/otelconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
)

// answers is a Sender with one answer.
type answers struct {
	answer atomic.Pointer[exporter.SendError]
}

func (a *answers) Send(context.Context, []byte, int) (int, error) {
	if err := a.answer.Load(); err != nil {
		return 0, err
	}
	return 0, nil
}
func (a *answers) Close() error { return nil }

// points returns what a reader collects, one line a point: name, attributes, value.
func points(t *testing.T, r *sdkmetric.ManualReader) (lines []string) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	add := func(name string, set attribute.Set, value any) {
		var attrs []string
		for _, kv := range set.ToSlice() {
			if kv.Key == "otel.component.name" || kv.Key == "otel.component.type" {
				continue // numbered
			}
			attrs = append(attrs, string(kv.Key)+"="+kv.Value.String())
		}
		lines = append(lines, fmt.Sprintf("%s{%s} %v", name, strings.Join(attrs, ","), value))
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, fmt.Sprint("count ", p.Count))
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// The metrics that an Exporter gives the SDK, by the names of the conventions.
func TestExporterMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	to := &answers{}
	exp, err := exporter.New(exporter.Config{
		Sender: to, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), Delay: time.Hour,
		Getenv: func(name string) string { return map[string]string{"OTEL_BSP_MAX_QUEUE_SIZE": "100"}[name] },
	})
	if err != nil {
		t.Fatal(err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp))
	tracer := tp.Tracer("t")
	remote := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled}))
	end := func(n int) {
		for range n {
			_, s := tracer.Start(t.Context(), "s")
			s.End()
		}
	}
	flush := func(err *exporter.SendError) {
		t.Helper()
		to.answer.Store(err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if got := exp.ForceFlush(ctx); (got != nil) != (err != nil) {
			t.Errorf("ForceFlush = %v", got)
		}
	}
	end(3)
	flush(nil)
	end(2)
	flush(&exporter.SendError{Status: 400, Err: errors.New("bad")})
	ctx, root := tracer.Start(remote, "remote parent")
	_, child := tracer.Start(ctx, "local parent")
	child.End()
	to.answer.Store(nil)
	end(120)                        // the queue takes a hundred
	_ = exp.ForceFlush(t.Context()) // some may be lost
	got := points(t, reader)
	st := exp.Stats()
	want := []string{
		"otel.sdk.exporter.operation.duration{error.type=400,http.response.status_code=400} count 1",
		fmt.Sprintf("otel.sdk.exporter.operation.duration{} count %d", st.Requests-1),
		"otel.sdk.exporter.span.exported{error.type=400} 2",
		fmt.Sprintf("otel.sdk.exporter.span.exported{} %d", st.Delivered),
		"otel.sdk.exporter.span.inflight{} 0",
		"otel.sdk.processor.span.processed{} " + fmt.Sprint(st.Delivered+2),
		"otel.sdk.processor.span.queue.capacity{} 100",
		"otel.sdk.processor.span.queue.size{} 0",
		"otel.sdk.span.live{otel.span.sampling_result=RECORD_AND_SAMPLE} 1",
		"otel.sdk.span.live{otel.span.sampling_result=RECORD_ONLY} 0",
		"otel.sdk.span.started{otel.span.parent.origin=local,otel.span.sampling_result=RECORD_AND_SAMPLE} 1",
		"otel.sdk.span.started{otel.span.parent.origin=local,otel.span.sampling_result=RECORD_ONLY} 0",
		"otel.sdk.span.started{otel.span.parent.origin=none,otel.span.sampling_result=RECORD_AND_SAMPLE} 125",
		"otel.sdk.span.started{otel.span.parent.origin=none,otel.span.sampling_result=RECORD_ONLY} 0",
		"otel.sdk.span.started{otel.span.parent.origin=remote,otel.span.sampling_result=RECORD_AND_SAMPLE} 1",
		"otel.sdk.span.started{otel.span.parent.origin=remote,otel.span.sampling_result=RECORD_ONLY} 0",
	}
	if n := st.Dropped[exporter.DropQueueFull]; n > 0 {
		want = append(want, fmt.Sprintf("otel.sdk.processor.span.processed{error.type=queue_full} %d", n))
	}
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s\n%+v", diff, st)
	}
	names := []string{
		otelconv.SDKExporterOperationDuration{}.Name(), otelconv.SDKExporterSpanExported{}.Name(), otelconv.SDKExporterSpanInflight{}.Name(),
		otelconv.SDKProcessorSpanProcessed{}.Name(), otelconv.SDKProcessorSpanQueueCapacity{}.Name(), otelconv.SDKProcessorSpanQueueSize{}.Name(),
		otelconv.SDKSpanLive{}.Name(), otelconv.SDKSpanStarted{}.Name(),
	}
	for _, line := range got {
		if name, _, _ := strings.Cut(line, "{"); !slices.Contains(names, name) {
			t.Errorf("%s is not of the conventions", name)
		}
	}
	root.End()
	if err := exp.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	tp.Shutdown(t.Context())
	if got := points(t, reader); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "span.live") }) {
		t.Errorf("an Exporter that is shut down still reports: %q", got)
	}
}
