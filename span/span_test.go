package span

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

func recorder(opts ...sdktrace.TracerProviderOption) (trace.Tracer, *tracetest.SpanRecorder) {
	rec := tracetest.NewSpanRecorder()
	return sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(rec))...).Tracer("test"), rec
}

func TestStart(t *testing.T) {
	tracer, rec := recorder()
	ctx, parent := tracer.Start(t.Context(), "parent")
	childCtx, child := Start(ctx, "child", trace.WithSpanKind(trace.SpanKindClient))
	if trace.SpanFromContext(childCtx) != child {
		t.Error("the returned context does not hold the span")
	}
	child.End()
	parent.End()
	got := rec.Ended()[0]
	if got.Name() != "child" || got.Parent().SpanID() != parent.SpanContext().SpanID() || got.SpanKind() != trace.SpanKindClient {
		t.Errorf("span %q of kind %v below %v, want child, client, %v", got.Name(), got.SpanKind(), got.Parent().SpanID(), parent.SpanContext().SpanID())
	}
	if got.InstrumentationScope().Name != scopeName {
		t.Errorf("scope = %q, want %q", got.InstrumentationScope().Name, scopeName)
	}
}

func TestStartWithoutProvider(t *testing.T) {
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1, Remote: true})
	for name, ctx := range map[string]context.Context{
		"no span":     t.Context(),
		"remote span": trace.ContextWithRemoteSpanContext(t.Context(), remote),
	} {
		_, sp := Start(ctx, "x")
		if sp.IsRecording() || sp.SpanContext().TraceID() != trace.SpanContextFromContext(ctx).TraceID() {
			t.Errorf("%s: recording %v, span context %v", name, sp.IsRecording(), sp.SpanContext())
		}
		sp.End()
	}
}

// untraced is the span of a request that is not traced: ids alone.
type untraced struct{ noop.Span }

func (*untraced) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
}

func TestStartUntraced(t *testing.T) {
	own := &untraced{}
	ctx := trace.ContextWithSpan(t.Context(), own)
	gotCtx, sp := Start(ctx, "x")
	if gotCtx != ctx || sp != trace.Span(own) {
		t.Errorf("Start = %v, %v, want the request's own", gotCtx, sp)
	}
	if n := testing.AllocsPerRun(100, func() { Start(ctx, "x") }); n != 0 {
		t.Errorf("Start in an untraced request allocates %v times, want 0", n)
	}
}

func TestServerSpan(t *testing.T) {
	tracer, rec := recorder()
	state := &reqctx.State{Context: t.Context()}
	ctx, sp := tracer.Start(state, "server")
	state.Span = sp
	childCtx, child := Start(ctx, "child")

	SetRoute(childCtx, "/a")
	SetRoute(childCtx, "/carts/{id}")
	if got := state.Route(); got != "/carts/{id}" {
		t.Errorf("route = %q, want that of the last call", got)
	}
	SetAttributes(childCtx, attribute.Int("items", 3))
	boom := errors.New("boom")
	SetError(childCtx, boom)
	if got := state.Error(); got != boom {
		t.Errorf("error = %v, want %v", got, boom)
	}
	SetError(childCtx, nil)
	if got := state.Error(); got != nil {
		t.Errorf("error = %v, want it taken back", got)
	}

	child.End()
	sp.End()
	for _, s := range rec.Ended() {
		want := 0
		if s.Name() == "server" {
			want = 1
		}
		if got := len(s.Attributes()); got != want {
			t.Errorf("span %q has %d attributes, want %d", s.Name(), got, want)
		}
	}
}

// TestOutsideRequest: nothing to act on is no failure.
func TestOutsideRequest(t *testing.T) {
	tracer, rec := recorder()
	ctx, sp := tracer.Start(t.Context(), "job")
	for _, ctx := range []context.Context{ctx, &reqctx.State{Context: ctx}} {
		SetRoute(ctx, "/x")
		SetAttributes(ctx, attribute.Bool("x", true))
		SetError(ctx, errors.New("x"))
	}
	sp.End()
	if got := rec.Ended()[0]; len(got.Attributes()) != 0 || got.Name() != "job" {
		t.Errorf("span = %q %v, want it untouched", got.Name(), got.Attributes())
	}
}

func BenchmarkStart(b *testing.B) {
	tracer, _ := recorder(sdktrace.WithSampler(sdktrace.NeverSample()))
	unsampled, _ := tracer.Start(b.Context(), "x")
	for name, ctx := range map[string]context.Context{
		"untraced":  trace.ContextWithSpan(b.Context(), &untraced{}),
		"unsampled": unsampled,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, sp := Start(ctx, "x")
				sp.End()
			}
		})
	}
}
