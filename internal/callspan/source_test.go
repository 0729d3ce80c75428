package callspan

import (
	"context"
	"slices"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
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
