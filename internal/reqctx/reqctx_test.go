package reqctx

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

func TestFrom(t *testing.T) {
	type other struct{}
	base := context.WithValue(t.Context(), other{}, "kept")
	if From(base) != nil {
		t.Error("From of a context without a node is not nil")
	}
	s := &State{Context: base, RequestID: "a"}
	ctx, cancel := context.WithCancel(context.WithValue(s, other{}, "inner"))
	if From(s) != s || From(ctx) != s {
		t.Errorf("From = %p, %p, want %p", From(s), From(ctx), s)
	}
	if s.Value(other{}) != "kept" || ctx.Value(other{}) != "inner" {
		t.Errorf("Value = %v, %v", s.Value(other{}), ctx.Value(other{}))
	}
	cancel()
	if s.Err() != nil || ctx.Err() == nil {
		t.Errorf("after cancelling the child: node %v, child %v", s.Err(), ctx.Err())
	}
	nested := &State{Context: ctx, RequestID: "b"}
	if From(nested) != nested || From(nested.Context) != s {
		t.Error("the inner node does not hide the outer one")
	}
	if nested.Err() == nil {
		t.Error("a node does not end with its parent")
	}
}

// A node between a cancelled context and its child costs no goroutine: the
// context package finds the canceller through Value.
func TestCancelPassesThrough(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	child, stop := context.WithCancel(&State{Context: ctx})
	defer stop()
	if d, ok := child.Deadline(); !ok || time.Until(d) > time.Hour {
		t.Errorf("Deadline = %v, %v", d, ok)
	}
	cancel()
	select {
	case <-child.Done():
	default:
		t.Error("the child is not done at once, so a goroutine stands between")
	}
}

func TestDecision(t *testing.T) {
	if d, ok := (&State{}).Decision(); ok || d != (Decision{}) {
		t.Errorf("Decision of a new node = %+v, %v", d, ok)
	}
	for _, d := range []Decision{
		{},
		{Traced: true},
		{Write: true},
		{Traced: true, Write: true, Reason: 3, Why: 255},
		{Reason: 255, Why: 1},
	} {
		s := &State{}
		if !s.SetDecision(d) {
			t.Errorf("SetDecision(%+v) = false", d)
		}
		if got, ok := s.Decision(); !ok || got != d {
			t.Errorf("Decision = %+v, %v, want %+v", got, ok, d)
		}
		if s.SetDecision(Decision{Traced: true, Reason: 7}) {
			t.Error("a second SetDecision = true")
		}
		if got, _ := s.Decision(); got != d {
			t.Errorf("Decision after a second SetDecision = %+v, want %+v", got, d)
		}
	}
}

func TestDecisionFirstWins(t *testing.T) {
	s := &State{}
	var wg sync.WaitGroup
	won := make([]bool, 8)
	for i := range won {
		wg.Go(func() { won[i] = s.SetDecision(Decision{Traced: i%2 == 0, Why: uint8(i)}) })
	}
	wg.Wait()
	winners := 0
	for i, w := range won {
		if !w {
			continue
		}
		winners++
		if d, ok := s.Decision(); !ok || int(d.Why) != i || d.Traced != (i%2 == 0) {
			t.Errorf("%d won, but the decision is %+v, %v", i, d, ok)
		}
	}
	if winners != 1 {
		t.Errorf("%d of 8 won", winners)
	}
}

func TestRouteAndError(t *testing.T) {
	s := &State{}
	if s.Route() != "" || s.Error() != nil {
		t.Errorf("new node: route %q, error %v", s.Route(), s.Error())
	}
	s.SetRoute("/a")
	s.SetRoute("/b")
	first, last := errors.New("first"), errors.New("last")
	s.SetError(first)
	s.SetError(last)
	if s.Route() != "/b" || s.Error() != last {
		t.Errorf("route %q, error %v, want the last ones", s.Route(), s.Error())
	}
	s.SetError(nil)
	if s.Error() != nil {
		t.Errorf("error %v after SetError(nil)", s.Error())
	}
}

func TestDerive(t *testing.T) {
	s := &State{
		Context: t.Context(), RequestID: "id", ClientTraceID: "c", HasClientTraceID: true, ForceTrace: true, Sampling: 4, Format: 1, Null: true, Served: true,
		B3Parent: trace.SpanID{4}, Tracestate: "1st=1", Forward: http.Header{"X-Tenant": {"a"}},
		Remote:  trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}),
		TraceID: trace.TraceID{3}, SpanID: trace.SpanID{5}, Answer: &Answer{}, Carrier: otelprop.MapCarrier{"a": "b"}, Span: noop.Span{}, Gateway: 1,
	}
	ctx, cancel := context.WithCancel(s)
	defer cancel()
	d := s.Derive(ctx)
	if d.Context != ctx || From(d) != d {
		t.Error("a derived node does not stand over the context it was given")
	}
	// Every exported field but Context, those that are added one day too.
	a, b := reflect.ValueOf(s).Elem(), reflect.ValueOf(d).Elem()
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if !f.IsExported() || f.Name == "Context" {
			continue
		}
		if a.Field(i).IsZero() {
			t.Errorf("this test gives %s no value", f.Name)
		}
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			t.Errorf("Derive: %s is %v, want %v", f.Name, b.Field(i), a.Field(i))
		}
	}

	// What is written later is of the request, whichever node it is written through.
	dd := d.Derive(d)
	dd.RequestID = "other"
	if s.RequestID != "id" || d.RequestID != "id" {
		t.Error("a field of a derived node is its origin's")
	}
	dd.SetRoute("/r")
	if s.Route() != "/r" || d.Route() != "/r" {
		t.Errorf("route: %q, %q", s.Route(), d.Route())
	}
	s.SetError(context.Canceled)
	if d.Error() != context.Canceled || dd.Error() != context.Canceled {
		t.Errorf("error: %v, %v", d.Error(), dd.Error())
	}
	if !d.SetDecision(Decision{Traced: true, Why: 9}) || s.SetDecision(Decision{}) || dd.SetDecision(Decision{}) {
		t.Error("the request was decided not once")
	}
	for _, n := range []*State{s, d, dd} {
		if got, ok := n.Decision(); !ok || got != (Decision{Traced: true, Why: 9}) {
			t.Errorf("Decision = %+v, %v", got, ok)
		}
	}
}

func TestAllocs(t *testing.T) {
	base := t.Context()
	s := &State{Context: base}
	for _, c := range []struct {
		name string
		want float64
		f    func()
	}{
		{"make a node", 1, func() { sink = &State{Context: base, RequestID: "id"} }},
		{"Derive", 1, func() { sink = s.Derive(s) }},
		{"From", 0, func() { sinkState = From(s) }},
		{"From, none", 0, func() { sinkState = From(base) }},
		{"SetDecision", 0, func() { s.SetDecision(Decision{Traced: true}) }},
		{"Decision", 0, func() { _, _ = s.Decision() }},
		{"Route", 0, func() { _ = s.Route() }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got != c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}

var (
	sink      context.Context
	sinkState *State
)
