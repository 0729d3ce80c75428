package tracingtest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/middleware"
)

// New returns a Tracing for t and the spans it makes. cfg is as for middleware.Setup,
// with these differences: spans go to Spans instead of a collector; the environment is
// shut out, unless cfg.Getenv lets it in; a nil Logger says nothing. The zero
// cfg.Sampling traces every request but those whose caller says it is not traced.
//
// With a cfg.TracerProvider, which must be the SDK's or that of another Tracing, Spans has
// what ends there, and so several Tracings can share their spans.
//
// Mistakes in cfg fail t. The Tracing is shut down when t ends; spans stay readable.
func New(t testing.TB, cfg middleware.Config) (*middleware.Tracing, *Spans) {
	t.Helper()
	s := &Spans{more: make(chan struct{})}
	switch provider := cfg.TracerProvider.(type) {
	case nil:
		cfg.Processors = append(slices.Clone(cfg.Processors), (*processor)(s))
	case interface { // the SDK's, or what Tracing.TracerProvider returns
		RegisterSpanProcessor(sdktrace.SpanProcessor)
		UnregisterSpanProcessor(sdktrace.SpanProcessor)
	}:
		provider.RegisterSpanProcessor((*processor)(s))
		t.Cleanup(func() { provider.UnregisterSpanProcessor((*processor)(s)) })
	default:
		t.Fatalf("tracingtest: Config.TracerProvider is a %T: its spans cannot be seen; allowed is nil or a %T", provider, (*sdktrace.TracerProvider)(nil))
	}
	inner := cfg.Getenv
	cfg.Getenv = func(name string) string {
		switch {
		case name == "OTEL_TRACES_EXPORTER":
			return "none"
		case inner != nil:
			return inner(name)
		}
		return ""
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	tracing, err := middleware.Setup(t.Context(), cfg)
	if err != nil {
		t.Fatalf("tracingtest: %v", err)
	}
	t.Cleanup(func() {
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Errorf("tracingtest: Shutdown: %v", err)
		}
	})
	return tracing, s
}

// Spans are the ended spans of a test. It is safe for concurrent use.
type Spans struct {
	mu    sync.Mutex
	ended []sdktrace.ReadOnlySpan
	more  chan struct{} // closed, and replaced, when a span ends
}

// All returns the spans in the order in which they ended.
func (s *Spans) All() tracetest.SpanStubs {
	ended, _ := s.snapshot()
	return tracetest.SpanStubsFromReadOnlySpans(ended)
}

// Reset forgets the spans that ended so far.
func (s *Spans) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = nil
}

// Wait waits until n spans ended, at most 5 seconds; then it fails t.
func (s *Spans) Wait(t testing.TB, n int) {
	t.Helper()
	if ended, ok := s.await(func(ended []sdktrace.ReadOnlySpan) bool { return len(ended) >= n }); !ok {
		t.Fatalf("tracingtest: %d spans ended within %v, want %d:\n%s", len(ended), patience, n, tree(ended))
	}
}

// Named returns the one span of that name, waiting for it as Wait does. None and
// several fail t.
func (s *Spans) Named(t testing.TB, name string) tracetest.SpanStub {
	t.Helper()
	named := func(sp sdktrace.ReadOnlySpan) bool { return sp.Name() == name }
	ended, ok := s.await(func(ended []sdktrace.ReadOnlySpan) bool { return slices.ContainsFunc(ended, named) })
	if !ok {
		t.Fatalf("tracingtest: no span named %q ended within %v; there are:\n%s", name, patience, tree(ended))
	}
	i := slices.IndexFunc(ended, named)
	if slices.ContainsFunc(ended[i+1:], named) {
		t.Fatalf("tracingtest: several spans are named %q, want one:\n%s", name, tree(ended))
	}
	return tracetest.SpanStubFromReadOnlySpan(ended[i])
}

// patience is how long tests wait for spans.
const patience = 5 * time.Second

// await waits until the spans are as enough wants them.
func (s *Spans) await(enough func([]sdktrace.ReadOnlySpan) bool) ([]sdktrace.ReadOnlySpan, bool) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		ended, more := s.snapshot()
		if enough(ended) {
			return ended, true
		}
		select {
		case <-more:
		case <-timeout.C:
			return ended, false
		}
	}
}

func (s *Spans) snapshot() (ended []sdktrace.ReadOnlySpan, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended), s.more
}

// processor is Spans as the SDK sees it, so that users of Spans do not.
type processor Spans

var _ sdktrace.SpanProcessor = (*processor)(nil)

func (p *processor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (p *processor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = append(p.ended, s)
	close(p.more)
	p.more = make(chan struct{})
}

func (p *processor) Shutdown(context.Context) error   { return nil }
func (p *processor) ForceFlush(context.Context) error { return nil }
