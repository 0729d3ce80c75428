package reqctx

import (
	"context"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

func caller(t *testing.T) trace.SpanContext {
	t.Helper()
	return trace.NewSpanContext(callerConfig(t))
}

func callerConfig(t *testing.T) trace.SpanContextConfig {
	t.Helper()
	ts, err := trace.ParseTraceState("a=1,b=2")
	if err != nil {
		t.Fatal(err)
	}
	return trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: ts, Remote: true,
	}
}

// bothWays runs f with OpenTelemetry's key and as if it could not be learned.
func bothWays(t *testing.T, f func(t *testing.T)) {
	if spanKey == nil {
		t.Error("OpenTelemetry's key of the current span is not known: each request costs an allocation more")
	}
	t.Run("key known", f)
	t.Run("key unknown", func(t *testing.T) {
		defer func(k any) { spanKey = k }(spanKey)
		spanKey = nil
		f(t)
	})
}

func TestWithSpan(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		sc := caller(t)
		outer := trace.ContextWithSpanContext(t.Context(), sc.WithSpanID(trace.SpanID{9}))
		s := &State{Context: outer, RequestID: "id"}
		if got := trace.SpanContextFromContext(s); got.SpanID() != (trace.SpanID{9}) {
			t.Errorf("a state without a span hides the parent's: %v", got)
		}
		span := Carrying(&sc)
		ctx, cancel := context.WithCancel(s.WithSpan(&span))
		defer cancel()
		if got := trace.SpanFromContext(ctx); got != &span || !got.SpanContext().Equal(sc) {
			t.Errorf("SpanFromContext = %v, want the state's", got)
		}
		if From(ctx) != s {
			t.Error("the state is not found")
		}
		innermost := new(noop.Span)
		if trace.SpanFromContext(trace.ContextWithSpan(ctx, innermost)) != innermost {
			t.Error("a span further in does not count")
		}
		if d := s.Derive(ctx); trace.SpanFromContext(d) != &span {
			t.Error("a derived state lost the span")
		}
	})
}

func TestSpan(t *testing.T) {
	var zero Span
	if zero.SpanContext().IsValid() {
		t.Error("a zero Span has ids")
	}
	sc, cfg := caller(t), callerConfig(t)
	carrying := Carrying(&sc)
	remote, _ := WithRemote(t.Context(), &cfg, 0).(trace.Span)
	if spanKey == nil {
		t.Fatal("not learned")
	}
	for _, s := range []trace.Span{&carrying, remote} {
		if !s.SpanContext().Equal(sc) {
			t.Errorf("%T: SpanContext = %v, want %v", s, s.SpanContext(), sc)
		}
		s.SetName("n")
		s.SetAttributes()
		s.AddEvent("e")
		s.End()
		if _, child := s.TracerProvider().Tracer("").Start(t.Context(), "child"); s.IsRecording() || child.IsRecording() {
			t.Errorf("%T records", s)
		}
	}
}

func TestRemote(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		sc, cfg := caller(t), callerConfig(t)
		type other struct{}
		ctx := WithRemote(context.WithValue(t.Context(), other{}, "kept"), &cfg, 3)
		if got := trace.SpanContextFromContext(ctx); !got.Equal(sc) {
			t.Errorf("SpanContextFromContext = %v, want %v", got, sc)
		}
		if ctx.Value(other{}) != "kept" || From(ctx) != nil || SamplingFrom(ctx) != 3 {
			t.Errorf("value %v, state %v, sampling %d", ctx.Value(other{}), From(ctx), SamplingFrom(ctx))
		}
	})
}

type key2 struct{}

// TestSamplingFrom holds whose word counts: that of the innermost node that has seen
// headers.
func TestSamplingFrom(t *testing.T) {
	sc := callerConfig(t)
	remote := WithRemote(t.Context(), &sc, 3)
	for name, tt := range map[string]struct {
		ctx  context.Context
		want uint8
	}{
		"nothing":                        {t.Context(), 0},
		"a state":                        {&State{Context: t.Context(), Sampling: 2}, 2},
		"a state of an id alone":         {&State{Context: remote, RequestID: "id"}, 3},
		"a state of headers":             {&State{Context: remote, Sampling: 1}, 1},
		"headers that state nothing":     {&State{Context: remote, Carrier: otelprop.MapCarrier{}}, 0},
		"a span inside of a request":     {WithRemote(&State{Context: t.Context(), Sampling: 2}, &sc, 0), 0},
		"a derived state":                {(&State{Context: remote, Sampling: 2}).Derive(remote), 2},
		"a context below":                {context.WithValue(remote, key2{}, 1), 3},
		"a state of an id, alone at all": {&State{Context: t.Context()}, 0},
	} {
		if got := SamplingFrom(tt.ctx); got != tt.want {
			t.Errorf("%s: SamplingFrom = %d, want %d", name, got, tt.want)
		}
	}
}

func TestSpanAllocs(t *testing.T) {
	sc, cfg, ctx := caller(t), callerConfig(t), t.Context()
	var sink context.Context
	if n := testing.AllocsPerRun(100, func() { sink = WithRemote(ctx, &cfg, 1) }); n > 1 {
		t.Errorf("WithRemote: %v allocations, want 1", n)
	}
	if n := testing.AllocsPerRun(100, func() { trace.SpanContextFromContext(sink); SamplingFrom(sink) }); n > 0 {
		t.Errorf("reading: %v allocations, want 0", n)
	}
	type node struct {
		State
		span Span
	}
	if n := testing.AllocsPerRun(100, func() {
		s := &node{State: State{Context: ctx, Remote: sc}}
		s.span = Carrying(&s.Remote)
		sink = s.WithSpan(&s.span)
	}); n > 1 {
		t.Errorf("a state with its span: %v allocations, want 1", n)
	}
}

// TestNode holds that a span's node answers for the span, and for nothing else.
func TestNode(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		sc := callerConfig(t)
		type other struct{}
		state := &State{Context: context.WithValue(t.Context(), other{}, "kept")}
		outer := WithRemote(state, &sc, 0)
		span := &Span{}
		ctx := new(Node).Below(outer, span)
		if got := trace.SpanFromContext(ctx); got != trace.Span(span) {
			t.Errorf("SpanFromContext = %v, want the span", got)
		}
		if got := trace.SpanContextFromContext(outer); !got.IsValid() {
			t.Error("the context above lost its span")
		}
		if ctx.Value(other{}) != "kept" || From(ctx) != state {
			t.Errorf("value %v, state %p, want those above", ctx.Value(other{}), From(ctx))
		}
		inner := &Span{}
		if got := trace.SpanFromContext(trace.ContextWithSpan(ctx, inner)); got != trace.Span(inner) {
			t.Errorf("SpanFromContext below = %v, want the inner span", got)
		}
	})
}
