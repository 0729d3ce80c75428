package bench

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/middleware"
)

var reverse = flag.Bool("reverse", false, "run the libraries of each scenario in the opposite order")

// What a request carries.
const (
	traceHex = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanHex  = "00f067aa0ba902b7"
	// requestID has the digit of a sampled request; the caller's flag counts beside it.
	requestID = "a121e9e1-feae-9136-9e0e-6fac343d56c9"
)

func traceparent(sampled bool) string {
	if sampled {
		return "00-" + traceHex + "-" + spanHex + "-01"
	}
	return "00-" + traceHex + "-" + spanHex + "-00"
}

// flags are the two kinds of request that the tables tell apart.
var flags = []struct {
	name    string
	sampled bool
}{{"sampled", true}, {"unsampled", false}}

// library is one side of a scenario. prepare is called once, and returns what each
// goroutine calls to get its operation.
type library struct {
	name    string
	prepare func(b *testing.B) func() func()
}

// compare runs the libraries of a scenario one after the other. cpu-ns/op is the time
// that the process worked in all its threads, the garbage collector's among them: unlike
// ns/op it does not count what other programs take of the machine.
func compare(b *testing.B, libraries ...library) {
	if *reverse {
		slices.Reverse(libraries)
	}
	for _, l := range libraries {
		b.Run(l.name, func(b *testing.B) {
			each := l.prepare(b)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			b.RunParallel(func(pb *testing.PB) {
				f := each()
				for pb.Next() {
					f()
				}
			})
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpu returns the time that this process has worked.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// shared is a prepare for an operation that all goroutines may call.
func shared(f func()) func(*testing.B) func() func() {
	return func(*testing.B) func() func() { return func() func() { return f } }
}

// usual are headers that a request has besides those of tracing.
func usual(pairs ...string) http.Header {
	h := http.Header{
		"Accept": {"*/*"}, "User-Agent": {"curl/8"}, "X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Proto": {"https"},
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// drop is a span processor that costs nothing: what is measured is the span, and what
// becomes of it is BenchmarkExport's.
type drop struct{}

func (drop) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (drop) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (drop) Shutdown(context.Context) error                  { return nil }
func (drop) ForceFlush(context.Context) error                { return nil }

// tracing returns meshtrace as a service has it, but for the exporter.
func tracing(b *testing.B) *middleware.Tracing {
	b.Helper()
	t, err := middleware.Setup(b.Context(), middleware.Config{
		Service:      "bench",
		HealthChecks: []string{}, // gRPC's health service stands for a service
		Logger:       slog.New(slog.DiscardHandler),
		Processors:   []sdktrace.SpanProcessor{drop{}},
		Getenv: func(name string) string {
			if name == "OTEL_TRACES_EXPORTER" {
				return "none"
			}
			return ""
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { t.Shutdown(context.Background()) })
	return t
}

// provider returns the SDK as a program without meshtrace has it, but for the exporter.
func provider(b *testing.B) *sdktrace.TracerProvider {
	b.Helper()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(drop{}))
	b.Cleanup(func() { tp.Shutdown(context.Background()) })
	return tp
}

// stock is what a program without meshtrace reads and writes.
var stock = otelprop.NewCompositeTextMapPropagator(otelprop.TraceContext{}, otelprop.Baggage{})

// concurrently is compare with n goroutines, each with its own operation under way.
func concurrently(b *testing.B, n int, libraries ...library) {
	for i := range libraries {
		prepare := libraries[i].prepare
		libraries[i].prepare = func(b *testing.B) func() func() {
			b.SetParallelism(max(1, n/runtime.GOMAXPROCS(0)))
			return prepare(b)
		}
	}
	compare(b, libraries...)
}
