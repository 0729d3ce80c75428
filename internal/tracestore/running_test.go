package tracestore

import (
	"context"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestRunning(t *testing.T) {
	r := new(Running)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r))
	tracer := provider.Tracer("t")
	began := time.Unix(1_000_000, 0)
	start := func(name string, kind trace.SpanKind, after int) trace.Span {
		_, sp := tracer.Start(context.Background(), name, trace.WithSpanKind(kind), trace.WithTimestamp(began.Add(time.Duration(after)*time.Second)))
		return sp
	}
	want := func(n int, names ...string) {
		t.Helper()
		list, all := r.Oldest(2)
		if all != n || len(list) != len(names) {
			t.Fatalf("%d calls, %d of them returned, want %d and %q", all, len(list), n, names)
		}
		for i, s := range list {
			if s.Name() != names[i] {
				t.Errorf("call %d is %q, want %q", i, s.Name(), names[i])
			}
		}
	}
	before := start("before", trace.SpanKindServer, 0)
	want(0)
	r.Activate()
	second := start("second", trace.SpanKindClient, 2)
	first := start("first", trace.SpanKindServer, 1)
	third := start("third", trace.SpanKindConsumer, 3)
	inner := start("inner", trace.SpanKindInternal, 0)
	want(3, "first", "second")
	inner.End()
	before.End()
	first.SetName("renamed")
	want(3, "renamed", "second")
	first.End()
	third.End()
	want(1, "second")
	for range 2 * maxRunning {
		start("many", trace.SpanKindServer, 9)
	}
	want(maxRunning, "second", "many")
	if err := provider.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	second.End()
	want(0)
}
