package callspan

import (
	"context"
	"slices"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TestProcessors adds, removes and replaces processors, and lets spans start and end
// between.
func TestProcessors(t *testing.T) {
	var heard []string
	named := func(name string) *calls {
		return &calls{
			func(context.Context, sdktrace.ReadWriteSpan) { heard = append(heard, name+"+") },
			func(sdktrace.ReadOnlySpan) { heard = append(heard, name+"-") },
		}
	}
	a, b, c := named("a"), named("b"), named("c")
	given := []sdktrace.SpanProcessor{a, b}
	f := newSource(usual, given...)
	given[0] = c // the caller's again
	for _, tt := range []struct {
		name string
		do   func()
		want []string
	}{
		{"at the start", func() { start(f).End() }, []string{"a+", "b+", "a-", "b-"}},
		{"added", func() { f.Register(c); start(f).End() }, []string{"a+", "b+", "c+", "a-", "b-", "c-"}},
		{"removed while a span is open", func() { s := start(f); f.Unregister(b); s.End() }, []string{"a+", "b+", "c+", "a-", "c-"}},
		{"unknown", func() {
			if f.Unregister(b) {
				t.Error("Unregister found what is gone")
			}
			start(f).End()
		}, []string{"a+", "c+", "a-", "c-"}},
		{"the last of two", func() { f.Register(a); f.Unregister(a); start(f).End() }, []string{"a+", "c+", "a-", "c-"}},
		{"closed", func() { f.Close([]sdktrace.SpanProcessor{b}); start(f).End() }, []string{"b+", "b-"}},
		{"for good", func() {
			f.Register(a)
			f.Close(nil)
			if f.Unregister(b) {
				t.Error("Unregister found what stays")
			}
			start(f).End()
		}, []string{"b+", "b-"}},
	} {
		heard = nil
		tt.do()
		if !slices.Equal(heard, tt.want) {
			t.Errorf("%s: heard %v, want %v", tt.name, heard, tt.want)
		}
	}
}

// TestProcessorsConcurrent changes processors from many goroutines: none gets lost.
func TestProcessorsConcurrent(t *testing.T) {
	f := newSource(usual)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			stays, goes := new(calls), new(calls)
			f.Register(stays)
			f.Register(goes)
			start(f).End()
			if !f.Unregister(goes) {
				t.Error("a processor is lost")
			}
		})
	}
	wg.Wait()
	if n := len(f.hearers()); n != 16 {
		t.Errorf("%d processors, want 16", n)
	}
}

// TestPrepare starts spans below each parent, by each verdict.
func TestPrepare(t *testing.T) {
	for _, tt := range []struct {
		name    string
		parent  trace.SpanContext
		verdict sdktrace.SamplingDecision
		same    bool // trace as the parent's
		flags   trace.TraceFlags
	}{
		{"no parent", trace.SpanContext{}, sdktrace.RecordAndSample, false, 1},
		{"no parent, recorded alone", trace.SpanContext{}, sdktrace.RecordOnly, false, 0},
		{"no parent, dropped", trace.SpanContext{}, sdktrace.Drop, false, 0},
		{"below the caller", contexts[1], sdktrace.RecordAndSample, true, 1},
		{"below the caller, dropped", contexts[1], sdktrace.Drop, true, 0},
		{"below a caller that is not sampled", contexts[2], sdktrace.RecordAndSample, true, 1},
		{"the other flags stay", contexts[3], sdktrace.RecordAndSample, true, 0xff},
		{"the other flags stay, dropped", contexts[3], sdktrace.Drop, true, 0xfe},
		{"a flag that is not the sampled one", contexts[4], sdktrace.RecordAndSample, true, 3},
		{"a trace without a span", contexts[5], sdktrace.RecordAndSample, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newSource(usual)
			f.Sampler = &side{verdict: sdktrace.SamplingResult{Decision: tt.verdict, Tracestate: someState}}
			ctx := trace.ContextWithSpanContext(context.Background(), tt.parent)
			s := f.Prepare(ctx, 8, "name", trace.SpanKindServer, nil)
			if room := cap(s.Room()); (room > 0) != (tt.verdict != sdktrace.Drop) {
				t.Errorf("room for %d attributes by %v", room, tt.verdict)
			}
			s.Start(ctx, nil)
			sc := s.SpanContext()
			if (sc.TraceID() == tt.parent.TraceID()) != tt.same || sc.SpanID() == tt.parent.SpanID() || !sc.IsValid() {
				t.Errorf("ids %s %s below %s %s", sc.TraceID(), sc.SpanID(), tt.parent.TraceID(), tt.parent.SpanID())
			}
			if sc.TraceFlags() != tt.flags || sc.TraceState().String() != someState.String() || sc.IsRemote() {
				t.Errorf("flags %s, tracestate %q, remote %v, want %s, the sampler's, false", sc.TraceFlags(), sc.TraceState(), sc.IsRemote(), tt.flags)
			}
			if !s.Parent().Equal(tt.parent) || s.IsRecording() != (tt.verdict != sdktrace.Drop) {
				t.Errorf("parent %+v, recording %v, want %+v by %v", s.Parent(), s.IsRecording(), tt.parent, tt.verdict)
			}
		})
	}
}
