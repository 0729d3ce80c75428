package exporter

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// discard is a Sender that accepts everything.
type discard struct{}

func (discard) Send(context.Context, []byte, int) (int, error) { return 0, nil }
func (discard) Close() error                                   { return nil }

func noEnv(string) string { return "" }

// capture hands out the span that a provider ended.
type capture struct{ span sdktrace.ReadOnlySpan }

func (c *capture) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (c *capture) OnEnd(s sdktrace.ReadOnlySpan)                   { c.span = s }
func (c *capture) ForceFlush(context.Context) error                { return nil }
func (c *capture) Shutdown(context.Context) error                  { return nil }

// tenAttributes is a finished span as an HTTP server makes it.
func tenAttributes(tb testing.TB) sdktrace.ReadOnlySpan {
	tb.Helper()
	var c capture
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(&c))
	defer tp.Shutdown(context.Background())
	_, span := tp.Tracer("github.com/meshtrace/meshtrace/exporter").Start(context.Background(), "GET /users/{id}", trace.WithSpanKind(trace.SpanKindServer))
	span.SetAttributes(
		attribute.String("http.request.method", "GET"),
		attribute.String("url.scheme", "http"),
		attribute.String("url.path", "/users/1234567"),
		attribute.String("http.route", "/users/{id}"),
		attribute.Int("http.response.status_code", 200),
		attribute.String("server.address", "shop.example"),
		attribute.Int("server.port", 8080),
		attribute.String("client.address", "10.0.0.17"),
		attribute.String("user_agent.original", "curl/8.5.0"),
		attribute.Bool("app.cached", true),
	)
	span.End()
	return c.span
}

func newBench(tb testing.TB) *Exporter {
	tb.Helper()
	e, err := New(Config{Sender: discard{}, Getenv: noEnv, QueueBytes: 1 << 30, InFlight: 1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
		if st := e.Stats(); !st.Balanced() {
			tb.Errorf("not balanced: %+v", st)
		}
	})
	return e
}

func BenchmarkOnEnd(b *testing.B) {
	s := tenAttributes(b)
	b.Run("one", func(b *testing.B) {
		e := newBench(b)
		b.ReportAllocs()
		for b.Loop() {
			e.OnEnd(s)
		}
	})
	b.Run("contended", func(b *testing.B) {
		e := newBench(b)
		b.ReportAllocs()
		b.SetParallelism(4) // 8 goroutines on 2 processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				e.OnEnd(s)
			}
		})
	})
}

// BenchmarkOnEndLatency reports single calls, as a request sees them.
func BenchmarkOnEndLatency(b *testing.B) {
	s := tenAttributes(b)
	e := newBench(b)
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		start := time.Now()
		e.OnEnd(s)
		if d := time.Since(start); len(took) < cap(took) {
			took = append(took, d)
		}
	}
	clock := make([]time.Duration, 10000)
	for i := range clock {
		start := time.Now()
		clock[i] = time.Since(start)
	}
	slices.Sort(clock)
	b.ReportMetric(float64(clock[len(clock)/2].Nanoseconds()), "clock-ns") // of the others, what looking at the clock takes
	slices.Sort(took)
	at := func(p float64) float64 { return float64(took[int(float64(len(took)-1)*p)].Nanoseconds()) }
	b.ReportMetric(at(0.5), "p50-ns")
	b.ReportMetric(at(0.99), "p99-ns")
	b.ReportMetric(at(0.999), "p99.9-ns")
	b.ReportMetric(at(1), "max-ns")
}
