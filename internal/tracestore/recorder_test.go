package tracestore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// decoded is the kept spans.
func decoded(t *testing.T, p *Recorder) []otlpwire.Span {
	t.Helper()
	var spans []otlpwire.Span
	for r := range p.OTLP() {
		s, err := otlpwire.Decode(r)
		if err != nil {
			t.Fatalf("Decode: %v", err)
		}
		spans = append(spans, s...)
	}
	return spans
}

func newProvider(p sdktrace.SpanProcessor) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p),
		sdktrace.WithResource(resource.NewWithAttributes("https://example.org/schema", attribute.String("service.name", "shop"))))
}

func end(tracer trace.Tracer, name string, kv ...attribute.KeyValue) {
	_, sp := tracer.Start(context.Background(), name, trace.WithAttributes(kv...))
	sp.End()
}

func TestRecorder(t *testing.T) {
	p := NewRecorder(1 << 20)
	provider := newProvider(p)
	a, b := provider.Tracer("a", trace.WithInstrumentationVersion("1")), provider.Tracer("b")

	end(a, "before")
	if got := decoded(t, p); len(got) != 0 {
		t.Fatalf("holds %d spans before Activate, want none", len(got))
	}
	p.Activate()
	end(a, "first", attribute.Int("n", 7))
	end(b, "second")
	end(a, "third")
	_, open := a.Start(context.Background(), "open")

	got := decoded(t, p)
	var names []string
	for _, s := range got {
		names = append(names, s.ScopeName+"/"+s.Name)
	}
	if want := "a/first a/third b/second"; strings.Join(names, " ") != want {
		t.Fatalf("holds %v, want %s", names, want)
	}
	if s := got[0]; s.ScopeVersion != "1" || len(s.Attributes) != 1 || s.Attributes[0] != attribute.Int("n", 7) ||
		len(s.Resource.Attributes) != 1 || s.Resource.Attributes[0].Value.AsString() != "shop" {
		t.Errorf("first = %+v with resource %+v", s, s.Resource)
	}
	if err := provider.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	open.End()
	if again := decoded(t, p); len(again) != 3 {
		t.Errorf("holds %d spans after Shutdown, want the 3 from before", len(again))
	}
}

func TestRecorderUnsampled(t *testing.T) {
	p := NewRecorder(1 << 20)
	p.Activate()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(recordOnly{}))
	end(provider.Tracer("a"), "recorded, not sampled")
	if got := decoded(t, p); len(got) != 0 {
		t.Errorf("holds %d unsampled spans, want none", len(got))
	}
}

type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}
func (recordOnly) Description() string { return "record only" }

// TestRecorderBound: the newest spans are held, in order, within the bytes.
func TestRecorderBound(t *testing.T) {
	const bound = 512 << 10
	p := NewRecorder(bound)
	p.Activate()
	tracer := newProvider(p).Tracer("a")
	const n = 20_000
	for i := range n {
		end(tracer, fmt.Sprint(i))
	}
	total := 0
	for r := range p.OTLP() {
		total += len(r) + overhead
	}
	if total > bound || total < bound/2 {
		t.Errorf("holds %d bytes, want at most %d and at least half of it", total, bound)
	}
	got := decoded(t, p)
	for i, s := range got {
		if want := fmt.Sprint(n - len(got) + i); s.Name != want {
			t.Fatalf("span %d of %d is %q, want %q", i, len(got), s.Name, want)
		}
	}
	if p.Evicted() == 0 {
		t.Error("nothing was evicted")
	}
	if p.open.Len() > n/10 || len(p.groups) != 1 {
		t.Errorf("open block of %d spans, %d groups", p.open.Len(), len(p.groups))
	}
}

// TestRecorderLarge: a span larger than a block is kept alone, one larger than all of
// it is not, and neither costs its neighbours.
func TestRecorderLarge(t *testing.T) {
	p := NewRecorder(1 << 20)
	p.Activate()
	tracer := newProvider(p).Tracer("a")
	end(tracer, "small")
	end(tracer, "large", attribute.String("s", strings.Repeat("x", 2*blockBytes)))
	end(tracer, "too large", attribute.String("s", strings.Repeat("x", 2<<20)))
	end(tracer, "last")
	var names []string
	for _, s := range decoded(t, p) {
		names = append(names, s.Name)
	}
	if want := "small large last"; strings.Join(names, " ") != want {
		t.Errorf("holds %q, want %s", names, want)
	}
}

func TestRecorderConcurrent(t *testing.T) {
	p := NewRecorder(8 << 20)
	provider := newProvider(p)
	var wg sync.WaitGroup
	p.Activate()
	for i := range 4 {
		tracer := provider.Tracer(fmt.Sprint(i))
		wg.Go(func() {
			for range 500 {
				end(tracer, "span")
			}
		})
		wg.Go(func() {
			for range 20 {
				decoded(t, p)
			}
		})
	}
	wg.Wait()
	if got := len(decoded(t, p)); got != 2000 {
		t.Errorf("holds %d spans, want 2000", got)
	}
}

// TestRecorderInactive: a processor nobody looks at costs no allocation.
func TestRecorderInactive(t *testing.T) {
	p := NewRecorder(1 << 20)
	_, sp := newProvider(p).Tracer("a").Start(context.Background(), "span")
	ro := sp.(sdktrace.ReadOnlySpan)
	if n := testing.AllocsPerRun(100, func() { p.OnEnd(ro) }); n != 0 {
		t.Errorf("OnEnd before Activate allocates %v times, want 0", n)
	}
}

func BenchmarkOnEnd(b *testing.B) {
	for _, active := range []bool{false, true} {
		b.Run(fmt.Sprintf("active=%v", active), func(b *testing.B) {
			p := NewRecorder(1 << 20)
			if active {
				p.Activate()
			}
			_, sp := newProvider(p).Tracer("a").Start(b.Context(), "span", trace.WithAttributes(
				attribute.String("http.request.method", "GET"), attribute.Int("http.response.status_code", 200)))
			ro := sp.(sdktrace.ReadOnlySpan)
			b.ReportAllocs()
			for b.Loop() {
				p.OnEnd(ro)
			}
		})
	}
}
